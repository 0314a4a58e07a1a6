/**
 * Directories of the archive, held open while they are used: what is done in one is done in this very directory, even
 * if its name is given to another one (or to a symbolic link) meanwhile.
 */

import { constants } from 'node:fs';
import {
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  readlink,
  realpath,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { systemCode, VoicemailError } from '../../domain/errors.ts';

/** Before the process's umask is applied. */
const DIRECTORY_MODE = 0o750;

/** A directory held open. */
export interface HeldDirectory extends AsyncDisposable {
  readonly handle: FileHandle;
  /** The directory's own path, for listing it. */
  readonly path: string;
  /** The path of an entry. Valid until the directory is closed. */
  entry(name: string): string;
  /**
   * To be called after a change that must not have happened elsewhere.
   * @throws VoicemailError `ARCHIVE_DENIED` where the system has no paths by handle, and the directory was swapped.
   */
  confirm(): Promise<void>;
}

/** How to hold a directory. */
export interface DirectoryOptions {
  /** Refuse the directory if its own name is a symbolic link, wherever that leads. */
  readonly noLink?: boolean;
  /** `false` goes straight to the way that needs no paths by handle. */
  readonly byHandle?: boolean;
}

/**
 * Holds a directory of the archive.
 *
 * Linux gives each open directory a path of its own (`/proc/self/fd/<number>`), under which its entries can be used;
 * that link shows where the directory really is. Elsewhere paths are checked before and after their use.
 *
 * @param root the archive's directory, absolute; it may be a symbolic link.
 * @param directory the same or one below it, absolute.
 * @returns `undefined` when it is not there.
 * @throws VoicemailError `ARCHIVE_DENIED` when a symbolic link leads out of the archive; else the system's own error.
 */
export async function holdWithin(
  root: string,
  directory: string,
  { noLink = false, byHandle = true }: DirectoryOptions = {},
): Promise<HeldDirectory | undefined> {
  const flags =
    constants.O_RDONLY | (constants.O_DIRECTORY ?? 0) | (noLink ? (constants.O_NOFOLLOW ?? 0) : 0);
  let handle: FileHandle;
  try {
    handle = await open(directory, flags);
  } catch (error) {
    if (noLink && (await isLink(directory))) throw linkRefused(directory);
    if (isNotThere(error)) return undefined;
    throw error;
  }
  try {
    const ownPath = `/proc/self/fd/${handle.fd}`;
    const linked = byHandle ? await readOwnLink(ownPath) : undefined;
    const real = linked ?? (await realpath(directory));
    const realRoot = await realpath(root);
    if (!isWithin(real, realRoot)) throw leadsOut(root);
    if (linked === undefined) await assertSameDirectory(real, handle, root);
    const path = linked === undefined ? real : ownPath;
    return {
      handle,
      path,
      entry: (name) => join(path, name),
      async confirm() {
        if (linked === undefined) await assertSameDirectory(real, handle, root);
      },
      [Symbol.asyncDispose]: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    if (isNotThere(error)) return undefined;
    throw error;
  }
}

/** Holds a directory of the archive like {@link holdWithin}, and makes it and those above it that are missing. */
export async function makeWithin(root: string, directory: string): Promise<HeldDirectory> {
  const found = await holdWithin(root, directory);
  if (found) return found;
  if (directory === root) {
    await makeDirectories(root);
  } else {
    await using above = await makeWithin(root, dirname(directory));
    await makeDirectory(above.entry(basename(directory)));
    await above.confirm();
    // A new directory is a name in the one above it, which has to survive a power cut as well.
    await syncDirectory(above);
  }
  const made = await holdWithin(root, directory);
  if (made) return made;
  // Something else has the name: a file, or a symbolic link to nothing.
  throw Object.assign(new Error(`${directory} is no directory`), { code: 'ENOTDIR' });
}

/** Makes new names in a directory survive a power cut. */
export async function syncDirectory({ handle }: Pick<HeldDirectory, 'handle'>): Promise<void> {
  try {
    await handle.sync();
  } catch (error) {
    // Windows and some network file systems can't sync a directory; there the name may be lost with a crash.
    if (!['EPERM', 'EISDIR', 'EINVAL', 'ENOTSUP'].includes(systemCode(error) ?? '')) throw error;
  }
}

/**
 * Makes a directory and those above it that are missing. Node's own `recursive` says ENOENT of a read-only file
 * system, as if something had gone.
 *
 * @param directory absolute.
 */
export async function makeDirectories(directory: string): Promise<void> {
  try {
    await mkdir(directory, DIRECTORY_MODE);
  } catch (error) {
    if (await isDirectory(directory)) return;
    const parent = dirname(directory);
    if (systemCode(error) !== 'ENOENT' || parent === directory) throw error;
    await makeDirectories(parent);
    await makeDirectory(directory);
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

/**
 * Removes a directory with all that is in it, if it is there. Symbolic links are removed, never followed.
 * @param parent of the directory, absolute.
 */
export async function removeTree(parent: string, name: string): Promise<void> {
  const held = await holdWithin(parent, parent);
  if (!held) return;
  await using directory = held;
  await removeBelow(directory.entry(name));
}

async function removeBelow(path: string): Promise<void> {
  const held = await holdWithin(path, path, { noLink: true });
  if (!held) return;
  {
    await using directory = held;
    for (const entry of await readdir(directory.path, { withFileTypes: true })) {
      if (entry.isDirectory()) await removeBelow(directory.entry(entry.name));
      else await unlink(directory.entry(entry.name));
    }
  }
  await rmdir(path);
}

/** Nothing has that name, or something on the way to it is no directory. */
export function isNotThere(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '');
}

/** Where a directory that is open really is; `undefined` where the system does not say. */
async function readOwnLink(path: string): Promise<string | undefined> {
  try {
    return await readlink(path);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM'].includes(systemCode(error) ?? '')) return undefined;
    throw error;
  }
}

async function assertSameDirectory(path: string, handle: FileHandle, root: string): Promise<void> {
  const [named, held] = await Promise.all([lstat(path), handle.stat()]);
  if (named.dev !== held.dev || named.ino !== held.ino) throw leadsOut(root);
}

async function isLink(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isSymbolicLink();
  } catch (error) {
    if (isNotThere(error)) return false;
    throw error;
  }
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (isNotThere(error)) return false;
    throw error;
  }
}

function isWithin(path: string, root: string): boolean {
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}

function leadsOut(root: string): VoicemailError {
  return new VoicemailError('ARCHIVE_DENIED', `file:${root}: a symbolic link leads out of the archive`, {
    hint: `remove the symbolic links below ${root}`,
  });
}

function linkRefused(path: string): VoicemailError {
  return new VoicemailError(
    'ARCHIVE_DENIED',
    `${path} is a symbolic link; nothing is written or removed there`,
    {
      hint: `remove the symbolic link ${path}`,
    },
  );
}
