import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Conclusion } from '../../src/transfer/audio/container.ts';
import { createInspector } from '../../src/transfer/audio/inspector.ts';
import { judgeIntegrity } from '../../src/transfer/download.ts';

const FIXTURES = new URL('../fixtures/audio/', import.meta.url);

function fixture(name: string): Buffer {
  return readFileSync(new URL(name, FIXTURES));
}

/** What is concluded of a body that comes in pieces of that size. */
function inspect(body: Buffer, pieceBytes = 1000): Partial<Conclusion> & { contentType: string | undefined } {
  const inspector = createInspector(undefined);
  for (let at = 0; at < body.length; at += pieceBytes) inspector.add(body.subarray(at, at + pieceBytes));
  return { contentType: inspector.identify().container?.contentType, ...inspector.conclude() };
}

/**
 * Each file with what it is, how it ends when it is whole, and where its samples end, if a file that is cut before must
 * never be taken for a whole one. 0: it is without any size, so it cannot tell.
 */
const FILES: readonly [
  name: string,
  contentType: string,
  facts: object,
  end: Conclusion['end'],
  audioEnd: number,
][] = [
  [
    'base.wav',
    'audio/wav',
    { container: 'wav', codec: 'pcm_s16le', durationSeconds: 1.5 },
    'confirmed',
    24_044,
  ],
  ['ffmpeg-pipe.wav', 'audio/wav', { container: 'wav', codec: 'pcm_s16le', durationSeconds: 1.5 }, 'open', 0],
  [
    'rf64.wav',
    'audio/wav',
    { container: 'wav', codec: 'pcm_s16le', durationSeconds: 1.5 },
    'confirmed',
    24_114,
  ],
  [
    'gsm610.wav',
    'audio/wav',
    { container: 'wav', codec: 'gsm_ms', durationSeconds: 1.52 },
    'confirmed',
    2564,
  ],
  [
    'mulaw.wav',
    'audio/wav',
    { container: 'wav', codec: 'pcm_mulaw', durationSeconds: 1.5 },
    'confirmed',
    12_092,
  ],
  ['g722.wav', 'audio/wav', { container: 'wav', codec: 'g722', sampleRate: 16_000 }, 'confirmed', 12_076],
  ['mp3.wav', 'audio/wav', { container: 'wav', codec: 'mp3', sampleRate: 8000 }, 'confirmed', 1760],
  [
    'wave64.w64',
    'audio/x-w64',
    { container: 'w64', codec: 'pcm_s16le', durationSeconds: 1.5 },
    'confirmed',
    24_104,
  ],
  ['pipe.w64', 'audio/x-w64', { container: 'w64', codec: 'pcm_alaw', durationSeconds: 1.5 }, 'open', 0],
  ['pcm.aiff', 'audio/aiff', { container: 'aiff', codec: 'pcm_s16be', sampleRate: 8000 }, 'confirmed', 4056],
  ['pcm.aifc', 'audio/aiff', { container: 'aifc', codec: 'pcm_be', sampleRate: 8000 }, 'confirmed', 4088],
  ['pcm.au', 'audio/basic', { container: 'au', codec: 'pcm_mulaw', sampleRate: 8000 }, 'confirmed', 2033],
  [
    'alaw.caf',
    'audio/x-caf',
    { container: 'caf', codec: 'pcm_alaw', durationSeconds: 1.5 },
    'confirmed',
    12_130,
  ],
  [
    'flac.flac',
    'audio/flac',
    { container: 'flac', codec: 'flac', durationSeconds: 1.5 },
    'confirmed',
    19_885,
  ],
  ['flac-pipe.flac', 'audio/flac', { container: 'flac', codec: 'flac', durationSeconds: 1.5 }, 'open', 0],
  ['opus.ogg', 'audio/ogg', { container: 'ogg', codec: 'opus', durationSeconds: 1.5 }, 'confirmed', 2836],
  ['vorbis.ogg', 'audio/ogg', { container: 'ogg', codec: 'vorbis', sampleRate: 44_100 }, 'confirmed', 11_245],
  ['flac.ogg', 'audio/ogg', { container: 'ogg', codec: 'flac', durationSeconds: 1.5 }, 'confirmed', 11_863],
  ['plain.mp3', 'audio/mpeg', { container: 'mp3', codec: 'mp3', durationSeconds: 1.656 }, 'open', 0],
  ['xing.mp3', 'audio/mpeg', { container: 'mp3', codec: 'mp3', durationSeconds: 1.656 }, 'confirmed', 1917],
  ['aac.aac', 'audio/aac', { container: 'adts', codec: 'aac', durationSeconds: 1.664 }, 'open', 0],
  ['amr-nb.amr', 'audio/amr', { container: 'amr', codec: 'amr_nb', durationSeconds: 1.5 }, 'open', 0],
  ['m4a.m4a', 'audio/mp4', { container: 'mp4', codec: 'aac', durationSeconds: 1.5 }, 'confirmed', 4349],
  ['faststart.m4a', 'audio/mp4', { container: 'mp4', codec: 'aac', durationSeconds: 1.5 }, 'confirmed', 4349],
  ['fragmented.mp4', 'audio/mp4', { container: 'mp4', codec: 'aac', sampleRate: 8000 }, 'confirmed', 4498],
  ['aac.3gp', 'audio/3gpp', { container: '3gp', codec: 'aac', durationSeconds: 1.5 }, 'confirmed', 4251],
  ['amr.3gp', 'audio/3gpp', { container: '3gp', codec: 'amr_nb', sampleRate: 8000 }, 'confirmed', 1606],
  ['opus.webm', 'audio/webm', { container: 'webm', codec: 'opus' }, 'confirmed', 15_584],
  ['opus-live.webm', 'audio/webm', { container: 'webm', codec: 'opus' }, 'open', 0],
  [
    'wma.wma',
    'audio/x-ms-wma',
    { container: 'asf', codec: 'wmav2', sampleRate: 44_100 },
    'confirmed',
    16_544,
  ],
];

it('each file of the fixtures is in the table', () => {
  const names = readdirSync(FIXTURES).filter((name) => !name.endsWith('.md'));
  expect(FILES.map(([name]) => name).sort()).toEqual(names.sort());
});

describe.each(FILES)('%s', (name, contentType, facts, end, audioEnd) => {
  const body = fixture(name);

  it.each([1, 7, 1000, body.length])(
    'the file is recognised and judged, in pieces of %i bytes',
    (pieceBytes) => {
      expect(inspect(body, pieceBytes)).toMatchObject({ contentType, facts, end, notes: [] });
    },
  );

  it('the file is never taken for whole when it is cut', () => {
    for (let length = 0; length < body.length; length += 1 + Math.floor(body.length / 2000)) {
      const cut = inspect(body.subarray(0, length), body.length);
      if (audioEnd > 0 && length < audioEnd) expect([length, cut.end]).not.toEqual([length, 'confirmed']);
      if (cut.end === 'missing') expect(cut.notes).not.toEqual([]);
    }
  });

  it('the file is judged alike behind an ID3v2 tag', () => {
    const tag = Buffer.concat([Buffer.from('ID3\x04\0\0\0\0\x01\x00', 'latin1'), Buffer.alloc(128)]);
    expect(inspect(Buffer.concat([tag, body]), 33)).toMatchObject({ contentType, facts, end });
  });
});

/** `base.wav` with these numbers added to its sizes: that of the file, and that of the samples. */
function resized(file: number, samples: number): Buffer {
  const body = fixture('base.wav');
  body.writeUInt32LE(body.readUInt32LE(4) + file, 4);
  body.writeUInt32LE(body.readUInt32LE(40) + samples, 40);
  return body;
}

describe('the integrity of a recording that came whole', () => {
  const base = fixture('base.wav');
  const pipe = fixture('ffmpeg-pipe.wav');
  const headerOnly = Buffer.from(base.subarray(0, 44));
  headerOnly.writeUInt32LE(36, 4);
  headerOnly.writeUInt32LE(0, 40);

  it.each([
    ['suspect: 44 samples more are claimed than came', resized(0, 44), 'suspect', 'cut'],
    ['suspect: its header was written for the longest message', resized(960_000, 960_000), 'suspect', 'cut'],
    ['suspect: fewer samples are claimed than came', resized(-2000, -2000), 'suspect', undefined],
    ['suspect: the size of the file is nonsense', resized(2 ** 30, 0), 'suspect', undefined],
    ['verified: a WAV from a pipe', pipe, 'verified', undefined],
    [
      'verified: a WAV with sizes of 0',
      resized(-base.readUInt32LE(4), -base.readUInt32LE(40)),
      'verified',
      undefined,
    ],
    ['verified: a WAV with no samples', headerOnly, 'verified', undefined],
    ['suspect: half of a WAV with its own length', base.subarray(0, 12_022), 'suspect', 'cut'],
    ['suspect: noise in no known container', Buffer.alloc(500, 0x81), 'suspect', undefined],
  ])('a WAV that came whole by HTTP is archived as %s', (_name, body, state, doubt) => {
    const { contentType, ...conclusion } = inspect(body);
    const judgement = judgeIntegrity({
      isLengthKnown: true,
      conclusion: contentType === undefined ? undefined : (conclusion as Conclusion),
      isRepeated: false,
    });
    expect([judgement.integrity.state, judgement.doubt]).toEqual([state, doubt]);
    expect(judgement.integrity.notes.length > 0).toBe(state === 'suspect');
  });

  it.each(FILES)('a recording that came whole by HTTP is archived as verified: %s', (name) => {
    const { contentType: _, ...conclusion } = inspect(fixture(name));
    const download = { isLengthKnown: true, conclusion: conclusion as Conclusion, isRepeated: false };
    expect(judgeIntegrity(download)).toEqual({
      integrity: { state: 'verified', notes: [] },
      doubt: undefined,
    });
  });

  it.each(FILES)(
    'a recording without a length is verified by its container, otherwise unverified: %s',
    (name, _type, _facts, end) => {
      const { contentType: _, ...conclusion } = inspect(fixture(name));
      const download = { isLengthKnown: false, conclusion: conclusion as Conclusion, isRepeated: true };
      expect(judgeIntegrity(download).integrity).toEqual({
        ...(end === 'confirmed' ? { state: 'verified' } : { state: 'unverified', end: 'unconfirmed' }),
        notes: [],
      });
    },
  );
});

describe('a file that is cut in the middle', () => {
  // Of these nothing but a cut within a frame can be seen.
  it.each(FILES.filter(([name]) => !['ffmpeg-pipe.wav', 'pipe.w64', 'opus-live.webm'].includes(name)))(
    '%s misses bytes when it is cut in the middle, with a length that fits',
    (name) => {
      const body = fixture(name);
      expect(inspect(body.subarray(0, Math.floor(body.length / 2) - 1)).end).toBe('missing');
    },
  );
});

describe('a growing recording', () => {
  // A body that ends within a header tells as much as one that ends within what follows the header.
  it.each(['plain.mp3', 'aac.aac', 'amr-nb.amr', 'opus.ogg', 'flac-pipe.flac'])(
    'a growing %s is seen to be cut wherever it ends, but between two frames',
    (name) => {
      const body = fixture(name);
      const unseen: number[] = [];
      for (let length = Math.max(300, body.length - 1500); length < body.length; length++) {
        if (inspect(body.subarray(0, length), length).end !== 'missing') unseen.push(length);
      }
      expect(unseen.filter((length) => unseen.includes(length + 1))).toEqual([]);
    },
  );

  it('a growing flac-pipe.flac is seen to be cut within its metadata', () => {
    expect(inspect(fixture('flac-pipe.flac').subarray(0, 4000))).toMatchObject({ end: 'missing' });
  });
});

describe('MP4', () => {
  const whole = fixture('m4a.m4a');
  const box = (type: string, content: Buffer, size = 8 + content.length) => {
    const header = Buffer.alloc(8);
    header.writeUInt32BE(size);
    header.write(type, 4, 'latin1');
    return Buffer.concat([header, content]);
  };
  const large = (type: string, content: Buffer) => {
    const size = Buffer.alloc(8);
    size.writeBigUInt64BE(BigInt(16 + content.length));
    return box(type, Buffer.concat([size, content]), 1);
  };
  const ftyp = box('ftyp', Buffer.from('M4A \0\0\0\0'));
  const moov = whole.subarray(whole.indexOf('moov') - 4);
  const samples = Buffer.alloc(100_000, 7);

  it.each([
    ['a box of 64 bits', [ftyp, large('mdat', samples), moov], 'confirmed', []],
    ['samples up to the end', [ftyp, moov, box('mdat', samples, 0)], 'open', []],
    [
      'samples up to the end and no description',
      [ftyp, box('mdat', samples, 0)],
      'missing',
      ['the description of its samples (moov) did not come'],
    ],
    [
      'no description behind the samples',
      [ftyp, box('mdat', samples)],
      'missing',
      ['the description of its samples (moov) did not come'],
    ],
    ['no samples', [ftyp, moov], 'missing', ['its samples (mdat) did not come']],
    [
      'something behind the last box',
      [ftyp, moov, box('mdat', samples), Buffer.alloc(11)],
      'open',
      ['11 bytes that belong to no box stand at its end'],
    ],
    [
      'samples that claim more than came',
      [ftyp, moov, box('mdat', samples, 108_000)],
      'missing',
      ['its boxes say 7,992 bytes more than came'],
    ],
    ['fragments without an index', [ftyp, moov, box('moof', samples), box('mdat', samples)], 'open', []],
  ])('an MP4 is judged right with %s', (_name, boxes, end, notes) => {
    expect(inspect(Buffer.concat(boxes))).toMatchObject({ end, notes });
  });
});

describe('files with unknown sizes', () => {
  it.each([
    ['base.wav', [4, 40]],
    ['pcm.aiff', [4, 42]],
    ['pcm.au', [8]],
  ])(
    'sizes of 0 or all bits in %s, from writers that do not know them beforehand, prove nothing',
    (name, positions) => {
      for (const value of [0, 0xffffffff]) {
        const body = fixture(name);
        for (const at of positions) body.writeUInt32BE(value, at);
        expect(inspect(body)).toMatchObject({ end: 'open', notes: [] });
      }
    },
  );

  it('a size of -1 in a CAF proves nothing', () => {
    const body = fixture('alaw.caf');
    body.writeBigInt64BE(-1n, body.indexOf('data') + 4);
    expect(inspect(body)).toMatchObject({ end: 'open', notes: [], facts: { durationSeconds: 1.5 } });
  });

  it('missing 64-bit sizes of RF64 prove nothing', () => {
    const body = fixture('rf64.wav');
    body.fill(0, 20, 36);
    expect(inspect(body)).toMatchObject({ end: 'open', notes: [], facts: { durationSeconds: 1.5 } });
  });
});

describe('foreign bytes', () => {
  it.each(['pcm.au', 'base.wav', 'pcm.aiff', 'alaw.caf', 'wave64.w64', 'opus.webm', 'opus.ogg'])(
    'foreign bytes behind %s cause a remark',
    (name) => {
      const { end, notes } = inspect(Buffer.concat([fixture(name), Buffer.alloc(100, 0xee)]));
      expect([end, notes?.length]).toEqual(['open', expect.toSatisfy((count: number) => count >= 1)]);
      expect(notes?.join()).toContain('100 bytes');
    },
  );
});

/** Sizes that no file has, and ones at the borders of numbers. */
const EXTREMES = [0, 1, 7, 8, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];

/** One change of a file's bytes. */
const change = fc.oneof(
  fc.record({ kind: fc.constant('flip' as const), at: fc.nat(), bit: fc.nat(7) }),
  fc.record({ kind: fc.constant('cut' as const), at: fc.nat() }),
  fc.record({
    kind: fc.constant('size' as const),
    at: fc.nat(),
    value: fc.constantFrom(...EXTREMES),
    bytes: fc.constantFrom(1, 2, 4, 8),
    bigEndian: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('insert' as const), at: fc.nat(), bytes: fc.uint8Array({ maxLength: 64 }) }),
  fc.record({ kind: fc.constant('remove' as const), at: fc.nat(), count: fc.nat(64) }),
);
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never;

/** How much of a file is header, mostly: changes are made there more often than in the samples. */
const HEADER_BYTES = 200;

function changed(body: Buffer, step: Change): Buffer {
  if (body.length === 0) return body;
  const at = step.at % 4 === 0 ? step.at % body.length : step.at % Math.min(HEADER_BYTES, body.length);
  switch (step.kind) {
    case 'flip': {
      const copy = Buffer.from(body);
      copy.writeUInt8(copy.readUInt8(at) ^ (1 << step.bit), at);
      return copy;
    }
    case 'cut':
      return body.subarray(0, step.at % body.length);
    case 'size': {
      const number = Buffer.alloc(8, step.value === 0xffffffff ? 0xff : 0);
      if (step.bigEndian) number.writeUInt32BE(step.value, 4);
      else number.writeUInt32LE(step.value);
      const copy = Buffer.from(body);
      (step.bigEndian ? number.subarray(8 - step.bytes) : number.subarray(0, step.bytes)).copy(copy, at);
      return copy;
    }
    case 'insert':
      return Buffer.concat([body.subarray(0, at), step.bytes, body.subarray(at)]);
    case 'remove':
      return Buffer.concat([body.subarray(0, at), body.subarray(at + step.count)]);
  }
}

describe('10,000 mutations of all files', () => {
  const bodies = FILES.map(([name]) => fixture(name));

  it('10,000 mutations of all files never make the inspector throw, and are judged alike in whatever pieces they come', () => {
    const ends = new Map<string, number>();
    fc.assert(
      fc.property(
        fc.nat(bodies.length - 1),
        fc.array(change, { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 1, max: 5000 }),
        (index, steps, pieceBytes) => {
          const body = steps.reduce(changed, bodies[index] ?? Buffer.alloc(0));
          const inOne = inspect(body, Math.max(1, body.length));
          expect(inspect(body, pieceBytes)).toEqual(inOne);
          const { end = 'none', notes = [], facts } = inOne;
          ends.set(end, (ends.get(end) ?? 0) + 1);
          if (end === 'missing') expect(notes).not.toEqual([]);
          for (const note of notes) expect(note).toMatch(/^[ -~]{1,120}$/);
          const seconds = facts?.durationSeconds ?? 0;
          expect(Number.isFinite(seconds) && seconds >= 0).toBe(true);
        },
      ),
      { seed: 20_260_115, numRuns: 10_000 },
    );
    // Each verdict was reached, so that none of them is out of this test's reach.
    expect([...ends.keys()].sort()).toEqual(['confirmed', 'missing', 'none', 'open']);
  }, 300_000);
});
