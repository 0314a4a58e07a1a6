import { randomUUID } from 'node:crypto';
import { VoicemailError } from '../domain/errors.ts';

/** The segment that the directory store keeps for files it has not finished. */
export const TEMPORARY_SEGMENT = '.tmp';

/** The order of keys, which is that of their bytes in UTF-8. Negative when `a` comes first. */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/**
 * The last check before a key becomes a path or a URL: relative, `/`-separated, no empty, `.` or `..`
 * segments, no backslashes, no control characters, nothing below `.tmp`.
 * @throws VoicemailError `INTERNAL`: the code that made the key has a fault.
 */
export function assertKey(key: string): void {
  const segments = key.split('/');
  const bad =
    segments.some((segment) => segment === '' || segment === '.' || segment === '..') ||
    segments[0] === TEMPORARY_SEGMENT ||
    /[\\\p{Cc}]/u.test(key);
  if (bad) {
    throw new VoicemailError('INTERNAL', 'a key that would leave the archive was refused', {
      retryable: false,
    });
  }
}

/**
 * The same for the beginning of keys: empty, or whole segments with a `/` at the end.
 * @throws VoicemailError `INTERNAL`
 */
export function assertPrefix(prefix: string): void {
  if (prefix !== '') assertKey(prefix.endsWith('/') ? prefix.slice(0, -1) : '');
}

/**
 * How the directories begin that `doctor` writes into and removes at once, one for each run. They are no sessions'
 * directories, and what reads the archive as a table (Athena, Hive, Spark) passes over names that begin with `_`.
 */
const PROBE_START = '_doctor-';

/** For policies: all of them. */
export const PROBE_PATTERN = `${PROBE_START}*`;

/** Not within {@link PROBE_PATTERN}, whose objects may be deleted also by those who may not erase sessions. */
const ERASE_PROBE_START = '_doctor_erase-';

/** What is written there, the same each time. */
export const PROBE_BODY = Buffer.from('Written by the doctor of the voicemail archiver. Safe to delete.\n');
export const PROBE_INFO = { contentType: 'text/plain' } as const;

/** A directory with a random name, with a `/` at its end, as keys begin with it. */
export function newProbeDirectory(): string {
  return `${PROBE_START}${randomUUID()}/`;
}

/** The same, for trying what erasing a session takes. */
export function newEraseProbeDirectory(): string {
  return `${ERASE_PROBE_START}${randomUUID()}/`;
}

/**
 * What a worker writes when the archive failed, to find out whether it takes objects. It stays there, and is replaced.
 */
export const BREAKER_PROBE_KEY = `${PROBE_START}breaker/probe.txt`;

/** Whether a relative key or directory is that of a probe: one being tried, or that could not be deleted. */
export function isProbeKey(key: string): boolean {
  return key.startsWith(PROBE_START) || key.startsWith(ERASE_PROBE_START);
}

/** How many bytes `read` takes into memory by default. */
export const DEFAULT_MAX_READ_BYTES = 64 * 1024 * 1024;

/** @throws VoicemailError `ARCHIVE_CONFLICT`: a small document is expected there, this is something else. */
export function assertReadable(key: string, bytes: number, maxBytes: number): void {
  if (bytes > maxBytes) {
    throw new VoicemailError(
      'ARCHIVE_CONFLICT',
      `${key} has ${bytes} bytes, where a document of at most ${maxBytes} belongs`,
      { hint: 'move it out of the archive, once you know what it is' },
    );
  }
}
