/** How things stand with the directory of an embedded queue, without opening it: for `doctor`. */

import { randomUUID } from 'node:crypto';
import { constants, existsSync } from 'node:fs';
import { access, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { nearestDirectory } from '../storage/nearest-directory.ts';
import { holdDirectory, QueueHeldError } from './embedded.ts';

/** What was found. */
export interface EmbeddedFindings {
  /** Absolute. */
  readonly directory: string;
  /** Whether there is a queue in it; otherwise it is made by the first command that needs it. */
  readonly exists: boolean;
  /** Whether a process holds it. */
  readonly isHeld: boolean;
}

/**
 * Writes a file into the directory and removes it (or, where it is to be made yet, asks whether it can be), and looks
 * whether a process holds the queue. Leaves nothing behind.
 *
 * @throws the file system's own error where the directory is of no use.
 */
export async function inspectEmbedded(target: { readonly directory: string }): Promise<EmbeddedFindings> {
  const directory = resolve(target.directory);
  const innermost = await nearestDirectory(directory);
  if (innermost !== directory) {
    await access(innermost, constants.W_OK | constants.X_OK);
    return { directory, exists: false, isHeld: false };
  }
  const probe = join(directory, `doctor-${randomUUID()}.tmp`);
  try {
    await writeFile(probe, 'safe to delete\n', { flag: 'wx' });
  } finally {
    await rm(probe, { force: true });
  }
  const exists = existsSync(join(directory, 'pgdata'));
  return { directory, exists, isHeld: existsSync(join(directory, 'lock')) && isHeld(directory) };
}

/** Takes the lock for a moment; a `start` in that very moment looks again a little later. */
function isHeld(directory: string): boolean {
  try {
    holdDirectory(directory)();
    return false;
  } catch (error) {
    if (error instanceof QueueHeldError) return true;
    throw error;
  }
}
