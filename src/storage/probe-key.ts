import { randomUUID } from 'node:crypto';

/**
 * How the directories begin that `doctor` writes into and removes at once, one for each run. They are no sessions'
 * directories, and what reads the archive as a table (Athena, Hive, Spark) passes over names that begin with `_`.
 */
const PROBE_START = '_doctor-';

/** For policies: all of them. */
export const PROBE_PATTERN = `${PROBE_START}*`;

/** What is written there, the same each time. */
export const PROBE_BODY = Buffer.from('Written by the doctor of the voicemail archiver. Safe to delete.\n');
export const PROBE_INFO = { contentType: 'text/plain' } as const;

/** A directory that nobody else uses, with a `/` at its end, as keys begin with it. */
export function newProbeDirectory(): string {
  return `${PROBE_START}${randomUUID()}/`;
}

/** Whether a relative key or directory is that of a probe: one being tried, or that could not be deleted. */
export function isProbeKey(key: string): boolean {
  return key.startsWith(PROBE_START);
}
