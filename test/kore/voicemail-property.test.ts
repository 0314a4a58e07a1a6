import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { isVoicemailError, VoicemailError } from '../../src/domain/errors.ts';
import type { KoreAnswer } from '../../src/kore/transport.ts';
import { interpretVoicemail } from '../../src/kore/voicemail.ts';
import { mutate } from '../fuzz/mutate.ts';
import { createRandom, type Random } from '../support/random.ts';

const SEED = 'voicemail answers 1';
const MUTATIONS = 10_000;
const SAMPLE = readFileSync(new URL('../fixtures/voicemail-response.json', import.meta.url), 'utf8');
const KORE_CODES = /^(?:KORE_[A-Z_]+|SESSION_NOT_FOUND)$/;
const RECORDING_NAMES = ['voicemail recording', 'voicemail_recording', 'recording'];
const CONTROLS = /[\p{Cc}\p{Cf}]/u;

const url = (n: number) =>
  `https://media.kore.ai/voicemail/${n}.wav?e=1772370000&n=${n}&s=c2lnbmF0dXJlMDEyMzQ1Ng$$`;

const DEEP: unknown = JSON.parse('['.repeat(1_000) + ']'.repeat(1_000));

/** Any JSON value that Kore never sent so far. */
function anything(random: Random): unknown {
  return random.pick<unknown>([
    null,
    true,
    -1.5,
    1e300,
    '',
    ' ',
    '\u001b[31m\u202e',
    [],
    {},
    [null],
    [[]],
    ['text'],
    { a: { b: [] } },
    { fileUrl: 7 },
    'x'.repeat(random.below(3_000)),
    DEEP,
  ]);
}

/** An answer as documented but for one or two of its members; its recordings stay there. */
function oddAnswer(random: Random): string {
  const recordings = Array.from({ length: 1 + random.below(4) }, (_, n) =>
    random.pick<unknown>([
      { fileName: `${n}.wav`, fileUrl: url(n) },
      { fileName: anything(random), fileUrl: url(n) },
      { fileUrl: url(n), other: anything(random) },
      url(n),
    ]),
  );
  for (let odd = random.below(3); odd > 0; odd -= 1) {
    recordings.splice(random.below(recordings.length + 1), 0, anything(random));
  }
  const body: Record<string, unknown> = {
    status: random.pick<unknown>(['success', 'odd', null, 7, {}, 'failed', 'media_unavailable']),
    [random.pick(RECORDING_NAMES)]: recordings,
    transcriptions: random.pick<unknown>([[], null, anything(random), [anything(random)]]),
  };
  if (random.chance(0.3)) body[random.pick(['message', 'code', 'errors', 'error', 'x'])] = anything(random);
  if (random.chance(0.2)) body[random.pick(RECORDING_NAMES)] ??= anything(random);
  return JSON.stringify(body);
}

/** The URLs that anybody sees in an answer: a success that lists them, and does not say that the media is not ready. */
function plainUrls({ status, body }: KoreAnswer): string[] {
  if (status !== 200) return [];
  let parsed: Readonly<Record<string, unknown>>;
  try {
    parsed = JSON.parse(body);
  } catch {
    return []; // no answer at all
  }
  if (typeof parsed !== 'object' || parsed === null) return [];
  if (/^\s*(?:call|media)_in_progress\s*$/i.test(String(parsed.status))) return [];
  const lists = RECORDING_NAMES.map((name) => parsed[name]).filter(Array.isArray);
  const urls = lists
    .flat()
    .map((entry: unknown) =>
      typeof entry === 'object' && entry !== null && 'fileUrl' in entry ? entry.fileUrl : entry,
    )

    .filter(
      (found): found is string => typeof found === 'string' && /^https:\/\/[a-z.-]{1,200}\//.test(found),
    );
  return urls.filter((found) => found.length < 16_000 && found === found.trim());
}

function outcomeOf(answer: KoreAnswer): readonly string[] | VoicemailError {
  try {
    return interpretVoicemail(answer).recordings.map(({ fileUrl }) => fileUrl);
  } catch (error) {
    if (isVoicemailError(error)) return error;
    throw error;
  }
}

test(`${MUTATIONS} odd answers: no recording that is plainly there is lost, and no error is unknown`, () => {
  const random = createRandom(SEED);
  let withRecordings = 0;
  let refused = 0;
  const faults: string[] = [];
  for (let n = 0; n < MUTATIONS; n += 1) {
    const body =
      n % 2 === 0 ? oddAnswer(random) : mutate(random, random.chance(0.5) ? SAMPLE : oddAnswer(random));
    const answer = {
      status: n % 2 === 0 ? 200 : random.pick([200, 200, 200, 400, 401, 403, 404, 412, 429, 500, 502]),
      headers: { 'retry-after': mutate(random, '30') },
      body,
    };
    const check = (holds: boolean, what: string) => {
      if (!holds) faults.push(`${what}: mutation ${n} of seed "${SEED}": ${body.slice(0, 2_000)}`);
    };
    const outcome = outcomeOf(answer);
    const expected = plainUrls(answer);
    if (outcome instanceof VoicemailError) {
      refused += 1;
      check(expected.length === 0 || expected.length > 1_000, 'recordings were refused');
      check(KORE_CODES.test(outcome.code), `the code is ${outcome.code}`);
      check(!CONTROLS.test(outcome.message), 'a message has controls');
      check(!outcome.message.includes('c2lnbmF0dXJl'), 'a message has a signature');
      check(outcome.message.length < 500, 'a message is long');
      check((outcome.retryAfterMs ?? 0) <= 3_600_000, 'a pause is long');
    } else {
      if (expected.length > 0) withRecordings += 1;
      const found = new Set(outcome);
      check(found.size === outcome.length, 'a recording is there twice');
      check(
        expected.every((fileUrl) => found.has(fileUrl)),
        'a recording is lost',
      );
    }
  }
  expect(faults.slice(0, 3)).toEqual([]);
  // Or the test would test nothing.
  expect(withRecordings).toBeGreaterThan(MUTATIONS / 3);
  expect(refused).toBeGreaterThan(MUTATIONS / 10);
}, 120_000);
