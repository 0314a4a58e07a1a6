/**
 * Calls to Kore per archived session, of which an account has 60 a minute. Real parts and the default settings, on a
 * clock that is moved on as soon as nothing is left to do: a day and a half of checks takes seconds. Figures only, never a
 * verdict.
 *
 * `npm run bench:calls -- --help` lists the options. It needs `redis-server`.
 */

import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { makeSessionId } from '../src/sandbox/seeded-values.ts';
import { startRedis } from '../test/setup/redis.ts';
import { type FastClock, startOnFastClock } from '../test/support/fast-clock.ts';
import { columns } from './table.ts';

const USAGE = `npm run bench:calls -- [options]
  --sessions N   sessions of each mix (default 100)
  --only TEXT    only mixes whose names hold it
  --json         as JSON`;

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const START = Date.UTC(2026, 0, 5, 9);
/** Ends after the last look that the defaults allow. */
const END = START + 36 * HOUR_MS;
/** Calls come in one after the other. */
const BETWEEN_CALLS_MS = 6_000;
/** From the beginning of a call to the notification of its voicemail. */
const CALL_LASTS_MS = MINUTE_MS;
const VOICEMAIL_SHARE = 0.4;

/** A kind of sessions. */
interface Mix {
  readonly name: string;
  /** Calls per archived session of one who knows beforehand what comes when, without the settling check. */
  readonly ideal: number;
  readonly environment?: Readonly<Record<string, string>>;
  /** Adds sessions and says when they are queued; what counts begins when it resolves. */
  prepare(time: FastClock, count: number): Promise<void>;
}

/** When a session of that number begins, and is over. */
const timesOf = (index: number) => {
  const beganAt = START + index * BETWEEN_CALLS_MS;
  return { beganAt, overAt: beganAt + CALL_LASTS_MS };
};

/** Sessions with one recording each, queued when their calls are over. */
function eachCall(
  add: (sandbox: FastClock['sandbox'], sessionId: string, overAt: number, index: number) => void,
  isMaybe = false,
): Mix['prepare'] {
  return async (time, count) => {
    for (let index = 0; index < count; index += 1) {
      const { beganAt, overAt } = timesOf(index);
      const sessionId = makeSessionId(new Date(beganAt));
      time.at(overAt, async () => {
        add(time.sandbox, sessionId, overAt, index);
        await time.request([{ sessionId, ...(isMaybe && { maybe: true }) }]);
      });
    }
  };
}

const RECORDING = { seconds: 0.1 };
const READY = { recordings: [RECORDING], transcription: 'Please call me back.' };
const WITHOUT = { recordings: [] };
const hasVoicemail = (index: number) => (index % 10) / 10 < VOICEMAIL_SHARE;

/** Queues the same sessions once more, and lists the same hours again. */
async function runAgain(time: FastClock, count: number): Promise<void> {
  const ids = Array.from({ length: count }, (_, index) =>
    time.sandbox.addSession({ ...READY, sessionId: makeSessionId(new Date(timesOf(index).beganAt)) }),
  );
  await time.request(ids.map((sessionId) => ({ sessionId })));
  await time.runUntil(END - 2 * HOUR_MS);
  time.at(END - HOUR_MS, async () => {
    await time.request(ids.map((sessionId) => ({ sessionId })));
    await backfill(time, 'calls');
  });
}

async function backfill({ runtime, sandbox }: FastClock, source: 'calls' | 'sessions'): Promise<void> {
  const window = { from: new Date(START).toISOString(), to: new Date(START + 24 * HOUR_MS).toISOString() };
  const { id } = await runtime.backfills.start({ botId: sandbox.botId, ...window, source });
  while ((await runtime.backfills.view(id))?.state !== 'listed') {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A backfill over sessions of which some have a voicemail. */
function oldCandidates(source: 'calls' | 'sessions'): Mix['prepare'] {
  return async (time, count) => {
    for (let index = 0; index < count; index += 1) {
      const sessionId = makeSessionId(new Date(timesOf(index).beganAt));
      time.sandbox.addSession({ ...(hasVoicemail(index) ? READY : WITHOUT), sessionId });
    }
    time.at(END - HOUR_MS, () => backfill(time, source));
  };
}

/** Routes that count against the limit. */
const ASKING: ReadonlySet<string> = new Set(['voicemail', 'calls', 'sessions']);
const ACCOUNT = { KORE_ACCOUNT_ID: 'o-1' };

const MIXES: readonly Mix[] = [
  {
    name: 'ready at once',
    ideal: 1,
    prepare: eachCall((sandbox, sessionId) => sandbox.addSession({ ...READY, sessionId })),
  },
  {
    name: 'transcript 2 minutes late',
    ideal: 2,
    prepare: eachCall((sandbox, sessionId) => {
      const transcription = { texts: ['Please call me back.'], afterMs: 2 * MINUTE_MS };
      sandbox.addSession({ recordings: [RECORDING], transcription, sessionId });
    }),
  },
  {
    name: 'transcript never made',
    ideal: 1,
    prepare: eachCall((sandbox, sessionId) => sandbox.addSession({ recordings: [RECORDING], sessionId })),
  },
  {
    name: 'recording 2 minutes late',
    ideal: 1,
    prepare: eachCall((sandbox, sessionId, overAt) => {
      const isThere = () => Date.now() >= overAt + 2 * MINUTE_MS;
      const answer = (built: Readonly<Record<string, unknown>>) =>
        isThere() ? built : { ...built, 'voicemail recording': [], transcriptions: [] };
      sandbox.addSession({ ...READY, sessionId, answer });
    }),
  },
  {
    name: 'every call as a maybe, 40% with a voicemail',
    ideal: 1,
    environment: ACCOUNT,
    prepare: eachCall(
      (sandbox, sessionId, _, index) =>
        sandbox.addSession({ ...(hasVoicemail(index) ? READY : WITHOUT), sessionId }),
      true,
    ),
  },
  {
    name: 'the same without KORE_ACCOUNT_ID',
    ideal: 1,
    prepare: eachCall(
      (sandbox, sessionId, _, index) =>
        sandbox.addSession({ ...(hasVoicemail(index) ? READY : WITHOUT), sessionId }),
      true,
    ),
  },
  {
    name: 'backfill by call details, 40% with a voicemail',
    ideal: 1,
    environment: ACCOUNT,
    prepare: oldCandidates('calls'),
  },
  {
    name: 'backfill by sessions history, 40% with a voicemail',
    ideal: 1,
    prepare: oldCandidates('sessions'),
  },
  { name: 're-runs: queued and listed again', ideal: 0, environment: ACCOUNT, prepare: runAgain },
];

/** What a mix costs. */
interface Cost {
  readonly mix: string;
  readonly archived: number;
  readonly ideal: number;
  /** Calls per archived session: to get it, its transcript included. */
  readonly calls: number;
  /** Calls per archived session for the check after `SETTLE_WAIT`. */
  readonly settling: number;
}

const { values: options } = parseArgs({
  options: {
    sessions: { type: 'string', default: '100' },
    only: { type: 'string', default: '' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (options.help) console.log(USAGE);
else await bench(count(options.sessions), options.json);

async function bench(sessions: number, asJson: boolean): Promise<void> {
  const redis = await startRedis();
  try {
    const costs: Cost[] = [];
    for (const mix of MIXES.filter(({ name }) => name.includes(options.only))) {
      const [without, withLook] = [
        await callsOf(mix, sessions, redis.url, '0'),
        await callsOf(mix, sessions, redis.url, '1h'),
      ];
      const perSession = ({ calls, archived }: { calls: number; archived: number }) => calls / archived;
      const calls = perSession(without);
      costs.push({
        mix: mix.name,
        archived: without.archived,
        ideal: mix.ideal,
        calls,
        settling: perSession(withLook) - calls,
      });
      if (!asJson) console.error(mix.name);
    }
    if (asJson) console.log(JSON.stringify(costs));
    else console.log(report(costs));
  } finally {
    await redis.stop();
  }
}

async function callsOf(mix: Mix, sessions: number, redisUrl: string, settleWait: string) {
  const environment = { ...mix.environment, SETTLE_WAIT: settleWait };
  const time = await startOnFastClock(START, { redisUrl, queueName: `calls-${randomUUID()}`, environment });
  try {
    await mix.prepare(time, sessions);
    // What was archived before is not what is counted.
    const before = time.sandbox.calls.length;
    await time.runUntil(END);
    const calls = time.sandbox.calls.slice(before).filter(({ route }) => ASKING.has(route)).length;
    const { states } = await time.runtime.operations.stats();
    if (states.failed > 0) throw new Error(`${mix.name}: ${states.failed} sessions failed`);
    return { calls, archived: states.archived };
  } finally {
    await time.stop();
  }
}

function report(costs: readonly Cost[]): string {
  const rows = costs.map(({ mix, archived, ideal, calls, settling }) => [
    mix,
    String(archived),
    ideal.toFixed(2),
    calls.toFixed(2),
    settling.toFixed(2),
  ]);
  return columns([['', 'archived', 'ideal', 'calls a session', 'settling check'], ...rows]);
}

function count(text: string): number {
  if (!/^[1-9]\d{0,4}$/.test(text)) {
    console.error(`"${text}" is no count\n\n${USAGE}`);
    process.exit(2);
  }
  return Number(text);
}
