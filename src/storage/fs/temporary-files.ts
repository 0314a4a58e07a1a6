/** Files that are not finished, and locks, in a directory of their own below the archive's. */

import { createHash, randomUUID } from 'node:crypto';
import type { Stats } from 'node:fs';
import {
  type FileHandle,
  lstat,
  open,
  readdir,
  readFile,
  readlink,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode, VoicemailError } from '../../domain/errors.ts';
import { TEMPORARY_SEGMENT } from '../keys.ts';
import { type HeldDirectory, holdWithin, makeDirectories, makeDirectory } from './directories.ts';

/** Before the process's umask is applied. */
export const FILE_MODE = 0o640;

/** The time without writes after which a file belongs to a process that is gone, on any machine. */
const LEFTOVER_AGE_MS = 60 * 60 * 1000;
/** Others remove the empty directory between its making and its use; losing that race twice is rare. */
const MAX_OPEN_ATTEMPTS = 100;

const UUID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}';
/**
 * The names of temporary files (with the mark of their process, where it has one) and of locks. No others are removed.
 */
const OWN_NAME = new RegExp(`^(?:(?:[0-9a-f]{16}\\.\\d+\\.\\d+-)?${UUID}|[0-9a-f]{64}\\.(?:lock|break))$`);

/** A file open for writing under a name of its own. */
export interface TemporaryFile {
  readonly path: string;
  readonly handle: FileHandle;
  /** Removes the file, unless it was given another name, and the directory if this was the last in it. */
  remove(): Promise<void>;
}

/** Creates an empty temporary file, and the directory for it. */
export async function createTemporaryFile(root: string): Promise<TemporaryFile> {
  const mark = await ownMark();
  const name = mark === undefined ? randomUUID() : `${mark}-${randomUUID()}`;
  const { directory, result: handle } = await inTemporaryDirectory(root, async (held) =>
    open(held.entry(name), 'wx', FILE_MODE),
  );
  const path = directory.entry(name);
  const remove = async () => {
    try {
      await unlinkIfThere(path);
    } finally {
      await directory[Symbol.asyncDispose]();
    }
    await removeTemporaryDirectoryIfEmpty(root);
  };
  try {
    await assertOwn(root, directory, handle);
  } catch (error) {
    await handle.close();
    await remove();
    throw error;
  }
  return { path, handle, remove };
}

/**
 * Runs `use` with the temporary directory, which exists at that moment.
 * @returns what it returned, and the directory, which the caller closes.
 * @throws VoicemailError `ARCHIVE_DENIED` when something else, a symbolic link say, has its name.
 */
export async function inTemporaryDirectory<Result>(
  root: string,
  use: (directory: HeldDirectory) => Promise<Result>,
): Promise<{ readonly directory: HeldDirectory; readonly result: Result }> {
  for (let attempt = 1; ; attempt += 1) {
    const directory = await makeTemporaryDirectory(root);
    try {
      if (directory) return { directory, result: await use(directory) };
    } catch (error) {
      await directory?.[Symbol.asyncDispose]();
      if (systemCode(error) !== 'ENOENT' || attempt === MAX_OPEN_ATTEMPTS) throw error;
    }
    if (attempt === MAX_OPEN_ATTEMPTS) throw noTemporaryDirectory(root);
    // Either it was removed meanwhile, or all of the archive was.
    await makeDirectories(root);
  }
}

async function makeTemporaryDirectory(root: string): Promise<HeldDirectory | undefined> {
  const path = join(root, TEMPORARY_SEGMENT);
  try {
    await makeDirectory(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
  return holdWithin(root, path, { noLink: true });
}

/** The directory is there, but it is none; or others remove it each time. */
function noTemporaryDirectory(root: string): VoicemailError {
  const path = join(root, TEMPORARY_SEGMENT);
  return new VoicemailError('ARCHIVE_DENIED', `${path} can not be used for unfinished files`, {
    hint: `rename or move what has the name ${path}`,
  });
}

/**
 * @throws VoicemailError `ARCHIVE_DENIED` when the directory belongs to another user than its new file and the
 * archive.
 */
async function assertOwn(root: string, directory: HeldDirectory, handle: FileHandle): Promise<void> {
  const [own, file] = await Promise.all([directory.handle.stat(), handle.stat()]);
  if (own.uid === file.uid || own.uid === (await stat(root)).uid) return;
  const path = join(root, TEMPORARY_SEGMENT);
  throw new VoicemailError('ARCHIVE_DENIED', `${path} belongs to another user`, {
    hint: `remove ${path}, or give it to the user that this program runs as`,
  });
}

/**
 * Removes what killed processes left behind: at once where they can be seen to be gone, elsewhere what is more than an
 * hour old. Only files with this program's names are removed, and only from a directory of its user.
 * @throws VoicemailError `ARCHIVE_DENIED` when the directory is a symbolic link.
 */
export async function removeLeftovers(root: string, now: number): Promise<void> {
  const held = await holdWithin(root, join(root, TEMPORARY_SEGMENT), { noLink: true });
  if (!held) return;
  {
    await using directory = held;
    if (!(await isOwn(root, directory))) return;
    for (const name of await readdir(directory.path)) {
      if (OWN_NAME.test(name)) await removeIfLeft(directory.entry(name), name, now);
    }
  }
  await removeTemporaryDirectoryIfEmpty(root);
}

/** Whether a directory belongs to this process's user, or to the archive's. Windows has no such users. */
async function isOwn(root: string, directory: HeldDirectory): Promise<boolean> {
  const { uid } = await directory.handle.stat();
  return uid === (process.geteuid?.() ?? uid) || uid === (await stat(root)).uid;
}

async function removeIfLeft(path: string, name: string, now: number): Promise<void> {
  const found = await statIfThere(path);
  if (!found?.isFile()) return;
  const old = now - found.mtimeMs > LEFTOVER_AGE_MS;
  if (old || (await hasEnded(name.split('-', 1)[0] ?? ''))) await unlinkIfThere(path);
}

/** Also leaves what has taken the directory's name. */
export async function removeTemporaryDirectoryIfEmpty(root: string): Promise<void> {
  try {
    await rmdir(join(root, TEMPORARY_SEGMENT));
  } catch (error) {
    // Not empty: another process writes now, and the last one removes it. Gone: another process removed it.
    if (!['ENOTEMPTY', 'EEXIST', 'ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) throw error;
  }
}

/** Removes a file, unless another process did. */
export async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}

async function statIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** A mark that no other process has, on any machine and at any time: `place.pid.start`. */
const MARK = /^([0-9a-f]{16})\.(\d+)\.(\d+)$/;

let mark: Promise<string | undefined> | undefined;
let place: Promise<string | undefined> | undefined;

/**
 * The mark of this process, free of `-` and `/`; `undefined` where the system does not say enough (without Linux'
 * `/proc`).
 */
export function ownMark(): Promise<string | undefined> {
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
export async function hasEnded(other: string): Promise<boolean> {
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
    if (isNotReadable(error)) return undefined;
    throw error;
  }
}

/** When a process started (clock ticks since boot), which distinguishes it from a later one of the same id. */
async function startOf(pid: number): Promise<string | undefined> {
  try {
    const line = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The second field is the program's name in brackets and may hold anything; this is the 22nd.
    return line.slice(line.lastIndexOf(')') + 2).split(' ')[19];
  } catch (error) {
    if (isNotReadable(error)) return undefined;
    throw error;
  }
}

/** No such file or process; or a system that keeps such things to itself. */
function isNotReadable(error: unknown): boolean {
  return ['ENOENT', 'ESRCH', 'EACCES', 'EPERM', 'ENOTDIR'].includes(systemCode(error) ?? '');
}
