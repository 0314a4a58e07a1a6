/** What may be asked of the sessions in the queue, and what is answered. */

import type { CallMetadata } from './call.ts';
import type { ErrorCode } from './errors.ts';
import type { SessionRef } from './session.ts';
import { type BreakerView, SESSION_STATES, type SessionState, type SessionView } from './views.ts';

/** The outcome of queueing a session. */
export type EnqueueOutcome = 'queued' | 'already-queued' | 'already-archived' | 'requeued';

/** A session to be queued. */
export interface EnqueueRequest extends SessionRef {
  /** `backfill` waits behind everything `live`, the default. */
  readonly priority?: 'live' | 'backfill';
  /** Archive again although the archive has it. */
  readonly force?: boolean;
  /** It may have no voicemail: having none is counted and is no failure. */
  readonly maybe?: boolean;
  /** The archive was asked and does not have it: it is archived again although the queue remembers it as archived. */
  readonly missing?: boolean;
  /** When the session began (unix milliseconds), where a listing says so and the id does not. */
  readonly beganAt?: number;
  /** Who requested it, for its history: the name of a token, `webhook`, a backfill's id, or a command's user. */
  readonly by?: string;
  /** What is known of the call; it is in the queue until the session is archived. */
  readonly call?: CallMetadata;
}

/** A session with the outcome of queueing it. */
export interface EnqueueResult extends SessionRef {
  readonly outcome: EnqueueOutcome;
  /** It was erased: nothing archives it again, and its outcome is `already-archived`. */
  readonly erased?: true;
}

/** The states by which sessions are listed; `partial`: failed, with some recordings archived. */
export const LISTED_STATES = [...SESSION_STATES, 'partial'] as const;
export type ListedState = (typeof LISTED_STATES)[number];

/** Which sessions to list. */
export interface ListQuery {
  readonly state?: ListedState;
  /** Of the last error; of sessions that are not archived. */
  readonly code?: string;
  readonly botId?: string;
  /** Queued then or later, and then or earlier. ISO 8601. */
  readonly from?: string;
  readonly to?: string;
  /** A part of the session id; capital letters find small ones. */
  readonly q?: string;
  /** 1 to 1000, default 100. */
  readonly limit?: number;
  /** From the page before. */
  readonly cursor?: string;
}

/** A page of sessions. */
export interface SessionPage {
  readonly sessions: readonly SessionView[];
  readonly nextCursor?: string;
}

/** How many sessions are in each state. */
export type StateCounts = Readonly<Record<SessionState, number>>;

/** Counts over the whole queue. */
export interface QueueStats {
  readonly states: StateCounts;
  /** Whether no session is taken by any worker until somebody resumes the queue. */
  readonly paused: boolean;
  /** Archived sessions that are checked again: for a transcript awaited, or once for what else comes late. */
  readonly transcriptsPending: number;
  /** Since when it is paused, where that is known. ISO 8601. */
  readonly pausedSince?: string;
  /** When the session that has waited longest was queued; left out when none waits. ISO 8601. */
  readonly oldestQueuedAt?: string;
}

/** How many sessions ended in a minute. */
export interface Throughput {
  /** When the minute began. ISO 8601. */
  readonly minute: string;
  readonly archived: number;
  readonly failed: number;
}

/** What the queue has been doing. */
export interface QueueActivity {
  /** The last hour, minute by minute, the oldest first; the last one is not over yet. */
  readonly throughput: readonly Throughput[];
  /** The failed sessions by their error codes; only the latest 10,000 are counted. */
  readonly failuresByCode: Readonly<Partial<Record<ErrorCode, number>>>;
}

/** Counts and activity of the queue. */
export interface ArchiverStats extends QueueStats, QueueActivity {
  /**
   * How those stand that the worker depends on, where the process that answers has one. Otherwise those are there that
   * are unavailable for other processes' workers.
   */
  readonly breakers?: readonly BreakerView[];
  /** The overall state, in one sentence. */
  readonly health: Health;
  /** What has to be archived yet. */
  readonly backlog: Backlog;
  /** Left out where no worker is alive and this process does not know it either. */
  readonly rateLimit?: RateLimitView;
  /** Workers with a heartbeat within the last minute, the oldest first. */
  readonly workers: readonly WorkerView[];
}

/**
 * `ok`: it works, or has nothing to do; `waiting`: it goes on by itself; `trouble`: a person must act. `text` is one
 * sentence, with times in UTC.
 */
export interface Health {
  readonly level: 'ok' | 'waiting' | 'trouble';
  readonly text: string;
}

/** The sessions that are queued, in work, or waiting. */
export interface Backlog {
  readonly sessions: number;
  /** At the present pace, or at the rate limit where that is not known; left out while nothing gets on. */
  readonly secondsUntilDone?: number;
}

/** The calls to Kore that all workers together may make (`KORE_RATE_LIMIT`). */
export interface RateLimitView {
  readonly limit: number;
  readonly windowSeconds: number;
  /** Calls of the last window. */
  readonly used: number;
  /** Until when Kore itself has asked to be left alone. ISO 8601. */
  readonly limitedUntil?: string;
}

/** A worker that is alive. Times are ISO 8601. */
export interface WorkerView {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  /** Of the program. */
  readonly version: string;
  readonly startedAt: string;
  /** By the clock of the queue. */
  readonly seenAt: string;
  /** Sessions that it works on at most. */
  readonly concurrency: number;
  /** Sessions that it works on. */
  readonly active: number;
}

/** The outcome of a retry. */
export type RetryOutcome = 'requeued' | 'not-failed' | 'unknown';

/** The outcome of a cancellation: `not-waiting` where the session is active or has ended. */
export type CancelOutcome = 'cancelled' | 'not-waiting' | 'unknown';

/** Which of the queued and waiting sessions to cancel; all of them unless it says otherwise. */
export interface CancelQuery {
  /** Only those whose last error has this code. */
  readonly code?: ErrorCode;
  /** Only those that wait behind live sessions. */
  readonly backfills?: boolean;
  /** Only count them. */
  readonly dryRun?: boolean;
}

/** A part of an object: the offsets of its first and its last byte. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * A list of more sessions than this goes behind live ones unless it has a priority: before them it would
 * keep every voicemail that comes in meanwhile waiting, for hours at the usual rate limit.
 */
export const LARGE_LIST = 1_000;

/** How long that number of sessions takes at the rate limit, one call each, in whole seconds. */
export function secondsAtRateLimit(sessions: number, { limit, windowSeconds }: RateLimitView): number {
  return Math.ceil((sessions * windowSeconds) / limit);
}
/** The roles that a token of the API can have: see `src/api/roles.ts` for what each of them permits. */
export const ROLES = ['read', 'listen', 'enqueue', 'operate', 'erase'] as const;
export type Role = (typeof ROLES)[number];

/** The role of tokens that name none. */
export const DEFAULT_ROLE: Role = 'operate';

/** Whether a value is one of {@link ROLES}. */
export function isRole(value: unknown): value is Role {
  return ROLES.some((role) => role === value);
}
