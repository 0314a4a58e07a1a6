/** Giving a finished file its final name, in one step that either happens or does not. */

import { link, lstat, open, rename } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import { systemCode } from '../../domain/errors.ts';
import { withLock } from './lock.ts';

/** What `link` answers on file systems without hard links (FAT, some network mounts). */
const NO_HARD_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

/** `hardLinks: false` goes straight to the way that needs none. */
export interface PublishOptions {
  readonly root: string;
  readonly signal: AbortSignal;
  readonly hardLinks?: boolean;
}

/**
 * Gives `temporary` the name `final` unless something has that name already.
 *
 * `link` is the one call that does this in a single step; `rename` overwrites. Without hard links, writers
 * keep each other out with a lock.
 *
 * @returns whether the name was free. `temporary` may or may not be left over.
 */
export async function publishIfAbsent(
  temporary: string,
  final: string,
  options: PublishOptions,
): Promise<boolean> {
  if (options.hardLinks ?? true) {
    try {
      await link(temporary, final);
      return true;
    } catch (error) {
      const code = systemCode(error) ?? '';
      if (code === 'EEXIST') return false;
      if (!NO_HARD_LINKS.has(code)) throw error;
    }
  }
  const name = relative(options.root, final);
  return withLock(options.root, name, options.signal, async () => {
    if (await exists(final)) return false;
    await rename(temporary, final);
    return true;
  });
}

/** Makes a new name in a directory survive a power cut. */
export async function syncDirectory(directory: string): Promise<void> {
  let handle: Awaited<ReturnType<typeof open>>;
  try {
    handle = await open(directory, 'r');
  } catch (error) {
    if (isUnsupportedSync(error)) return;
    throw error;
  }
  try {
    await handle.sync();
  } catch (error) {
    if (!isUnsupportedSync(error)) throw error;
  } finally {
    await handle.close();
  }
}

/** Windows and some network file systems can't sync a directory; there the name's fate is up to them. */
function isUnsupportedSync(error: unknown): boolean {
  return ['EPERM', 'EISDIR', 'EINVAL', 'ENOTSUP'].includes(systemCode(error) ?? '');
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

/** The directories from `innermost` up to `outermost`, both included. */
export function directoriesUpTo(innermost: string, outermost: string): string[] {
  const directories = [innermost];
  for (let current = innermost; current !== outermost && dirname(current) !== current; ) {
    current = dirname(current);
    directories.push(current);
  }
  return directories;
}
