/** What is fed, and what may come of it. */

import { ConfigError } from '../../src/config/settings.ts';
import { VoicemailError } from '../../src/domain/errors.ts';
import type { Random } from '../support/random.ts';

/** Something that reads input from outside. */
export interface FuzzTarget {
  /** Feeds it once. @returns what is wrong with what came of it, if anything is. */
  feed(random: Random): Promise<string | undefined>;
  close(): Promise<void>;
}

/** What is wrong with how something failed: only errors that say what is wrong with the input are fine. */
function judge(error: unknown): string | undefined {
  if (error instanceof ConfigError) return undefined;
  if (error instanceof VoicemailError && error.code !== 'INTERNAL') return undefined;
  return error instanceof Error ? (error.stack ?? error.message).slice(0, 600) : String(error);
}

export function failureOf(work: () => void): string | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    return judge(error);
  }
}

export async function failureOfAsync(work: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return judge(error);
  }
}
