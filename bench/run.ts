/**
 * What archiving a session costs, in CPU time of the worker's process, beside two programs that do less: see
 * {@link CONTESTANTS}. All three work off the same sessions over loopback, one after another in turns, so that
 * whatever else the machine does troubles all of them alike. Figures only, never a verdict.
 *
 * `npm run bench -- --help` lists the options.
 */

import { mkdir, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { startRedis } from '../test/setup/redis.ts';
import { openBenchStore } from './archive-store.ts';
import { compilePrograms } from './compile.ts';
import { CONTESTANTS, type Contestant, type ContestSetup, type Cost, run } from './contest.ts';
import { NODE_ARGS, startProgram } from './program.ts';
import { openRedisCounter } from './redis-commands.ts';
import { plotOf, type Results, tableOf } from './report.ts';

const CONCURRENCY = 16;
const RESULTS = new URL('./results/', import.meta.url);

const USAGE = `npm run bench -- [options]
  --sessions N   sessions archived in each run (default 1000)
  --rounds N     runs of each program, of which the table shows the median (default 3)
  --warm-up N    sessions archived before the clock starts (default 200)
  --only NAMES   of the programs (${Object.keys(CONTESTANTS).join()}), with commas between; writes no results
  --profile DIR  writes CPU profiles of the workers into a directory; the figures are then too high, and not written

The table and its plot go to bench/results/.`;

const { values: options } = parseArgs({
  options: {
    sessions: { type: 'string', default: '1000' },
    rounds: { type: 'string', default: '3' },
    'warm-up': { type: 'string', default: '200' },
    only: { type: 'string' },
    profile: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
if (options.help) console.log(USAGE);
else await bench(count(options.sessions), count(options.rounds), count(options['warm-up']));

async function bench(sessions: number, rounds: number, warmUp: number): Promise<void> {
  await using servers = new AsyncDisposableStack();
  const compiled = await compilePrograms();
  const redis = servers.adopt(await startRedis(), (server) => server.stop());
  const redisCounter = servers.adopt(openRedisCounter(redis.url), (counter) => counter.close());
  const store = servers.adopt(await openBenchStore(), (opened) => opened.close());
  const sandbox = servers.adopt(
    startProgram('./servers/kore-program.ts', { args: [String(warmUp + sessions)] }),
    (program) => program.stop(),
  );
  const kore = await sandbox.receive('kore');
  const all = kore.sessionIds.map((sessionId) => ({ sessionId, botId: kore.botId }));
  const setup: ContestSetup = {
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
    redisCounter,
    recordingBytes: kore.recordingBytes,
    compiled,
    warmUp: all.slice(0, warmUp),
    sessions: all.slice(warmUp),
    nodeArgs: [
      ...NODE_ARGS,
      ...(options.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${options.profile}`]),
    ],
  };

  const setting =
    `${sessions} sessions of one WAV of ${kore.recordingBytes / 1000} KB each, ${CONCURRENCY} at a time, ` +
    `${rounds} rounds after a warm-up of ${warmUp} sessions\n` +
    `Node ${process.version}, the queue on Redis, the archive on ${store.description}`;
  console.log(`${setting}\n`);
  const contestants = chosen(options.only);
  const costs = new Map<Contestant, Cost[]>(contestants.map(([, contestant]) => [contestant, []]));
  for (let round = 1; round <= rounds; round += 1) {
    for (const [id, contestant] of contestants) {
      costs.get(contestant)?.push(await run(contestant, `${id}-${round}`, setup));
    }
  }
  const results: Results = { setting, costs };
  console.log(tableOf(results));
  if (options.only === undefined && options.profile === undefined) await write(results);
}

async function write(results: Results): Promise<void> {
  await mkdir(RESULTS, { recursive: true });
  await writeFile(new URL('bench.txt', RESULTS), `${results.setting}\n\n${tableOf(results)}\n`);
  await writeFile(new URL('bench.svg', RESULTS), plotOf(results));
}

function chosen(names: string | undefined): [string, Contestant][] {
  const all: [string, Contestant][] = Object.entries(CONTESTANTS);
  if (names === undefined) return all;
  const wanted = names.split(',');
  const unknown = wanted.find((name) => !Object.hasOwn(CONTESTANTS, name));
  if (unknown !== undefined) refuse(`"${unknown}" is none of the programs`);
  return all.filter(([name]) => wanted.includes(name));
}

function count(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) refuse(`"${text}" is no count`);
  return Number(text);
}

function refuse(why: string): never {
  console.error(`${why}\n\n${USAGE}`);
  process.exit(2);
}
