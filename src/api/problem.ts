import { STATUS_CODES } from 'node:http';
import { isArchiverError } from '../errors.ts';
import { InvalidCursorError } from '../jobs/session-queue.ts';
import { redact } from '../redact.ts';
import type { Problem, ProblemCode } from './schemas.ts';

/** The media type of errors (RFC 9457). */
export const PROBLEM_TYPE = 'application/problem+json; charset=utf-8';

/** After how many seconds a sender may try again when the queue or the archive can't be reached. */
export const RETRY_AFTER_S = 5;

/** An error that says to the client what is wrong. `message` becomes the problem's `detail`. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: ProblemCode;

  constructor(status: number, code: ProblemCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
  }
}

/** The problem document of an error. */
export function problemOf({ status, code, message }: ApiError): Problem {
  return {
    // RFC 9457: no page to read about it, the title is the status' own text.
    type: 'about:blank',
    title: STATUS_CODES[status] ?? 'Error',
    status,
    detail: redact(message),
    code,
  };
}

/** Errors that JavaScript itself throws when a program is wrong. */
const BUGS = [TypeError, RangeError, ReferenceError, SyntaxError] as const;

/**
 * What operations on the queue and the archive throw, as an error for the client.
 *
 * What is none of ours and no bug was thrown by the queue's driver, in its own terms for each kind of queue:
 * the queue can't be reached. Then nothing is promised to the sender, who tries again.
 */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof InvalidCursorError) return new ApiError(400, 'INVALID_REQUEST', error.message);
  if (isArchiverError(error)) {
    const isArchiveAway = error.code === 'ARCHIVE_UNAVAILABLE' || error.code === 'ARCHIVE_DENIED';
    return new ApiError(isArchiveAway ? 503 : 500, error.code, error.message, { cause: error });
  }
  if (BUGS.some((bug) => error instanceof bug)) {
    return new ApiError(500, 'INTERNAL', 'something went wrong in this program; its log says what', {
      cause: error,
    });
  }
  return new ApiError(503, 'QUEUE_UNAVAILABLE', 'the queue cannot be reached; try again in a moment', {
    cause: error,
  });
}
