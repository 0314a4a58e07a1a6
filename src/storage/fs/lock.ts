/** Keeping the writers of one file apart, within this process and between processes. */

import { createHash, randomUUID } from 'node:crypto';
import { open } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { systemCode, VoicemailError } from '../../domain/errors.ts';
import type { HeldDirectory } from './directories.ts';
import { openIfThere } from './files.ts';
import {
  FILE_MODE,
  hasEnded,
  inTemporaryDirectory,
  ownMark,
  removeTemporaryDirectoryIfEmpty,
  unlinkIfThere,
} from './temporary-files.ts';

/** A lock is held for a comparison and a rename. A longer wait fails with a retryable error. */
const MAX_WAIT_MS = 10_000;
const MAX_PAUSE_MS = 20;
/** Longer than any token: a larger file is no lock of this program. */
const MAX_TOKEN_BYTES = 256;

/**
 * Runs `use` while no other process has the lock of that name.
 *
 * The lock is a file that only one can create. It holds the mark of its process, so that a lock whose process has ended
 * is removed at once where that can be detected (see `temporary-files.ts`); elsewhere it goes with the leftovers, after
 * an hour.
 *
 * @param name of what is locked; the same for every process, wherever it has the archive mounted.
 * @throws VoicemailError `ARCHIVE_UNAVAILABLE` when others have it for too long; the signal's reason when aborted.
 */
export async function withLock<Result>(
  root: string,
  name: string,
  signal: AbortSignal,
  use: () => Promise<Result>,
): Promise<Result> {
  const token = `${(await ownMark()) ?? ''}-${randomUUID()}`;
  const file = `${hashOf(name)}.lock`;
  const directory = await acquire(root, file, token, signal);
  try {
    return await use();
  } finally {
    const lock = directory.entry(file);
    // After an hour others may have taken it for a leftover, and have one of their own.
    if ((await holderOf(lock)) === token) await unlinkIfThere(lock);
    await directory[Symbol.asyncDispose]();
    await removeTemporaryDirectoryIfEmpty(root);
  }
}

/** Takes a lock and returns the directory it is in. */
async function acquire(
  root: string,
  file: string,
  token: string,
  signal: AbortSignal,
): Promise<HeldDirectory> {
  const giveUpAt = performance.now() + MAX_WAIT_MS;
  for (;;) {
    signal.throwIfAborted();
    const { directory, result } = await inTemporaryDirectory(root, async (held) => {
      if (await createFile(held.entry(file), token)) return 'taken';
      const holder = await holderOf(held.entry(file));
      if (holder === undefined) return 'free';
      if (await hasEnded(holder.split('-', 1)[0] ?? '')) await breakLock(held, file, holder);
      return 'held';
    });
    if (result === 'taken') return directory;
    await directory[Symbol.asyncDispose]();
    if (result === 'free') continue;
    if (performance.now() > giveUpAt) {
      throw new VoicemailError('ARCHIVE_UNAVAILABLE', 'others write the same file at this moment');
    }
    await delay(Math.random() * MAX_PAUSE_MS, undefined, { signal });
  }
}

/**
 * Removes the lock of a process that has ended. Of several that find it, one alone may do so: the others might remove
 * the lock that another process has taken since.
 */
async function breakLock(directory: HeldDirectory, file: string, holder: string): Promise<void> {
  const lock = directory.entry(file);
  const right = directory.entry(`${hashOf(holder)}.break`);
  if (!(await createFile(right, ''))) return;
  try {
    if ((await holderOf(lock)) === holder) await unlinkIfThere(lock);
  } finally {
    await unlinkIfThere(right);
  }
}

/** @returns whether the file is new; otherwise it is left as it is. */
async function createFile(path: string, content: string): Promise<boolean> {
  try {
    const handle = await open(path, 'wx', FILE_MODE);
    await using _closed = handle;
    await handle.writeFile(content);
    return true;
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
    return false;
  }
}

/** The token in a lock: empty while it is being written, `undefined` when there is no lock (any more). */
async function holderOf(lock: string): Promise<string | undefined> {
  const handle = await openIfThere(lock);
  if (!handle) return undefined;
  await using _closed = handle;
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(MAX_TOKEN_BYTES), 0, MAX_TOKEN_BYTES, 0);
  return buffer.toString('utf8', 0, bytesRead);
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
