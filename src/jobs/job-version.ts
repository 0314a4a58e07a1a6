/**
 * The version of what lies in the queue, as this program writes and reads it. Jobs without a `version` are of 1. It is
 * raised, and then written into each job, when an older program would misread what a newer one queues; members that
 * older programs may ignore raise nothing. So programs of two versions can work on one queue while they are replaced.
 */
export const JOB_VERSION = 1;

/** So long a job of a newer version is left to others before this program looks whether it is still there. */
export const NEWER_JOB_PAUSE_MS = 60_000;

/** The version of a job's data, where this program is too old for it. */
export function newerVersion(data: unknown): number | undefined {
  const isVersioned = typeof data === 'object' && data !== null && 'version' in data;
  const version = isVersioned ? Number(data.version) : JOB_VERSION;
  return version > JOB_VERSION ? version : undefined;
}
