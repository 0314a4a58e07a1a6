import { isDeepStrictEqual } from 'node:util';
import type { JobsOptions } from 'bullmq';
import type { EnqueueOutcome, EnqueueRequest, EnqueueResult } from '../domain/requests.ts';
import { forEachLimit, KeyedMutex } from '../util/async.ts';
import type { Backend, JobQueue } from './backends/backend.ts';
import { answered } from './backends/connection-errors.ts';
import { historyBefore } from './session-history.ts';
import {
  dataOf,
  isMaybe,
  jobId,
  newJob,
  OWN_TRACE,
  priorityOf,
  type SessionJob,
  type SessionJobData,
} from './session-job.ts';

/**
 * The limit up to which sessions that are queued together share one trace. Above it each has its own, because receivers
 * of traces drop those of tens of thousands of spans.
 */
const MAX_IN_ONE_TRACE = 100;

/** Sessions that are added in one command. */
const ADDED_AT_ONCE = 1_000;
/** Jobs that are changed at a time: BullMQ has no command that changes several. */
const CONCURRENCY = 10;

/**
 * Up to this number of sessions in a request, each queued one is checked for whether it was queued as a maybe. In
 * larger requests only those of a backfill are.
 */
const MAX_CERTAINTY_LOOKUPS = 100;

/** What {@link SessionIntake} uses. */
interface IntakeOptions {
  readonly backend: Backend;
  /** `QUEUE_NAME` */
  readonly name: string;
  readonly sessions: JobQueue;
  /** Whether the traces of sessions begin where they are queued. */
  readonly isTraced: boolean;
}

/** Puts sessions into the queue: new ones, ended ones, and queued ones that become more urgent. */
export class SessionIntake {
  readonly #backend: Backend;
  readonly #name: string;
  readonly #sessions: JobQueue;
  readonly #isTraced: boolean;
  /**
   * Requests for the same session run one after the other. So only the first one reports that it queued the session,
   * and two requests never wait for each other's rows in PostgreSQL.
   */
  readonly #mutex = new KeyedMutex();

  constructor({ backend, name, sessions, isTraced }: IntakeOptions) {
    this.#backend = backend;
    this.#name = name;
    this.#sessions = sessions;
    this.#isTraced = isTraced;
  }

  /**
   * Queues sessions. @returns the outcome for each, in the order asked.
   * @param isDone says of a session that is not in the queue whether it is archived already.
   */
  async enqueue(
    requests: readonly EnqueueRequest[],
    isDone: (request: EnqueueRequest) => Promise<boolean> = async () => false,
  ): Promise<EnqueueResult[]> {
    const unique = new Map(requests.map((request) => [jobId(request), request]));
    const outcomes = await this.#mutex.run([...unique.keys()], () => this.#enqueue(unique, isDone));
    return requests.map((request) => {
      const id = jobId(request);
      const outcome = outcomes.get(id) ?? 'queued';
      // A session that is named twice in one request is queued once.
      if (outcome === 'queued' || outcome === 'requeued') outcomes.set(id, 'already-queued');
      return { sessionId: request.sessionId, botId: request.botId, outcome };
    });
  }

  /** The outcome for each session, by its job's id. */
  async #enqueue(
    requests: ReadonlyMap<string, EnqueueRequest>,
    isDone: (request: EnqueueRequest) => Promise<boolean>,
  ): Promise<Map<string, EnqueueOutcome>> {
    const statuses = await answered(this.#backend.statuses(this.#sessions, [...requests.keys()]));
    const outcomes = new Map<string, EnqueueOutcome>();
    const fresh: { id: string; request: EnqueueRequest }[] = [];
    const changes: (() => Promise<void>)[] = [];
    for (const [id, request] of requests) {
      const status = statuses.get(id);
      if (status === 'failed' || (status === 'completed' && (request.force || request.missing))) {
        changes.push(async () => {
          outcomes.set(id, await this.runAgain(id, status, request));
        });
      } else if (status === 'completed') {
        outcomes.set(id, 'already-archived');
      } else if (status === 'live' || status === 'backfill') {
        const isUrgent = status === 'backfill' && request.priority !== 'backfill';
        // The status does not say whether a job is a maybe. In large requests this is not looked up.
        const mayBecomeCertain = !request.maybe && requests.size <= MAX_CERTAINTY_LOOKUPS;
        if (isUrgent || request.force || mayBecomeCertain) changes.push(() => this.#adjust(id, request));
        outcomes.set(id, 'already-queued');
      } else if (await isDone(request)) {
        outcomes.set(id, 'already-archived');
      } else {
        fresh.push({ id, request });
        outcomes.set(id, 'queued');
      }
    }
    await forEachLimit(changes, CONCURRENCY, (change) => answered(change()));
    // BullMQ leaves an id as it is that another process added in the meantime.
    if (fresh.length > 0) {
      const trace = this.#isTraced && fresh.length > MAX_IN_ONE_TRACE ? OWN_TRACE : {};
      // In parts: a time limit for each part distinguishes a server that hangs from one that is busy.
      for (let from = 0; from < fresh.length; from += ADDED_AT_ONCE) {
        await this.#add(fresh.slice(from, from + ADDED_AT_ONCE), trace);
      }
    }
    return outcomes;
  }

  /** Adds jobs. The index has them first, in the same breath: it may know jobs that are not there, and misses none. */
  async #add(
    sessions: readonly { readonly id: string; readonly request: EnqueueRequest }[],
    trace: Pick<JobsOptions, 'telemetry'> = {},
  ): Promise<void> {
    const at = Date.now();
    const jobs = sessions.map(({ id, request }) => newJob(id, request, at, trace));
    const indexing = this.#backend.index.adding(
      this.#name,
      jobs.map(({ opts }) => opts.jobId),
      at,
    );
    await answered(Promise.all([indexing, this.#sessions.addBulk(jobs)]));
  }

  /** Puts a finished session back into the queue, with a clean slate. */
  async runAgain(
    id: string,
    status: 'completed' | 'failed',
    request: EnqueueRequest | undefined,
    by: string | undefined = request?.by,
  ): Promise<EnqueueOutcome> {
    const job = await this.#sessions.getJob(id);
    // It was removed by hand at this moment, so it is queued as a new one.
    if (!job) {
      if (request) await this.#add([{ id, request }]);
      return 'queued';
    }
    if (request) {
      // Who knew that it has a voicemail knew more.
      const staysCertain = request.maybe === true && !isMaybe(job.data);
      // Its history begins with the first time that it was queued.
      const { by: _, ...data } = dataOf(request);
      await job.updateData({
        ...data,
        ...(job.data.by !== undefined && { by: job.data.by }),
        ...(staysCertain && { maybe: false }),
        ...callOf(request, job.data),
      });
      // A finished job is in no line; this is its place in the one it is put back into.
      await job.changePriority({ priority: priorityOf(request) });
    }
    const history = historyBefore(job as SessionJob, status === 'completed' ? 'archived' : 'failed', {
      at: new Date().toISOString(),
      event: request ? 'enqueued' : 'retried',
      ...(by !== undefined && { by }),
      ...(request && { detail: request.force ? 'again, by force' : 'again' }),
    });
    await job.updateProgress({ history });
    await this.#backend.forgetStalls(this.#name, id);
    try {
      await job.retry(status, { resetAttemptsMade: true, resetAttemptsStarted: true });
    } catch (error) {
      // Another process put it back first.
      const now = (await this.#backend.statuses(this.#sessions, [id])).get(id);
      if (now === 'live' || now === 'backfill') return 'already-queued';
      throw error;
    }
    return 'requeued';
  }

  /** A repeated request may be more urgent, forced, or have more facts. */
  async #adjust(id: string, request: EnqueueRequest): Promise<void> {
    const job = await this.#sessions.getJob(id);
    if (!job) return;
    const isUrgent = request.priority !== 'backfill' && job.data.backfill === true;
    const isForced = request.force === true && job.data.force !== true;
    const isCertain = !request.maybe && isMaybe(job.data);
    const hasNewFacts = !isDeepStrictEqual(callOf(request, job.data).call, job.data.call);
    if (isUrgent || isForced || isCertain || hasNewFacts) {
      await job.updateData({
        ...job.data,
        ...(isUrgent && { backfill: false }),
        ...(isCertain && { maybe: false }),
        ...(isForced && { force: true, forcedAt: Date.now() }),
        ...callOf(request, job.data),
      });
    }
    if (isUrgent && job.priority > 0) await job.changePriority({ priority: 0 });
  }
}

/** The known facts of a call, from listings and webhooks together; of two values the later one counts. */
function callOf(request: EnqueueRequest, before: Pick<SessionJobData, 'call'>): Pick<SessionJobData, 'call'> {
  if (!request.call && !before.call) return {};
  return { call: { ...before.call, ...request.call } };
}
