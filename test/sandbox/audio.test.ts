import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { creationTime, isValidId } from '../../src/domain/session.ts';
import { type AudioFormat, makeAudio } from '../../src/sandbox/audio/audio.ts';
import { type AudioSource, crc8, crc16, oggCrc, sha256OfSource } from '../../src/sandbox/audio/source.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';

const FORMATS: readonly AudioFormat[] = ['wav', 'wav-mulaw', 'flac', 'ogg', 'mp3', 'bin'];

function whole(source: AudioSource): Buffer {
  return source.slice(0, source.bytes);
}

test('checksums match the published check values', () => {
  const digits = Buffer.from('123456789');
  expect(crc8(digits)).toBe(0xf4);
  expect(crc16(digits)).toBe(0xfee8);
  // CRC-32/MPEG-2 without its starting value; computed bit by bit here, as the format describes it.
  let expected = 0;
  for (const byte of digits) {
    expected ^= byte << 24;
    for (let i = 0; i < 8; i++) expected = (expected << 1) ^ (expected < 0 ? 0x04c11db7 : 0);
  }
  expect(oggCrc(digits)).toBe(expected >>> 0);
});

describe('every format of made-up audio', () => {
  test.each(FORMATS)('%s made for the same seed is the same, and for another seed another', (format) => {
    const make = (seed: string) => makeAudio(format, seed, { seconds: 2 });
    expect(sha256OfSource(make('a'))).toBe(sha256OfSource(make('a')));
    expect(sha256OfSource(make('a'))).not.toBe(sha256OfSource(make('b')));
    expect(whole(make('a')).length).toBe(make('a').bytes);
  });

  test.each(FORMATS)('%s read in parts is the same as in one piece', (format) => {
    const source = makeAudio(format, 'parts', { seconds: 1.37 });
    const all = whole(source);
    const position = fc.nat({ max: source.bytes + 10 });
    fc.assert(
      fc.property(position, position, (start, end) => {
        expect(source.slice(start, end).equals(all.subarray(start, end))).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});

describe('WAV', () => {
  test('a made-up WAV has a correct header', () => {
    const file = whole(makeAudio('wav', 'x', { seconds: 1.5 }));
    expect(file.length).toBe(44 + 24_000);
    expect(file.toString('latin1', 0, 4)).toBe('RIFF');
    expect(file.readUInt32LE(4)).toBe(file.length - 8);
    expect(file.toString('latin1', 8, 16)).toBe('WAVEfmt ');
    expect(file.readUInt32LE(16)).toBe(16);
    expect(file.readUInt16LE(20)).toBe(1);
    expect(file.readUInt16LE(22)).toBe(1);
    expect(file.readUInt32LE(24)).toBe(8000);
    expect(file.readUInt32LE(28)).toBe(16_000);
    expect(file.readUInt16LE(32)).toBe(2);
    expect(file.readUInt16LE(34)).toBe(16);
    expect(file.toString('latin1', 36, 40)).toBe('data');
    expect(file.readUInt32LE(40)).toBe(24_000);
  });

  test('a made-up WAV can be heard: it begins with a tone of 1000 Hz and is loud, but not distorted', () => {
    const file = whole(makeAudio('wav', 'x', { seconds: 4 }));
    const samples = new Int16Array(file.buffer.slice(file.byteOffset + 44, file.byteOffset + file.length));
    let risingCrossings = 0;
    for (let i = 1; i < 2400; i++) {
      if ((samples[i - 1] ?? 0) <= 0 && (samples[i] ?? 0) > 0 && (samples[i] ?? 0) > 50) risingCrossings++;
    }
    expect(risingCrossings).toBeGreaterThan(290);
    expect(risingCrossings).toBeLessThan(310);
    const peak = samples.reduce((loudest, sample) => Math.max(loudest, Math.abs(sample)), 0);
    expect(peak).toBeGreaterThan(8000);
    expect(peak).toBeLessThan(32_000);
    expect(Math.abs(samples.at(-1) ?? 0)).toBeLessThan(50);
  });

  test('a made-up WAV in µ-law is the same tune, with the chunks that µ-law needs and a byte of padding if odd', () => {
    const law = whole(makeAudio('wav-mulaw', 'x', { seconds: 8001 / 8000 }));
    expect(law.length).toBe(58 + 8002);
    expect(law.readUInt32LE(4)).toBe(law.length - 8);
    expect(law.readUInt16LE(20)).toBe(7);
    expect(law.toString('latin1', 38, 42)).toBe('fact');
    expect(law.readUInt32LE(46)).toBe(8001);
    expect(law.readUInt32LE(54)).toBe(8001);
    expect(law.at(-1)).toBe(0);
    const pcm = whole(makeAudio('wav', 'x', { seconds: 8001 / 8000 }));
    for (let i = 0; i < 8001; i++) {
      const heard = decodeMulaw(law.readUInt8(58 + i));
      const meant = pcm.readInt16LE(44 + i * 2);
      expect(Math.abs(heard - meant)).toBeLessThanOrEqual(40 + Math.abs(meant) * 0.09);
    }
  });

  test('a made-up WAV can have a header and no samples', () => {
    const file = whole(makeAudio('wav', 'x', { seconds: 0 }));
    expect(file.length).toBe(44);
    expect(file.readUInt32LE(40)).toBe(0);
    expect(file.readUInt32LE(4)).toBe(36);
  });

  test('a made-up WAV can be huge without being held in memory, and no two places in it are alike', () => {
    const source = makeAudio('wav', 'x', { bytes: 500_000_000 });
    expect(source.bytes).toBe(500_000_000);
    expect(source.slice(0, 44).readUInt32LE(40)).toBe(499_999_956);
    expect(source.slice(499_999_990, 600_000_000).length).toBe(10);
    const parts = new Set<string>();
    for (let block = 0; block < 2000; block++) {
      const start = 44 + block * 200_000;
      parts.add(source.slice(start, start + 16_384).toString('latin1'));
    }
    expect(parts.size).toBe(2000);
  });

  test.each([43, 45, 1001, -2, 5e9, Number.NaN])('a made-up WAV of %d bytes is refused', (bytes) => {
    expect(() => makeAudio('wav', 'x', { bytes })).toThrow(RangeError);
  });
});

test('a made-up FLAC has a correct STREAMINFO, and every frame has the right checksums and number', () => {
  const pcm = whole(makeAudio('wav', 'x', { seconds: 1.1 }));
  const file = whole(makeAudio('flac', 'x', { seconds: 1.1 }));
  expect(file.toString('latin1', 0, 4)).toBe('fLaC');
  const facts = file.readBigUInt64BE(18);
  expect(Number(facts >> 44n)).toBe(8000);
  expect(Number((facts >> 36n) & 31n)).toBe(15);
  expect(Number(facts & 0xf_ffff_ffffn)).toBe(8800);
  let at = 42;
  for (const [number, count] of [4096, 4096, 608].entries()) {
    const header = count === 4096 ? 5 : 7;
    const end = at + header + 2 + count * 2 + 2;
    expect(file.readUInt16BE(at)).toBe(0xfff8);
    expect(file[at + 4]).toBe(number);
    expect(file[at + header]).toBe(crc8(file.subarray(at, at + header)));
    expect(file.readUInt16BE(end - 2)).toBe(crc16(file.subarray(at, end - 2)));
    const tenth = file.readInt16BE(at + header + 2 + 100);
    expect(Math.abs(tenth - pcm.readInt16LE(44 + (number * 4096 + 50) * 2))).toBeLessThanOrEqual(1);
    at = end;
  }
  expect(at).toBe(file.length);
});

test('a made-up Ogg has pages in order with the right checksums, granules that grow, and an end', () => {
  const file = whole(makeAudio('ogg', 'x', { seconds: 2.5 }));
  const pages: { flags: number; granule: number; sequence: number }[] = [];
  for (let at = 0; at < file.length; ) {
    expect(file.toString('latin1', at, at + 4)).toBe('OggS');
    const segments = file.readUInt8(at + 26);
    const body = file.subarray(at + 27, at + 27 + segments).reduce((sum, one) => sum + one, 0);
    const page = Buffer.from(file.subarray(at, at + 27 + segments + body));
    const stored = page.readUInt32LE(22);
    page.writeUInt32LE(0, 22);
    expect(oggCrc(page)).toBe(stored);
    pages.push({
      flags: page.readUInt8(5),
      granule: Number(page.readBigUInt64LE(6)),
      sequence: page.readUInt32LE(18),
    });
    at += page.length;
  }
  expect(pages.map((page) => page.sequence)).toEqual(pages.map((_, index) => index));
  expect(pages.map((page) => page.flags)).toEqual([2, 0, 0, 0, 4]);
  expect(pages.map((page) => page.granule)).toEqual([0, 0, 48_000, 96_000, 2.5 * 48_000 + 312]);
  expect(file.toString('latin1', 28, 36)).toBe('OpusHead');
});

test('a made-up MP3 is an ID3 tag of the size it says, and then whole frames', () => {
  const file = whole(makeAudio('mp3', 'Grüße', { seconds: 1 }));
  expect(file.toString('latin1', 0, 3)).toBe('ID3');
  const size = file.subarray(6, 10).reduce((sum, byte) => sum * 128 + byte, 0);
  expect(file.subarray(0, 10 + size).toString('utf16le', 23)).toBe('Voicemail Grüße');
  const frames = (file.length - 10 - size) / 144;
  expect(frames).toBe(28);
  for (let i = 0; i < frames; i++) expect(file.readUInt32BE(10 + size + i * 144)).toBe(0xfffb18c0);
});

test.each(['flac', 'ogg', 'mp3'] as const)(
  '%s cannot be asked for in bytes, nor without any length',
  (format) => {
    expect(() => makeAudio(format, 'x', { bytes: 100 })).toThrow('give seconds');
    expect(() => makeAudio(format, 'x', { seconds: 0 })).toThrow(RangeError);
  },
);

describe('session ids', () => {
  test('made-up session ids carry their creation time, and are the same for the same seed', () => {
    const at = new Date('2025-02-10T17:34:26.789Z');
    const id = makeSessionId(at, 'one');
    expect(isValidId(id)).toBe(true);
    expect(creationTime(id)).toEqual(new Date('2025-02-10T17:34:26Z'));
    expect(makeSessionId(at, 'one')).toBe(id);
    expect(makeSessionId(at, 'two')).not.toBe(id);
    expect(makeSessionId(at)).not.toBe(makeSessionId(at));
    expect(creationTime(makeSessionId(new Date(1000)))).toEqual(new Date(1000));
  });

  test.each([new Date(-1000), new Date(2 ** 32 * 1000), new Date(Number.NaN)])(
    'a session id cannot hold the time %s',
    (date) => {
      expect(() => makeSessionId(date)).toThrow(RangeError);
    },
  );
});

function decodeMulaw(code: number): number {
  const bits = ~code & 0xff;
  const magnitude = ((((bits & 0x0f) << 3) + 0x84) << ((bits & 0x70) >> 4)) - 0x84;
  return bits & 0x80 ? -magnitude : magnitude;
}
