import type { ErrorCode } from '../errors.ts';
import type { TranscriptState } from '../jobs/session-job.ts';

/** A session that has been dealt with: its manifest is there. */
export interface ArchivedSession {
  /** From taking the job to its end. */
  readonly seconds: number;
  /** The archive had it before, so nothing was transferred. */
  readonly alreadyArchived: boolean;
  /** Recordings its manifest names. */
  readonly recordings: number;
  /** Their sizes added up. */
  readonly bytes: number;
  readonly transcript: TranscriptState;
}

/** An attempt that failed, and what becomes of the job. */
export interface FailedWork {
  /** Whether a session was to be archived, or a transcript awaited was looked for. */
  readonly work: 'session' | 'transcript';
  readonly code: ErrorCode;
  /** `wait`: looked at again, no attempt used up; `retry`: tried again; `fail`: given up for good. */
  readonly verdict: 'wait' | 'retry' | 'fail';
}

/** Told of how the work goes, for metrics. */
export interface WorkerObserver {
  /** A session is archived. */
  onArchived?(session: ArchivedSession): void;
  /** An attempt failed; jobs given back at a shutdown are no failures. */
  onAttemptFailed?(failed: FailedWork): void;
  /** A transcript awaited has come, or has been given up. */
  onTranscriptSettled?(state: Exclude<TranscriptState, 'pending'>): void;
}
