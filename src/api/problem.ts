import { STATUS_CODES } from 'node:http';
import { isVoicemailError } from '../domain/errors.ts';
import { QueueUnavailableError } from '../jobs/backends/backend.ts';
import { asQueueError } from '../jobs/backends/connection-errors.ts';
import { InvalidCursorError } from '../jobs/session-listing.ts';
import { printable } from '../util/text.ts';
import type { Problem, ProblemCode } from './schemas/sessions.ts';

/** The media type of errors (RFC 9457). */
export const PROBLEM_TYPE = 'application/problem+json';
/** The same as it is sent. */
export const PROBLEM_CONTENT_TYPE = `${PROBLEM_TYPE}; charset=utf-8`;

/** After how many seconds a sender may try again when something behind the API can't be reached. */
const RETRY_AFTER_S = 5;

/** Options of an {@link ApiError}. */
export interface ApiErrorOptions extends ErrorOptions {
  /** Headers that belong to the answer, by their names in lower case. */
  readonly headers?: Readonly<Record<string, string>>;
  /** What to do, as an imperative. */
  readonly hint?: string | undefined;
}

/** An error that says to the client what is wrong. `message` becomes the problem's `detail`. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: ProblemCode;
  readonly headers: Readonly<Record<string, string>>;
  readonly hint: string | undefined;

  constructor(status: number, code: ProblemCode, message: string, options: ApiErrorOptions = {}) {
    const { headers = {}, hint, ...rest } = options;
    super(message, rest);
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.hint = hint;
    this.headers = { ...(status === 503 && { 'retry-after': String(RETRY_AFTER_S) }), ...headers };
  }
}

/** What is wrong may quote what was sent, which may be of any length. */
const MAX_DETAIL_CHARACTERS = 1_000;

/** The problem document of an error. */
export function problemOf({ status, code, message, hint }: ApiError): Problem {
  return {
    // RFC 9457: no page to read about it, the title is the status' own text.
    type: 'about:blank',
    title: STATUS_CODES[status] ?? 'Error',
    status,
    detail: printable(message, MAX_DETAIL_CHARACTERS),
    ...(hint !== undefined && { hint: printable(hint, MAX_DETAIL_CHARACTERS) }),
    code,
  };
}

const CODE_BY_STATUS: Readonly<Record<number, ProblemCode>> = {
  404: 'NOT_FOUND',
  413: 'PAYLOAD_TOO_LARGE',
  414: 'URI_TOO_LONG',
  415: 'UNSUPPORTED_MEDIA_TYPE',
};

/**
 * Whatever a route threw, as an error for the client.
 *
 * Fastify's own errors about a request carry a status. Any other error is a bug of this program: a 500 without details
 * for the client; the log has the error with its stack.
 */
export function asApiError(thrown: unknown): ApiError {
  const error = asQueueError(thrown);
  if (error instanceof ApiError) return error;
  if (error instanceof InvalidCursorError) return new ApiError(400, 'INVALID_REQUEST', error.message);
  if (error instanceof QueueUnavailableError) {
    return new ApiError(503, 'QUEUE_UNAVAILABLE', 'the queue cannot be reached; try again in a moment', {
      cause: thrown,
    });
  }
  if (isVoicemailError(error)) {
    const isArchiveUnavailable = error.code === 'ARCHIVE_UNAVAILABLE' || error.code === 'ARCHIVE_DENIED';
    return new ApiError(isArchiveUnavailable ? 503 : 500, error.code, error.message, {
      cause: error,
      hint: error.hint,
    });
  }
  if (error instanceof Error && 'statusCode' in error) {
    const status = Number(error.statusCode);
    if (status >= 400 && status < 500) {
      const code = CODE_BY_STATUS[status] ?? 'INVALID_REQUEST';
      return new ApiError(status, code, error.message, { cause: error });
    }
  }
  return new ApiError(500, 'INTERNAL', 'something went wrong in this program; its log says what', {
    cause: error,
  });
}
