/** A checkpoint's file comes from a directory that others may write to. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/audit/checkpoint.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'checkpoint-'));
});
afterEach(() => rm(directory, { recursive: true }));

/** The least processor time (milliseconds) in which a file is refused. */
async function refusalMs(bytes: number): Promise<number> {
  const path = join(directory, 'audit');
  await writeFile(path, Buffer.alloc(bytes, 'a'));
  let least = Number.POSITIVE_INFINITY;
  for (let run = 0; run < 3; run += 1) {
    const before = process.cpuUsage();
    await expect(openCheckpoint(path, 'file:/a', { kind: 'archive' })).rejects.toThrow('is no checkpoint');
    const { user, system } = process.cpuUsage(before);
    least = Math.min(least, (user + system) / 1000);
  }
  return least;
}

it('a file of one long line is refused in a time that grows with its length', async () => {
  const short = await refusalMs(4 * 2 ** 20);
  const long = await refusalMs(32 * 2 ** 20);
  // Eight times the length: quadratic work would grow 64 times.
  expect(long / Math.max(short, 5)).toBeLessThan(24);
});
