import { type JobState, type JobsOptions, Queue } from 'bullmq';
import { type ErrorCode, isErrorCode } from '../domain/errors.ts';
import type {
  EnqueueOutcome,
  EnqueueRequest,
  EnqueueResult,
  ListQuery,
  QueueActivity,
  QueueStats,
  RetryOutcome,
  SessionPage,
  StateCounts,
} from '../domain/requests.ts';
import type { SessionRef } from '../domain/session.ts';
import {
  SESSION_STATES,
  type SessionState,
  type SessionView,
  type TranscriptState,
} from '../domain/views.ts';
import { forEachLimit, KeyedMutex, shareResult } from '../util/async.ts';
import type { Logger } from '../util/log.ts';
import type { Backend, JobQueue, JobStatus, MinuteCounts, QueueTelemetry } from './backends/backend.ts';
import {
  BACKFILL_PRIORITY,
  jobId,
  jobProgress,
  type SessionJob,
  type SessionJobData,
  sessionState,
  viewOfJob,
} from './session-job.ts';

/** A list query that makes no sense. */
export class InvalidCursorError extends Error {
  constructor() {
    super('the cursor is not one of this list: start again without one');
    this.name = 'InvalidCursorError';
  }
}

/** Finished sessions stay in the queue for status queries; the archive remembers the others. */
const KEEP_ARCHIVED = { age: 7 * 24 * 60 * 60, count: 100_000 } as const;
/** Attempts are bounded by time, in the worker; BullMQ wants a number all the same. */
const UNBOUNDED_ATTEMPTS = 1_000_000;
const DEFAULT_PAGE_SIZE = 100;
const MAX_PAGE_SIZE = 1_000;
/** How many jobs are looked through at once when a list is filtered by error code. */
const SCAN_SIZE = 500;

/**
 * Sessions that are queued together belong to one trace up to so many; of more, each has a trace of its own, since
 * what receives traces drops those of tens of thousands of spans.
 */
const MAX_IN_ONE_TRACE = 100;

/** For sessions that are not to belong to the trace in which they are queued. */
const OWN_TRACE = { telemetry: { omitContext: true } } as const satisfies JobsOptions;

/** How many minutes are shown. */
const THROUGHPUT_MINUTES = 60;
const MINUTE_MS = 60_000;
/** However many sessions have failed, so many are looked at, and not more often than this. */
const MAX_FAILURES_COUNTED = 10_000;
const FAILURES_FRESH_MS = 5_000;

/** So many jobs are changed at a time, where BullMQ changes only one after the other. */
const LANES = 10;

/** A job that changes state while it is read is read again, up to so often. */
const MAX_READS = 5;

/** Options every job of ours is added with. */
const JOB_OPTIONS = {
  attempts: UNBOUNDED_ATTEMPTS,
  // The worker tells the pause with each failure: see consumer.ts.
  backoff: { type: 'told-by-worker' },
  removeOnComplete: KEEP_ARCHIVED,
  // A failed session stays listed until it is retried or removed by hand.
  removeOnFail: false,
  stackTraceLimit: 1,
} as const satisfies JobsOptions;

const BULLMQ_STATES: Readonly<Record<SessionState, readonly JobState[]>> = {
  queued: ['waiting', 'prioritized'],
  active: ['active'],
  waiting: ['delayed'],
  archived: ['completed'],
  failed: ['failed'],
};

/**
 * The sessions in the queue. A session has one job, whose id is made of its ids: so it can't be queued twice,
 * and its state is found without looking through anything.
 */
export class SessionQueue {
  readonly #backend: Backend;
  readonly #sessions: JobQueue;
  readonly #transcripts: JobQueue;
  readonly #isTraced: boolean;
  /**
   * Requests for the same session take turns, so that only the first of them says that it queued it, and none waits in
   * PostgreSQL for what another one has inserted while that one waits for it.
   */
  readonly #turns = new KeyedMutex();
  readonly #failuresByCode: () => Promise<QueueActivity['failuresByCode']>;

  /**
   * @param name of the queue (`QUEUE_NAME`).
   * @param telemetry keeps with each session the trace of whoever queues it.
   */
  constructor(backend: Backend, name: string, log: Logger, telemetry?: QueueTelemetry) {
    this.#backend = backend;
    this.#isTraced = telemetry !== undefined;
    this.#sessions = openQueue(backend, name, log, telemetry);
    this.#transcripts = openQueue(backend, transcriptQueueName(name), log, telemetry);
    this.#failuresByCode = shareResult(() => this.#countFailures(), FAILURES_FRESH_MS);
  }

  /** For people and logs; without passwords. */
  get location(): string {
    return this.#backend.location;
  }

  /** BullMQ's own queues, for its dashboard. */
  get bullmq(): { readonly sessions: JobQueue; readonly transcripts: JobQueue } {
    return { sessions: this.#sessions, transcripts: this.#transcripts };
  }

  /**
   * Queues sessions. When it returns, the queue holds them; when it throws, it may hold some of them, and
   * asking again is safe.
   *
   * @param isArchived asks the archive about sessions that the queue does not know, where that is wanted;
   * without it the worker finds out.
   */
  async enqueue(
    requests: readonly EnqueueRequest[],
    isArchived: (session: SessionRef) => Promise<boolean> = async () => false,
  ): Promise<EnqueueResult[]> {
    const unique = new Map(requests.map((request) => [jobId(request), request]));
    const outcomes = await this.#turns.take([...unique.keys()], () => this.#enqueue(unique, isArchived));
    return requests.map((request) => {
      const id = jobId(request);
      const outcome = outcomes.get(id) ?? 'queued';
      // The same session once more in the same request finds it queued.
      if (outcome === 'queued' || outcome === 'requeued') outcomes.set(id, 'already-queued');
      return { sessionId: request.sessionId, botId: request.botId, outcome };
    });
  }

  /** How the jobs of sessions stand, by their job ids; sessions without a job are left out. */
  async statuses(sessions: readonly SessionRef[]): Promise<ReadonlyMap<string, JobStatus>> {
    return this.#backend.statuses(this.#sessions, sessions.map(jobId));
  }

  /** Looks for the transcript of an archived session after `delayMs`; once per session however often called. */
  async awaitTranscript(session: SessionRef, delayMs: number): Promise<void> {
    const id = jobId(session);
    const status = (await this.#backend.statuses(this.#transcripts, [id])).get(id);
    // A finished look belongs to an earlier archiving of this session.
    if (status === 'completed' || status === 'failed') await this.#transcripts.remove(id);
    await this.#transcripts.add('transcript', ids(session), {
      ...JOB_OPTIONS,
      jobId: id,
      delay: delayMs,
      // What it came to is noted with the session: see noteTranscript.
      removeOnComplete: true,
    });
  }

  /** Notes with an archived session what became of its transcript. */
  async noteTranscript(session: SessionRef, transcript: TranscriptState): Promise<void> {
    const job = await this.#job(session);
    if (job) await this.#sessions.updateJobProgress(jobId(session), { ...jobProgress(job), transcript });
  }

  /** The view of a session, or `undefined` when the queue does not know it. */
  async view(session: SessionRef): Promise<SessionView | undefined> {
    let view: SessionView | undefined;
    for (let read = 0; read < MAX_READS; read += 1) {
      // BullMQ tells a job and its state one after the other.
      const state = sessionState(await this.#sessions.getJobState(jobId(session)));
      const job = state && (await this.#job(session));
      if (!job) return undefined;
      view = viewOfJob(job, state);
      const isFinished = state === 'archived' || state === 'failed';
      if (isFinished === Boolean(job.finishedOn)) break;
    }
    return view;
  }

  /** A page of sessions, newest first within each state. @throws InvalidCursorError */
  async list(query: ListQuery = {}): Promise<SessionPage> {
    const limit = Math.min(query.limit ?? DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE);
    const states = query.state ? [query.state] : SESSION_STATES;
    const kinds = states.flatMap((state) => BULLMQ_STATES[state]);
    let { kind, offset } = parseCursor(query.cursor, kinds);
    const sessions: SessionView[] = [];
    while (kind < kinds.length) {
      const size = query.code ? SCAN_SIZE : limit - sessions.length;
      const bullmqState = kinds[kind] as JobState;
      const jobs = (await this.#sessions.getJobs(
        [bullmqState],
        offset,
        offset + size - 1,
        false,
      )) as SessionJob[];
      for (const job of jobs) {
        offset += 1;
        const view = viewOfJob(job, sessionState(bullmqState) ?? 'queued');
        if (query.code && view.error?.code !== query.code) continue;
        sessions.push(view);
        if (sessions.length === limit) return { sessions, nextCursor: `${kinds[kind]}:${offset}` };
      }
      // Not at the first short page: BullMQ leaves out jobs that went away between its two reads.
      if (jobs.length === 0) {
        kind += 1;
        offset = 0;
      }
    }
    return { sessions };
  }

  /** Runs a failed session again from the start. */
  async retry(session: SessionRef): Promise<RetryOutcome> {
    const id = jobId(session);
    const status = (await this.#backend.statuses(this.#sessions, [id])).get(id);
    if (status === undefined) return 'unknown';
    if (status !== 'failed') return 'not-failed';
    return (await this.#runAgain(id, 'failed', undefined)) === 'requeued' ? 'requeued' : 'not-failed';
  }

  /** Runs all failed sessions again, or those with a code. @returns how many. */
  async retryAll(code?: string): Promise<number> {
    const failed: SessionRef[] = [];
    let cursor: string | undefined;
    do {
      const page: SessionPage = await this.list({
        state: 'failed',
        limit: MAX_PAGE_SIZE,
        ...(code && { code }),
        ...(cursor && { cursor }),
      });
      failed.push(...page.sessions);
      cursor = page.nextCursor;
    } while (cursor);
    let requeued = 0;
    await forEachLimit(failed, LANES, async (session) => {
      if ((await this.retry(session)) === 'requeued') requeued += 1;
    });
    return requeued;
  }

  /** How many sessions a worker could take now: none while the queue is paused. */
  async takeable(): Promise<number> {
    if (await this.#sessions.isPaused()) return 0;
    return sum(Object.values(await this.#sessions.getJobCounts(...BULLMQ_STATES.queued)));
  }

  /** Counts by state and the age of the queue. */
  async stats(): Promise<QueueStats> {
    const [counts, transcripts] = await Promise.all([
      this.#sessions.getJobCounts(...Object.values(BULLMQ_STATES).flat()),
      this.#transcripts.getJobCounts('waiting', 'prioritized', 'active', 'delayed'),
    ]);
    // From the end of the list: BullMQ's PostgreSQL backend has no ascending order of waiting jobs.
    const last = BULLMQ_STATES.queued.map((kind) => ({ kind, index: (counts[kind] ?? 0) - 1 }));
    const oldest = await Promise.all(
      last.map(({ kind, index }) => (index < 0 ? [] : this.#sessions.getJobs([kind], index, index))),
    );
    const states = Object.fromEntries(
      SESSION_STATES.map((state) => [state, sum(BULLMQ_STATES[state].map((kind) => counts[kind] ?? 0))]),
    ) as StateCounts;
    const oldestAt = Math.min(...oldest.flat().map((job) => job.timestamp));
    return {
      states,
      transcriptsPending: sum(Object.values(transcripts)),
      ...(Number.isFinite(oldestAt) && { oldestQueuedAt: new Date(oldestAt).toISOString() }),
    };
  }

  /** What ended in the last hour, and why sessions failed. */
  async activity(): Promise<QueueActivity> {
    const [archived, failed, failuresByCode] = await Promise.all([
      this.#backend.minuteCounts(this.#sessions, 'completed'),
      this.#backend.minuteCounts(this.#sessions, 'failed'),
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

  /** @throws when the queue can't be reached. */
  async check(): Promise<void> {
    await this.#backend.check();
  }

  /** Lets go of the queue; the backend stays open. */
  async close(): Promise<void> {
    await Promise.all([this.#sessions.close(), this.#transcripts.close()]);
  }

  async #countFailures(): Promise<QueueActivity['failuresByCode']> {
    const counts = await this.#backend.failureCounts(this.#sessions, MAX_FAILURES_COUNTED);
    const failures: Partial<Record<ErrorCode, number>> = {};
    for (const [reason, count] of counts) {
      // What BullMQ failed by itself bears no code.
      const code = isErrorCode(reason) ? reason : 'INTERNAL';
      failures[code] = (failures[code] ?? 0) + count;
    }
    return failures;
  }

  async #job(session: SessionRef): Promise<SessionJob | undefined> {
    return (await this.#sessions.getJob(jobId(session))) as SessionJob | undefined;
  }

  /** What becomes of each session, by its job's id. */
  async #enqueue(
    requests: ReadonlyMap<string, EnqueueRequest>,
    isArchived: (session: SessionRef) => Promise<boolean>,
  ): Promise<Map<string, EnqueueOutcome>> {
    const statuses = await this.#backend.statuses(this.#sessions, [...requests.keys()]);
    const outcomes = new Map<string, EnqueueOutcome>();
    const fresh: { id: string; request: EnqueueRequest }[] = [];
    const changes: (() => Promise<void>)[] = [];
    for (const [id, request] of requests) {
      const status = statuses.get(id);
      if (status === 'failed' || (status === 'completed' && (request.force || request.missing))) {
        changes.push(async () => {
          outcomes.set(id, await this.#runAgain(id, status, request));
        });
      } else if (status === 'completed') {
        outcomes.set(id, 'already-archived');
      } else if (status === 'live' || status === 'backfill') {
        const isUrgent = status === 'backfill' && request.priority !== 'backfill';
        if (isUrgent || request.force) changes.push(() => this.#adjust(id, request));
        outcomes.set(id, 'already-queued');
      } else if (!request.force && (await isArchived(request))) {
        outcomes.set(id, 'already-archived');
      } else {
        fresh.push({ id, request });
        outcomes.set(id, 'queued');
      }
    }
    await forEachLimit(changes, LANES, (change) => change());
    // An id that somebody else added in the meantime is left as it is by BullMQ.
    if (fresh.length > 0) {
      const trace = this.#isTraced && fresh.length > MAX_IN_ONE_TRACE ? OWN_TRACE : {};
      await this.#sessions.addBulk(fresh.map(({ id, request }) => newJob(id, request, trace)));
    }
    return outcomes;
  }

  /** Puts a finished session back into the queue, with a clean slate. */
  async #runAgain(
    id: string,
    status: 'completed' | 'failed',
    request: EnqueueRequest | undefined,
  ): Promise<EnqueueOutcome> {
    const job = await this.#sessions.getJob(id);
    // Removed by hand in this very moment: then it is a new one.
    if (!job) {
      if (request) await this.#sessions.addBulk([newJob(id, request)]);
      return 'queued';
    }
    if (request) {
      await job.updateData(dataOf(request));
      // A finished job is in no line; this is where it will stand in the one it is put back into.
      await job.changePriority({ priority: priorityOf(request) });
    }
    await job.updateProgress({});
    try {
      await job.retry(status, { resetAttemptsMade: true, resetAttemptsStarted: true });
    } catch (error) {
      // Somebody else put it back first.
      const now = (await this.#backend.statuses(this.#sessions, [id])).get(id);
      if (now === 'live' || now === 'backfill') return 'already-queued';
      throw error;
    }
    return 'requeued';
  }

  /** What is asked for again may be asked for with more urgency, or by force. */
  async #adjust(id: string, request: EnqueueRequest): Promise<void> {
    const job = await this.#sessions.getJob(id);
    if (!job) return;
    const isUrgent = request.priority !== 'backfill' && job.data.backfill === true;
    const isForced = request.force === true && job.data.force !== true;
    if (isUrgent || isForced) {
      await job.updateData({
        ...job.data,
        // Who asks for a session by its id means that it has a voicemail.
        ...(isUrgent && { backfill: false, ...(job.data.candidate && { candidate: false }) }),
        ...(isForced && { force: true }),
      });
    }
    if (isUrgent && job.priority > 0) await job.changePriority({ priority: 0 });
  }
}

/** Awaited transcripts have a queue of their own: they are no sessions, and never get in their way. */
export function transcriptQueueName(name: string): string {
  return `${name}-transcripts`;
}

function openQueue(backend: Backend, name: string, log: Logger, telemetry?: QueueTelemetry): JobQueue {
  const queue: JobQueue = new Queue(
    backend.queueName(name),
    { ...backend.options('producer'), ...(telemetry && { telemetry }) },
    backend.factory,
  );
  queue.on('error', (error) => log.warn({ queue: backend.location, err: error }, 'queue error'));
  return queue;
}

/** How many jobs ended in a minute, minutes being counted from the epoch. */
function byMinute({ latestAt, latest, earlier }: MinuteCounts): (minute: number) => number {
  if (latestAt === undefined) return () => 0;
  const latestMinute = Math.floor(latestAt / MINUTE_MS);
  return (minute) => (minute === latestMinute ? latest : (earlier[latestMinute - 1 - minute] ?? 0));
}

function newJob(id: string, request: EnqueueRequest, trace: Pick<JobsOptions, 'telemetry'> = {}) {
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
function priorityOf(request: EnqueueRequest): number {
  return request.priority === 'backfill' ? BACKFILL_PRIORITY : 0;
}

function dataOf(request: EnqueueRequest): SessionJobData {
  return {
    ...ids(request),
    ...(request.force && { force: true }),
    ...(request.priority === 'backfill' && { backfill: true }),
    ...(request.candidate && { candidate: true }),
  };
}

function ids({ sessionId, botId }: SessionRef): SessionRef {
  return { sessionId, botId };
}

function parseCursor(
  cursor: string | undefined,
  kinds: readonly JobState[],
): { kind: number; offset: number } {
  if (cursor === undefined) return { kind: 0, offset: 0 };
  const [, name = '', offset = ''] = /^([a-z]+):(\d{1,9})$/.exec(cursor) ?? [];
  const kind = kinds.indexOf(name as JobState);
  if (kind === -1) throw new InvalidCursorError();
  return { kind, offset: Number(offset) };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
