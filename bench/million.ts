/**
 * A million sessions queued on Redis: what they cost, and how long people and programs then wait for an answer. The list
 * is queued, and asked about, by the program as people run it. Figures only, never a verdict.
 *
 * `npm run bench:million -- --help` lists the options. It needs `redis-server`, and 2 GB of memory for it.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import { startRedis } from '../test/setup/redis.ts';
import { BENCH_BOT, cliPath, runEnqueue, sessionIds, usedMemory } from './long-queue.ts';
import { columns, summary } from './table.ts';

const USAGE = `npm run bench:million -- [options]
  --sessions N   queued sessions (default 1000000)
  --asks N       times that each question is asked (default 5)`;

const MIB = 1024 * 1024;
const TOKEN = 'token-of-the-bench';

const { values: options } = parseArgs({
  options: {
    sessions: { type: 'string', default: '1000000' },
    asks: { type: 'string', default: '5' },
    help: { type: 'boolean', default: false },
  },
});
if (options.help) console.log(USAGE);
else await bench(count(options.sessions), count(options.asks));

async function bench(sessions: number, asks: number): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-million-'));
  opened.defer(() => rm(directory, { recursive: true }));
  const server = opened.adopt(await startRedis(), (started) => started.stop());
  const redis = opened.adopt(new Redis(server.url), (client) => client.disconnect());
  const file = join(directory, 'ids.txt');
  await pipeline(Readable.from(sessionIds(sessions)), createWriteStream(file));

  const before = await usedMemory(redis);
  const startedAt = performance.now();
  const cost = await runEnqueue(file, server.url, directory);
  const seconds = (performance.now() - startedAt) / 1000;
  const held = (await usedMemory(redis)) - before;
  console.log(
    `${sessions.toLocaleString('en')} sessions queued in ${seconds.toFixed(0)} s ` +
      `(${(sessions / seconds).toFixed(0)} a second), ${(held / sessions).toFixed(0)} bytes of Redis each, ` +
      `${(cost.peakMemoryBytes / MIB).toFixed(0)} MiB in the program\n`,
  );

  const env = {
    KORE_BOT_ID: BENCH_BOT,
    QUEUE_URL: server.url,
    ARCHIVE_URL: `file:${directory}/archive`,
    API_TOKEN: TOKEN,
    HTTP_PORT: '0',
    LOG_LEVEL: 'info',
  };
  const rows: string[][] = [['milliseconds, median (range)', '']];
  const time = async (name: string, ask: () => Promise<void>) => {
    const times: number[] = [];
    for (let round = 0; round < asks; round += 1) {
      const begun = performance.now();
      await ask();
      times.push(performance.now() - begun);
    }
    rows.push([name, summary(times, 0)]);
  };
  await time('status (a program of its own)', () => runCli(['status'], env, directory));
  await time('status --state queued', () => runCli(['status', '--state', 'queued'], env, directory));

  const api = opened.adopt(await startApi(env, directory), ({ child }) => stop(child));
  const get = async (path: string) => {
    const answer = await fetch(`${api.url}${path}`, { headers: { authorization: `Bearer ${TOKEN}` } });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${text.slice(0, 200)}`);
    return text;
  };
  await time('GET /v1/stats', async () => void (await get('/v1/stats')));
  await time('GET /metrics', async () => void (await get('/metrics')));
  await time('GET /v1/sessions, first page', async () => void (await get('/v1/sessions')));
  await time('GET /v1/sessions?state=queued', async () => void (await get('/v1/sessions?state=queued')));
  let cursor = '';
  await time('GET /v1/sessions, the pages after it', async () => {
    const { nextCursor } = JSON.parse(await get(`/v1/sessions?limit=100${cursor}`)) as {
      nextCursor?: string;
    };
    cursor = nextCursor === undefined ? '' : `&cursor=${encodeURIComponent(nextCursor)}`;
  });
  console.log(columns(rows));
}

async function runCli(args: readonly string[], env: NodeJS.ProcessEnv, cwd: string): Promise<void> {
  const child = spawn(process.execPath, [cliPath, ...args], {
    cwd,
    env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}`);
}

/** Starts the API. Resolves when it listens. */
async function startApi(env: NodeJS.ProcessEnv, cwd: string): Promise<{ url: string; child: ChildProcess }> {
  const child = spawn(process.execPath, [cliPath, 'api'], { cwd, env, stdio: ['ignore', 'ignore', 'pipe'] });
  if (!child.stderr) throw new Error('the log is piped');
  for await (const line of createInterface(child.stderr)) {
    const { msg, port } = JSON.parse(line) as { msg: string; port?: number };
    if (msg !== 'listening') continue;
    // What it logs later is read and dropped, so that it never waits for that.
    child.stderr.resume();
    return { url: `http://127.0.0.1:${port}`, child };
  }
  throw new Error('the API ended before it listened');
}

async function stop(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
}

function count(text: string): number {
  if (!/^[1-9]\d{0,7}$/.test(text)) {
    console.error(`"${text}" is no count\n\n${USAGE}`);
    process.exit(2);
  }
  return Number(text);
}
