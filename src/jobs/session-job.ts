import type { ErrorCode } from '../errors.ts';
import type { SessionRef } from '../session.ts';

/** What lies in the queue for a session: its ids and options, and nothing else, ever. */
export interface SessionJobData extends SessionRef {
  /** Archive again although the archive has it. */
  readonly force?: boolean;
  /** Found by a backfill: waits behind live sessions. */
  readonly backfill?: boolean;
  /** Found in a listing that does not tell voicemails: that it has none is no failure. */
  readonly candidate?: boolean;
}

/** `archived`: stored; `pending`: not there yet, looked for again; `absent`: there is none. */
export type TranscriptState = 'archived' | 'pending' | 'absent';

/** One archived recording, as views show it. */
export interface RecordingView {
  readonly key: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly contentType: string;
  readonly durationSeconds?: number;
}

/** What an archived session came to; the job's return value. */
export interface SessionResult {
  readonly transcript: TranscriptState;
  readonly recordings: readonly RecordingView[];
  readonly manifestKey: string;
}

/** What a job returns: nothing where the job only looked for a transcript. */
export type JobResult = SessionResult | null;

/** The last failure of a session, as views show it. `at` is ISO 8601. */
export interface SessionError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly retryable: boolean;
  readonly at: string;
}

/** How far the transfer of a session's recordings has come. */
export interface TransferProgress {
  readonly recordings: number;
  readonly recordingsDone: number;
  readonly bytes: number;
}

/** Since when and how often a session has been looked at without using up attempts. */
export interface Looks {
  /** Unix milliseconds of the first look. */
  readonly since: number;
  /** Looks before the last one. */
  readonly count: number;
}

/** Why a session had to be looked at again; `CALL_LIMIT` is our own limit on calls, which is nobody's fault. */
export type LookReason = ErrorCode | 'CALL_LIMIT';

/** Looks by the reason why another one was needed. */
export type LooksByReason = Readonly<Partial<Record<LookReason, Looks>>>;

/** What a job remembers between attempts, kept in BullMQ's `progress` field. */
export interface SessionJobProgress {
  readonly transfer?: TransferProgress;
  /** By the reason why another look was needed. */
  readonly looks?: LooksByReason;
  /** ISO 8601 */
  readonly nextAttemptAt?: string;
  readonly error?: SessionError;
  /** Set once the transcript of an archived session has come, or has been given up. */
  readonly transcript?: TranscriptState;
}

/** BullMQ ids may hold no `:` and not be all digits; `.` is in no session or bot id, so this is unambiguous. */
export function jobId(session: SessionRef): string {
  return `${session.botId}.${session.sessionId}`;
}

/** The session of a job, or `undefined` when the job is none of ours. */
export function sessionOfJob(id: string): SessionRef | undefined {
  const [botId, sessionId, ...rest] = id.split('.');
  return botId && sessionId && rest.length === 0 ? { sessionId, botId } : undefined;
}

/** Jobs without priority run before all that have one: live sessions have none. */
export const BACKFILL_PRIORITY = 10;
