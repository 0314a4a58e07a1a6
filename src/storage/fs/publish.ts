/** Giving a finished file its final name, in one step that either happens or does not. */

import { link, lstat, rename } from 'node:fs/promises';
import { systemCode } from '../../domain/errors.ts';
import { withLock } from './lock.ts';

/** What `link` answers on file systems without hard links (FAT, some network mounts). */
const NO_HARD_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

/** Where a file is published. */
export interface PublishOptions {
  /** The archive's directory. */
  readonly root: string;
  /** The file's key. */
  readonly key: string;
  readonly signal: AbortSignal;
  /** `false` goes straight to the way that needs none. */
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
  { root, key, signal, hardLinks = true }: PublishOptions,
): Promise<boolean> {
  if (hardLinks) {
    try {
      await link(temporary, final);
      return true;
    } catch (error) {
      const code = systemCode(error) ?? '';
      if (code === 'EEXIST') return false;
      if (!NO_HARD_LINKS.has(code)) throw error;
    }
  }
  return withLock(root, key, signal, async () => {
    if (await exists(final)) return false;
    await rename(temporary, final);
    return true;
  });
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
