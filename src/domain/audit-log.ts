import type { SessionRef } from './session.ts';

/** What the audit log knows of. */
export type AuditedAction =
  | 'enqueue.force'
  | 'retry'
  | 'cancel'
  | 'pause'
  | 'resume'
  | 'hold.set'
  | 'hold.release'
  | 'erase'
  | 'download'
  | 'backfill'
  | 'backfill.cancel'
  | 'completeness'
  | 'schedule.set'
  | 'schedule.remove'
  | 'log-in'
  | 'log-out';

/** Who did something. */
export interface AuditActor {
  /** Of the token, the subject of a JSON web token, or the user of the operating system. */
  readonly name: string;
  /** With blanks between several. */
  readonly role: string;
  readonly via: 'api' | 'cli' | 'dashboard' | 'library';
}

/** Something that somebody has done. It holds no secret. */
export interface AuditEntry {
  readonly actor: AuditActor;
  readonly action: AuditedAction;
  /** Where it is about one. */
  readonly session?: SessionRef;
  /** What tells it from others of its kind: options, and how many sessions it is about. */
  readonly details?: Readonly<Record<string, unknown>>;
  /** Of the HTTP request, as in the log. */
  readonly requestId?: string;
  /** Where the HTTP request came from. */
  readonly address?: string;
}

/** Keeps what somebody has done. */
export interface AuditLog {
  /** Notes an entry. It is written soon after; whatever becomes of that, what was done is done. */
  record(entry: AuditEntry): void;
}

/** So many of the sessions of one action are named. */
const MAX_NAMED = 1_000;

/** How many sessions an action is about, and their ids. */
export function namedSessions(sessionIds: readonly string[]): Readonly<Record<string, unknown>> {
  return { sessions: sessionIds.length, sessionIds: sessionIds.slice(0, MAX_NAMED) };
}
