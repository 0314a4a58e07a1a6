/** Reading the archive as an auditor: patiently, and telling a broken object from an archive that is out of reach. */

import { setTimeout as delay } from 'node:timers/promises';
import { type ArchiverError, isArchiverError } from '../errors.ts';
import type { ArchiveStore } from '../storage/store.ts';

/** The stores' own clients try again as well; this is for answers that break off. */
const ATTEMPTS = 3;
const FIRST_PAUSE_MS = 200;

/** A key that nothing lies at. */
const PROBE_KEY = 'archive-check';

/** Something that could not be read, although the archive as such can be. */
export interface Unreadable {
  readonly error: ArchiverError;
}

/**
 * Reads something, several times if need be.
 *
 * @returns what `read` returned, or why this one thing could not be read.
 * @throws ArchiverError when nothing in the archive can be read: that says nothing about the single object.
 */
export async function readPatiently<Result>(
  store: ArchiveStore,
  read: () => Promise<Result>,
  signal: AbortSignal,
): Promise<Result | Unreadable> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await read();
    } catch (error) {
      if (signal.aborted || !isArchiverError(error)) throw error;
      if (error.code !== 'ARCHIVE_UNAVAILABLE' || attempt === ATTEMPTS) {
        await store.read(PROBE_KEY, signal);
        return { error };
      }
    }
    await delay(FIRST_PAUSE_MS * 2 ** (attempt - 1), undefined, { signal });
  }
}

/** Whether {@link readPatiently} had to give up. */
export function isUnreadable(result: unknown): result is Unreadable {
  return typeof result === 'object' && result !== null && 'error' in result;
}
