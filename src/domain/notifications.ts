import type { SessionRef } from './session.ts';
import type { MissingRecordingView, RecordingView, SessionError, TranscriptState } from './views.ts';

/** The events of notifications (`NOTIFY_EVENTS`). */
export const NOTIFICATION_EVENTS = ['archived', 'partial', 'failed', 'transcript', 'completeness'] as const;
export type NotificationEvent = (typeof NOTIFICATION_EVENTS)[number];

/** Whether a text is one of {@link NOTIFICATION_EVENTS}. */
export function isNotificationEvent(text: string): text is NotificationEvent {
  return NOTIFICATION_EVENTS.some((event) => event === text);
}

/** A session that is archived, or was checked again after that: what its manifest says. */
export interface ArchivedOutcome extends SessionRef {
  readonly kind: 'archived';
  /** ISO 8601; changes when the session is archived again by force. */
  readonly archivedAt: string;
  readonly revision: number;
  readonly recordings: readonly RecordingView[];
  readonly transcript: TranscriptState;
  /** Of an archived transcript (lowercase hex). */
  readonly transcriptSha256?: string;
  readonly manifestKey: string;
}

/** A session that was given up; `recordings` and `missing` where some of it could be saved. */
export interface FailedOutcome extends SessionRef {
  readonly kind: 'failed';
  /** Attempts used up. */
  readonly attempts: number;
  /** `at` is when the session was given up. It stays the same when the notification is repeated after a crash. */
  readonly error: SessionError;
  readonly recordings?: readonly RecordingView[];
  readonly missing?: readonly MissingRecordingView[];
}

/** What became of a session, for those outside who wait for it. */
export type SessionOutcome = ArchivedOutcome | FailedOutcome;

/** A session as notifications show it: its view, without times of the queue. */
export interface NotifiedSession extends SessionRef {
  readonly state: 'archived' | 'failed';
  readonly transcript?: TranscriptState;
  readonly archivedAt?: string;
  readonly revision?: number;
  readonly attempts?: number;
  readonly error?: SessionError;
  readonly recordings?: readonly RecordingView[];
  readonly missing?: readonly MissingRecordingView[];
  readonly manifestKey?: string;
}

/** How complete a bot's day is, as a report of completeness counts it. */
export interface NotifiedCompleteness {
  readonly botId: string;
  /** `YYYY-MM-DD`, in UTC. */
  readonly date: string;
  /** Sessions by what became of them: `archived`, `missing` and so on. */
  readonly counts: Readonly<Record<string, number>>;
  /** Where the report lies in the archive. */
  readonly reportKey?: string;
}

interface NotificationHead {
  /** The same however often it is sent: receivers drop what they have had. */
  readonly id: string;
  /** When it happened; ISO 8601. */
  readonly at: string;
}

/** What is sent, as JSON. */
export type Notification = NotificationHead &
  (
    | {
        readonly event: Exclude<NotificationEvent, 'completeness'>;
        readonly session: NotifiedSession;
      }
    | { readonly event: 'completeness'; readonly completeness: NotifiedCompleteness }
  );

/** Sends notifications. When a method returns, the queue holds them. */
export interface Notifier {
  /** A session is archived, was checked again, or is given up. */
  settled(outcome: SessionOutcome): Promise<void>;
  /** A report of completeness was written. */
  reported(completeness: NotifiedCompleteness): Promise<void>;
}
