import { DelayedError, type Job, WaitingError, Worker } from 'bullmq';
import { withinTime } from '../util/async.ts';
import type { Logger } from '../util/log.ts';
import { type Backend, type JobWorker, MINUTES_KEPT, type QueueTelemetry } from './backends/backend.ts';
import { errorListener } from './backends/connection-log.ts';
import { type JobResult, jobProgress, type SessionJobData, type SessionJobProgress } from './session-job.ts';

/** A job in hand: a session's, unless it says otherwise. */
export interface TakenJob<Data = SessionJobData, Progress = SessionJobProgress> {
  readonly id: string;
  readonly data: Data;
  /** Attempts used up before this one. */
  readonly attemptsMade: number;
  /** What it remembers; without any property at first. */
  readonly progress: Progress;
  /** For a job that a schedule made, when it was to run (unix ms). */
  readonly scheduledAt: number | undefined;
  /** Replaces what the job remembers. */
  saveProgress(progress: Progress): Promise<void>;
}

/** What the queue is to do with a job. */
export type JobDecision<Result = JobResult> =
  /** It is done. */
  | { readonly kind: 'done'; readonly result: Result }
  /** There was nothing to do: the queue is to forget it. */
  | { readonly kind: 'forget' }
  /** Look again at that time (unix ms); no attempt is used up. */
  | { readonly kind: 'wait'; readonly until: number }
  /** An attempt is used up; try again after a pause. */
  | { readonly kind: 'retry'; readonly delayMs: number; readonly reason: string }
  /** It failed for good and stays listed. */
  | { readonly kind: 'fail'; readonly reason: string }
  /** As if it had never been taken: back into the queue. */
  | { readonly kind: 'give-back' };

/** How jobs are taken. */
export interface ConsumerOptions<Data = SessionJobData, Progress = SessionJobProgress, Result = JobResult> {
  /** Jobs in hand at a time. */
  readonly concurrency: number;
  /** Works on one job. It must not throw; `signal` aborts when there is no more time. */
  handle(job: TakenJob<Data, Progress>, signal: AbortSignal): Promise<JobDecision<Result>>;
  readonly log: Logger;
  /** Each job is worked on within the trace that it was added with. */
  readonly telemetry?: QueueTelemetry | undefined;
}

/**
 * A worker that died keeps its jobs locked for so long, and they are looked for at this interval: so a killed
 * worker's sessions run again within half a minute.
 */
const LOCK_DURATION_MS = 20_000;
const STALLED_INTERVAL_MS = 5_000;
/**
 * A job whose worker died is taken again this often, then BullMQ fails it. Deployments kill workers, so the
 * default of one would lose sessions; without any bound one that kills every worker would never be noticed.
 */
const MAX_STALLED_COUNT = 25;
/** An idle worker asks again after so many seconds even if nobody woke it. */
const DRAIN_DELAY_S = 5;
/** A stop right after the start waits so long for the connection to be there, so that it can be closed. */
const CONNECT_WAIT_MS = 5_000;
/** How long the queue may take to hear what became of the last jobs. */
const CLOSE_WAIT_MS = 5_000;

/** The pause after what is no verdict but a fault around it, such as a server that was away when it came. */
const UNFORESEEN_PAUSE_MS = 5_000;

/** BullMQ's own job. */
type ConsumedJob<Data, Progress extends object, Result> = Job<Data, Result | null, string, Progress>;

/** Why a job ended otherwise than done, as BullMQ wants to be told: by an error with the pause in it. */
class AttemptFailed extends Error {
  /** Milliseconds until the next attempt, or -1 for none. */
  readonly pauseMs: number;

  constructor(reason: string, pauseMs: number) {
    super(reason);
    this.name = 'AttemptFailed';
    this.pauseMs = pauseMs;
  }
}

/** Takes jobs from a queue and does with them what `handle` says. */
export class Consumer<
  Data = SessionJobData,
  Progress extends object = SessionJobProgress,
  Result = JobResult,
> {
  readonly #worker: JobWorker<Data, Progress, Result>;
  readonly #log: Logger;
  readonly #inHand = new Set<Promise<JobDecision<Result>>>();
  #stopping = false;
  #lastTakenAt = Date.now();
  #heldUntil = 0;
  #holdTimer: NodeJS.Timeout | undefined;

  constructor(backend: Backend, queueName: string, options: ConsumerOptions<Data, Progress, Result>) {
    this.#log = options.log;
    // Three plain parameters: BullMQ hands out a signal only to processors that declare them.
    const process = async (
      job: ConsumedJob<Data, Progress, Result>,
      token: string | undefined,
      signal: AbortSignal | undefined,
    ) => this.#process(job, token ?? '', signal ?? new AbortController().signal, options);
    this.#worker = new Worker(
      backend.queueName(queueName),
      process,
      {
        ...backend.options('consumer'),
        ...(options.telemetry && { telemetry: options.telemetry }),
        concurrency: options.concurrency,
        lockDuration: LOCK_DURATION_MS,
        stalledInterval: STALLED_INTERVAL_MS,
        maxStalledCount: MAX_STALLED_COUNT,
        drainDelay: DRAIN_DELAY_S,
        metrics: { maxDataPoints: MINUTES_KEPT },
        settings: {
          backoffStrategy: (_attempts, _type, error) =>
            error instanceof AttemptFailed ? error.pauseMs : UNFORESEEN_PAUSE_MS,
        },
      },
      backend.factory,
    );
    this.#worker.on('error', errorListener(backend, this.#log));
    this.#worker.on('failed', (job, error) => {
      if (error instanceof AttemptFailed) return;
      this.#log.error({ job: job?.id, err: error }, 'the queue could not be told what became of a job');
    });
    this.#worker.on('stalled', (id) =>
      this.#log.warn({ job: id }, 'a job whose worker died was put back into the queue'),
    );
  }

  /** Jobs being worked on. */
  get inHand(): number {
    return this.#inHand.size;
  }

  /** When a job was last taken (unix ms); when it was started if none ever was. */
  get lastTakenAt(): number {
    return this.#lastTakenAt;
  }

  /** Resolves when jobs are being taken. */
  async ready(): Promise<void> {
    await this.#worker.waitUntilReady();
  }

  /** Takes no new jobs for so long; what is in hand goes on. The longest of several holds counts. */
  async hold(milliseconds: number): Promise<void> {
    const until = Date.now() + milliseconds;
    if (this.#stopping || until <= this.#heldUntil) return;
    this.#heldUntil = until;
    clearTimeout(this.#holdTimer);
    this.#holdTimer = setTimeout(() => this.#resume(), milliseconds);
    await this.#worker.pause(true);
  }

  /** When a hold ends (unix ms), or `undefined` when jobs are being taken. */
  get heldUntil(): number | undefined {
    return this.#heldUntil > Date.now() ? this.#heldUntil : undefined;
  }

  /**
   * Takes nothing new, lets what is in hand finish for `graceMs`, cancels the rest (which is given back to the
   * queue) and closes.
   */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#holdTimer);
    await this.#worker.pause(true);
    const finished = await withinTime(Promise.allSettled(this.#inHand), graceMs);
    if (!finished) {
      this.#log.warn({ sessions: this.#inHand.size }, 'time is up: cancelling what is still running');
      this.#worker.cancelAllJobs('shutting down');
    }
    // Closed before it has connected, BullMQ's PostgreSQL backend leaves a connection open for ever.
    await withinTime(Promise.allSettled([this.#worker.waitUntilReady()]), CONNECT_WAIT_MS);
    // With the server away, BullMQ waits for it to come back. What it could not be told it finds out by itself:
    // the locks of these jobs run out, and they are put back into the queue.
    const closing = this.#worker.close();
    if (!(await withinTime(Promise.allSettled([closing]), CLOSE_WAIT_MS))) {
      this.#log.warn('the queue does not answer: stopping without it; jobs in hand will be taken again');
      closing.catch((error: unknown) => this.#log.warn({ err: error }, 'queue error'));
    }
  }

  #resume(): void {
    this.#heldUntil = 0;
    if (!this.#stopping) void this.#worker.resume();
  }

  async #process(
    job: ConsumedJob<Data, Progress, Result>,
    token: string,
    signal: AbortSignal,
    options: ConsumerOptions<Data, Progress, Result>,
  ): Promise<Result | null> {
    this.#lastTakenAt = Date.now();
    // A fetch that was under way when the stop or hold came may still bring a job: an idle worker's, for example.
    const verdict: Promise<JobDecision<Result>> =
      this.#stopping || this.heldUntil !== undefined
        ? Promise.resolve({ kind: 'give-back' })
        : options.handle(takenJob(job), signal);
    this.#inHand.add(verdict);
    try {
      return await settle(job, token, await verdict);
    } finally {
      this.#inHand.delete(verdict);
    }
  }
}

/** Tells BullMQ the verdict, in its own terms: a return value or the error it knows. */
async function settle<Data, Progress extends object, Result>(
  job: ConsumedJob<Data, Progress, Result>,
  token: string,
  verdict: JobDecision<Result>,
): Promise<Result | null> {
  switch (verdict.kind) {
    case 'done':
      return verdict.result;
    case 'forget':
      // BullMQ looks at this when it is told of the job's end.
      job.opts.removeOnComplete = true;
      return null;
    case 'wait':
      // PostgreSQL takes whole milliseconds only.
      await job.moveToDelayed(Math.ceil(verdict.until), token);
      throw new DelayedError();
    case 'give-back':
      await job.moveToWait(token);
      throw new WaitingError();
    case 'retry':
      throw new AttemptFailed(verdict.reason, Math.max(0, Math.ceil(verdict.delayMs)));
    case 'fail':
      throw new AttemptFailed(verdict.reason, -1);
  }
}

function takenJob<Data, Progress extends object, Result>(
  job: ConsumedJob<Data, Progress, Result>,
): TakenJob<Data, Progress> {
  return {
    id: job.id ?? '',
    data: job.data,
    attemptsMade: job.attemptsMade,
    progress: jobProgress(job),
    scheduledAt: job.opts.prevMillis,
    saveProgress: (progress) => job.updateProgress(progress),
  };
}
