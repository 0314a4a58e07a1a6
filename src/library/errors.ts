import { type ErrorCode, isVoicemailError } from '../domain/errors.ts';
import { QueueHeldError, QueueUnavailableError } from '../jobs/backends/backend.ts';
import { asQueueError } from '../jobs/backends/connection-errors.ts';
import { InvalidEventIdError } from '../jobs/event-feed.ts';
import { InvalidCursorError } from '../jobs/session-listing.ts';
import { redact } from '../util/redact.ts';
import { inOptionNames } from './options.ts';

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
  /** What to do about it, where that is known. */
  readonly hint: string | undefined;

  constructor(
    code: ArchiverErrorCode,
    message: string,
    {
      retryable,
      hint,
      cause,
    }: { readonly retryable: boolean; readonly hint?: string; readonly cause?: unknown },
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'ArchiverError';
    this.code = code;
    this.retryable = retryable;
    this.hint = hint;
  }
}

/**
 * Any error behind a call, as an error for the caller. An unexpected error is a bug (`INTERNAL`). Drivers put
 * passwords into their errors, so only what they say is passed on.
 */
export function asArchiverError(thrown: unknown): ArchiverError {
  const error = asQueueError(thrown);
  if (error instanceof ArchiverError) return error;
  const message = error instanceof Error ? error.message || error.name : String(error);
  if (isVoicemailError(error)) return failure(error.code, message, error.retryable, error.hint);
  if (error instanceof InvalidCursorError || error instanceof InvalidEventIdError) {
    return failure('INVALID_REQUEST', message, false);
  }
  if (error instanceof QueueHeldError) {
    return failure('QUEUE_HELD', message, false, 'share a queue on Redis or PostgreSQL instead');
  }
  if (error instanceof QueueUnavailableError) return failure('QUEUE_UNAVAILABLE', message, true);
  return new ArchiverError('INTERNAL', redact(message), { retryable: false, cause: error });
}

function failure(code: ArchiverErrorCode, message: string, retryable: boolean, hint?: string): ArchiverError {
  return new ArchiverError(code, inOptionNames(redact(message)), {
    retryable,
    ...(hint !== undefined && { hint: inOptionNames(redact(hint)) }),
  });
}
