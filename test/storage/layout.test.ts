import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { KoreRecording } from '../../src/domain/voicemail.ts';
import { assertKey } from '../../src/storage/keys.ts';
import {
  isCompanionName,
  manifestKey,
  partialManifestKey,
  recordingKeys,
  sessionPrefix,
  transcriptKey,
} from '../../src/storage/layout.ts';
import { assertLinear, TIMES_LARGER } from '../support/growth.ts';

const SESSION = { botId: 'st-1', sessionId: '67ab573f3685d1ba99540000' };
const PREFIX = 'bot_id=st-1/date=2025-02-11/session_id=67ab573f3685d1ba99540000/';

const recording = (
  fileName: string,
  fileUrl = 'https://media.example/x/from-url.wav?e=1&s=abc',
): KoreRecording => ({
  fileName,
  fileUrl,
});
const names = (recordings: KoreRecording[]) =>
  recordingKeys(recordings, SESSION).map((key) => key.slice(PREFIX.length));
const nameOf = (fileName: string, fileUrl?: string) => names([recording(fileName, fileUrl)])[0];

describe("a session's place", () => {
  test("a session's place is made of bot, day and session", () => {
    expect(sessionPrefix(SESSION)).toBe(PREFIX);
    expect(manifestKey(SESSION)).toBe(`${PREFIX}manifest.json`);
    expect(transcriptKey(SESSION)).toBe(`${PREFIX}transcript.json`);
    expect(partialManifestKey(SESSION)).toBe(`${PREFIX}manifest.partial.json`);
    const companions = ['manifest.partial.json', 'hold.json', 'tombstone.json'];
    expect([...companions, 'manifest.json', 'a.wav'].filter(isCompanionName)).toEqual(companions);
  });

  test.for([
    ['67aa8fff0000000000000000', '2025-02-10'], // 23:46:39 UTC
    ['67AA93200000000000000000', '2025-02-11'], // 00:00:00 UTC
    ['000000000000000000000000', '1970-01-01'],
    ['ffffffffffffffffffffffff', '2106-02-07'],
    ['67ab573f3685d1ba9954xxxx', 'undated'],
    ['67ab573f3685d1ba9954000', 'undated'],
    ['s', 'undated'],
  ])("a session's place for %s is dated %s", ([sessionId, date]) => {
    const id = sessionId ?? '';
    expect(sessionPrefix({ botId: 'b', sessionId: id })).toBe(`bot_id=b/date=${date}/session_id=${id}/`);
  });

  test.for(['', '..', 'a/b', 'a b', 'ä', 'x'.repeat(129)])(
    "a session's place does not exist for the id %j",
    (id) => {
      expect(() => sessionPrefix({ botId: 'b', sessionId: id })).toThrow();
      expect(() => sessionPrefix({ botId: id, sessionId: 's' })).toThrow();
    },
  );
});

describe('the name of a recording', () => {
  const bidi = 'gnp\u202Evaw.exe';
  test.for([
    ['voicemail_67aa.wav', 'voicemail_67aa.wav'],
    ['../../x', 'x'],
    ['..\\..\\x.wav', 'x.wav'],
    ['/etc/passwd', 'passwd'],
    ['C:\\Users\\me\\call 1.wav', 'call_1.wav'],
    ['.hidden.wav', 'hidden.wav'],
    ['  ..  x.wav ', '__x.wav'],
    ['x.wav...', 'x.wav'],
    ['a\u0000b\u001f\u007f.wav', 'ab.wav'],
    ['a\r\nb.wav', 'ab.wav'],
    [bidi, 'gnpvaw.exe'],
    ['zero\u200bwidth\ufeff.wav', 'zerowidth.wav'],
    ['a:b*c?d"e<f>g|h.wav', 'a_b_c_d_e_f_g_h.wav'],
    ['50%&co;$(x)`y`.wav', '50__co__(x)_y_.wav'],
    ['Anruf (3) + ä.wav', 'Anruf_(3)_+_ä.wav'],
    ['u\u0308ber.wav', 'über.wav'],
    ['录音.wav', '录音.wav'],
    ['तस्वीर.wav', 'तस्वीर.wav'],
    ['🎙.wav', '_.wav'],
    ['manifest.json', 'recording-manifest.json'],
    ['MANIFEST.JSON', 'recording-MANIFEST.JSON'],
    ['x/transcript.json', 'recording-transcript.json'],
    ['.manifest.json.', 'recording-manifest.json'],
    ['manifest.partial.json', 'recording-manifest.partial.json'],
    ['Hold.json', 'recording-Hold.json'],
    ['tombstone.json', 'recording-tombstone.json'],
    ['con', 'recording-con'],
    ['NUL.wav', 'recording-NUL.wav'],
    ['lpt1.tar.gz', 'recording-lpt1.tar.gz'],
    ['console.wav', 'console.wav'],
  ])('the name %j of a recording becomes %j', ([received, expected]) => {
    expect(nameOf(received ?? '')).toBe(expected);
  });

  test.for(['', ' ', '.', '..', '...', '/', 'a/', '\\', '\u0000', '\u200b'])(
    'an empty name (%j) of a recording is replaced by the one in the URL',
    (received) => {
      expect(nameOf(received)).toBe('from-url.wav');
    },
  );

  test('a name that is empty in the URL too is `recording`', () => {
    expect(nameOf('', 'https://media.example/?e=1')).toBe('recording');
    expect(nameOf('', 'not a url/')).toBe('recording');
    expect(nameOf('', 'https://media.example/a%2Fb%2F..%2f?x')).toBe('recording');
    expect(nameOf('', 'https://media.example/call%201.wav#f')).toBe('call_1.wav');
    expect(nameOf('', 'https://media.example/50%.wav')).toBe('50_.wav');
  });

  test('the name of a recording is at most 180 bytes long, with its extension', () => {
    expect(nameOf(`${'x'.repeat(2000)}.wav`)).toBe(`${'x'.repeat(176)}.wav`);
    expect(nameOf(`${'ä'.repeat(2000)}.wav`)).toBe(`${'ä'.repeat(88)}.wav`);
    expect(nameOf('x'.repeat(2000))).toBe('x'.repeat(180));
    expect(nameOf(`x.${'y'.repeat(2000)}`)).toBe(`x.${'y'.repeat(178)}`);
    expect(nameOf(`nul.${'y'.repeat(2000)}`)).toBe(`recording-nul.${'y'.repeat(166)}`);
  });

  test("the name of a recording never holds its URL's query", () => {
    const fileUrl = 'https://media.example/x/f.wav?e=1&n=2&s=SECRETSIGNATURE$$';
    expect(nameOf('f.wav?e=1&n=2&s=SECRETSIGNATURE$$', fileUrl)).toBe('f.wav');
    expect(nameOf(fileUrl, fileUrl)).toBe('f.wav');
  });

  test("a name that is the recording's URL becomes `recording`", () => {
    expect(nameOf('', 'data:audio/wav;base64,UklGRiQ/AABXQVZF')).toBe('recording');
  });
});

describe('work on names', () => {
  const alike = (count: number, nameAt: (index: number) => string) =>
    Array.from({ length: count }, (_, index) => recording(nameAt(index), `https://media.example/${index}`));

  test.for([
    ['recordings of one name', (count: number) => alike(count, () => 'voicemail.wav')],
    [
      'of names that look like numbered ones',
      (count: number) => alike(count, (index) => (index % 2 ? 'a.wav' : `a-${index}.wav`)),
    ],
    [
      'of long names that differ at their ends',
      (count: number) =>
        alike(count, (index) => `${'x'.repeat(177)}${String.fromCodePoint(0x4e00 + (index >> 1))}`),
    ],
    ['dots in a name', (count: number) => [recording(`a${'.'.repeat(count * 20)}x`)]],
    ['slashes in a name', (count: number) => [recording('/'.repeat(count * 20))]],
  ] as const)('the work on names grows with their number alone: %s', ([, build]) => {
    const work = (count: number) => {
      const recordings = build(count);
      return () => recordingKeys(recordings, SESSION);
    };
    assertLinear(work(750), work(750 * TIMES_LARGER));
  });

  test('12,000 recordings of one name get 12,000 keys', () => {
    expect(new Set(names(alike(12_000, () => 'voicemail.wav'))).size).toBe(12_000);
  });
});

describe('names within a session', () => {
  const at = (fileName: string, path: string, query = 'e=1') =>
    recording(fileName, `https://media.example/${path}?${query}`);

  test('equal names within a session get numbers by where the recording lies', () => {
    expect(names([at('a.wav', 'c'), at('a.wav', 'a'), at('a.wav', 'b')])).toEqual([
      'a-3.wav',
      'a.wav',
      'a-2.wav',
    ]);
  });

  test('names within a session stay the same when URLs are signed anew', () => {
    expect(names([at('a.wav', '1', 's=z'), at('a.wav', '2', 's=a')])).toEqual(['a.wav', 'a-2.wav']);
    expect(names([at('a.wav', '1', 's=a'), at('a.wav', '2', 's=z')])).toEqual(['a.wav', 'a-2.wav']);
  });

  test('names within a session that differ in case alone count as equal', () => {
    expect(names([at('A.wav', '1'), at('a.WAV', '2')])).toEqual(['A.wav', 'a-2.WAV']);
  });

  test('names within a session that look numbered already stay as they are', () => {
    expect(names([at('a.wav', '1'), at('a.wav', '2'), at('a-2.wav', '3')])).toEqual([
      'a.wav',
      'a-3.wav',
      'a-2.wav',
    ]);
  });

  test('equal names of one and the same place are numbered in the order given', () => {
    expect(names([at('a.wav', '1'), at('a.wav', '1')])).toEqual(['a.wav', 'a-2.wav']);
  });

  test('a name that another recording of the session has is not given again', () => {
    const taken = [`${PREFIX}A.wav`, `${PREFIX}a-2.wav`];
    const keys = recordingKeys([at('a.wav', '1'), at('b.wav', '2'), at('a.wav', '3')], SESSION, taken);
    expect(keys.map((key) => key.slice(PREFIX.length))).toEqual(['a-3.wav', 'b.wav', 'a-4.wav']);
  });

  test('a long name within a session leaves room for the number', () => {
    const long = `${'x'.repeat(500)}.wav`;
    expect(names([at(long, '1'), at(long, '2')])).toEqual([
      `${'x'.repeat(176)}.wav`,
      `${'x'.repeat(174)}-2.wav`,
    ]);
  });
});

describe('names of any kind', () => {
  const hostileName = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc.string({ unit: 'grapheme', maxLength: 300 }),
    fc.string({ unit: fc.constantFrom(...'./\\ abc-', '\u0300', '\u202e'), maxLength: 30 }),
    fc.constantFrom(
      'a.wav',
      'A.wav',
      'a-2.wav',
      'manifest.json',
      'transcript.json',
      '',
      '..',
      'con.x',
      '.wav',
    ),
  );
  const recordings = fc
    .array(hostileName, { minLength: 1, maxLength: 12 })
    .map((list) => list.map((fileName, index) => recording(fileName, `https://media.example/p/${index}`)));

  test('keys stay in their session, are distinct and not too long, whatever Kore sends', () => {
    fc.assert(
      fc.property(recordings, (list) => {
        const keys = recordingKeys(list, SESSION);
        expect(keys).toHaveLength(list.length);
        expect(new Set(keys.map((key) => key.toLowerCase())).size).toBe(list.length);
        for (const key of keys) {
          assertKey(key);
          expect(key.startsWith(PREFIX)).toBe(true);
          const name = key.slice(PREFIX.length);
          expect(name).toMatch(/^[\p{L}\p{Nd}_\-()+][\p{L}\p{M}\p{Nd}._\-()+]*$/u);
          expect(name.endsWith('.')).toBe(false);
          expect(name).toBe(name.normalize('NFC'));
          expect(Buffer.byteLength(name)).toBeLessThanOrEqual(180);
          expect(['manifest.json', 'transcript.json']).not.toContain(name.toLowerCase());
        }
      }),
    );
  });

  test('keys do not depend on the order of the recordings', () => {
    const shuffled = recordings.chain((list) =>
      fc.shuffledSubarray([...list.keys()], { minLength: list.length }).map((order) => ({ list, order })),
    );
    fc.assert(
      fc.property(shuffled, ({ list, order }) => {
        const keys = recordingKeys(list, SESSION);
        const again = recordingKeys(
          order.flatMap((index) => list[index] ?? []),
          SESSION,
        );
        expect(again).toEqual(order.map((index) => keys[index]));
      }),
    );
  });

  test('a name that is clean stays as it is', () => {
    fc.assert(
      fc.property(recordings, (list) => {
        const cleaned = names(list);
        expect(names(list.map(({ fileUrl }, index) => recording(cleaned[index] ?? '', fileUrl)))).toEqual(
          cleaned,
        );
      }),
    );
  });
});
