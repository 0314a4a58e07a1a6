import { systemCode } from '../errors.ts';
import { inspectEmbedded } from '../jobs/inspect-embedded.ts';
import { type CheckResult, failed, ok } from './check.ts';

const NAME = 'queue';

/** By the system's code. */
const MENDS: Readonly<Record<string, string>> = {
  ENOSPC: 'free some space',
  EDQUOT: 'free some space',
  EROFS: 'mount it writable',
  ENOTDIR: 'move away the file that is in its place',
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
    const code = systemCode(error);
    const detail = code ?? (error instanceof Error ? error.message : String(error));
    const mend = `${MENDS[code ?? ''] ?? 'give this user the right to write there'}, or name another directory in QUEUE_URL`;
    return [failed(NAME, `the directory ${target.directory} can not be written to (${detail})`, mend)];
  }
}
