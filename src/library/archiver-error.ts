import type { ErrorCode } from '../errors.ts';

/**
 * Why a call failed: one of the codes of sessions (`ARCHIVE_UNAVAILABLE`, `ARCHIVE_DENIED` and `INTERNAL` happen), or
 * - `QUEUE_UNAVAILABLE`: the queue can't be reached; try again in a moment
 * - `QUEUE_HELD`: another process holds the embedded queue
 * - `TIMEOUT`: no answer in time, so it is not known whether it was done; asking again is safe
 * - `INVALID_REQUEST`: the call makes no sense; the message says what is wrong
 * - `CLOSED`: the archiver has been closed
 */
export type ArchiverErrorCode =
  | ErrorCode
  | 'QUEUE_UNAVAILABLE'
  | 'QUEUE_HELD'
  | 'TIMEOUT'
  | 'INVALID_REQUEST'
  | 'CLOSED';

/**
 * What the methods of an archiver reject with. It holds no secrets.
 *
 * @example
 * try {
 *   await archiver.enqueue(sessionId);
 * } catch (error) {
 *   if (error instanceof ArchiverError && error.retryable) return response.writeHead(503).end();
 *   throw error;
 * }
 */
export class ArchiverError extends Error {
  /** Stable, for programs. */
  readonly code: ArchiverErrorCode;
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;

  constructor(
    code: ArchiverErrorCode,
    message: string,
    { retryable, cause }: { readonly retryable: boolean; readonly cause?: unknown },
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'ArchiverError';
    this.code = code;
    this.retryable = retryable;
  }
}
