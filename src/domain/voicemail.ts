/** What the Kore voicemail API says of one session, after validation at the border. */

/** One audio file of a session, where to get it and until when. */
export interface KoreRecording {
  /**
   * Text from outside, never trusted as a path, of at most 1,024 characters: printable, without parts of a signed
   * query. May be empty.
   */
  readonly fileName: string;
  /**
   * Signed URL or `data:` URI, byte for byte as received but for blanks around it. A secret: never logged, queued or
   * stored with its query.
   */
  readonly fileUrl: string;
}

/** A recording that Kore lists without a usable URL: it can't be downloaded yet. */
export interface RecordingWithoutUrl {
  /** As in {@link KoreRecording}. */
  readonly fileName: string;
  /** What is wrong with it, for an error `RECORDING_NOT_READY`. */
  readonly message: string;
}

/**
 * A transcription message as received; unknown fields are kept. It should be an object, and may be anything that JSON
 * can hold. Numbers that JavaScript can't hold exactly are `JSON.rawJSON` objects, which `JSON.stringify` writes digit
 * for digit.
 */
export type KoreDocument = unknown;

/**
 * The state of a session's recordings upstream: `ready` to be downloaded, `later` (worth looking again) or
 * `never` (there will be none).
 */
export type Readiness = 'ready' | 'later' | 'never';

/** A validated answer of the voicemail API. */
export interface Voicemail {
  readonly readiness: Readiness;
  /** The status text as received, for messages; at most 64 printable characters. */
  readonly status: string;
  /**
   * Recordings with a usable URL. Together with `withoutUrl` at most 1,000, and not both empty when `readiness` is
   * `ready`.
   */
  readonly recordings: readonly KoreRecording[];
  /** Listed recordings without a usable URL. */
  readonly withoutUrl: readonly RecordingWithoutUrl[];
  /** How many entries of the lists were no recordings at all, such as `null` beside real ones. */
  readonly ignoredEntries?: number;
  /** The transcription messages, in the order received. Empty while there are none. */
  readonly transcriptions: readonly KoreDocument[];
}

/**
 * Live work goes first: calls for `background` work (transcripts awaited, backfills) may use only a part of
 * the rate limit.
 */
export type CallClass = 'live' | 'background';

/** The fleet-wide limit on calls to Kore's API, shared by all workers of a queue. */
export interface CallLimit {
  /**
   * Resolves when one call may be made; waits a few seconds at most.
   * @throws VoicemailError `KORE_RATE_LIMITED` with `retryAfterMs` when the wait would be longer.
   */
  acquire(callClass: CallClass, signal: AbortSignal): Promise<void>;
  /** Kore asked for a pause: no worker calls for that time (milliseconds). */
  pause(milliseconds: number): Promise<void>;
}

/**
 * The `aud` of the tokens that are signed for Kore: what its identity proxy expects, and Kore's public client code
 * sends. A token with it is never accepted from outside.
 */
export const KORE_AUDIENCE = 'https://idproxy.kore.ai/authorize';
