import type { JobsOptions } from 'bullmq';
import type { EnqueueRequest } from '../domain/requests.ts';
import type { SessionRef } from '../domain/session.ts';
import { BACKFILL_PRIORITY, type SessionJobData } from './session-job.ts';

/** Finished sessions stay in the queue for status queries; the archive remembers the others. */
const KEEP_ARCHIVED = { age: 7 * 24 * 60 * 60, count: 100_000 } as const;
/** Attempts are bounded by time, in the worker; BullMQ wants a number all the same. */
const UNBOUNDED_ATTEMPTS = 1_000_000;

/** For sessions that are not to belong to the trace in which they are queued. */
export const OWN_TRACE = { telemetry: { omitContext: true } } as const satisfies JobsOptions;

/** Options every job of ours is added with. */
export const JOB_OPTIONS = {
  attempts: UNBOUNDED_ATTEMPTS,
  // The worker tells the pause with each failure: see consumer.ts.
  backoff: { type: 'told-by-worker' },
  removeOnComplete: KEEP_ARCHIVED,
  // A failed session stays listed until it is retried or removed by hand.
  removeOnFail: false,
  stackTraceLimit: 1,
} as const satisfies JobsOptions;

/** The job of a session, for BullMQ to add. */
export function newJob(id: string, request: EnqueueRequest, trace: Pick<JobsOptions, 'telemetry'> = {}) {
  return {
    name: 'session',
    data: dataOf(request),
    opts: {
      ...JOB_OPTIONS,
      ...trace,
      jobId: id,
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
    ...ids(request),
    ...(request.force && { force: true, forcedAt: Date.now() }),
    ...(request.priority === 'backfill' && { backfill: true }),
    ...(request.maybe && { maybe: true }),
    ...(request.call && { call: request.call }),
  };
}

/** The ids alone, of something that may have more. */
export function ids({ sessionId, botId }: SessionRef): SessionRef {
  return { sessionId, botId };
}
