/** A checkpoint's file comes from a directory that others may write to. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { openCheckpoint } from '../../src/verification/checkpoint.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'checkpoint-'));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(directory, { recursive: true });
});

it('reading a long line copies no byte more than twice, however many chunks it comes in', async () => {
  const path = join(directory, 'audit');
  const bytes = 32 * 2 ** 20;
  await writeFile(path, `${'a'.repeat(bytes)}\n`);
  let copiedBytes = 0;
  const concat = Buffer.concat;
  vi.spyOn(Buffer, 'concat').mockImplementation((pieces, length) => {
    const all = concat(pieces, length);
    copiedBytes += all.length;
    return all;
  });
  await expect(openCheckpoint(path, 'file:/a', { kind: 'archive' })).rejects.toThrow('is no checkpoint');
  // Copied anew with each of its 512 chunks, it would be 8 GB.
  expect(copiedBytes).toBeGreaterThanOrEqual(bytes);
  expect(copiedBytes).toBeLessThanOrEqual(2 * bytes);
});
