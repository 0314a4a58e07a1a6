/**
 * The project's one error class and its stable codes.
 *
 * A code decides by default whether trying again may help. Where the same code can mean either, the place
 * that throws says so with `retryable`.
 */

/** Whether trying again can help, per code: `true` passes by itself, `false` needs a person or never changes. */
const RETRYABLE_BY_CODE = {
  KORE_UNAUTHORIZED: true,
  KORE_RATE_LIMITED: true,
  KORE_UNAVAILABLE: true,
  KORE_BAD_RESPONSE: true,
  SESSION_NOT_FOUND: false,
  RECORDING_NOT_READY: true,
  RECORDING_UNAVAILABLE: false,
  RECORDING_URL_EXPIRED: true,
  RECORDING_HOST_NOT_ALLOWED: false,
  RECORDING_TRUNCATED: true,
  RECORDING_EMPTY: false,
  RECORDING_NOT_AUDIO: false,
  RECORDING_TOO_LARGE: false,
  DOWNLOAD_FAILED: true,
  ARCHIVE_DENIED: true,
  ARCHIVE_UNAVAILABLE: true,
  ARCHIVE_CONFLICT: false,
  INTERNAL: true,
} as const;

/** Stable error codes, as they appear in views, logs, metrics and exit messages. */
export type ErrorCode = keyof typeof RETRYABLE_BY_CODE;

/** All codes, for validation and documentation. */
export const ERROR_CODES = Object.keys(RETRYABLE_BY_CODE) as [ErrorCode, ...ErrorCode[]];

/** Whether trying again can help a failure with a code, where the place that throws says nothing else. */
export function isRetryable(code: ErrorCode): boolean {
  return RETRYABLE_BY_CODE[code];
}

/** Options of an {@link VoicemailError}. */
export interface VoicemailErrorOptions {
  /** What went wrong underneath. Logged through the scrubber, never shown in views. */
  cause?: unknown;
  /** Overrides what the code says about trying again. */
  retryable?: boolean;
  /** The pause that the other side asked for (milliseconds from now). */
  retryAfterMs?: number;
  /** What to do about it, as an imperative without a full stop: "set S3_FORCE_PATH_STYLE=true". */
  hint?: string;
  /** The host that failed, where it is not Kore's API, the bucket or the queue: a media host. */
  host?: string;
}

/**
 * Any failure this project reports.
 *
 * `message` lies in the queue in clear and shows in dashboards: it never holds a signed URL, a token, a
 * secret or the text of a transcript.
 *
 * @example
 * throw new VoicemailError('RECORDING_EMPTY', 'the recording has no bytes');
 */
export class VoicemailError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;
  readonly hint: string | undefined;
  readonly host: string | undefined;

  constructor(code: ErrorCode, message: string, options: VoicemailErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'VoicemailError';
    this.code = code;
    this.retryable = options.retryable ?? isRetryable(code);
    this.retryAfterMs = options.retryAfterMs;
    this.hint = options.hint;
    this.host = options.host;
  }
}

/** Whether a thrown value is a VoicemailError, optionally with the given code. */
export function isVoicemailError(error: unknown, code?: ErrorCode): error is VoicemailError {
  return error instanceof VoicemailError && (code === undefined || error.code === code);
}

/** Whether a text is one of {@link ERROR_CODES}. */
export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(RETRYABLE_BY_CODE, text);
}

/** The system's code (`ENOSPC`, ...) of an error, if it has one. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
