import type { SessionRef } from './session.ts';

/** The kinds of actions in the audit log. */
export type AuditLogAction =
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
export interface AuditLogActor {
  /** The name of the token, the subject of a JSON web token, or the user of the operating system. */
  readonly name: string;
  /** Several roles are separated by spaces. */
  readonly role: string;
  readonly via: 'api' | 'cli' | 'dashboard' | 'library';
}

/** One action. It holds no secret. */
export interface AuditLogEntry {
  readonly actor: AuditLogActor;
  readonly action: AuditLogAction;
  /** Set where the action concerns one session. */
  readonly session?: SessionRef;
  /** Details of the action: its options, and how many sessions it concerns. */
  readonly details?: Readonly<Record<string, unknown>>;
  /** The id of the HTTP request, as in the log. */
  readonly requestId?: string;
  /** The address that sent the HTTP request. */
  readonly address?: string;
}

/** Records who did what. */
export interface AuditLog {
  /** Adds an entry, which is written soon after. A failed write does not undo the action. */
  record(entry: AuditLogEntry): void;
}

/** How many sessions of one action are named at most. */
const MAX_NAMED = 1_000;

/** How many sessions an action concerns, and their ids. */
export function namedSessions(sessionIds: readonly string[]): Readonly<Record<string, unknown>> {
  return { sessions: sessionIds.length, sessionIds: sessionIds.slice(0, MAX_NAMED) };
}
