/**
 * What queueing a long list costs: lines per second, and whether memory stays the same however long the list is.
 * Each list is queued by the program as people run it, on an empty Redis of its own. Figures only, never a verdict.
 *
 * `npm run bench:enqueue -- --help` lists the options.
 */

import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import { startRedis } from '../test/setup/redis.ts';
import { runEnqueue, sessionIds, usedMemory } from './long-queue.ts';
import { columns } from './table.ts';

const USAGE = `npm run bench:enqueue -- [options]
  --lines N[,N...]   how long the lists are (default 100000,1000000)`;

const MIB = 1024 * 1024;

/** What queueing one list cost. */
interface Cost {
  readonly lines: number;
  readonly linesPerSecond: number;
  readonly cpuUsPerLine: number;
  readonly peakMemoryMib: number;
  /** What Redis holds for it. */
  readonly redisBytesPerLine: number;
}

const { values: options } = parseArgs({
  options: {
    lines: { type: 'string', default: '100000,1000000' },
    help: { type: 'boolean', default: false },
  },
});
if (options.help) console.log(USAGE);
else await bench(options.lines.split(',').map(count));

async function bench(lengths: readonly number[]): Promise<void> {
  console.log(`Node ${process.version}, the queue on Redis\n`);
  const costs: Cost[] = [];
  for (const lines of lengths) costs.push(await enqueue(lines));
  console.log(report(costs));
}

async function enqueue(lines: number): Promise<Cost> {
  await using cleanup = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-bench-'));
  cleanup.defer(() => rm(directory, { recursive: true }));
  const server = cleanup.adopt(await startRedis(), (started) => started.stop());
  const redis = cleanup.adopt(new Redis(server.url), (client) => client.disconnect());
  const file = join(directory, 'ids.txt');
  await pipeline(Readable.from(sessionIds(lines)), createWriteStream(file));

  const memoryBefore = await usedMemory(redis);
  const startedAt = performance.now();
  const cost = await runEnqueue(file, server.url, directory);
  const seconds = (performance.now() - startedAt) / 1000;
  return {
    lines,
    linesPerSecond: lines / seconds,
    cpuUsPerLine: cost.cpuUs / lines,
    peakMemoryMib: cost.peakMemoryBytes / MIB,
    redisBytesPerLine: ((await usedMemory(redis)) - memoryBefore) / lines,
  };
}

function report(costs: readonly Cost[]): string {
  const rows = costs.map((cost) => [
    cost.lines.toLocaleString('en'),
    cost.linesPerSecond.toFixed(0),
    cost.cpuUsPerLine.toFixed(1),
    cost.peakMemoryMib.toFixed(0),
    cost.redisBytesPerLine.toFixed(0),
  ]);
  const [first] = costs;
  const last = costs.at(-1);
  if (first && last && last !== first) {
    const ratio = (part: keyof Cost) => (last[part] / first[part]).toFixed(2);
    rows.push([
      'last to first',
      ratio('linesPerSecond'),
      ratio('cpuUsPerLine'),
      ratio('peakMemoryMib'),
      ratio('redisBytesPerLine'),
    ]);
  }
  return columns([['lines', 'lines/s', 'CPU µs a line', 'peak MiB', 'Redis bytes a line'], ...rows]);
}

function count(text: string): number {
  if (!/^[1-9]\d{0,7}$/.test(text)) {
    console.error(`"${text}" is no count\n\n${USAGE}`);
    process.exit(2);
  }
  return Number(text);
}
