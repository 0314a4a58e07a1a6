/**
 * What archiving a session costs, in CPU time of the worker's process, beside two programs that do less: see
 * {@link CONTESTANTS}. All three work off the same sessions over loopback, one after another in turns, so that
 * whatever else the machine does troubles all of them alike. Figures only, never a verdict.
 *
 * `npm run bench -- --help` tells the options.
 */

import { parseArgs } from 'node:util';
import { startRedis } from '../test/setup/redis.ts';
import { openBenchStore } from './archive-store.ts';
import { CONTESTANTS, type Contestant, type Cost, type Course, run } from './contest.ts';
import { startProgram } from './program.ts';
import { columns, median, summary } from './table.ts';

const CONCURRENCY = 16;

const USAGE = `npm run bench -- [options]
  --sessions N   sessions archived in each run (default 1000)
  --rounds N     runs of each program, of which the table shows the median (default 3)
  --warm-up N    sessions archived before the clock starts (default 50)
  --profile DIR  writes CPU profiles of the workers into a directory; the figures are then too high`;

const { values: options } = parseArgs({
  options: {
    sessions: { type: 'string', default: '1000' },
    rounds: { type: 'string', default: '3' },
    'warm-up': { type: 'string', default: '50' },
    profile: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
if (options.help) console.log(USAGE);
else await bench(count(options.sessions), count(options.rounds), count(options['warm-up']), options.profile);

async function bench(
  sessions: number,
  rounds: number,
  warmUp: number,
  profileDirectory: string | undefined,
): Promise<void> {
  await using servers = new AsyncDisposableStack();
  const redis = servers.adopt(await startRedis(), (server) => server.stop());
  const store = servers.adopt(await openBenchStore(), (opened) => opened.close());
  const sandbox = servers.adopt(
    startProgram('./servers/kore-program.ts', { args: [String(warmUp + sessions)] }),
    (program) => program.stop(),
  );
  const kore = await sandbox.receive('kore');
  const all = kore.sessionIds.map((sessionId) => ({ sessionId, botId: kore.botId }));
  const course: Course = {
    environment: {
      KORE_HOST: kore.url,
      KORE_BOT_ID: kore.botId,
      KORE_CLIENT_ID: kore.clientId,
      KORE_CLIENT_SECRET: kore.clientSecret,
      KORE_RATE_LIMIT: '1000000/1s',
      KORE_MEDIA_HOSTS: '127.0.0.1',
      KORE_ALLOW_PRIVATE_MEDIA: 'true',
      WORKER_CONCURRENCY: String(CONCURRENCY),
    },
    store,
    redisUrl: redis.url,
    recordingBytes: kore.recordingBytes,
    warmUp: all.slice(0, warmUp),
    sessions: all.slice(warmUp),
    nodeArgs: profileDirectory === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileDirectory}`],
  };

  console.log(
    `${sessions} sessions of one WAV of ${kore.recordingBytes / 1000} KB each, ${CONCURRENCY} at a time, ` +
      `${rounds} rounds after a warm-up of ${warmUp} sessions\n` +
      `Node ${process.version}, the queue on Redis, the archive on ${store.description}\n`,
  );
  const costs = new Map<Contestant, Cost[]>(Object.values(CONTESTANTS).map((contestant) => [contestant, []]));
  for (let round = 1; round <= rounds; round += 1) {
    for (const [id, contestant] of Object.entries(CONTESTANTS)) {
      costs.get(contestant)?.push(await run(contestant, `${id}-${round}`, course));
    }
  }
  console.log(report(costs));
}

function report(costs: ReadonlyMap<Contestant, readonly Cost[]>): string {
  const rows = [...costs].map(([{ name }, rounds]) => [
    name,
    summary(
      rounds.map(({ cpuMsPerSession }) => cpuMsPerSession),
      2,
    ),
    median(rounds.map(({ sessionsPerSecond }) => sessionsPerSecond)).toFixed(0),
  ]);
  const { archiver, bareHttp, bullmqFetch } = CONTESTANTS;
  const ratio = (other: Contestant) => {
    const others = costs.get(other) ?? [];
    const ratios = (costs.get(archiver) ?? []).map(
      ({ cpuMsPerSession }, round) => cpuMsPerSession / (others[round]?.cpuMsPerSession ?? Number.NaN),
    );
    return summary(ratios, 2);
  };
  return [
    columns([['', 'CPU ms a session', 'sessions/s'], ...rows]),
    '',
    columns([
      ['voicemail-archiver to (a), CPU', ratio(bareHttp)],
      ['voicemail-archiver to (b), CPU', ratio(bullmqFetch)],
    ]),
  ].join('\n');
}

function count(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) {
    console.error(`"${text}" is no count\n\n${USAGE}`);
    process.exit(2);
  }
  return Number(text);
}
