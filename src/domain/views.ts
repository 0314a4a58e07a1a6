import type { ErrorCode } from './errors.ts';
import type { Integrity } from './recording.ts';

/** `archived`: stored; `pending`: not there yet, requested again; `absent`: there is none. */
export type TranscriptState = 'archived' | 'pending' | 'absent';

/** One archived recording, as views show it. */
export interface RecordingView {
  readonly key: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly contentType: string;
  readonly durationSeconds?: number;
  /** Left out of recordings whose manifest is older than this field. */
  readonly integrity?: Integrity['state'];
}

/** A recording of a failed session that could not be saved, while others were. */
export interface MissingRecordingView {
  readonly fileName: string;
  /** One of the error codes. */
  readonly code: string;
  readonly message: string;
  /** ISO 8601 */
  readonly at: string;
}

/** The result of archiving a session; the job's return value. */
export interface SessionResult {
  readonly transcript: TranscriptState;
  readonly recordings: readonly RecordingView[];
  readonly manifestKey: string;
}

/** The last failure of a session, as views show it. `at` is ISO 8601. */
export interface SessionError {
  readonly code: ErrorCode;
  readonly message: string;
  /** What to do about it, where that is known. */
  readonly hint?: string;
  readonly retryable: boolean;
  readonly at: string;
}

/** How far the transfer of a session's recordings has come. */
export interface TransferProgress {
  readonly recordings: number;
  readonly recordingsDone: number;
  readonly bytes: number;
}

/** The states of a session, in the order of their life. */
export const SESSION_STATES = ['queued', 'active', 'waiting', 'archived', 'failed'] as const;
export type SessionState = (typeof SESSION_STATES)[number];

/** The events in a session's history. */
export const HISTORY_EVENTS = [
  'enqueued',
  'attempt',
  'waiting',
  'transferred',
  'archived',
  'rewritten',
  'partial',
  'failed',
  'retried',
  'held',
  'released',
] as const;
export type HistoryEvent = (typeof HISTORY_EVENTS)[number];

/** Something that happened to a session. It holds no secret, no URL and nothing of a transcript. */
export interface HistoryEntry {
  /** ISO 8601 */
  readonly at: string;
  readonly event: HistoryEvent;
  /**
   * Who did it: the name of a token, `webhook`, a backfill's id, or the user of a command or a program with the npm
   * package.
   */
  readonly by?: string;
  /** Of a failure. */
  readonly code?: ErrorCode;
  readonly message?: string;
  /** What else there is to say, for people: a revision, a key and its size, until when it waits. */
  readonly detail?: string;
}

/** A session as everybody outside sees it. Times are ISO 8601 in UTC. */
export interface SessionView {
  readonly sessionId: string;
  readonly botId: string;
  readonly state: SessionState;
  readonly transcript?: TranscriptState;
  /** Attempts made so far; polls for what is not ready yet do not count. */
  readonly attempts: number;
  readonly enqueuedAt: string;
  readonly startedAt?: string;
  readonly finishedAt?: string;
  readonly nextAttemptAt?: string;
  readonly progress?: TransferProgress;
  readonly error?: SessionError;
  /** Of a failed session: those that were saved, where some were. */
  readonly recordings?: readonly RecordingView[];
  /** Of a failed session of which some recordings were saved: the others. */
  readonly missing?: readonly MissingRecordingView[];
  /** Of a failed session: some of its recordings are archived. */
  readonly partial?: true;
  readonly manifestKey?: string;
  /** The newest 50 events, the oldest first; only in the view of one session. */
  readonly history?: readonly HistoryEntry[];
}

/** The state of a dependency of a worker: while its breaker is open, nothing that needs it is begun. */
export interface BreakerView {
  /** `kore`, `bucket`, `queue`, or `media:` and a host. */
  readonly dependency: string;
  readonly state: 'closed' | 'open';
  /** Since when it is open. ISO 8601. */
  readonly since?: string;
  /** What it fails with. */
  readonly code?: ErrorCode;
  readonly reason?: string;
}

/** What happens to sessions, in the order of their life. */
const SESSION_EVENTS = ['queued', 'active', 'progress', 'waiting', 'archived', 'failed'] as const;
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
