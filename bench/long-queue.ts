/** Long lists of sessions, and queueing them by the program as people run it. */

import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { json } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { Redis } from 'ioredis';
import type { ProcessCost } from './process-cost.ts';

/** The program as it lies in the checkout. */
export const cliPath = here('../src/cli.ts');
const LINES_PER_WRITE = 1_000;
/** The bot of all of them. */
export const BENCH_BOT = 'st-bench';

/** Distinct ids as Kore's are, some thousands of sessions a day. */
export function* sessionIds(lines: number): Generator<string> {
  const firstSecond = Date.UTC(2025, 0, 1) / 1000;
  for (let from = 0; from < lines; from += LINES_PER_WRITE) {
    let text = '';
    for (let index = from; index < Math.min(from + LINES_PER_WRITE, lines); index += 1) {
      text += `${(firstSecond + index * 10).toString(16)}${index.toString(16).padStart(16, '0')}\n`;
    }
    yield text;
  }
}

/**
 * Queues the sessions of a file.
 * @returns what that cost the process.
 */
export async function runEnqueue(file: string, redisUrl: string, directory: string): Promise<ProcessCost> {
  const child = spawn(
    process.execPath,
    ['--import', here('./process-cost.ts'), cliPath, 'enqueue', '--file', file],
    {
      cwd: directory,
      env: { KORE_BOT_ID: BENCH_BOT, QUEUE_URL: redisUrl, ARCHIVE_URL: `file:${directory}/archive` },
      stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
    },
  );
  const exit = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code));
  });
  const [cost, code] = await Promise.all([json(child.stdio[3] as Readable), exit]);
  if (code !== 0) throw new Error(`enqueue ended with ${code}`);
  return cost as ProcessCost;
}

/** Bytes that the server holds. */
export async function usedMemory(redis: Redis): Promise<number> {
  return Number(/^used_memory:(\d+)/m.exec(await redis.info('memory'))?.[1]);
}

function here(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url));
}
