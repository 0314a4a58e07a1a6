/**
 * What it costs to start the program, and what a worker holds while it has nothing to do, beside a bare `node -e 0`:
 * medians of alternating rounds, and ratios. All run with the flags that the image sets. Figures only, never a verdict.
 *
 * `npm run bench:start -- --rounds 9`. It needs `redis-server`, Linux for the memory, and measures `dist/`.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startRedis } from '../test/setup/redis.ts';
import type { ProcessCost } from './process-cost.ts';
import { NODE_ARGS } from './program.ts';
import { columns, median, summary } from './table.ts';

const ENTRY = join(import.meta.dirname, '../dist/cli.js');
const COST = join(import.meta.dirname, 'process-cost.ts');
/** After so long an idle worker has done all that it does at its start. */
const IDLE_MS = 10_000;

/** One start, measured. */
interface Start {
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly memoryBytes: number;
}

const { values: options } = parseArgs({ options: { rounds: { type: 'string', default: '5' } } });
const redis = await startRedis();
const directory = await mkdtemp(join(tmpdir(), 'voicemail-start-'));
const env = {
  QUEUE_URL: redis.url,
  ARCHIVE_URL: `file:${directory}`,
  KORE_HOST: 'http://127.0.0.1:9',
  KORE_BOT_ID: 'st-1',
  KORE_CLIENT_ID: 'cs-1',
  KORE_CLIENT_SECRET: 'a-client-secret',
  HTTP_PORT: '0',
};

/** Runs a program to its end. */
async function run(args: readonly string[]): Promise<Start> {
  const begun = performance.now();
  const child = spawn(process.execPath, [...NODE_ARGS, '--import', COST, ...args], {
    env,
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  });
  const chunks: Buffer[] = [];
  child.stdio[3]?.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(child, 'close');
  const wallMs = performance.now() - begun;
  const { cpuUs, peakMemoryBytes } = JSON.parse(Buffer.concat(chunks).toString()) as ProcessCost;
  return { wallMs, cpuMs: cpuUs / 1000, memoryBytes: peakMemoryBytes };
}

/** Starts a worker: the times until it takes sessions, and its memory once it has been idle for a while. */
async function runWorker(): Promise<Start> {
  const begun = performance.now();
  const child = spawn(process.execPath, [...NODE_ARGS, ENTRY, 'worker'], {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  for await (const chunk of child.stderr) {
    log += chunk;
    if (log.includes('taking sessions')) break;
  }
  const wallMs = performance.now() - begun;
  const ticks = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  const cpuMs = (Number(ticks[11]) + Number(ticks[12])) * 10;
  await sleep(IDLE_MS);
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  const memoryBytes = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
  child.kill('SIGTERM');
  await once(child, 'exit');
  return { wallMs, cpuMs, memoryBytes };
}

const kinds: readonly (readonly [string, () => Promise<Start>])[] = [
  ['node -e 0', () => run(['-e', '0'])],
  ['--version', () => run([ENTRY, '--version'])],
  ['status', () => run([ENTRY, 'status'])],
  ['worker, idle', runWorker],
];
const starts = new Map<string, Start[]>(kinds.map(([name]) => [name, []]));
try {
  for (let round = 0; round < Number(options.rounds); round += 1) {
    for (const [name, start] of kinds) starts.get(name)?.push(await start());
  }
} finally {
  await redis.stop();
  await rm(directory, { recursive: true });
}

const bare = starts.get('node -e 0') ?? [];
const rows = [...starts].map(([name, measured]) => {
  const of = (read: (start: Start) => number, digits: number): string[] => [
    summary(measured.map(read), digits),
    `${(median(measured.map(read)) / median(bare.map(read))).toFixed(1)}`,
  ];
  return [
    name,
    ...of(({ wallMs }) => wallMs / 1000, 2),
    ...of(({ cpuMs }) => cpuMs / 1000, 2),
    ...of(({ memoryBytes }) => memoryBytes / 1e6, 0),
  ];
});
console.log(columns([['', 'seconds', 'ratio', 'CPU seconds', 'ratio', 'memory (MB)', 'ratio'], ...rows]));
