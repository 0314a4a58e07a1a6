import { hash } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { ErrorCode, type IQueueBackend, type Job, type JobState, Queue } from 'bullmq';
import type { ScheduleSpec } from '../config/config.ts';
import type { BackfillProgress, BackfillRequest, ListingSource } from '../domain/backfills.ts';
import type { CompletenessOrder, CompletenessRun, DayReport } from '../domain/completeness.ts';
import type { SessionRef } from '../domain/session.ts';
import type { Logger } from '../util/log.ts';
import type { Backend } from './backends/backend.ts';
import { errorListener } from './backends/connection-errors.ts';
import { jobProgress, parseFailureReason, type SessionJobProgress, WORKER_BACKOFF } from './session-job.ts';

/** What lies in the queue of backfills: a backfill, a schedule that is due, or the daily digests that are. */
export type BackfillJobData =
  | ({ readonly kind: 'backfill' /** ISO 8601 */; readonly cancelledAt?: string } & BackfillRequest)
  | { readonly kind: 'schedule'; readonly lookbackMs: number }
  /** Days are left out by the daily run, which takes those within retention. */
  | ({ readonly kind: 'completeness' } & CompletenessOrder)
  | { readonly kind: 'digests' };

/** What a backfill remembers between attempts. */
export interface BackfillJobProgress {
  /** Which listing it goes by. */
  readonly source?: ListingSource;
  readonly reached?: BackfillProgress;
  /** What keeps it from going on at present. */
  readonly trouble?: SessionJobProgress;
  /** Failures since it last got on. */
  readonly failures?: number;
  /** Of a completeness run: the days done so far. */
  readonly days?: readonly DayReport[];
}

/** Ids are made of times, so an open end counts as the minute it is in: then asking again at once joins the first. */
const OPEN_END_MS = 60 * 1000;

/**
 * The id of a backfill, made of what it looks through: asking for the same again while it runs joins the one that
 * runs.
 */
function backfillId({ botId, from, to, source, dryRun }: BackfillRequest, isOpenEnded: boolean): string {
  const end = Date.parse(to);
  const what = JSON.stringify([
    botId,
    Date.parse(from),
    isOpenEnded ? end - (end % OPEN_END_MS) : end,
    source ?? null,
    dryRun === true,
  ]);
  return `bf-${hash('sha256', what).slice(0, 24)}`;
}

/** The end of a backfill that is to reach up to now (unix milliseconds); ISO 8601. */
export function openEnd(now: number): string {
  return new Date(now - (now % 1000)).toISOString();
}

type BackfillBullQueue = Queue<
  BackfillJobData,
  null,
  string,
  BackfillJobData,
  null,
  string,
  IQueueBackend,
  unknown
>;
type BackfillBullJob = Job<BackfillJobData, null, string, BackfillJobProgress>;

/** A backfill as the queue has it. Times are unix milliseconds. */
export interface BackfillJob {
  readonly id: string;
  readonly state: 'queued' | 'active' | 'waiting' | 'completed' | 'failed';
  readonly request: BackfillRequest;
  /** It looks through nothing more, and ends as soon as a worker sees that. */
  readonly isCancelled: boolean;
  readonly progress: BackfillJobProgress;
  /** Why it failed, where no worker recorded an error. */
  readonly failedReason: string;
  readonly enqueuedAt: number;
  readonly startedAt: number | undefined;
  readonly finishedAt: number | undefined;
}

/** A schedule, and when it is due next (unix milliseconds). */
export interface Schedule extends ScheduleSpec {
  readonly nextRunAt: number | undefined;
}

/** How many finished backfills are kept, and for how long. */
const KEEP_ENDED = { age: 30 * 24 * 60 * 60, count: 500 } as const;
/** The scheduler of daily digests: a day (UTC) has to be over. */
const DIGESTS_SCHEDULE = '_digests';
const DIGESTS_PATTERN = '15 0 * * *';
/** Attempts are bounded by the worker. */
const UNBOUNDED_ATTEMPTS = 1_000_000;
/** A run that is being started leaves the way free within moments. */
const MAX_COLLISIONS = 20;
const PAUSE_AFTER_COLLISION_MS = 250;
/** Rows of ids read at once; each has those of one batch. */
const ROWS_AT_ONCE = 20;

/** Ended completeness runs stay for a while, for the client that started them. */
const KEEP_RUNS = { age: 24 * 60 * 60, count: 20 } as const;
const COMPLETENESS_JOB = {
  attempts: UNBOUNDED_ATTEMPTS,
  backoff: WORKER_BACKOFF,
  removeOnComplete: KEEP_RUNS,
  removeOnFail: KEEP_RUNS,
  stackTraceLimit: 1,
} as const;

const STATES: Readonly<Partial<Record<JobState | 'unknown', BackfillJob['state']>>> = {
  waiting: 'queued',
  prioritized: 'queued',
  active: 'active',
  delayed: 'waiting',
  completed: 'completed',
  failed: 'failed',
};

/** Backfills have a queue of their own: they are no sessions, and never get in their way. */
export function backfillQueueName(name: string): string {
  return `${name}-backfills`;
}

/** When completeness is computed, and for which bot. */
export interface DailyCompleteness extends Pick<CompletenessOrder, 'botId' | 'reportOnly'> {
  readonly cron: string;
}

/** The scheduler of the daily completeness run. Names of schedules begin with a letter. */
const DAILY_COMPLETENESS = '_completeness';

/** The backfills that run, wait and have ended, and the schedules that make them. */
export class BackfillQueue {
  readonly #backend: Backend;
  readonly #queue: BackfillBullQueue;

  /** @param name of the queue of sessions (`QUEUE_NAME`). */
  constructor(backend: Backend, name: string, log: Logger) {
    this.#backend = backend;
    this.#queue = new Queue(
      backend.queueName(backfillQueueName(name)),
      backend.options('producer'),
      backend.factory,
    );
    this.#queue.on('error', errorListener(backend, log));
  }

  /** Resolves when the queue answers; rejects when its first command failed, after which it never does. */
  async ready(): Promise<void> {
    await this.#queue.waitUntilReady();
  }

  /**
   * Starts a backfill, or joins the one that looks through the same.
   *
   * @param isOpenEnded whether it reaches up to now; one that was started within the same minute is joined then.
   * @returns its id.
   */
  async start(request: BackfillRequest, isOpenEnded = false): Promise<string> {
    const id = backfillId(request, isOpenEnded);
    const state = await this.#queue.getJobState(id);
    // It ended before, or is to end; what has come since then is looked for again.
    if (state === 'completed' || state === 'failed') await this.#queue.remove(id);
    else if (state !== 'active' && (await this.isCancelled(id))) await this.#queue.remove(id);
    await this.#queue.add(
      'backfill',
      { kind: 'backfill', ...request },
      {
        jobId: id,
        attempts: UNBOUNDED_ATTEMPTS,
        backoff: WORKER_BACKOFF,
        removeOnComplete: KEEP_ENDED,
        removeOnFail: KEEP_ENDED,
        stackTraceLimit: 1,
      },
    );
    return id;
  }

  /** A backfill, or `undefined` when there is none of that id. */
  async get(id: string): Promise<BackfillJob | undefined> {
    const state = await this.#queue.getJobState(id);
    const job = (await this.#queue.getJob(id)) as BackfillBullJob | undefined;
    return job && backfillJobOf(job, state);
  }

  /**
   * Ends a backfill that has not ended: it looks through nothing more. What it has queued stays in the queue.
   * @returns `undefined` when there is none of that id.
   */
  async cancel(id: string): Promise<'cancelled' | 'ended' | undefined> {
    const state = await this.#queue.getJobState(id);
    const job = (await this.#queue.getJob(id)) as BackfillBullJob | undefined;
    if (job?.data.kind !== 'backfill') return undefined;
    if (state === 'completed' || state === 'failed') return 'ended';
    if (job.data.cancelledAt === undefined) {
      await job.updateData({ ...job.data, cancelledAt: new Date().toISOString() });
    }
    // A worker is to see it now, not when the pause is over.
    if (state === 'delayed') await this.#backend.promote(this.#queue, id);
    return 'cancelled';
  }

  /** Whether a backfill was cancelled: it ends, or has ended. */
  async isCancelled(id: string): Promise<boolean> {
    const job = await this.#queue.getJob(id);
    return job?.data.kind === 'backfill' && job.data.cancelledAt !== undefined;
  }

  /** The backfills there are, those that have not ended first, the newest first. */
  async list(limit: number): Promise<BackfillJob[]> {
    const found: BackfillJob[] = [];
    for (const states of [
      ['active', 'waiting', 'prioritized', 'delayed'],
      ['completed', 'failed'],
    ] as const) {
      const some: BackfillJob[] = [];
      for (const state of states) {
        const jobs = (await this.#queue.getJobs([state], 0, limit - 1)) as BackfillBullJob[];
        some.push(...jobs.flatMap((job) => backfillJobOf(job, state) ?? []));
      }
      found.push(...some.sort((a, b) => b.enqueuedAt - a.enqueuedAt));
    }
    // A job may move from one state to another between two reads.
    return [...new Map(found.map((job) => [job.id, job])).values()].slice(0, limit);
  }

  /** Notes sessions with a backfill: those it queued, or those a dry run found missing. */
  async addSessions(id: string, sessionIds: readonly string[]): Promise<void> {
    await this.#queue.addJobLog(id, sessionIds.join(' '));
  }

  /** The sessions noted with a backfill, in batches; after an interruption some may stand there twice. */
  async *sessions(id: string, botId: string): AsyncGenerator<SessionRef[]> {
    for (let at = 0; ; at += ROWS_AT_ONCE) {
      const { logs } = await this.#queue.getJobLogs(id, at, at + ROWS_AT_ONCE - 1);
      for (const row of logs) yield row.split(' ').map((sessionId) => ({ botId, sessionId }));
      if (logs.length < ROWS_AT_ONCE) return;
    }
  }

  /**
   * Sets a schedule, in place of the one of that name. One that is as it is to be is left alone: setting it
   * again would drop a run that is due already.
   *
   * Of several processes that declare the same schedule at once, the queue refuses those that come second,
   * and also one whose next run is being started this very moment: they check again whether it is set by then.
   */
  async setSchedule(spec: ScheduleSpec): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      if (await this.#isSet(spec)) return;
      try {
        await this.#upsertSchedule(spec);
        return;
      } catch (error) {
        if (!isCollision(error) || tries === MAX_COLLISIONS) throw error;
        await setTimeout(PAUSE_AFTER_COLLISION_MS);
      }
    }
  }

  /** Starts a completeness run, or joins one under way for the same. @returns its id. */
  async startCompleteness(order: CompletenessOrder): Promise<string> {
    const { botId, from, to, source, reportOnly = false, write = false } = order;
    const what = JSON.stringify([botId, from ?? null, to ?? null, source ?? null, reportOnly, write]);
    const id = `completeness-${hash('sha256', what).slice(0, 24)}`;
    const state = await this.#queue.getJobState(id);
    if (state === 'completed' || state === 'failed') await this.#queue.remove(id);
    await this.#queue.add(
      'completeness',
      { kind: 'completeness', ...order },
      { ...COMPLETENESS_JOB, jobId: id },
    );
    return id;
  }

  /** A completeness run, or `undefined` when there is none of that id. */
  async completenessRun(id: string): Promise<CompletenessRun | undefined> {
    const state = STATES[await this.#queue.getJobState(id)];
    const job = (await this.#queue.getJob(id)) as BackfillBullJob | undefined;
    if (job?.data.kind !== 'completeness' || state === undefined) return undefined;
    const { days = [], trouble } = jobProgress(job);
    const error =
      trouble?.error ?? (state === 'failed' ? parseFailureReason(job.failedReason ?? '') : undefined);
    const isShown = error && (state === 'waiting' || state === 'failed');
    return { id, state, days, ...(isShown && { error: { code: error.code, message: error.message } }) };
  }

  /** Sets the time of the daily completeness run, or removes it. */
  async setDailyCompleteness(daily: DailyCompleteness | undefined): Promise<void> {
    if (!daily) {
      await this.#queue.removeJobScheduler(DAILY_COMPLETENESS);
      return;
    }
    const { cron, ...order } = daily;
    const data = { kind: 'completeness', write: true, ...order } as const;
    for (let tries = 1; ; tries += 1) {
      const scheduler = await this.#queue.getJobScheduler(DAILY_COMPLETENESS);
      const isSame = scheduler?.pattern === cron && isDeepStrictEqual(scheduler.template?.data, data);
      if (isSame) return;
      try {
        const template = { name: 'completeness', data, opts: COMPLETENESS_JOB };
        await this.#queue.upsertJobScheduler(DAILY_COMPLETENESS, { pattern: cron, tz: 'UTC' }, template);
        return;
      } catch (error) {
        if (!isCollision(error) || tries === MAX_COLLISIONS) throw error;
        await setTimeout(PAUSE_AFTER_COLLISION_MS);
      }
    }
  }

  async #isSet({ name, cron, lookbackMs }: ScheduleSpec): Promise<boolean> {
    return (await this.schedules()).some(
      (schedule) => schedule.name === name && schedule.cron === cron && schedule.lookbackMs === lookbackMs,
    );
  }

  async #upsertSchedule({ name, cron, lookbackMs }: ScheduleSpec): Promise<void> {
    await this.#queue.upsertJobScheduler(
      name,
      { pattern: cron, tz: 'UTC' },
      {
        name: 'schedule',
        data: { kind: 'schedule', lookbackMs },
        opts: {
          attempts: UNBOUNDED_ATTEMPTS,
          backoff: WORKER_BACKOFF,
          removeOnComplete: true,
          removeOnFail: KEEP_ENDED,
        },
      },
    );
  }

  /** Sets the schedule of daily digests, unless it is set. {@link schedules} does not list it. */
  async setDigestSchedule(): Promise<void> {
    if (await this.#queue.getJobScheduler(DIGESTS_SCHEDULE)) return;
    try {
      await this.#queue.upsertJobScheduler(
        DIGESTS_SCHEDULE,
        { pattern: DIGESTS_PATTERN, tz: 'UTC' },
        {
          name: 'digests',
          data: { kind: 'digests' },
          opts: {
            attempts: UNBOUNDED_ATTEMPTS,
            backoff: WORKER_BACKOFF,
            removeOnComplete: true,
            removeOnFail: KEEP_ENDED,
          },
        },
      );
    } catch (error) {
      // Another process has set it at the same moment.
      if (!isCollision(error)) throw error;
    }
  }

  /** @returns whether there was one. */
  async removeSchedule(name: string): Promise<boolean> {
    return this.#queue.removeJobScheduler(name);
  }

  /** All schedules, by name. */
  async schedules(): Promise<Schedule[]> {
    const schedulers = await this.#queue.getJobSchedulers();
    return schedulers
      .flatMap(({ key, pattern, next, template }): Schedule[] => {
        const data = template?.data;
        if (pattern === undefined || data?.kind !== 'schedule') return [];
        const { lookbackMs } = data;
        return [{ name: key, cron: pattern, lookbackMs, nextRunAt: next }];
      })
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Releases the queue; the backend stays open. */
  async close(): Promise<void> {
    await this.#queue.close();
  }
}

function isCollision(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === ErrorCode.SchedulerJobIdCollision;
}

/** `undefined` for what is no backfill: a schedule that is due. */
function backfillJobOf(job: BackfillBullJob, state: JobState | 'unknown'): BackfillJob | undefined {
  const backfillState = STATES[state];
  if (job.data.kind !== 'backfill' || backfillState === undefined || job.id === undefined) return undefined;
  const { kind: _, cancelledAt, ...request } = job.data;
  return {
    id: job.id,
    state: backfillState,
    request,
    isCancelled: cancelledAt !== undefined,
    progress: jobProgress(job),
    failedReason: job.failedReason ?? '',
    enqueuedAt: job.timestamp,
    startedAt: job.processedOn,
    finishedAt: job.finishedOn,
  };
}
