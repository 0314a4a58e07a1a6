import { ArchiverError } from '../errors.ts';

/** What `read` takes into memory unless told otherwise. */
export const DEFAULT_MAX_READ_BYTES = 64 * 1024 * 1024;

/** @throws ArchiverError `ARCHIVE_CONFLICT`: a small document is expected there, this is something else. */
export function assertReadable(key: string, bytes: number, maxBytes: number): void {
  if (bytes > maxBytes) {
    throw new ArchiverError(
      'ARCHIVE_CONFLICT',
      `${key} has ${bytes} bytes, where a document of at most ${maxBytes} belongs: look what it is and move it away`,
    );
  }
}
