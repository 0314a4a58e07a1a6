import type { BackendFactory, IQueueBackend, Queue, QueueEvents, Worker } from 'bullmq';
import type { JobResult, SessionJobData, SessionJobProgress } from './session-job.ts';

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
/** A BullMQ worker of sessions on whichever backend. */
export type JobWorker = Worker<SessionJobData, JobResult, string, IQueueBackend, SessionJobProgress, unknown>;
/** BullMQ's events of a queue on whichever backend. */
export type JobEvents = QueueEvents<JobResult, IQueueBackend, unknown>;

/**
 * How a job stands: still to be worked on, `ahead` with the live ones or `behind` them with a priority, or
 * finished one way or the other.
 */
export type JobStanding = 'ahead' | 'behind' | 'completed' | 'failed';

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
  readonly factory: BackendFactory<IQueueBackend, unknown>;
  /** The name BullMQ gets for a queue of ours. */
  queueName(name: string): string;
  /**
   * Connection options. `producer` fails fast when the server is away, so that whoever enqueues learns of it;
   * `consumer` waits for it to come back.
   */
  options(role: 'producer' | 'consumer'): BackendConnection;
  /** How the jobs with these ids stand, in one round trip; ids without a job are left out. */
  standings(queue: JobQueue, ids: readonly string[]): Promise<Map<string, JobStanding>>;
  /**
   * Takes one of `calls` calls allowed in any `windowMs` milliseconds, counted over everybody on this queue.
   * @returns 0 when taken, otherwise the milliseconds after which it is worth asking again.
   */
  takeCall(name: string, calls: number, windowMs: number): Promise<number>;
  /** Nobody on this queue takes a call for so long. */
  pauseCalls(name: string, milliseconds: number): Promise<void>;
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
