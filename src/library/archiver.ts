/// <reference lib="esnext.disposable" preserve="true" />

import type { EraseResult, HoldResult, HoldView, ReleaseResult } from '../domain/custody.ts';
import type { ErrorCode } from '../domain/errors.ts';
import type {
  ArchiverStats,
  EnqueueResult,
  ListedState,
  RetryOutcome,
  SessionPage,
} from '../domain/requests.ts';
import type { SessionEvent, SessionView } from '../domain/views.ts';

/** Where the queue is, and how to talk to it. Only `queueUrl` has to be given. */
export interface ArchiverOptions {
  /**
   * The queue that the workers work on, as in their `QUEUE_URL`: `redis://`, `rediss://` (`?cluster=true` for a
   * cluster), `redis+sentinel://host,host/name` or `postgres://`. An `embedded:DIR` belongs to one process at a
   * time: with that one, no worker can run beside this service.
   */
  readonly queueUrl: string;
  /** The workers' `QUEUE_NAME`; default `voicemail-archive`. */
  readonly queueName?: string | undefined;
  /** The workers' `QUEUE_PREFIX`; default BullMQ's own. */
  readonly queuePrefix?: string | undefined;
  /** The bot of sessions for which a call names none. */
  readonly botId?: string | undefined;
  /**
   * The workers' `ARCHIVE_URL`: `s3://bucket/prefix`, to which credentials, region and endpoint come by the AWS SDK's
   * standard chain, or `file:DIR`. It is only read, but for erasures and holds, and may be left out, as by a service
   * that has no rights on the bucket. Then nothing is known of sessions that the queue has forgotten, which it does
   * seven days after they were archived: {@link Archiver.get} does not find them, and {@link Archiver.enqueue} queues
   * them again, which does no harm, as the worker finds them archived.
   */
  readonly archiveUrl?: string | undefined;
  /** The workers' `S3_FORCE_PATH_STYLE`, for MinIO, Ceph and the like; default `false`. */
  readonly s3ForcePathStyle?: boolean | undefined;
  /** The workers' `S3_EXPECTED_BUCKET_OWNER`. */
  readonly s3ExpectedBucketOwner?: string | undefined;
  /** The milliseconds after which calls without an answer reject with the code `TIMEOUT`; default 30,000. */
  readonly timeoutMs?: number | undefined;
  /**
   * Gets lines about lost connections and the like. Without one, nothing is written anywhere, but for two warnings of
   * BullMQ's own on the console: about a Redis that is too old, or that may evict jobs.
   */
  readonly logger?: ArchiverLogger | undefined;
}

/** What pino, winston and `console` have in common. Whatever is handed to it holds no secrets. */
export interface ArchiverLogger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Whose session it is. */
export interface BotOptions {
  /** The bot of the session or sessions; without it {@link ArchiverOptions.botId}. */
  readonly botId?: string | undefined;
}

/** How to queue sessions. */
export interface EnqueueOptions extends BotOptions {
  /** `backfill` waits behind everything `live`, the default. */
  readonly priority?: 'live' | 'backfill' | undefined;
  /** Archive again although the archive has it; default `false`. */
  readonly force?: boolean | undefined;
  /** They may have no voicemail: having none is counted and is no failure; default `false`. */
  readonly maybe?: boolean | undefined;
}

/** How to erase a session. */
export interface EraseSessionOptions extends BotOptions {
  /** For the record that stays, 500 characters at most; not to name persons. */
  readonly reason?: string | undefined;
  /** Only say what would be deleted; default `false`. */
  readonly dryRun?: boolean | undefined;
}

/** How to hold a session. */
export interface HoldOptions extends BotOptions {
  /** Kept beside the session, 500 characters at most; not to name persons. */
  readonly reason?: string | undefined;
}

/** Which sessions to list. */
export interface ListOptions {
  /** Only those in this state; `partial`: failed, with some recordings archived. */
  readonly state?: ListedState | undefined;
  /** Only those with this error, and not archived. */
  readonly code?: ErrorCode | undefined;
  /** Only those of this bot. */
  readonly botId?: string | undefined;
  /** Only those queued then or later, and then or earlier. ISO 8601. */
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  /** Only those with this part of an id, of 3 characters or more. */
  readonly q?: string | undefined;
  /** How many at most, 1 to 1000; default 100. */
  readonly limit?: number | undefined;
  /** `nextCursor` of the page before. */
  readonly cursor?: string | undefined;
}

/** Which events to read, and for how long. */
export interface EventsOptions {
  /** Go on after the event with this id, as far as the queue still has what came then. */
  readonly after?: string | undefined;
  /** Ends the reading: the iteration throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * The queue of voicemails to be archived, as other services use it: to queue sessions, and to follow
 * them.
 *
 * All methods reject with an {@link ArchiverError}, whose `code` says why, and do so within {@link
 * ArchiverOptions.timeoutMs}. When the queue is unavailable, calls reject with `QUEUE_UNAVAILABLE`, and work again by
 * themselves once it is back.
 */
export interface Archiver {
  /**
   * Queues sessions, at most 10,000 at once. When this resolves, the queue holds them, and the workers archive them.
   * When it rejects, the queue may hold some of them; asking again is safe, as a session is only ever queued once.
   *
   * @param sessionIds one id or several.
   * @returns the outcome for each, in the order given: `queued`; `already-queued`; `already-archived`; `requeued`,
   * where it had failed before or is archived again by force.
   * @example
   * const [result] = await archiver.enqueue('67ab573f3685d1ba99541234');
   * console.log(result?.outcome); // 'queued'
   */
  enqueue(sessionIds: string | readonly string[], options?: EnqueueOptions): Promise<EnqueueResult[]>;
  /**
   * A session's state and, once it is archived, its result: recordings with sizes and checksums, and where the
   * manifest is.
   *
   * @returns `undefined` when it is unknown.
   * @example
   * const session = await archiver.get('67ab573f3685d1ba99541234');
   * if (session?.state === 'failed') console.log(session.error?.code);
   */
  get(sessionId: string, options?: BotOptions): Promise<SessionView | undefined>;
  /**
   * A page of sessions that the queue knows, the newest first.
   *
   * @example
   * let cursor: string | undefined;
   * do {
   *   const page = await archiver.list({ state: 'failed', cursor });
   *   for (const { sessionId, error } of page.sessions) console.log(sessionId, error?.code);
   *   cursor = page.nextCursor;
   * } while (cursor);
   */
  list(options?: ListOptions): Promise<SessionPage>;
  /** Runs a failed session again from the start. @returns `requeued`; `not-failed`; `unknown` to the queue. */
  retry(sessionId: string, options?: BotOptions): Promise<RetryOutcome>;
  /**
   * Deletes a session with every version of its objects and what the queue has of it, and leaves a record that keeps it
   * from being archived again. Needs {@link ArchiverOptions.archiveUrl}, and the right to delete there. Neither the
   * audit log nor a signature (`MANIFEST_KEY_FILE`) records it: where one is wanted, erase through the HTTP API.
   *
   * @returns `refused` under a hold or a lock, with a `message` that says until when; nothing is deleted then.
   * @example
   * const result = await archiver.erase('67ab573f3685d1ba99541234', { reason: 'request 2026-114' });
   * if (result.outcome === 'refused') console.log(result.message);
   */
  erase(sessionId: string, options?: EraseSessionOptions): Promise<EraseResult>;
  /** Keeps a session from being erased until the hold is released; in a bucket with Object Lock by S3's own as well. */
  setHold(sessionId: string, options?: HoldOptions): Promise<HoldResult>;
  /** Takes a hold off. */
  releaseHold(sessionId: string, options?: BotOptions): Promise<ReleaseResult>;
  /** The hold on a session; `undefined` when there is none. */
  hold(sessionId: string, options?: BotOptions): Promise<HoldView | undefined>;
  /** How many sessions are in which state, how long the oldest has waited, throughput, failures by code. */
  stats(): Promise<ArchiverStats>;
  /**
   * What happens to sessions, from the moment on that the first event is requested. The reading waits out an outage of
   * the queue, and goes on where it was. It ends when the archiver is closed.
   *
   * @example
   * for await (const { id, name, session } of archiver.events({ signal: AbortSignal.timeout(60_000) })) {
   *   console.log(id, name, session.sessionId); // '1760000000000-0 archived 67ab573f3685d1ba99541234'
   * }
   */
  events(options?: EventsOptions): AsyncIterableIterator<SessionEvent>;
  /** Resolves if the queue can be reached and, where there is one, the archive: for a service's own readiness. */
  check(): Promise<void>;
  /** Lets calls under way finish and closes all connections, without which the process does not end. */
  close(): Promise<void>;
  /** The same, for `await using archiver = createArchiver(...)`. */
  [Symbol.asyncDispose](): Promise<void>;
}
