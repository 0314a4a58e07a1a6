/** Which process a file belongs to, told in its name, and whether that process is still there. */

import { createHash, randomUUID } from 'node:crypto';
import { type FileHandle, open, readdir, readFile, readlink, rmdir, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../../domain/errors.ts';
import { TEMPORARY_SEGMENT } from '../keys.ts';
import { makeDirectories, makeDirectory } from './directories.ts';

/** A mark that no other process has, on any machine and at any time: `place.pid.start`. */
const MARK = /^([0-9a-f]{16})\.(\d+)\.(\d+)$/;

let mark: Promise<string | undefined> | undefined;
let place: Promise<string | undefined> | undefined;

/**
 * The mark of this process, free of `-` and `/`; `undefined` where the system does not tell enough (without Linux'
 * `/proc`).
 */
function ownMark(): Promise<string | undefined> {
  mark ??= makeMark();
  return mark;
}

async function makeMark(): Promise<string | undefined> {
  const here = await ownPlace();
  const start = here === undefined ? undefined : await startOf(process.pid);
  return start === undefined ? undefined : `${here}.${process.pid}.${start}`;
}

/**
 * Whether the process of a mark has ended, as far as this one can know: `false` for one on another machine, in another
 * container, or from before the machine was started.
 */
async function hasEnded(other: string): Promise<boolean> {
  const [, where, pid, start] = MARK.exec(other) ?? [];
  if (where === undefined || where !== (await ownPlace())) return false;
  return (await startOf(Number(pid))) !== start;
}

/** This boot of this machine, and the set of process ids that this process sees (a container has its own). */
function ownPlace(): Promise<string | undefined> {
  place ??= readPlace();
  return place;
}

async function readPlace(): Promise<string | undefined> {
  try {
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8');
    const processes = await readlink('/proc/self/ns/pid');
    return createHash('sha256').update(`${boot}${processes}`).digest('hex').slice(0, 16);
  } catch (error) {
    if (isNotTold(error)) return undefined;
    throw error;
  }
}

/** When a process started (clock ticks since boot), which tells it from a later one of the same id. */
async function startOf(pid: number): Promise<string | undefined> {
  try {
    const line = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The second field is the program's name in brackets and may hold anything; this is the 22nd.
    return line.slice(line.lastIndexOf(')') + 2).split(' ')[19];
  } catch (error) {
    if (isNotTold(error)) return undefined;
    throw error;
  }
}

/** No such file or process; or a system that keeps such things to itself. */
function isNotTold(error: unknown): boolean {
  return ['ENOENT', 'ESRCH', 'EACCES', 'EPERM', 'ENOTDIR'].includes(systemCode(error) ?? '');
}

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
