import type { BackendFactory, IQueueBackend, Queue, QueueEvents, Telemetry } from 'bullmq';
import type { SessionState } from '../../domain/views.ts';
import type { StoredEvent } from '../job-events.ts';
import type { JobResult, SessionJob, SessionJobData, SessionJobProgress } from '../session-job.ts';

/** Traces jobs from the process that adds them to the worker: BullMQ's interface to OpenTelemetry. */
export type QueueTelemetry<Context = unknown> = Telemetry<Context>;

/** A BullMQ queue, whatever its jobs are about. */
export interface QueueOfAnyJob {
  readonly name: string;
  getJob(id: string): Promise<{ promote(): Promise<void>; isDelayed(): Promise<boolean> } | undefined>;
}

/** A BullMQ queue of sessions on whichever backend. */
export type JobQueue = Queue<
  SessionJobData,
  JobResult,
  string,
  SessionJobData,
  JobResult,
  string,
  IQueueBackend,
  unknown
>;
/** BullMQ's events of a queue on whichever backend. */
export type JobEvents = QueueEvents<JobResult, IQueueBackend, unknown>;

/**
 * The status of a job: not finished (`live`, or `backfill` for a job that runs behind the live ones), or finished
 * (`completed` or `failed`).
 */
export type JobStatus = 'live' | 'backfill' | 'completed' | 'failed';

/**
 * How many minutes of finished jobs workers count. Twice what is shown: BullMQ puts what it counted before
 * a long pause at the far end, which is too late by the length of the pause.
 */
export const MINUTES_KEPT = 120;

/** How many jobs have finished one way, by the minute. */
export interface MinuteCounts {
  /** A time within the last minute that is counted, in unix milliseconds; `undefined` before the first job. */
  readonly latestAt: number | undefined;
  /** Jobs in the minute of `latestAt`. */
  readonly latest: number;
  /** Jobs in each minute before that one, the newest first. */
  readonly earlier: readonly number[];
}

/** How much of the limit on calls is used. */
export interface CallUsage {
  readonly used: number;
  /** Unix milliseconds; `undefined` when calls may be taken. */
  readonly pausedUntil: number | undefined;
}

/** A note on a board. */
export interface BoardNote {
  readonly id: string;
  readonly text: string;
  /** When it was put there, by the clock of the queue's server (unix milliseconds). */
  readonly at: number;
}

/** A connection for one part of BullMQ. */
export interface BackendConnection {
  readonly connection: unknown;
  readonly prefix?: string;
}

/**
 * Where the queue lives. This is all the rest of the project knows of it: which kind it is, is decided by
 * `QUEUE_URL` here and nowhere else.
 */
export interface Backend {
  /** For people and logs; without passwords. */
  readonly location: string;
  /** Whether other processes can work on the same queue at the same time. */
  readonly shared: boolean;
  /**
   * Receives errors of connections. Each part of BullMQ emits its own, and the log gets one line for all.
   */
  reportFault(error: Error): void;
  readonly factory: BackendFactory<IQueueBackend, unknown>;
  /** BullMQ's name of a queue. */
  queueName(name: string): string;
  /**
   * Connection options. `producer` fails fast when the server is unavailable, so that the caller gets an error;
   * `consumer` waits for it to come back, and so does `listener`, which may come and go any number of times.
   */
  options(role: 'producer' | 'consumer' | 'listener'): BackendConnection;
  /** The number of active jobs of this process changed. The commands of many jobs may be sent together. */
  activeJobsChanged(change: 1 | -1): void;
  /** The status of each of these jobs, in one round trip; ids without a job are left out. */
  statuses(queue: JobQueue, ids: readonly string[]): Promise<Map<string, JobStatus>>;
  /**
   * When the job was added that has waited longest of those that a worker could take, were the queue not paused (unix
   * milliseconds); `undefined` where there is none.
   */
  oldestQueuedAt(queue: JobQueue): Promise<number | undefined>;
  /**
   * Replaces what an active job remembers (BullMQ's `progress`) if `token` still holds its lock, in one step: BullMQ's
   * own `updateProgress` does not check the lock.
   *
   * @param name our name of the queue.
   * @returns whether it was still held.
   */
  saveProgress(name: string, jobId: string, token: string, progress: object): Promise<boolean>;
  /**
   * Replaces and publishes the progress of a completed job, in one step. The progress stays as it is where the job was
   * put back into the queue, or has a higher `revision`.
   *
   * @param name our name of the queue.
   * @returns whether it was replaced.
   */
  noteCompleted(name: string, jobId: string, progress: SessionJobProgress): Promise<boolean>;
  /** Makes a job due now that waits for a time to come. @returns whether it did. */
  promote(queue: QueueOfAnyJob, jobId: string): Promise<boolean>;
  /**
   * Makes jobs due now that wait for a time to come, in front of all others and in this order. Those that wait no
   * longer, or have a priority, are left as they are.
   *
   * @param name our name of the queue.
   */
  putInFront(name: string, jobIds: readonly string[]): Promise<void>;
  /** Forgets how often a job's workers died: BullMQ's `retry` keeps that count, and would fail the job again. */
  forgetStalls(name: string, jobId: string): Promise<void>;
  /** The id of the newest event of a queue, or one before all others. `name` is our name of the queue. */
  lastEventId(name: string): Promise<string>;
  /** The oldest events after the one with id `after`, as far as the backend still has them. */
  eventsAfter(name: string, after: string, limit: number): Promise<readonly StoredEvent[]>;
  /** Whether a text has the form of this backend's event ids: numbers, the higher the later, joined by `-`. */
  isEventId(text: string): boolean;
  /** The jobs that were archived or failed in the last minutes, as the workers have counted them. */
  minuteCounts(queue: JobQueue, outcome: 'completed' | 'failed'): Promise<MinuteCounts>;
  /** How many jobs failed, by the text before the first colon of the reason; the latest `limit` of them. */
  failureCounts(queue: JobQueue, limit: number): Promise<Map<string, number>>;
  /**
   * Takes one of `calls` calls allowed in any `windowMs` milliseconds, counted over everybody on this queue.
   * @returns 0 when taken, otherwise the milliseconds after which it is worth asking again.
   */
  takeCall(name: string, calls: number, windowMs: number): Promise<number>;
  /** Pauses the calls of all workers of this queue. */
  pauseCalls(name: string, milliseconds: number): Promise<void>;
  /** Stores a short text for a time, for all processes on this queue. */
  remember(name: string, text: string, milliseconds: number): Promise<void>;
  /** Whether a text is remembered. */
  remembers(name: string, text: string): Promise<boolean>;
  /** How many calls were taken in the last `windowMs`, and until when calls are paused (unix ms). */
  callUsage(name: string, windowMs: number): Promise<CallUsage>;
  /**
   * Puts a note on a board that everybody on this queue can read, in place of the one of that id. It is gone after so
   * long, or when it is taken down. Boards are small: all their notes are read at once.
   */
  post(name: string, board: string, note: Omit<BoardNote, 'at'>, milliseconds: number): Promise<void>;
  /** The notes on a board. */
  posts(name: string, board: string): Promise<readonly BoardNote[]>;
  /** Takes a note down, where there is one. */
  removeNote(name: string, board: string, id: string): Promise<void>;
  /** Finds the jobs of sessions. */
  readonly index: JobIndex;
  /** Proves that the queue can be reached. */
  check(): Promise<void>;
  close(): Promise<void>;
}

/** The queue could not be reached or opened. `message` says where, and what to do. */
export class QueueUnavailableError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'QueueUnavailableError';
  }
}

/** Another process holds the embedded queue; only that process can be asked. */
export class QueueHeldError extends Error {
  readonly directory: string;

  constructor(directory: string, options?: ErrorOptions) {
    super(`the embedded queue in ${directory} is in use by another process`, options);
    this.name = 'QueueHeldError';
    this.directory = directory;
  }
}

/**
 * A place in the list of all jobs: newest first, by when they were first added (unix milliseconds), then by their ids.
 * A job keeps its place whatever becomes of it, so a list that goes on from a place skips nothing and repeats nothing.
 */
export interface JobPlace {
  readonly at: number;
  readonly id: string;
}

/** Which jobs to find. */
export interface JobFilter {
  readonly state?: SessionState;
  /** Only failed ones of which a part is archived. */
  readonly isPartial?: boolean;
  /** Of their last error; of jobs that are not done. */
  readonly code?: string;
  readonly botId?: string;
  /** A part of the session id, as given or with capital letters. */
  readonly text?: string;
  /** Added then or later, and then or earlier (unix milliseconds). */
  readonly from?: number;
  readonly to?: number;
}

/** A job that was found, with its state at that moment. */
export interface FoundJob extends JobPlace {
  readonly state: SessionState;
  readonly job: SessionJob;
}

/** Finds the jobs of sessions without reading all of them. */
export interface JobIndex {
  /** The first `limit` jobs after a place; fewer only at the end. @param name our name of the queue. */
  find(name: string, filter: JobFilter, after: JobPlace | undefined, limit: number): Promise<FoundJob[]>;
  /** Notes jobs that are about to be added. */
  adding(name: string, ids: readonly string[], at: number): Promise<void>;
  /**
   * Drops what is noted of some of the jobs that are gone, and notes those of older versions; to be called now and
   * then.
   */
  sweep(name: string): Promise<void>;
}
