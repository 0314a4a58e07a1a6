import { type ErrorCode, isErrorCode } from '../errors.ts';
import type {
  JobResult,
  RecordingView,
  SessionError,
  SessionJobData,
  SessionJobProgress,
  SessionResult,
  TranscriptState,
  TransferProgress,
} from './session-job.ts';

/** The states of a session, in the order of their life. */
export const SESSION_STATES = ['queued', 'active', 'waiting', 'archived', 'failed'] as const;
export type SessionState = (typeof SESSION_STATES)[number];

/** A session as everybody outside sees it. Times are ISO 8601 in UTC. */
export interface SessionView {
  readonly sessionId: string;
  readonly botId: string;
  readonly state: SessionState;
  readonly transcript?: TranscriptState;
  /** Attempts made so far; looks at what is not ready yet do not count. */
  readonly attempts: number;
  readonly enqueuedAt: string;
  readonly startedAt?: string;
  readonly finishedAt?: string;
  readonly nextAttemptAt?: string;
  readonly progress?: TransferProgress;
  readonly error?: SessionError;
  readonly recordings?: readonly RecordingView[];
  readonly manifestKey?: string;
}

/** A BullMQ job of ours, as far as it is read. */
export interface SessionJob {
  readonly name: string;
  readonly data: SessionJobData;
  readonly progress: SessionJobProgress;
  readonly returnvalue: JobResult;
  readonly failedReason: string;
  readonly attemptsMade: number;
  /** Unix milliseconds, like the other two. */
  readonly timestamp: number;
  readonly processedOn?: number;
  readonly finishedOn?: number;
}

/** BullMQ's states on the left, ours on the right. */
const STATE_BY_BULLMQ_STATE: Readonly<Record<string, SessionState>> = {
  waiting: 'queued',
  'waiting-children': 'queued',
  prioritized: 'queued',
  paused: 'queued',
  active: 'active',
  delayed: 'waiting',
  completed: 'archived',
  failed: 'failed',
};

/** Our name of a BullMQ state; `undefined` when there is no such job. */
export function sessionState(bullmqState: string): SessionState | undefined {
  return STATE_BY_BULLMQ_STATE[bullmqState];
}

/** What a job's progress holds, all of it optional; BullMQ starts it as 0. */
export function jobProgress<Progress extends object>(job: { readonly progress: Progress }): Progress {
  return typeof job.progress === 'object' && job.progress !== null ? job.progress : ({} as Progress);
}

/** The view of a job in the given state. */
export function viewOfJob(job: SessionJob, state: SessionState): SessionView {
  const { sessionId, botId } = job.data;
  const progress = jobProgress(job);
  const result = state === 'archived' ? (job.returnvalue ?? undefined) : undefined;
  const error = state === 'archived' ? undefined : (progress.error ?? bareError(job, state));
  const transcript = result && (progress.transcript ?? result.transcript);
  const transfer = result ? transferOf(result) : progress.transfer;
  return {
    sessionId,
    botId,
    state,
    ...(transcript && { transcript }),
    attempts: job.attemptsMade,
    enqueuedAt: iso(job.timestamp),
    ...(job.processedOn && { startedAt: iso(job.processedOn) }),
    ...(job.finishedOn &&
      (state === 'archived' || state === 'failed') && { finishedAt: iso(job.finishedOn) }),
    ...(state === 'waiting' && progress.nextAttemptAt && { nextAttemptAt: progress.nextAttemptAt }),
    ...(transfer && { progress: transfer }),
    ...(error && { error }),
    ...(result && { recordings: result.recordings, manifestKey: result.manifestKey }),
  };
}

/** The progress of an archived session, which follows from its result and so is not written to the queue. */
export function transferOf({ recordings }: SessionResult): TransferProgress {
  const bytes = recordings.reduce((total, recording) => total + recording.bytes, 0);
  return { recordings: recordings.length, recordingsDone: recordings.length, bytes };
}

/** The text BullMQ keeps as the reason of a failure, so that its own tools show the code as well. */
export function failureReason(code: ErrorCode, message: string): string {
  return `${code}: ${message}`;
}

/** Code and message of such a text; `INTERNAL` where BullMQ failed the job by itself. */
export function parseFailureReason(reason: string): Pick<SessionError, 'code' | 'message'> {
  const [, code = '', message = ''] = /^([A-Z_]+): (.*)$/s.exec(reason) ?? [];
  return isErrorCode(code) ? { code, message } : { code: 'INTERNAL', message: reason };
}

/** BullMQ failed the job by itself (it stalled too often), so no error of ours was kept with it. */
function bareError(job: SessionJob, state: SessionState): SessionError | undefined {
  if (state !== 'failed') return undefined;
  return {
    ...parseFailureReason(job.failedReason),
    retryable: true,
    at: iso(job.finishedOn ?? job.timestamp),
  };
}

function iso(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
