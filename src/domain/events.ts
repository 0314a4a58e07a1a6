import type { SessionError, SessionView } from './views.ts';

/** What happens to sessions, in the order of their life. */
export const SESSION_EVENTS = ['queued', 'active', 'progress', 'waiting', 'archived', 'failed'] as const;
export type SessionEventName = (typeof SESSION_EVENTS)[number];

/** What is known of a session from an event alone: parts of its view. */
export interface SessionChange
  extends Pick<SessionView, 'sessionId' | 'botId' | 'state'>,
    Partial<Pick<SessionView, 'transcript' | 'nextAttemptAt' | 'progress' | 'recordings' | 'manifestKey'>> {
  readonly error?: Pick<SessionError, 'code' | 'message'>;
}

/** Something happened to a session. */
export interface SessionEvent {
  /** The backend's id of the event, by which it is found again. */
  readonly id: string;
  readonly name: SessionEventName;
  readonly session: SessionChange;
}
