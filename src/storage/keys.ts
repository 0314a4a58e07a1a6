import { ArchiverError } from '../errors.ts';

/** The segment that the directory store keeps for files it has not finished. */
export const TEMPORARY_SEGMENT = '.tmp';

/** The order of keys, which is that of their bytes in UTF-8. Negative when `a` comes first. */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/**
 * The last check before a key becomes a path or a URL: relative, `/`-separated, no empty, `.` or `..`
 * segments, no backslashes, no control characters, nothing below `.tmp`.
 * @throws ArchiverError `INTERNAL`: whoever made the key has a fault.
 */
export function assertKey(key: string): void {
  const segments = key.split('/');
  const bad =
    segments.some((segment) => segment === '' || segment === '.' || segment === '..') ||
    segments[0] === TEMPORARY_SEGMENT ||
    /[\\\p{Cc}]/u.test(key);
  if (bad) {
    throw new ArchiverError('INTERNAL', 'a key that would leave the archive was refused', {
      retryable: false,
    });
  }
}

/**
 * The same for the beginning of keys: empty, or whole segments with a `/` at the end.
 * @throws ArchiverError `INTERNAL`
 */
export function assertPrefix(prefix: string): void {
  if (prefix !== '') assertKey(prefix.endsWith('/') ? prefix.slice(0, -1) : '');
}
