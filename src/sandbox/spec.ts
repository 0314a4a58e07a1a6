import type { AudioFormat, AudioLength } from './audio/audio.ts';
import type { AudioSource } from './audio/source.ts';

/**
 * The manual of the sandbox: everything that can be switched.
 *
 * - {@link SandboxOptions}: given to `startSandbox`. Those of {@link SandboxSettings} can be changed while it
 *   runs, with `sandbox.configure`.
 * - {@link SessionSpec}: one session, given to `sandbox.addSession`.
 * - {@link RecordingSpec}: one of its recordings.
 * - {@link MetadataFault} and {@link MediaFault}: what goes wrong, in which order, how often.
 *
 * Everything has a default: `await startSandbox()` and `sandbox.addSession()` make a healthy API with a healthy
 * voicemail of one WAV recording.
 *
 * @example
 * const sandbox = await startSandbox({ urlLifetimeSeconds: 60 });
 * const sessionId = sandbox.addSession({
 *   statuses: ['call_in_progress', 'success'],
 *   metadataFaults: [{ status: 503 }, { limit: '429-seconds' }],
 *   recordings: [{ bytes: 40_000_000, mediaFaults: [{ breakAfterBytes: 7_000_000, times: 5 }] }],
 *   transcription: { texts: ['Please call me back.'], afterPolls: 2 },
 * });
 * await sandbox.waitFor((calls) => calls.some((call) => call.route === 'media' && call.bytesSent > 1_000_000));
 * sandbox.session(sessionId).addRecording({ content: readFileSync('late.m4a'), contentType: 'audio/mp4' });
 * await sandbox.close();
 */

/** Where it listens and what it is made of; fixed from the start. */
export interface SandboxOptions extends Partial<SandboxSettings> {
  /** Default `127.0.0.1`. */
  readonly host?: string;
  /** Default 0: any free one, see `sandbox.url`. */
  readonly port?: number;
  /** `st-<uuid>`; made up if not given. Another bot id in the path is answered like Kore does: 401. */
  readonly botId?: string;
  /** `cs-<uuid>`, which a token must name as `appId`; made up if not given. */
  readonly clientId?: string;
  /** Made up if not given. */
  readonly clientSecret?: string;
  /** `o-<uuid>`, part of the paths of recordings; made up if not given. */
  readonly accountId?: string;
  /**
   * The host name that a `fileUrl` carries instead of {@link host}, on the same port: Kore's media come from
   * another host than its API. Must resolve to the address that the sandbox listens on, like `localhost`.
   */
  readonly mediaHost?: string;
  /** The same for where `redirectTo: 'storage'` leads to. */
  readonly storageHost?: string;
  /**
   * The clock in milliseconds since 1970 by which media URLs expire and `afterMs` is counted; for tests that
   * don't want to wait. Tokens and rate limits go by the real clock, since callers sign and wait by theirs.
   */
  readonly now?: () => number;
  /** Gets a line of text for each request, without queries, tokens or transcripts. */
  readonly log?: (line: string) => void;
  /** How many requests `sandbox.calls` remembers at least; default 10,000. */
  readonly keepCalls?: number;
}

/** What can be changed while the sandbox runs. */
export interface SandboxSettings {
  /** How long a signed media URL is good for. Default 300; a recording can have its own. */
  readonly urlLifetimeSeconds: number;
  /** The status of a media URL that has expired or was revoked. Default 403. */
  readonly refusedStatus: 401 | 403 | 404 | 410;
  /** Calls of the API, listings included, that are answered in any window of that length. Default: no limit. */
  readonly rateLimit: RateLimit | undefined;
  /**
   * The app's switch 'Enforce JTI': a token needs `exp` and a `jti` that was never used before. Default true.
   * An `exp` more than an hour away is refused either way.
   */
  readonly enforceJti: boolean;
  /**
   * What the app may do; calls that need another scope are answered 401. Default: `SmartAssist Voicemail`,
   * `SmartAssist Analytics` (call details) and `Bot Sessions`.
   */
  readonly scopes: readonly string[];
  /** Sets another secret than callers know, as after a rotation. Default: `sandbox.clientSecret`. */
  readonly signingSecret: string | undefined;
  /**
   * Answers each call that asks, with good credentials, for a session that exists with this fault, until it is
   * set to `undefined`; its `times` does not count.
   */
  readonly outage: MetadataFault | undefined;
  /** The same for each download with a good URL, whichever recording it is of. */
  readonly mediaOutage: MediaFault | undefined;
  /** The shape of error answers: `{errors: [{msg, code}]}` (default) or `{code, message}`. */
  readonly errorEnvelope: 'errors' | 'message';
  /**
   * Any id of 24 hex digits that was not added gets a voicemail of its own, the same one each time. Default
   * false: unknown ids are answered 404.
   */
  readonly autoSessions: boolean;
  /**
   * Called before each page of a listing is put together, with the number of pages before it: the place to add
   * sessions in the middle of a listing, or to make one wait.
   */
  readonly beforeListing: ((pages: number) => void | Promise<void>) | undefined;
}

/** A limit on calls, and what exceeding it looks like. */
export interface RateLimit {
  readonly calls: number;
  readonly windowMs: number;
  /** Default `429-seconds`. */
  readonly answer?: LimitAnswer;
}

/**
 * What exceeding a limit looks like; Kore does not document it.
 * - `429-seconds`: with `Retry-After` in seconds.
 * - `429-date`: with `Retry-After` as an HTTP date.
 * - `429`: without `Retry-After`.
 * - `429-hourly`: without `Retry-After`, and with the text of the hourly limit.
 * - `200-text`, `400-text`: that status, and the text in an error envelope.
 */
export type LimitAnswer = '429-seconds' | '429-date' | '429' | '429-hourly' | '200-text' | '400-text';

/** One session. */
export interface SessionSpec {
  /** Default: a new ObjectId with the present time. */
  readonly sessionId?: string;
  /** Default: one recording with all its defaults. */
  readonly recordings?: readonly RecordingSpec[];
  /**
   * The `status` of each call, one after the other; the last one stays. Recordings are listed with `success`
   * alone. Default `['success']`.
   */
  readonly statuses?: readonly string[];
  /** The number of first calls that say `success` without any recordings. Default 0. */
  readonly notReadyPolls?: number;
  /** How recordings are missing then: an empty list (default), no such key, or `null`. */
  readonly notReadyAs?: 'empty' | 'absent' | 'null';
  /** Default `voicemail recording`. */
  readonly recordingsKey?: 'voicemail recording' | 'voicemail_recording' | 'recording';
  /**
   * The value there: a list of objects (default); the first one's object without a list; a list of URLs; a list of
   * `data:` URIs with the whole audio in each.
   */
  readonly recordingsAs?: 'objects' | 'object' | 'urls' | 'data-uris';
  /** The transcript's text, or one text per message, or when and how it comes. Default: there is none. */
  readonly transcription?: string | readonly string[] | TranscriptionSpec;
  /**
   * JSON text that is sent as `transcriptions` byte for byte, for values that no transcript should have: `{}`,
   * `[null]`, numbers beyond 2^53, lists 5,000 deep. It is there from the first call on, instead of {@link
   * transcription}.
   */
  readonly transcriptionsJson?: string;
  /** How listings show it. */
  readonly listing?: ListingSpec;
  /**
   * Metadata calls that go wrong, in this order, each used up by one call (or by `times`) before the next one; then all
   * is well. A call that goes wrong counts neither for `statuses` nor for any of the other counts.
   */
  readonly metadataFaults?: readonly MetadataFault[];
  /** Changes each good answer at the last moment, for shapes that nothing else here makes. */
  readonly answer?: (built: Readonly<Record<string, unknown>>) => unknown;
}

/** How listings show a session. */
export interface ListingSpec {
  /** Default: the time in its id, else when it was added. */
  readonly startedAt?: Date;
  /** The field in call details; `null`: it is missing. Default: `YES` where it has recordings, else `NO`. */
  readonly isVoicemail?: string | boolean | number | null;
  /** Default `voice` in call details, `korevg` in the sessions history. */
  readonly channel?: string;
  /** How many rows it has. Default 1. */
  readonly rows?: number;
  /** The members of its rows about the call, named as in Kore's samples. Default: only the start. */
  readonly call?: ListedCall;
}

/** What rows of listings say of a call. The sessions history has neither queue nor direction. */
export interface ListedCall {
  /** The caller's number. */
  readonly from?: string;
  readonly queue?: string;
  readonly direction?: string;
  readonly endedAt?: Date;
  readonly tags?: readonly string[];
}

/** A transcript, and when it comes. */
export interface TranscriptionSpec {
  /** One message each. */
  readonly texts: readonly string[];
  /** Default `en`. */
  readonly language?: string;
  /** The number of first good calls (any `status`) without it. Default 0. */
  readonly afterPolls?: number;
  /** How long it is missing after the session was added. Default 0. */
  readonly afterMs?: number;
  /** Messages that come later than the others, each after its number of good calls. */
  readonly later?: readonly { readonly text: string; readonly afterPolls: number }[];
}

/**
 * One recording: by default a WAV of 3 seconds. `bytes` and `seconds` as in {@link AudioLength}.
 */
export interface RecordingSpec extends AudioLength {
  /**
   * The name in the API's answer, which may be hostile. Default `voicemail_<session id>.wav`, or as the format ends. A
   * list holds for one answer after the other, and its last one stays.
   */
  readonly fileName?: string | readonly string[];
  /** The number of good calls before it is listed. Default 0. */
  readonly afterPolls?: number;
  /** Its URLs have another path in each answer. Default false: always the same. */
  readonly changingPath?: boolean;
  /** Default `wav`. */
  readonly format?: AudioFormat;
  /** Recordings with the same seed, format and length are alike. Default: the session id and the position. */
  readonly seed?: string;
  /**
   * Serves this instead of audio made up by format, seed and length: bytes read from a file, for example. Thousands of
   * recordings can share one source, which saves making and keeping a tune for each.
   */
  readonly content?: Buffer | AudioSource;
  /** The `Content-Type`; default: that of the content. */
  readonly contentType?: string;
  /**
   * Overrides `urlLifetimeSeconds`; a negative one is a URL that has expired when it is issued. A list holds for
   * one issued URL after the other, and its last one stays: `[-10, -10, 300]`.
   */
  readonly lifetimeSeconds?: number | readonly number[];
  /** A `fileUrl` that leads elsewhere, for URLs that must not be followed; `null`: it has none. */
  readonly fileUrl?: string | null;
  /**
   * The signed URL answers 302 to: `storage`, a URL on the sandbox signed as S3 does; `itself`, the same URL for
   * ever; or the given URL.
   */
  readonly redirectTo?: string;
  /** How many redirects there are up to the storage. Default 1. */
  readonly redirectHops?: number;
  /** Whether `Range` is honoured. Default true. */
  readonly ranges?: boolean;
  /** The ETag: `strong` (default), `weak` or `none`. */
  readonly etag?: 'strong' | 'weak' | 'none';
  /** Whether there is a `Last-Modified`. Default true. */
  readonly lastModified?: boolean;
  /** What marks the end of the body: `Content-Length` (default), chunks, or a closed connection. */
  readonly framing?: Framing;
  /** Headers added to its answers, such as `Content-Encoding`; they win over those that the sandbox makes. */
  readonly headers?: ExtraHeaders;
  /** Answers a request without a `Range` with 206 and a `Content-Range` of the whole file. Default false. */
  readonly alwaysPartial?: boolean;
  /**
   * Downloads (GET requests that would deliver bytes) that go wrong, in this order, each used up by one request
   * (or by `times`) before the next one; then all is well.
   */
  readonly mediaFaults?: readonly MediaFault[];
}

/** Headers by their lower-case names; a list is sent as one line each. */
export type ExtraHeaders = Readonly<Record<string, string | readonly string[]>>;

/** What marks the end of a body. */
export type Framing = 'length' | 'chunked' | 'close';

/** How often a fault happens. */
export interface Repeated {
  /** Default 1; `Infinity` for ever. */
  readonly times?: number;
}

/** The answer of something in front of the real server, in place of its own. */
export type PageKind = 'html' | 'xml' | 'json';

/** What goes wrong with a voicemail call. The fields can be combined where that makes sense. */
export interface MetadataFault extends Repeated {
  /** Waits first. Alone, the call is then answered as if nothing had been, and counts as a call. */
  readonly delayMs?: number;
  /** Answers so, with an error envelope. */
  readonly status?: number;
  /** The text in that envelope. Default: the one known of Kore for that status, else a general one. */
  readonly message?: string;
  /**
   * Adds `Retry-After` to the answer with {@link status}, {@link limit} or {@link body}: seconds, `date` for a date
   * 2 seconds away, or any other text as it is.
   */
  readonly retryAfter?: number | string;
  /** Answers as if a limit had been exceeded; its `Retry-After`, where it has one, says 1 second. */
  readonly limit?: LimitAnswer;
  /** Answers with this body, or the named page of a load balancer, and status 200 (or {@link status}). */
  readonly body?: string;
  readonly page?: PageKind;
  /** Of such a body. Default `application/json`. */
  readonly contentType?: string;
  /** Half of the good answer, framed as if it were whole. */
  readonly cutJson?: boolean;
  /** The good answer with so many bytes of filling added to it, to see who reads it all. */
  readonly fillBytes?: number;
  /** Closes the connection without an answer. */
  readonly dropConnection?: boolean;
  /** Closes the connection after so many bytes of the good answer's body. */
  readonly breakAfterBytes?: number;
  /** Never answers; the connection stays open until the caller closes it. */
  readonly stall?: boolean;
}

/** What goes wrong with a download. The fields can be combined: `{ framing: 'close', breakAfterBytes: 1000 }`. */
export interface MediaFault extends Repeated {
  /** Waits first. */
  readonly delayMs?: number;
  /** All URLs issued so far for this recording expire at this moment, this request's included. */
  readonly expireNow?: boolean;
  /** Answers so, with an error envelope. */
  readonly status?: number;
  /** Adds `Retry-After` to that, or to a {@link page}: seconds, `date` for a date 2 seconds away, or any text. */
  readonly retryAfter?: number | string;
  /**
   * Answers 200 (or {@link status}) with a page of that kind instead of audio. Its `Content-Type` still speaks of
   * audio, unless {@link contentType} says otherwise.
   */
  readonly page?: PageKind;
  /** Serves these bytes instead of the recording, with its validators. */
  readonly content?: Buffer;
  /** Adds headers, after those of the recording. */
  readonly headers?: ExtraHeaders;
  /** Overrides `alwaysPartial` of the recording. */
  readonly alwaysPartial?: boolean;
  /** Overrides the `Content-Type`. */
  readonly contentType?: string;
  /**
   * From here on the recording is another one: other ETag, later `Last-Modified`, and, unless its `content`
   * was given, other audio of the same length.
   */
  readonly replaced?: boolean;
  /** Overrides what marks the end of the body. */
  readonly framing?: Framing;
  /** Does not honour a `Range`: answers 200 with everything. */
  readonly ignoreRange?: boolean;
  /** Answers a range that begins so many bytes behind the one asked for, and says so in `Content-Range`. */
  readonly shiftRangeBy?: number;
  /** Behaves as if the file were so many bytes shorter, at its end, all headers included; `Infinity`: no bytes. */
  readonly shortBy?: number;
  /** Closes the connection after so many bytes of this answer's body; with `chunked`, without the last chunk. */
  readonly breakAfterBytes?: number;
  /** How it is closed: in order (default), or by a reset, of which bytes underway may be lost. */
  readonly breakBy?: 'end' | 'reset';
  /** Sends nothing more after so many bytes of this answer's body, and keeps the connection open. */
  readonly stallAfterBytes?: number;
  /** Sends evenly, not faster than this. */
  readonly bytesPerSecond?: number;
}
