import type { BackoffOptions, JobState, JobsOptions } from 'bullmq';
import type { CallMetadata } from '../domain/call.ts';
import { type ErrorCode, isErrorCode } from '../domain/errors.ts';
import type { EnqueueRequest } from '../domain/requests.ts';
import type { SessionRef } from '../domain/session.ts';
import type {
  RecordingView,
  SessionError,
  SessionResult,
  SessionState,
  SessionView,
  TranscriptState,
  TransferProgress,
} from '../domain/views.ts';
import type { NotedEvent } from './session-history.ts';

/** What lies in the queue for a session: its ids and options, and what is known of the call until it is archived. */
export interface SessionJobData extends SessionRef {
  /** Archive again although the archive has it. */
  readonly force?: boolean;
  /** When that was requested (unix ms): attempts of the same request continue each other. */
  readonly forcedAt?: number;
  /** Found by a backfill: waits behind live sessions. */
  readonly backfill?: boolean;
  /** It was queued as a maybe: having no voicemail is no failure. */
  readonly maybe?: boolean;
  /** What `maybe` was called before: jobs of that time may still be in the queue. */
  readonly candidate?: boolean;
  /** When the session began (unix ms), where its id does not say. */
  readonly beganAt?: number;
  /** Who queued it: the name of a token, `webhook`, a backfill's id, or a command's user. */
  readonly by?: string;
  /** Personal data: goes into the manifest, and from here once that is written. */
  readonly call?: CallMetadata;
}

/**
 * What a job returns: nothing where the job only checked for a transcript. `revision` of the manifest that says so;
 * left out by versions that did not keep it.
 */
export type JobResult = (SessionResult & { readonly revision?: number }) | null;

/** Since when and how often a session was polled without using up attempts. */
export interface Polls {
  /** Unix milliseconds of the first poll. */
  readonly since: number;
  /** Polls before the last one. */
  readonly count: number;
}

/** Why a session was polled; `CALL_LIMIT` is the configured limit on calls, which is no fault. */
export type PollReason = ErrorCode | 'CALL_LIMIT';

/** Polls by the reason why another one was needed. */
export type PollsByReason = Readonly<Partial<Record<PollReason, Polls>>>;

/** What a job remembers between attempts, kept in BullMQ's `progress` field. */
export interface SessionJobProgress {
  readonly transfer?: TransferProgress;
  /** By the reason why another poll was needed. */
  readonly polls?: PollsByReason;
  /** ISO 8601 */
  readonly nextAttemptAt?: string;
  readonly error?: SessionError;
  /** Set once the transcript of an archived session has come, or has been given up. */
  readonly transcript?: TranscriptState;
  /** All recordings of an archived session, where some came late. */
  readonly recordings?: readonly RecordingView[];
  /** Of the manifest that the last two are taken from. */
  readonly revision?: number;
  /** Of a failed session: some of its recordings are archived. */
  readonly partial?: true;
  /** What happened to it so far. */
  readonly history?: readonly NotedEvent[];
}

/** BullMQ ids may hold no `:` and not be all digits; `.` is in no session or bot id, so this is unambiguous. */
export function jobId(session: SessionRef): string {
  return `${session.botId}.${session.sessionId}`;
}

/** The session of a job, or `undefined` when the job has none. */
export function sessionOfJob(id: string): SessionRef | undefined {
  const [botId, sessionId, ...rest] = id.split('.');
  return botId && sessionId && rest.length === 0 ? { sessionId, botId } : undefined;
}

/** Whether the session of a job may have no voicemail. */
export function isMaybe({ maybe, candidate }: Pick<SessionJobData, 'maybe' | 'candidate'>): boolean {
  // A cleared flag is false, and counts before the older name.
  return maybe ?? candidate ?? false;
}

/** Jobs without priority run before all that have one: live sessions have none. */
const BACKFILL_PRIORITY = 10;

/** The members of a session's job that are read. */
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

/** Session states by BullMQ's states. */
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

/** BullMQ's states by session state. */
export const BULLMQ_STATES: Readonly<Record<SessionState, readonly JobState[]>> = {
  queued: ['waiting', 'prioritized'],
  active: ['active'],
  waiting: ['delayed'],
  archived: ['completed'],
  failed: ['failed'],
};

/** Our name of a BullMQ state; `undefined` when there is no such job. */
export function stateOfJob(bullmqState: string): SessionState | undefined {
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
  const noted = result && isOlder(progress.revision, result.revision) ? {} : progress;
  const transcript = result && (noted.transcript ?? result.transcript);
  const recordings = result && longer(result.recordings, noted.recordings);
  const transfer = recordings ? transferOf({ recordings }) : progress.transfer;
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
    ...(state === 'failed' && progress.partial && { partial: true }),
    ...(result && recordings && { recordings, manifestKey: result.manifestKey }),
  };
}

/** A check may note what it found in a manifest that was replaced by force since. */
function isOlder(noted: number | undefined, result: number | undefined): boolean {
  return noted !== undefined && result !== undefined && noted < result;
}

/**
 * No manifest names less than the one before it; so the shorter one is older, even if it was stored later. Of as many,
 * a noted one may have a whole recording in the place of one that was cut.
 */
function longer<Item>(own: readonly Item[], noted: readonly Item[] | undefined): readonly Item[] {
  return noted && noted.length >= own.length ? noted : own;
}

/** The progress of an archived session, which follows from its result and so is not written to the queue. */
export function transferOf({ recordings }: Pick<SessionResult, 'recordings'>): TransferProgress {
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

/** BullMQ failed the job by itself (it stalled too often), so no worker recorded an error. */
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

/** Finished sessions stay in the queue for status queries; the archive remembers the others. */
const KEEP_ARCHIVED = { age: 7 * 24 * 60 * 60, count: 100_000 } as const;
/** Attempts are bounded by time, in the worker; BullMQ wants a number all the same. */
const UNBOUNDED_ATTEMPTS = 1_000_000;

/** For sessions that do not belong to the trace in which they are queued. */
export const OWN_TRACE = { telemetry: { omitContext: true } } as const satisfies JobsOptions;

/** The worker decides on each pause: see consumer.ts. The stored name stays, because older versions use it. */
export const WORKER_BACKOFF = { type: 'told-by-worker' } as const satisfies BackoffOptions;

/** The options of every session's job. */
export const JOB_OPTIONS = {
  attempts: UNBOUNDED_ATTEMPTS,
  backoff: WORKER_BACKOFF,
  removeOnComplete: KEEP_ARCHIVED,
  // A failed session stays listed until it is retried or removed by hand.
  removeOnFail: false,
  stackTraceLimit: 1,
} as const satisfies JobsOptions;

/** The job of a session, for BullMQ to add. @param at when it is added (unix milliseconds). */
export function newJob(
  id: string,
  request: EnqueueRequest,
  at: number,
  trace: Pick<JobsOptions, 'telemetry'> = {},
) {
  return {
    name: 'session',
    data: dataOf(request),
    opts: {
      ...JOB_OPTIONS,
      ...trace,
      jobId: id,
      timestamp: at,
      priority: priorityOf(request),
    },
  };
}

/** Jobs without priority (0) go first. */
export function priorityOf(request: EnqueueRequest): number {
  return request.priority === 'backfill' ? BACKFILL_PRIORITY : 0;
}

/** The data of a job: the ids of its session, how it is to be worked on, and what is known of the call. */
export function dataOf(request: EnqueueRequest): SessionJobData {
  return {
    ...sessionRefOf(request),
    ...(request.force && { force: true, forcedAt: Date.now() }),
    ...(request.priority === 'backfill' && { backfill: true }),
    ...(request.maybe && { maybe: true }),
    ...(request.beganAt !== undefined && { beganAt: request.beganAt }),
    ...(request.by !== undefined && { by: request.by }),
    ...(request.call && { call: request.call }),
  };
}

/** The ids alone, of something that may have more. */
export function sessionRefOf({ sessionId, botId }: SessionRef): SessionRef {
  return { sessionId, botId };
}
/**
 * The version of what lies in the queue, as this program writes and reads it. Jobs without a `version` are of 1. It is
 * raised, and then written into each job, when an older program would misread what a newer one queues; members that
 * older programs may ignore raise nothing. So programs of two versions can work on one queue while they are replaced.
 */
export const JOB_VERSION = 1;

/** How long a job of a newer version is left to newer workers before this worker checks whether it still waits. */
export const NEWER_JOB_PAUSE_MS = 60_000;

/** The version of a job's data, where this program is too old for it. */
export function newerVersion(data: unknown): number | undefined {
  const isVersioned = typeof data === 'object' && data !== null && 'version' in data;
  const version = isVersioned ? Number(data.version) : JOB_VERSION;
  return version > JOB_VERSION ? version : undefined;
}
