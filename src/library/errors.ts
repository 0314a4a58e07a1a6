import { type ErrorCode, isArchiverError, isBug } from '../errors.ts';
import { QueueUnavailableError } from '../jobs/backend.ts';
import { QueueHeldError } from '../jobs/embedded.ts';
import { InvalidEventIdError } from '../jobs/event-feed.ts';
import { InvalidCursorError } from '../jobs/session-queue.ts';
import { redact } from '../redact.ts';
import { ArchiverError } from './archiver-error.ts';
import { inOptionNames } from './options.ts';

/**
 * Whatever went wrong behind a call, as an error for the caller. What is neither one of ours nor a bug was thrown by
 * the queue's driver, in its own terms for each kind of queue: the queue can't be reached. Drivers put passwords
 * into their errors, so only what they say is passed on.
 */
export function asArchiverError(error: unknown): ArchiverError {
  if (error instanceof ArchiverError) return error;
  const message = error instanceof Error ? error.message || error.name : String(error);
  if (isArchiverError(error)) return failure(error.code, message, error.retryable);
  if (error instanceof InvalidCursorError || error instanceof InvalidEventIdError) {
    return failure('INVALID_REQUEST', message, false);
  }
  if (error instanceof QueueHeldError) {
    return failure(
      'QUEUE_HELD',
      `${message}: an embedded queue belongs to one process at a time; share a queue on Redis or PostgreSQL instead`,
      false,
    );
  }
  if (error instanceof QueueUnavailableError) return failure('QUEUE_UNAVAILABLE', message, true);
  if (isBug(error)) return new ArchiverError('INTERNAL', redact(message), { retryable: false, cause: error });
  const reason = isConnectionLost(error) ? 'the connection is lost, and is made again by itself' : message;
  return failure('QUEUE_UNAVAILABLE', `the queue cannot be reached: ${reason}`, true);
}

/** ioredis, whose own text is about an option of its own. */
function isConnectionLost(error: unknown): boolean {
  return error instanceof Error && error.name === 'MaxRetriesPerRequestError';
}

function failure(
  code: ErrorCode | ArchiverError['code'],
  message: string,
  retryable: boolean,
): ArchiverError {
  return new ArchiverError(code, inOptionNames(redact(message)), { retryable });
}
