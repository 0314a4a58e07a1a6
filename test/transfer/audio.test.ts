import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { recogniseDocument } from '../../src/transfer/audio/document.ts';
import { createInspector } from '../../src/transfer/audio/inspector.ts';
import { flac, mp3, oggOpus, oggPage, wav } from '../support/audio.ts';

/** What is concluded of a body that arrives in pieces. */
function inspect(body: Buffer, pieceBytes = 1000) {
  const inspector = createInspector('audio/wav');
  for (let at = 0; at < body.length; at += pieceBytes) inspector.add(body.subarray(at, at + pieceBytes));
  const { container } = inspector.identify();
  return {
    contentType: container?.contentType,
    ...inspector.conclude(),
  };
}

/** The first example file of RFC 9639 (appendix D.1), made by the reference encoder. */
const RFC_9639_EXAMPLE = Buffer.from(
  '664c614380000022100010000000' +
    '0f00000f0ac442f0000000013e84b41807dc6903' +
    '07586a3dad1a2e0ffff869180000bf0358fd03128baa9a',
  'hex',
);

it.each([
  ['Ogg', oggOpus(2000)],
  ['WAV', wav(Buffer.alloc(450_000))],
])('%s is judged alike in single bytes, in time that grows with its length alone', (_name, body) => {
  expect(inspect(body, 1)).toEqual({ ...inspect(body), end: 'confirmed' });
});

describe('WAV', () => {
  it('a WAV gives codec, rate, channels and duration', () => {
    expect(inspect(wav(Buffer.alloc(16_000)))).toEqual({
      contentType: 'audio/wav',
      facts: { container: 'wav', codec: 'pcm_s16le', sampleRate: 8000, channels: 1, durationSeconds: 1 },
      end: 'confirmed',
      notes: [],
    });
  });

  it('a WAV with a header and no samples is whole', () => {
    expect(inspect(wav(Buffer.alloc(0)))).toMatchObject({ end: 'confirmed', facts: { durationSeconds: 0 } });
  });

  it.each([0, 1, 43, 8043])('a WAV cut at %i bytes is not whole', (length) => {
    const { end } = inspect(wav(Buffer.alloc(8000)).subarray(0, length));
    expect(end).toBe(length < 12 ? undefined : 'missing');
  });

  it.each([
    0, 0xffffffff, 0x7fffffff, 0x7ffff024, 0xffffffdb, 0x80000000, 0x80000024, 0x7ff00000, 0xfff00024,
  ])('a WAV of a streaming writer, with the size %i, proves nothing', (size) => {
    const body = wav(Buffer.alloc(8000), { riffBytes: size, dataBytes: size });
    expect(inspect(body)).toMatchObject({ end: 'open', facts: { durationSeconds: 0.5 } });
  });

  it('a WAV with the sizes of an empty file before samples proves nothing', () => {
    expect(inspect(wav(Buffer.alloc(8000), { riffBytes: 36, dataBytes: 0 }))).toMatchObject({
      end: 'open',
      facts: { durationSeconds: 0.5 },
    });
  });

  it('a WAV without its RIFF size is measured by that of its samples', () => {
    const body = wav(Buffer.alloc(8000), { riffBytes: 0xffffffff });
    expect(inspect(body).end).toBe('confirmed');
    expect(inspect(body.subarray(0, -1)).end).toBe('missing');
  });

  it('a WAV is whole with all its samples, though its size counts its own header', () => {
    const body = wav(Buffer.alloc(8000), { riffBytes: 44 + 8000 });
    expect(inspect(body)).toMatchObject({ end: 'confirmed', notes: [] });
    expect(inspect(body.subarray(0, -1)).end).toBe('missing');
  });

  it.each([
    [100, 'its header says 64 bytes more than came, for the file as a whole'],
    [2 ** 30, 'its header says 1,073,741,788 bytes more than came, for the file as a whole'],
    [-1000, 'its header says 1,036 bytes less than came, for the file as a whole'],
  ])('a WAV is whole with all its samples, though the size of the file is off (%i)', (more, note) => {
    const body = wav(Buffer.alloc(8000), { riffBytes: more + 8000 });
    expect(inspect(body)).toMatchObject({ end: 'confirmed', notes: [note] });
  });

  it.each([36, 8000])('a WAV with the RIFF size %i is whole only with all its samples', (riffBytes) => {
    const body = wav(Buffer.alloc(8000), { riffBytes });
    expect(inspect(body).end).toBe('confirmed');
    expect(inspect(body.subarray(0, -1)).end).toBe('missing');
  });

  it('a WAV may lack the padding byte that its size counts', () => {
    const body = wav(Buffer.alloc(8001), { riffBytes: 36 + 8002 });
    expect(inspect(body).end).toBe('confirmed');
    expect(inspect(body.subarray(0, -1)).end).toBe('missing');
  });

  it('a WAV is read past other chunks, of odd length too', () => {
    const list = Buffer.concat([Buffer.from('LIST\x03\0\0\0abc\0', 'latin1')]);
    expect(inspect(wav(Buffer.alloc(16_000), { before: list })).facts).toMatchObject({ durationSeconds: 1 });
  });

  it('a WAV in its extensible form gives the codec by the sub-format', () => {
    const plain = wav(Buffer.alloc(8000));
    const subFormat = Buffer.from('0700000000001000800000aa00389b71', 'hex');
    const format = Buffer.concat([
      plain.subarray(20, 36),
      Buffer.from('160010000100', 'hex'),
      Buffer.alloc(2),
      subFormat,
    ]);
    format.writeUInt16LE(0xfffe, 0);
    const body = Buffer.concat([plain.subarray(0, 20), format, plain.subarray(36)]);
    body.writeUInt32LE(format.length, 16);
    body.writeUInt32LE(body.length - 8, 4);
    expect(inspect(body)).toMatchObject({
      end: 'confirmed',
      notes: [],
      facts: { codec: 'pcm_mulaw', sampleRate: 8000, channels: 1 },
    });
    expect(inspect(body.subarray(0, -1)).end).toBe('missing');
  });

  it('a WAV in its 64-bit form gives its size in another chunk', () => {
    const ds64 = Buffer.alloc(36);
    ds64.write('ds64', 0, 'latin1');
    ds64.writeUInt32LE(28, 4);
    ds64.writeBigUInt64LE(BigInt(36 + 36 + 8000), 8);
    ds64.writeBigUInt64LE(8000n, 16);
    const body = wav(Buffer.alloc(8000), { riffBytes: 0xffffffff, dataBytes: 0xffffffff, before: ds64 });
    body.write('RF64', 0, 'latin1');
    expect(inspect(body)).toMatchObject({ end: 'confirmed' });
    expect(inspect(body.subarray(0, -1)).end).toBe('missing');
  });

  it('a WAV that claims more samples than came gives the number of missing bytes', () => {
    const body = wav(Buffer.alloc(8000), { riffBytes: 8036 + 960_000, dataBytes: 8000 + 960_000 });
    expect(inspect(body)).toMatchObject({
      end: 'missing',
      notes: ['its header says 960,000 bytes more than came'],
      facts: { durationSeconds: 0.5 },
    });
    expect(inspect(wav(Buffer.alloc(8000), { dataBytes: 8044 }))).toMatchObject({
      end: 'missing',
      notes: ['its header says 44 bytes more than came'],
    });
  });

  it.each([
    ['whose whole size is right', 'confirmed', {}],
    ['whose whole size is as wrong', 'open', { riffBytes: 36 + 6000 }],
  ])('a WAV that claims fewer samples than came causes a remark (%s)', (_name, end, claims) => {
    const { notes, ...rest } = inspect(wav(Buffer.alloc(8000, 7), { dataBytes: 6000, ...claims }));
    expect(rest.end).toBe(end);
    expect(notes).toContain('2,000 bytes that its header does not name follow the samples');
  });

  it('a WAV may have chunks behind its samples, which may be lost', () => {
    const samples = Buffer.concat([Buffer.alloc(8000), Buffer.from('LIST\x04\0\0\0INFO', 'latin1')]);
    const body = wav(samples, { dataBytes: 8000 });
    expect(inspect(body)).toMatchObject({ end: 'confirmed', notes: [], facts: { durationSeconds: 0.5 } });
    expect(inspect(body.subarray(0, -12))).toMatchObject({
      end: 'confirmed',
      notes: ['its header says 12 bytes more than came, for the file as a whole'],
    });
    expect(inspect(body.subarray(0, -1)).end).toBe('missing');
    expect(inspect(body.subarray(0, -13)).end).toBe('missing');
  });

  it('a WAV is read past chunks that are longer than the buffered beginning', () => {
    const chunk = Buffer.alloc(8 + 300_000);
    chunk.write('JUNK', 0, 'latin1');
    chunk.writeUInt32LE(300_000, 4);
    const body = wav(Buffer.alloc(16_000), { before: chunk });
    expect(inspect(body)).toMatchObject({
      end: 'confirmed',
      facts: { codec: 'pcm_s16le', durationSeconds: 1 },
    });
    expect(inspect(body.subarray(0, -1)).end).toBe('missing');
    expect(
      inspect(wav(Buffer.alloc(16_000), { before: chunk, riffBytes: 0 }).subarray(0, 200_000)),
    ).toMatchObject({
      end: 'missing',
      notes: ['it ends before its samples begin'],
    });
  });

  it.each([
    [6, 'pcm_alaw'],
    [0x83, 'g729'],
    [7, 'pcm_mulaw'],
    [0x31, 'gsm_ms'],
    [3, 'pcm_f16le'],
    [0x7777, undefined],
  ])('a WAV with format %i is %s', (tag, codec) => {
    const body = wav(Buffer.alloc(100));
    body.writeUInt16LE(tag, 20);
    expect(inspect(body).facts?.codec).toBe(codec);
  });
});

describe('FLAC', () => {
  it('a FLAC of the reference encoder is whole', () => {
    expect(inspect(RFC_9639_EXAMPLE)).toMatchObject({
      contentType: 'audio/flac',
      facts: { container: 'flac', codec: 'flac', sampleRate: 44_100, channels: 2 },
      end: 'confirmed',
    });
  });

  it('a FLAC gives its duration', () => {
    expect(inspect(flac(300))).toMatchObject({
      facts: { sampleRate: 8000, channels: 1, durationSeconds: (300 * 4096) / 8000 },
      end: 'confirmed',
    });
  });

  it('a FLAC is whole with an ID3v1 tag behind it', () => {
    const tag = Buffer.alloc(128);
    tag.write('TAG');
    expect(inspect(Buffer.concat([flac(20), tag])).end).toBe('confirmed');
  });

  it('a FLAC without its last frame is cut short', () => {
    const body = flac(300);
    expect(inspect(body.subarray(0, -11)).end).toBe('missing');
    expect(inspect(body.subarray(0, body.length / 2)).end).toBe('missing');
  });

  it.each([1, 2, 3])('a FLAC cut %i bytes before the end of its last frame is cut short', (bytes) => {
    expect(inspect(flac(20).subarray(0, -bytes)).end).toBe('missing');
  });

  it('a FLAC with something unknown behind it is not confirmed', () => {
    expect(inspect(Buffer.concat([flac(20), Buffer.alloc(50, 0x11)]))).toMatchObject({
      end: 'open',
      notes: ['something that is no frame follows its last frame'],
    });
  });

  it('a FLAC is whole though its smallest block size counts the last block', () => {
    const body = flac(300);
    body.writeUInt16BE(16, 8);
    expect(inspect(body).end).toBe('confirmed');
    expect(inspect(body.subarray(0, -11)).end).toBe('missing');
  });
});

describe('Ogg', () => {
  it('an Ogg Opus gives its duration and its end', () => {
    expect(inspect(oggOpus(500))).toMatchObject({
      contentType: 'audio/ogg',
      facts: { container: 'ogg', codec: 'opus', sampleRate: 16_000, channels: 1, durationSeconds: 500 },
      end: 'confirmed',
    });
  });

  it('an Ogg cut within a page is short, and one cut between pages is not confirmed', () => {
    const body = oggOpus(500);
    expect(inspect(body.subarray(0, -1)).end).toBe('missing');
    expect(inspect(body.subarray(0, -201)).end).toBe('missing');
    expect(inspect(body.subarray(0, -228))).toMatchObject({
      end: 'open',
      notes: ['no page is marked as the last one of the audio'],
    });
  });
});

describe('Ogg with several streams', () => {
  const body = oggOpus(50);
  const skeleton = (flags: number) => oggPage(Buffer.from('fishead\0 of some version'), 0n, flags, 99);

  it("an Ogg with several streams is judged by its audio's end, not by that of a description", () => {
    const [first, rest] = [body.subarray(0, 47), body.subarray(47)];
    const whole = Buffer.concat([skeleton(2), first, skeleton(4), rest]);
    expect(inspect(whole)).toMatchObject({
      end: 'confirmed',
      facts: { codec: 'opus', durationSeconds: 50 },
    });
    const cut = Buffer.concat([skeleton(2), first, rest.subarray(0, -228), skeleton(4)]);
    expect(inspect(cut).end).toBe('open');
  });
});

describe('an ID3v2 tag', () => {
  const tag = (bytes: number) =>
    Buffer.concat([
      Buffer.from('ID3\x04\0\0', 'latin1'),
      Buffer.from([bytes >> 21, (bytes >> 14) & 127, (bytes >> 7) & 127, bytes & 127]),
      Buffer.alloc(bytes),
    ]);

  it.each([
    ['audio/flac', flac(300)],
    ['audio/wav', wav(Buffer.alloc(8000))],
    ['audio/ogg', oggOpus(50)],
  ])('an ID3v2 tag before %s does not change how that is judged', (contentType, body) => {
    const tagged = Buffer.concat([tag(1000), body]);
    expect(inspect(tagged)).toMatchObject({ contentType, end: 'confirmed' });
    expect(inspect(tagged.subarray(0, -1)).end).toBe('missing');
  });

  it('an ID3v2 tag that is longer than the buffered beginning leaves unknown what follows', () => {
    expect(inspect(Buffer.concat([tag(200_000), mp3(50)])).contentType).toBeUndefined();
  });

  it('the three letters alone are no ID3v2 tag', () => {
    expect(
      inspect(Buffer.from('ID3 tags are described elsewhere. Please sign in.')).contentType,
    ).toBeUndefined();
    expect(inspect(tag(100)).contentType).toBeUndefined();
  });
});

describe('MP3', () => {
  const facts = { container: 'mp3', codec: 'mp3', sampleRate: 44_100, channels: 2 };

  it('an MP3 is recognised by two frames in a row', () => {
    expect(inspect(mp3(50))).toEqual({
      contentType: 'audio/mpeg',
      facts: { ...facts, durationSeconds: (50 * 1152) / 44_100 },
      end: 'open',
      notes: [],
    });
    expect(inspect(Buffer.concat([mp3(1), randomBytes(1).fill(1), mp3(1)])).contentType).toBeUndefined();
  });

  it('an MP3 is recognised behind an ID3v2 tag', () => {
    const tag = Buffer.concat([Buffer.from('ID3\x04\0\0\0\0\x02\x01', 'latin1'), Buffer.alloc(257)]);
    expect(inspect(Buffer.concat([tag, mp3(50)])).facts).toMatchObject(facts);
  });

  it("an MP3 is confirmed by its encoder's summary, which also gives the duration", () => {
    const body = mp3(100);
    body.write('Xing', 36, 'latin1');
    body.writeUInt32BE(3, 40);
    body.writeUInt32BE(99, 44);
    body.writeUInt32BE(body.length, 48);
    expect(inspect(body)).toMatchObject({
      facts: { ...facts, durationSeconds: (99 * 1152) / 44_100 },
      end: 'confirmed',
    });
    expect(inspect(body.subarray(0, -1))).toMatchObject({
      end: 'missing',
      notes: ["its encoder's summary says 1 byte more than came"],
    });
  });

  it("an MP3 is confirmed by Fraunhofer's summary too", () => {
    const body = mp3(100);
    body.write('VBRI', 36, 'latin1');
    body.writeUInt32BE(body.length, 46);
    body.writeUInt32BE(99, 50);
    expect(inspect(body)).toMatchObject({
      facts: { durationSeconds: (99 * 1152) / 44_100 },
      end: 'confirmed',
    });
  });

  it('an MP3 may have an ID3v1 tag behind its frames', () => {
    const tag = Buffer.alloc(128);
    tag.write('TAG');
    expect(inspect(Buffer.concat([mp3(50), tag]))).toMatchObject({
      facts: { durationSeconds: (50 * 1152) / 44_100 },
      end: 'open',
      notes: [],
    });
  });
});

function utf32(text: string): Buffer {
  const bytes = Buffer.alloc(text.length * 4);
  [...text].forEach((letter, index) => {
    bytes.writeUInt32LE(letter.charCodeAt(0), index * 4);
  });
  return bytes;
}

describe('content that is no recording', () => {
  const html = '<!DOCTYPE html><html><body>Sign in</body></html>';
  const xml = '<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>';
  it.each([
    ['HTML', 'HTML', Buffer.from(html)],
    ['HTML in capitals', 'HTML', Buffer.from('<HTML><BODY>')],
    ['HTML after a mark and blanks', 'HTML', Buffer.from(`\ufeff \r\n\t${' '.repeat(20_000)}${html}`)],
    ['HTML in UTF-16, marked', 'HTML', Buffer.from(`\ufeff${html}`, 'utf16le')],
    ['HTML in UTF-16, unmarked', 'HTML', Buffer.from(html, 'utf16le')],
    ['HTML in big-endian UTF-16', 'HTML', Buffer.from(`\ufeff${html}`, 'utf16le').swap16()],
    ['HTML in Latin-1', 'HTML', Buffer.from(`<html><p>Zugriff verweigert: gültig`, 'latin1')],
    ['XML', 'XML', Buffer.from(xml)],
    ['XML without a declaration', 'XML', Buffer.from('<Error><Code>ExpiredToken</Code></Error>')],
    ['JSON', 'JSON', Buffer.from('\n{"errors":[{"msg":"expired","code":4002}]}')],
    ['an empty JSON object', 'JSON', Buffer.from('{}')],
    ['a JSON array', 'JSON', Buffer.from('[{"a":1}]')],
    ['HTML with a binary byte in it', 'HTML', Buffer.from('<html>\x00\x01', 'latin1')],
    ['XML of a name with other first letters', 'XML', Buffer.from('<_error code="1"/>')],
    ['XML of a name in another script', 'XML', Buffer.from('<ошибка>no</ошибка>')],
    ['XML in UTF-32', 'XML', utf32('\ufeff<Error>no</Error>')],
    ['a JSON array of words', 'JSON', Buffer.from('[true, null]')],
    ['a JSON array of negative numbers', 'JSON', Buffer.from('[ -1]')],
    ['JSON behind a guard against scripts', 'JSON', Buffer.from(")]}',\n{}")],
    ['a JSON string with quotes in it', 'JSON', Buffer.from('"Access \\"denied\\""')],
    ['a JSON number', 'JSON', Buffer.from('4002')],
    ['HTML after a zero', 'HTML', Buffer.concat([Buffer.alloc(1), Buffer.from(html)])],
    ['HTML after zeros', 'HTML', Buffer.concat([Buffer.alloc(2), Buffer.from(html)])],
    ['JSON with zeros behind it', 'JSON', Buffer.concat([Buffer.from('{"code":404}'), Buffer.alloc(500)])],
    ['HTML in UTF-16, marked, after blanks', 'HTML', Buffer.from(`\ufeff \n\t${html}`, 'utf16le')],
    ['JSON in UTF-16, marked', 'JSON', Buffer.from('\ufeff{"error": "gone"}', 'utf16le')],
    ['a JSON word', 'JSON', Buffer.from('null\n')],
    ['a JSON string', 'JSON', Buffer.from('"Access denied"')],
  ] as const)('%s is recognised as no recording whatever its content type says', (_name, kind, body) => {
    expect(recogniseDocument(body, 'audio/wav')).toBe(kind);
  });

  it.each([
    ['WAV', wav(Buffer.from('<html><body>{"a":1}</body></html>'.repeat(10)))],
    ['Ogg', oggOpus(5)],
    ['MP3', mp3(5)],
  ])('%s is a recording, though its content type says HTML', (_name, body) => {
    const inspector = createInspector('text/html');
    inspector.add(body);
    expect(inspector.identify().document).toBeUndefined();
    expect(inspector.identify().container).toBeDefined();
  });

  it('plain text is recognised as no recording when its content type says so', () => {
    expect(recogniseDocument(Buffer.from('Not found'), 'text/plain; charset=utf-8')).toBe('text');
    expect(recogniseDocument(Buffer.from('Not found'), 'application/problem+json')).toBe('text');
    expect(recogniseDocument(Buffer.from('Not found'), 'audio/wav')).toBeUndefined();
    expect(recogniseDocument(Buffer.from('\ufeffNot found', 'utf16le'), 'text/plain')).toBe('text');
    expect(recogniseDocument(utf32('\ufeffNot found'), 'text/plain')).toBe('text');
  });

  it.each([
    Buffer.from('{\x00\x01"', 'latin1'),
    Buffer.from('<\x80\x00\x03', 'latin1'),
    Buffer.concat([Buffer.from('<ab'), Buffer.alloc(500, 0xfe)]),
    Buffer.concat([Buffer.from('[t'), Buffer.alloc(500, 0xfe)]),
    Buffer.alloc(500, 0xff),
    Buffer.alloc(500),
    Buffer.from('#!SILK_V3\x0c\x00', 'latin1'),
    Buffer.from('NIST_1A\n   1024\n\x00\x01', 'latin1'),
  ])('unknown binary is accepted (%#)', (body) => {
    expect(recogniseDocument(body, 'text/html')).toBeUndefined();
    expect(inspect(body).contentType).toBeUndefined();
  });
});
