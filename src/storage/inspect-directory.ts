/** Tries out on a directory everything that an archive does there: for `doctor`. */

import { constants } from 'node:fs';
import { access, rm, statfs } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ArchiverError } from '../errors.ts';
import { createDirectoryStore } from './directory.ts';
import { nearestDirectory } from './nearest-directory.ts';
import { newProbeDirectory, PROBE_BODY, PROBE_INFO } from './probe-key.ts';

/** What was found. */
export interface DirectoryFindings {
  /** `file:` and the absolute path. */
  readonly location: string;
  /** Whether it is there; otherwise what was tried is to make it where it will be. */
  readonly exists: boolean;
  /** What may still be written. */
  readonly freeBytes: number;
}

/**
 * Writes a file as an archive does (synced, and under its name in one step), reads it, and removes it with its
 * directory. An archive that is not there yet is not made.
 *
 * @throws ArchiverError as the store words it, a file system's own error from the rest; the signal's reason when aborted.
 */
export async function inspectDirectory(directory: string, signal: AbortSignal): Promise<DirectoryFindings> {
  const root = resolve(directory);
  const nearest = await nearestDirectory(root);
  const exists = nearest === root;
  // The store's own words would name the probe's place.
  if (!exists) await access(nearest, constants.W_OK | constants.X_OK);
  const probe = newProbeDirectory();
  // In a place of its own, so that several of these at once do not remove each other's directories.
  const store = createDirectoryStore(exists ? root : join(nearest, probe));
  const key = `${probe}probe`;
  try {
    await store.write(key, PROBE_BODY, PROBE_INFO, 'absent', signal);
    const read = await store.read(key, signal);
    if (!read?.equals(PROBE_BODY)) {
      throw new ArchiverError('ARCHIVE_UNAVAILABLE', 'what was read is not what was written');
    }
    const { bavail, bsize } = await statfs(nearest);
    return { location: `file:${root}`, exists, freeBytes: bavail * bsize };
  } finally {
    await rm(join(nearest, probe), { recursive: true, force: true });
    await store.close();
  }
}
