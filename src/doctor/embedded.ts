import { randomUUID } from 'node:crypto';
import { constants, existsSync } from 'node:fs';
import { access, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { systemCode } from '../domain/errors.ts';
import { QueueHeldError } from '../jobs/backends/backend.ts';
import { holdDirectory, loadDatabase } from '../jobs/backends/embedded.ts';
import { PackageMissingError } from '../util/optional-package.ts';
import { type CheckResult, failed, ok } from './check.ts';
import { nearestDirectory } from './directory.ts';

const NAME = 'queue';

/** By the system's code. */
const FIXES: Readonly<Record<string, string>> = {
  ENOSPC: 'free some space',
  EDQUOT: 'free some space',
  EROFS: 'mount it writable',
  ENOTDIR: 'rename or move the file that is in its place',
};

/** The process that says to hold an embedded queue. */
export interface Holder {
  readonly pid: number;
  /** Where its API is. */
  readonly url: string;
}

/**
 * Whether the embedded queue in a directory can be used. That another process holds it is as it should be: commands
 * go through its API.
 *
 * @param findHolder reads what the holder has written about itself.
 */
export async function checkEmbedded(
  target: { readonly directory: string },
  findHolder: (directory: string) => Promise<Holder | undefined>,
): Promise<readonly CheckResult[]> {
  try {
    await loadDatabase();
    const { directory, exists, isHeld } = await inspectEmbedded(target);
    const where = `embedded in ${directory}`;
    if (!exists) return [ok(NAME, `${where}, which is made when it is first needed`)];
    if (!isHeld) return [ok(NAME, `${where}, held by no process just now`)];
    const holder = await findHolder(directory);
    const who = holder
      ? `process ${holder.pid}, through whose API (${holder.url}) other commands go`
      : 'a process without an API (a command that is still running)';
    return [ok(NAME, `${where}, held by ${who}`)];
  } catch (error) {
    if (error instanceof PackageMissingError) {
      const fix = `npm install ${error.packageName}, or set QUEUE_URL to Redis or PostgreSQL`;
      return [failed(NAME, error.message, fix)];
    }
    const code = systemCode(error);
    const detail = code ?? (error instanceof Error ? error.message : String(error));
    const fix = `${FIXES[code ?? ''] ?? 'give this user the right to write there'}, or name another directory in QUEUE_URL`;
    return [failed(NAME, `the directory ${target.directory} can not be written to (${detail})`, fix)];
  }
}

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
 * Writes a file into the directory and removes it (or, where it is to be made yet, asks whether it can be), and checks
 * whether a process holds the queue. Leaves nothing behind.
 *
 * @throws the file system's own error where the directory is of no use.
 */
async function inspectEmbedded(target: { readonly directory: string }): Promise<EmbeddedFindings> {
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

/** Takes the lock for a moment; a `start` in that very moment tries again a little later. */
function isHeld(directory: string): boolean {
  try {
    holdDirectory(directory)();
    return false;
  } catch (error) {
    if (error instanceof QueueHeldError) return true;
    throw error;
  }
}
