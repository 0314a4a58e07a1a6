import { setTimeout as sleep } from 'node:timers/promises';
import {
  type BackendFactory,
  DelayedError,
  type IQueueBackend,
  type Job,
  WaitingError,
  Worker,
} from 'bullmq';
import { withinTime } from '../util/async.ts';
import type { Logger } from '../util/log.ts';
import { type Backend, MINUTES_KEPT, type QueueTelemetry } from './backends/backend.ts';
import { errorListener } from './backends/connection-errors.ts';
import { type ClockReading, JobLock, readClocks } from './job-lock.ts';
import {
  JOB_VERSION,
  type JobResult,
  jobProgress,
  NEWER_JOB_PAUSE_MS,
  newerVersion,
  type SessionJobData,
  type SessionJobProgress,
} from './session-job.ts';

/** An active job: of a session by default. */
export interface TakenJob<Data = SessionJobData, Progress = SessionJobProgress> {
  readonly id: string;
  readonly data: Data;
  /** Attempts used up before this one. */
  readonly attemptsMade: number;
  /** What it remembers; without any property at first. */
  readonly progress: Progress;
  /** For a job that a schedule made, when it was to run (unix ms). */
  readonly scheduledAt: number | undefined;
  /**
   * Replaces what the job remembers.
   * @throws LockLostError when the job is no longer this worker's.
   */
  saveProgress(progress: Progress): Promise<void>;
  /** Replaces the data of the job, as where something in it is to be in the queue no longer. */
  replaceData(data: Data): Promise<void>;
  /**
   * Makes sure that the job is still this worker's. Must be called before each write for the job.
   * @throws LockLostError when it is not; `signal` is aborted then as well.
   */
  assertOwned(): Promise<void>;
}

/** What the queue is to do with a job. */
export type JobDecision<Result = JobResult> =
  /** It is done. */
  | { readonly kind: 'done'; readonly result: Result }
  /** There was nothing to do: the queue is to forget it. */
  | { readonly kind: 'forget' }
  /**
   * Poll again at that time (unix ms); no attempt is used up. With `keepsPlace` it is in front of all others then, or
   * as soon as this consumer is held no longer; where its worker dies meanwhile, behind them.
   */
  | { readonly kind: 'wait'; readonly until: number; readonly keepsPlace?: true }
  /** An attempt is used up; try again after a pause. */
  | { readonly kind: 'retry'; readonly delayMs: number; readonly reason: string }
  /** It failed for good and stays listed. */
  | { readonly kind: 'fail'; readonly reason: string }
  /** As if it had never been taken: back into the queue. */
  | { readonly kind: 'give-back' };

/** How jobs are taken. */
export interface ConsumerOptions<Data = SessionJobData, Progress = SessionJobProgress, Result = JobResult> {
  /** Active jobs at a time. */
  readonly concurrency: number;
  /** Works on one job. It must not throw; `signal` aborts when there is no more time. */
  handle(job: TakenJob<Data, Progress>, signal: AbortSignal): Promise<JobDecision<Result>>;
  readonly log: Logger;
  /** Each job is worked on within the trace that it was added with. */
  readonly telemetry?: QueueTelemetry | undefined;
  /** Called with every fault of the queue that BullMQ meets. */
  readonly onQueueError?: ((error: Error) => void) | undefined;
  /** Jobs are for later and come often: see {@link gatherWakes}. Those that are due wait a moment longer for it. */
  readonly gathersWakes?: boolean;
  /** How locks are kept; for tests, which need shorter times. */
  readonly locks?: LockTimes | undefined;
}

/** How long a job stays locked by a worker that does not renew its lock, and how often such jobs are looked for. */
export interface LockTimes {
  readonly durationMs: number;
  readonly stalledIntervalMs: number;
}

/** So a killed worker's sessions run again within half a minute. */
const LOCK_TIMES: LockTimes = { durationMs: 20_000, stalledIntervalMs: 5_000 };
/**
 * BullMQ fails a job whose worker died more often than this. Deployments kill workers, which is no fault of a session:
 * it never fails for that. The number is the largest that its PostgreSQL backend takes.
 */
const MAX_STALLED_COUNT = 2 ** 31 - 1;
/** The seconds after which an idle worker asks again without being woken. */
const DRAIN_DELAY_S = 5;
/** The pause after a command that failed with its connection. BullMQ's own pause would stop a worker for 15 s. */
const CONNECTION_PAUSE_MS = 1_000;
/** How long a stop right after the start waits for the connection, so that it can be closed. */
const CONNECT_WAIT_MS = 5_000;
/** How long the queue may take to hear what became of the last jobs. */
const CLOSE_WAIT_MS = 5_000;

/**
 * The waiting worker puts a job that keeps its place in front. So much later (milliseconds) the job is due by itself.
 */
const IN_FRONT_GRACE_MS = 2_000;

/** The pause after an error that is no decision of the handler, such as an unavailable server. */
const UNFORESEEN_PAUSE_MS = 5_000;

/** Why jobs are held that are not held for a time. */
type HoldReason = string;

/** BullMQ's own job. */
type ConsumedJob<Data, Progress extends object, Result> = Job<Data, Result | null, string, Progress>;

/** Why a job was not done, in the form that BullMQ needs: an error with the pause in it. */
class AttemptFailed extends Error {
  /** Milliseconds until the next attempt, or -1 for none. */
  readonly pauseMs: number;

  constructor(reason: string, pauseMs: number) {
    super(reason);
    this.name = 'AttemptFailed';
    this.pauseMs = pauseMs;
  }
}

/** A job that is being worked on. */
interface ActiveJob<Result> {
  readonly lock: JobLock;
  /** Breaks the work off. */
  readonly ending: AbortController;
  readonly decision: Promise<JobDecision<Result>>;
  /** Resolves once the queue knows what became of it. */
  readonly ended: PromiseWithResolvers<void>;
}

/** BullMQ's worker, which also reports its locks. */
class LockingWorker<Data, Progress extends object, Result> extends Worker<
  Data,
  Result | null,
  string,
  IQueueBackend,
  Progress,
  unknown
> {
  /** Called with the jobs whose locks were renewed, those whose locks are lost, and the time of the request. */
  onLocks: ((renewed: readonly string[], lost: readonly string[], askedAt: ClockReading) => void) | undefined;

  /** BullMQ's lock manager renews all locks by this. */
  override async extendJobLocks(ids: string[], tokens: string[], durationMs: number): Promise<string[]> {
    // An answer that is read late, as after a suspension, says nothing of now.
    const askedAt = readClocks();
    const lost = await super.extendJobLocks(ids, tokens, durationMs);
    const renewed = ids.filter((id) => !lost.includes(id));
    this.onLocks?.(renewed, lost, askedAt);
    return lost;
  }
}

/** Takes jobs from a queue and does with them what `handle` says. */
export class Consumer<
  Data = SessionJobData,
  Progress extends object = SessionJobProgress,
  Result = JobResult,
> {
  readonly #worker: LockingWorker<Data, Progress, Result>;
  readonly #backend: Backend;
  readonly #queueName: string;
  readonly #log: Logger;
  readonly #locks: LockTimes;
  readonly #active = new Map<string, ActiveJob<Result>>();
  readonly #holds = new Set<HoldReason>();
  /** Jobs that wait and keep their place, by when they were taken: the lower, the earlier. */
  readonly #keepPlace = new Map<string, number>();
  #taken = 0;
  #stopping = false;
  #lastTakenAt = Date.now();
  #heldUntil = 0;
  #holdTimer: NodeJS.Timeout | undefined;

  constructor(backend: Backend, queueName: string, options: ConsumerOptions<Data, Progress, Result>) {
    this.#backend = backend;
    this.#queueName = queueName;
    this.#log = options.log;
    this.#locks = options.locks ?? LOCK_TIMES;
    const process = async (job: ConsumedJob<Data, Progress, Result>, token: string | undefined) =>
      this.#process(job, token ?? '', options);
    this.#worker = new LockingWorker(
      backend.queueName(queueName),
      process,
      {
        ...backend.options('consumer'),
        ...(options.telemetry && { telemetry: options.telemetry }),
        concurrency: options.concurrency,
        lockDuration: this.#locks.durationMs,
        stalledInterval: this.#locks.stalledIntervalMs,
        maxStalledCount: MAX_STALLED_COUNT,
        drainDelay: DRAIN_DELAY_S,
        runRetryDelay: CONNECTION_PAUSE_MS,
        metrics: { maxDataPoints: MINUTES_KEPT },
        settings: {
          backoffStrategy: (_attempts, _type, error) =>
            error instanceof AttemptFailed ? error.pauseMs : UNFORESEEN_PAUSE_MS,
        },
      },
      options.gathersWakes ? gatherWakes(backend.factory) : backend.factory,
    );
    this.#worker.onLocks = (renewed, lost, askedAt) => {
      for (const id of renewed) this.#active.get(id)?.lock.renewed(askedAt);
      for (const id of lost) this.#active.get(id)?.lock.lose();
    };
    this.#worker.on('error', errorListener(backend, this.#log));
    this.#worker.on('error', (error) => options.onQueueError?.(error));
    this.#worker.on('failed', (job, error) => {
      if (error instanceof AttemptFailed) return;
      this.#log.error({ job: job?.id, err: error }, 'could not report the end of a job to the queue');
    });
    this.#worker.on('stalled', (id) =>
      this.#log.warn({ job: id }, 'a job whose worker died was put back into the queue'),
    );
  }

  /** Jobs being worked on. */
  get activeJobs(): number {
    return this.#active.size;
  }

  /** Whether this job is active here. */
  has(id: string): boolean {
    return this.#active.has(id);
  }

  /** Resolves when this job is not active here, and its end has been reported to the queue. */
  async ended(id: string): Promise<void> {
    await this.#active.get(id)?.ended.promise;
  }

  /** When a job was last taken (unix ms); when it was started if none ever was. */
  get lastTakenAt(): number {
    return this.#lastTakenAt;
  }

  /** Resolves when jobs are being taken. */
  async ready(): Promise<void> {
    await this.#worker.waitUntilReady();
  }

  /** Takes no new jobs for that time; active jobs continue. The longest of several holds counts. */
  async hold(milliseconds: number): Promise<void> {
    const until = Date.now() + milliseconds;
    if (this.#stopping || until <= this.#heldUntil) return;
    this.#heldUntil = until;
    clearTimeout(this.#holdTimer);
    this.#holdTimer = setTimeout(() => {
      this.#heldUntil = 0;
      this.#resume();
    }, milliseconds);
    await this.#worker.pause(true);
  }

  /** Takes no new jobs until {@link Consumer.release} with the same reason; active jobs continue. */
  async holdFor(reason: HoldReason): Promise<void> {
    this.#holds.add(reason);
    if (!this.#stopping) await this.#worker.pause(true);
  }

  /** Ends a hold of {@link Consumer.holdFor}; jobs are taken once nothing else holds them. */
  release(reason: HoldReason): void {
    if (this.#holds.delete(reason)) this.#resume();
  }

  /** When a hold ends (unix ms; infinite where that is unknown), or `undefined` when jobs are being taken. */
  get heldUntil(): number | undefined {
    if (this.#holds.size > 0) return Number.POSITIVE_INFINITY;
    return this.#heldUntil > Date.now() ? this.#heldUntil : undefined;
  }

  /**
   * Takes no new jobs, gives active ones `graceMs` to finish, cancels the rest (which goes back into the queue) and
   * closes.
   */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#holdTimer);
    await this.#worker.pause(true);
    const decisions = [...this.#active.values()].map(({ decision }) => decision);
    if (!(await withinTime(Promise.allSettled(decisions), graceMs))) {
      this.#log.warn({ sessions: this.#active.size }, 'time is up: cancelling what is still running');
      for (const { ending } of this.#active.values()) ending.abort(new Error('shutting down'));
    }
    await withinTime(this.#putInFront(), CLOSE_WAIT_MS);
    // Closed before it has connected, BullMQ's PostgreSQL backend leaves a connection open for ever.
    await withinTime(Promise.allSettled([this.#worker.waitUntilReady()]), CONNECT_WAIT_MS);
    // While the server is unreachable, BullMQ waits for it. Jobs whose end could not be reported lose their locks, and
    // are put back into the queue.
    const closing = this.#worker.close();
    if (!(await withinTime(Promise.allSettled([closing]), CLOSE_WAIT_MS))) {
      this.#log.warn('the queue does not answer: stopping without it; active jobs will be taken again');
      closing.catch((error: unknown) => this.#log.warn({ err: error }, 'queue error'));
    }
  }

  #resume(): void {
    if (this.#stopping || this.heldUntil !== undefined) return;
    if (this.#keepPlace.size === 0) void this.#worker.resume();
    else void this.#putInFront().then(() => this.#resume());
  }

  /** Puts those that wait and keep their place in front of all others. They are due by themselves where that fails. */
  async #putInFront(): Promise<void> {
    const ids = [...this.#keepPlace].sort(([, a], [, b]) => a - b).map(([id]) => id);
    this.#keepPlace.clear();
    if (ids.length === 0) return;
    try {
      await this.#backend.putInFront(this.#queueName, ids);
    } catch (error) {
      this.#log.warn(
        { jobs: ids.length, err: error },
        'jobs that waited for their turn go behind the others',
      );
    }
  }

  async #process(
    job: ConsumedJob<Data, Progress, Result>,
    token: string,
    options: ConsumerOptions<Data, Progress, Result>,
  ): Promise<Result | null> {
    const id = job.id ?? '';
    this.#lastTakenAt = Date.now();
    this.#taken += 1;
    const place = this.#taken;
    const earlier = this.#active.get(id);
    if (earlier) {
      // Lost to this very worker. BullMQ keeps one lock of a job alive: it is taken again once the other has ended.
      earlier.lock.lose();
      await Promise.allSettled([earlier.decision]);
    }
    const ending = new AbortController();
    const lock = new JobLock({
      jobId: id,
      durationMs: this.#locks.durationMs,
      takenAtMs: job.processedOn ?? Date.now(),
      renew: async () =>
        (await this.#worker.extendJobLocks([id], [token], this.#locks.durationMs)).length === 0,
      onLost: (error) => {
        this.#log.warn({ job: id }, 'the lock of a job is lost: leaving the job to the worker that takes it');
        ending.abort(error);
      },
    });
    // A fetch that was under way when the stop or hold came may still bring a job: an idle worker's, for example.
    const newer = newerVersion(job.data);
    const decision: Promise<JobDecision<Result>> =
      earlier || this.#stopping || this.heldUntil !== undefined
        ? Promise.resolve({ kind: 'give-back' })
        : newer === undefined
          ? options.handle(this.#takenJob(job, token, lock), ending.signal)
          : Promise.resolve(this.#leave(id, newer));
    const activeJob = { lock, ending, decision, ended: Promise.withResolvers<void>() };
    this.#active.set(id, activeJob);
    this.#backend.activeJobsChanged(1);
    try {
      const decided = await decision;
      // BullMQ refuses the result of a job whose lock is lost. This error makes it drop the job without a result.
      if (lock.isLost) throw new DelayedError();
      if (decided.kind === 'wait' && decided.keepsPlace) await this.#waitInPlace(job, token, decided, place);
      return await settle(job, token, decided);
    } finally {
      this.#backend.activeJobsChanged(-1);
      if (this.#active.get(id) === activeJob) this.#active.delete(id);
      activeJob.ended.resolve();
    }
  }

  /** @throws DelayedError once the delay is stored: BullMQ expects this error. */
  async #waitInPlace(
    job: ConsumedJob<Data, Progress, Result>,
    token: string,
    { until }: { readonly until: number },
    place: number,
  ): Promise<void> {
    await job.moveToDelayed(Math.ceil(until) + IN_FRONT_GRACE_MS, token);
    this.#keepPlace.set(job.id ?? '', place);
    // The hold has ended meanwhile, or there was none.
    if (this.#stopping || this.heldUntil === undefined) await this.#putInFront();
    throw new DelayedError();
  }

  /** A job of a newer version is neither worked on nor lost: a newer worker takes it. */
  #leave(id: string, version: number): JobDecision<Result> {
    this.#log.error(
      { job: id, version, known: JOB_VERSION },
      'a job was queued by a newer version of this program: leaving it to newer workers; update this one',
    );
    return { kind: 'wait', until: Date.now() + NEWER_JOB_PAUSE_MS };
  }

  #takenJob(
    job: ConsumedJob<Data, Progress, Result>,
    token: string,
    lock: JobLock,
  ): TakenJob<Data, Progress> {
    const id = job.id ?? '';
    return {
      id,
      data: job.data,
      attemptsMade: job.attemptsMade,
      progress: jobProgress(job),
      scheduledAt: job.opts.prevMillis,
      saveProgress: async (progress) => {
        lock.throwIfLost();
        if (!(await this.#backend.saveProgress(this.#queueName, id, token, progress))) lock.lose();
        lock.throwIfLost();
      },
      replaceData: (data) => job.updateData(data),
      assertOwned: () => lock.assertHeld(),
    };
  }
}

/** After being woken for a job that is for later, a worker that gathers such wakes listens again (milliseconds). */
const WAKE_PAUSE_MS = 100;

/**
 * A backend that wakes an idle worker less often. BullMQ wakes it for each job that is added for later, to announce
 * when the next one is due, which costs a round trip each. Here one call announces all jobs of a moment.
 */
function gatherWakes<Client>(
  factory: BackendFactory<IQueueBackend, Client>,
): BackendFactory<IQueueBackend, Client> {
  return (...args) => {
    const backend = factory(...args);
    const wait = backend.waitForJob.bind(backend);
    backend.waitForJob = async (timeoutSeconds) => {
      const woken = await wait(timeoutSeconds);
      if (woken && woken.score > Date.now() + WAKE_PAUSE_MS) await sleep(WAKE_PAUSE_MS);
      return woken;
    };
    return backend;
  };
}

/** Reports a decision to BullMQ in the form that it needs: a return value, or one of its errors. */
async function settle<Data, Progress extends object, Result>(
  job: ConsumedJob<Data, Progress, Result>,
  token: string,
  verdict: JobDecision<Result>,
): Promise<Result | null> {
  switch (verdict.kind) {
    case 'done':
      return verdict.result;
    case 'forget':
      // BullMQ reads this when the job ends.
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
