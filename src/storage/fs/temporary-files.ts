/** Files that are not finished, in a directory of their own below the archive's. */

import { randomUUID } from 'node:crypto';
import { type FileHandle, open, readdir, rmdir, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../../domain/errors.ts';
import { TEMPORARY_SEGMENT } from '../keys.ts';
import { makeDirectories, makeDirectory } from './directories.ts';
import { hasEnded, ownMark } from './process-mark.ts';

/** Before the process's umask is applied. */
export const FILE_MODE = 0o640;

/** What has not been written to for so long belongs to a process that is gone, wherever it was. */
const LEFTOVER_AGE_MS = 60 * 60 * 1000;
/** Others remove the empty directory between its making and its use; losing that race twice is rare. */
const MAX_OPEN_ATTEMPTS = 100;

/** A file open for writing under a name of its own. */
export interface TemporaryFile {
  readonly path: string;
  readonly handle: FileHandle;
}

/** Creates an empty temporary file, and the directory for it. */
export async function createTemporaryFile(root: string): Promise<TemporaryFile> {
  const mark = await ownMark();
  const name = mark === undefined ? randomUUID() : `${mark}-${randomUUID()}`;
  return inTemporaryDirectory(root, name, async (path) => ({
    path,
    handle: await open(path, 'wx', FILE_MODE),
  }));
}

/** Runs `use` with a path in the temporary directory, which exists at that moment. */
export async function inTemporaryDirectory<Result>(
  root: string,
  name: string,
  use: (path: string) => Promise<Result>,
): Promise<Result> {
  const directory = join(root, TEMPORARY_SEGMENT);
  for (let attempt = 1; ; attempt += 1) {
    try {
      await makeDirectory(directory);
      return await use(join(directory, name));
    } catch (error) {
      if (systemCode(error) !== 'ENOENT' || attempt === MAX_OPEN_ATTEMPTS) throw error;
    }
    // Either it was removed meanwhile, or all of the archive was.
    await makeDirectories(root);
  }
}

/** Removes a temporary file, and the directory if this was the last in it. */
export async function removeTemporaryFile(root: string, path: string): Promise<void> {
  await unlinkIfThere(path);
  await removeTemporaryDirectoryIfEmpty(root);
}

/**
 * Removes what killed processes left behind: at once where they can be seen to be gone, elsewhere what is more than an
 * hour old.
 */
export async function removeLeftovers(root: string, now: number): Promise<void> {
  const directory = join(root, TEMPORARY_SEGMENT);
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return;
    throw error;
  }
  for (const name of names) {
    const path = join(directory, name);
    const old = now - (await modifiedAt(path)) > LEFTOVER_AGE_MS;
    if (old || (await hasEnded(name.split('-', 1)[0] ?? ''))) await unlinkIfThere(path);
  }
  await removeTemporaryDirectoryIfEmpty(root);
}

async function removeTemporaryDirectoryIfEmpty(root: string): Promise<void> {
  try {
    await rmdir(join(root, TEMPORARY_SEGMENT));
  } catch (error) {
    // Not empty: somebody else writes at this moment, and the last one removes it. Gone: somebody else did.
    if (!['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(systemCode(error) ?? '')) throw error;
  }
}

async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}

/** Unix milliseconds; the future for a file that has gone meanwhile. */
async function modifiedAt(path: string): Promise<number> {
  try {
    return (await stat(path)).mtimeMs;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return Number.POSITIVE_INFINITY;
    throw error;
  }
}
