import type { JobType } from 'bullmq';
import { type ErrorCode, isErrorCode } from '../domain/errors.ts';
import type { QueueActivity, QueueStats, StateCounts } from '../domain/requests.ts';
import { SESSION_STATES } from '../domain/views.ts';
import { shareResult } from '../util/async.ts';
import type { Backend, JobQueue, MinuteCounts } from './backends/backend.ts';
import { BULLMQ_STATES } from './session-job.ts';

/** Minutes of throughput that are shown. */
const THROUGHPUT_MINUTES = 60;
const MINUTE_MS = 60_000;
/** How many of the latest failed sessions are counted by code. */
const MAX_FAILURES_COUNTED = 10_000;
/**
 * A count of failures is reused for this multiple of its duration, so that counting takes a twentieth of the time at
 * most.
 */
const FAILURES_FRESH_TIMES = 20;

/**
 * How BullMQ's PostgreSQL backend counts what waits while the queue is paused; its lists call them waiting all the
 * same, and so do BullMQ's types.
 */
const PAUSED = 'paused' as JobType;

/** The queues that are counted. */
export interface CountedQueues {
  readonly backend: Backend;
  readonly sessions: JobQueue;
  readonly transcripts: JobQueue;
}

/** Counts, ages and throughput of the sessions in the queue. */
export class SessionStats {
  readonly #queues: CountedQueues;
  readonly #failuresByCode: () => Promise<QueueActivity['failuresByCode']>;

  constructor(queues: CountedQueues) {
    this.#queues = queues;
    this.#failuresByCode = shareResult(
      () => countFailures(queues),
      (_, tookMs) => tookMs * FAILURES_FRESH_TIMES,
    );
  }

  /** How many sessions a worker could take now: none while the queue is paused. */
  async takeable(): Promise<number> {
    const { sessions } = this.#queues;
    if (await sessions.isPaused()) return 0;
    return sum(Object.values(await sessions.getJobCounts(...BULLMQ_STATES.queued)));
  }

  /** Counts by state and the age of the queue. */
  async current(): Promise<QueueStats> {
    const { backend, sessions, transcripts } = this.#queues;
    const [{ paused: held = 0, ...counts }, pending, paused, oldestAt] = await Promise.all([
      sessions.getJobCounts(...Object.values(BULLMQ_STATES).flat(), PAUSED),
      transcripts.getJobCounts('waiting', PAUSED, 'prioritized', 'active', 'delayed'),
      sessions.isPaused(),
      backend.oldestQueuedAt(sessions),
    ]);
    counts.waiting = (counts.waiting ?? 0) + held;
    const states = Object.fromEntries(
      SESSION_STATES.map((state) => [state, sum(BULLMQ_STATES[state].map((kind) => counts[kind] ?? 0))]),
    ) as StateCounts;
    return {
      states,
      paused,
      transcriptsPending: sum(Object.values(pending)),
      ...(oldestAt !== undefined && { oldestQueuedAt: new Date(oldestAt).toISOString() }),
    };
  }

  /** What ended in the last hour, and why sessions failed. */
  async activity(): Promise<QueueActivity> {
    const { backend, sessions } = this.#queues;
    const [archived, failed, failuresByCode] = await Promise.all([
      backend.minuteCounts(sessions, 'completed'),
      backend.minuteCounts(sessions, 'failed'),
      this.#failuresByCode(),
    ]);
    const inMinute = { archived: byMinute(archived), failed: byMinute(failed) };
    const now = Math.floor(Date.now() / MINUTE_MS);
    const throughput = Array.from({ length: THROUGHPUT_MINUTES }, (_, index) => {
      const minute = now - THROUGHPUT_MINUTES + 1 + index;
      return {
        minute: new Date(minute * MINUTE_MS).toISOString(),
        archived: inMinute.archived(minute),
        failed: inMinute.failed(minute),
      };
    });
    return { throughput, failuresByCode };
  }
}

async function countFailures({ backend, sessions }: CountedQueues): Promise<QueueActivity['failuresByCode']> {
  const counts = await backend.failureCounts(sessions, MAX_FAILURES_COUNTED);
  const failures: Partial<Record<ErrorCode, number>> = {};
  for (const [reason, count] of counts) {
    // What BullMQ failed by itself bears no code.
    const code = isErrorCode(reason) ? reason : 'INTERNAL';
    failures[code] = (failures[code] ?? 0) + count;
  }
  return failures;
}

/** How many jobs ended in a minute, minutes being counted from the epoch. */
function byMinute({ latestAt, latest, earlier }: MinuteCounts): (minute: number) => number {
  if (latestAt === undefined) return () => 0;
  const latestMinute = Math.floor(latestAt / MINUTE_MS);
  return (minute) => (minute === latestMinute ? latest : (earlier[latestMinute - 1 - minute] ?? 0));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
