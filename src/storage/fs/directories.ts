/** Making directories, with the system's own word for why it can't be done. */

import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemCode } from '../../domain/errors.ts';

/** Before the process's umask is applied. */
export const DIRECTORY_MODE = 0o750;

/**
 * Makes a directory and those above it that are missing. Node's own `recursive` says ENOENT of a read-only file
 * system, as if something had gone.
 *
 * @param directory absolute.
 * @returns the outermost directory that was made, or `undefined` when all were there.
 */
export async function makeDirectories(directory: string): Promise<string | undefined> {
  try {
    await mkdir(directory, DIRECTORY_MODE);
    return directory;
  } catch (error) {
    if (await isDirectory(directory)) return undefined;
    const parent = dirname(directory);
    if (systemCode(error) !== 'ENOENT' || parent === directory) throw error;
    const outermost = await makeDirectories(parent);
    await makeDirectory(directory);
    return outermost ?? directory;
  }
}

/** Makes one directory below one that is there, or finds that its name is taken. */
export async function makeDirectory(directory: string): Promise<void> {
  try {
    await mkdir(directory, DIRECTORY_MODE);
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
  }
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) return false;
    throw error;
  }
}
