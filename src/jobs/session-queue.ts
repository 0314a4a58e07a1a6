import { Queue } from 'bullmq';
import type {
  CancelOutcome,
  CancelQuery,
  EnqueueRequest,
  EnqueueResult,
  ListQuery,
  QueueActivity,
  QueueStats,
  RetryOutcome,
  SessionPage,
} from '../domain/requests.ts';
import type { SessionRef } from '../domain/session.ts';
import type { SessionState, SessionView, TranscriptState } from '../domain/views.ts';
import { forEachLimit } from '../util/async.ts';
import type { Logger } from '../util/log.ts';
import type { Backend, CallUsage, JobQueue, JobStatus, QueueTelemetry } from './backends/backend.ts';
import { answered, errorListener } from './backends/connection-errors.ts';
import { noteEvent } from './session-history.ts';
import { SessionIntake } from './session-intake.ts';
import {
  BULLMQ_STATES,
  JOB_OPTIONS,
  jobId,
  jobProgress,
  type SessionJob,
  type SessionJobProgress,
  sessionRefOf,
  stateOfJob,
} from './session-job.ts';
import { findSessions, listSessions, readView } from './session-listing.ts';
import { SessionStats } from './session-stats.ts';
import { StatusBoard } from './status-board.ts';

/** Those that all workers of a queue need. */
const SHARED_DEPENDENCIES = ['kore', 'bucket'] as const;
export type SharedDependency = (typeof SHARED_DEPENDENCIES)[number];

/** Whether a breaker is for a dependency that all workers of a queue share. */
export function isSharedDependency(dependency: string): dependency is SharedDependency {
  return (SHARED_DEPENDENCIES as readonly string[]).includes(dependency);
}

/** How long a reported outage counts after the last report. */
const OUTAGE_REPORT_MS = 6_000;

/** The states in which a session can be taken out of the queue. */
const CANCELLABLE: readonly SessionState[] = ['queued', 'waiting'];

/** Jobs that are changed at a time: BullMQ has no command that changes several. */
const CONCURRENCY = 10;
/** After an outage all that waited is to go on at once: the commands go out together, whatever each takes. */
const MADE_DUE_AT_ONCE = 1_000;

/**
 * The sessions in the queue. A session has one job, whose id is made of its ids: so it can't be queued twice,
 * and its state is found without looking through anything.
 */
export class SessionQueue {
  readonly #backend: Backend;
  readonly #name: string;
  readonly #sessions: JobQueue;
  readonly #transcripts: JobQueue;
  readonly #intake: SessionIntake;
  readonly #stats: SessionStats;
  /** What the processes on this queue publish for each other. */
  readonly board: StatusBoard;

  /**
   * @param name of the queue (`QUEUE_NAME`).
   * @param telemetry stores the trace of the caller with each session.
   */
  constructor(backend: Backend, name: string, log: Logger, telemetry?: QueueTelemetry) {
    this.#backend = backend;
    this.#name = name;
    this.#sessions = openQueue(backend, name, log, telemetry);
    this.#transcripts = openQueue(backend, transcriptQueueName(name), log, telemetry);
    const isTraced = telemetry !== undefined;
    this.#intake = new SessionIntake({ backend, name, sessions: this.#sessions, isTraced });
    this.board = new StatusBoard(backend, name);
    this.#stats = new SessionStats({ backend, sessions: this.#sessions, transcripts: this.#transcripts });
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
   * @param isDone asks the archive about sessions that the queue does not know, where that is wanted: whether there is
   * nothing to do. Without it the worker finds out.
   */
  async enqueue(
    requests: readonly EnqueueRequest[],
    isDone?: (request: EnqueueRequest) => Promise<boolean>,
  ): Promise<EnqueueResult[]> {
    return this.#intake.enqueue(requests, isDone);
  }

  /** Reports to all processes on this queue that no session can be archived now. Must be repeated while that lasts. */
  async reportOutage(dependency: SharedDependency): Promise<void> {
    await answered(this.#backend.remember(this.#name, `away:${dependency}`, OUTAGE_REPORT_MS));
  }

  /** Unavailable dependencies, by the reports of workers in the last seconds. */
  async reportedOutages(): Promise<readonly SharedDependency[]> {
    const reported = await answered(
      Promise.all(SHARED_DEPENDENCIES.map((one) => this.#backend.remembers(this.#name, `away:${one}`))),
    );
    return SHARED_DEPENDENCIES.filter((_, index) => reported[index]);
  }

  /**
   * Ends a login for everybody who serves this queue. @param id of the login, which expires by itself after that time.
   */
  async endLogin(id: string, milliseconds: number): Promise<void> {
    await answered(this.#backend.remember(this.#name, `login:${id}`, milliseconds));
  }

  /** Whether a login was ended before its time. */
  async isLoginEnded(id: string): Promise<boolean> {
    return answered(this.#backend.remembers(this.#name, `login:${id}`));
  }

  /**
   * Makes sessions due now that wait for a time to come; those that do not wait are left as they are.
   * @returns how many.
   */
  async makeDue(sessions: readonly SessionRef[]): Promise<number> {
    let made = 0;
    await forEachLimit(sessions, MADE_DUE_AT_ONCE, async (session) => {
      if (await this.#backend.promote(this.#sessions, jobId(session))) made += 1;
    });
    return made;
  }

  /** Some of the sessions that a worker could take next; none where there are none. */
  async next(limit: number): Promise<SessionRef[]> {
    const jobs = await this.#sessions.getJobs([...BULLMQ_STATES.queued], 0, limit - 1);
    return jobs.map(({ data }) => sessionRefOf(data));
  }

  /** The status of sessions' jobs, by their job ids; sessions without a job are left out. */
  async statuses(sessions: readonly SessionRef[]): Promise<ReadonlyMap<string, JobStatus>> {
    return this.#backend.statuses(this.#sessions, sessions.map(jobId));
  }

  /** The sessions that will be checked again, for a transcript or for recordings and messages that come late. */
  async awaitingCheck(sessions: readonly SessionRef[]): Promise<SessionRef[]> {
    if (sessions.length === 0) return [];
    const statuses = await this.#backend.statuses(this.#transcripts, sessions.map(jobId));
    return sessions.filter((session) => {
      const status = statuses.get(jobId(session));
      return status === 'live' || status === 'backfill';
    });
  }

  /**
   * Checks an archived session again after `delayMs`, for its transcript and for what else comes late; once per
   * session however often called. A check that is to be later than that comes earlier.
   */
  async awaitTranscript(session: SessionRef, delayMs: number): Promise<void> {
    const id = jobId(session);
    const add = () =>
      this.#transcripts.add('transcript', sessionRefOf(session), {
        ...JOB_OPTIONS,
        jobId: id,
        delay: delayMs,
        // Its result is noted with the session: see noteTranscript.
        removeOnComplete: true,
      });
    // Most have none yet: both go out together. One that is there is left as it is by adding.
    const [statuses] = await Promise.all([this.#backend.statuses(this.#transcripts, [id]), add()]);
    const status = statuses.get(id);
    if (status === 'completed' || status === 'failed') {
      // A finished look belongs to an earlier archiving of this session.
      await this.#transcripts.remove(id);
      await add();
    } else if (status !== undefined) await bringForward(this.#transcripts, id, delayMs);
  }

  /**
   * Notes with an archived session the state of its transcript. A session that was put back into the queue since keeps
   * what it has: a note that comes late must not bring back what an earlier archiving remembered.
   *
   * @param found `recordings`: all of its recordings, where some came late; `revision` of the manifest that says so.
   * @returns whether it was noted.
   */
  async noteTranscript(
    session: SessionRef,
    transcript: TranscriptState,
    found: Pick<SessionJobProgress, 'recordings' | 'revision'> = {},
  ): Promise<boolean> {
    const job = await this.#job(session);
    if (!job) return false;
    const before = jobProgress(job);
    const recordings = found.recordings ?? before.recordings;
    const revisionBefore = before.revision ?? job.returnvalue?.revision;
    const isRewritten = found.revision !== undefined && found.revision !== revisionBefore;
    const history = isRewritten
      ? noteEvent(before.history ?? [], {
          at: new Date().toISOString(),
          event: 'rewritten',
          detail: `revision ${found.revision}; ${found.recordings ? 'recordings came late' : `transcript ${transcript}`}`,
        })
      : before.history;
    // Nothing else is read of a completed job.
    return this.#backend.noteCompleted(this.#name, jobId(session), {
      transcript,
      ...(recordings && { recordings }),
      ...(found.revision !== undefined && { revision: found.revision }),
      ...(history && { history }),
    });
  }

  /**
   * Records in the history of an archived session that a hold was set or released. For any other session, and for one
   * that the queue has forgotten, only the audit log has it.
   * @param by who did it.
   * @returns whether it was noted.
   */
  async noteHold(session: SessionRef, event: 'held' | 'released', by?: string): Promise<boolean> {
    const job = await this.#job(session);
    if (!job) return false;
    const { transcript, recordings, history = [], ...before } = jobProgress(job);
    const revision = before.revision ?? job.returnvalue?.revision;
    const at = new Date().toISOString();
    return this.#backend.noteCompleted(this.#name, jobId(session), {
      ...(transcript && { transcript }),
      ...(recordings && { recordings }),
      ...(revision !== undefined && { revision }),
      history: noteEvent(history, { at, event, ...(by !== undefined && { by }) }),
    });
  }

  /** The view of a session, or `undefined` when the queue does not know it. */
  async view(session: SessionRef): Promise<SessionView | undefined> {
    return readView(this.#sessions, session);
  }

  /** A page of sessions, the newest first. @throws InvalidCursorError */
  async list(query: ListQuery = {}): Promise<SessionPage> {
    return listSessions(this.#backend.index, this.#name, query);
  }

  /** Drops some of what the index of sessions knows of those that have gone; for one worker every few seconds. */
  async tidy(): Promise<void> {
    await this.#backend.index.sweep(this.#name);
  }

  /** Runs a failed session again from the start. @param by who wants it, for its history. */
  async retry(session: SessionRef, by?: string): Promise<RetryOutcome> {
    const id = jobId(session);
    const status = (await this.#backend.statuses(this.#sessions, [id])).get(id);
    if (status === undefined) return 'unknown';
    if (status !== 'failed') return 'not-failed';
    return (await this.#intake.runAgain(id, 'failed', undefined, by)) === 'requeued'
      ? 'requeued'
      : 'not-failed';
  }

  /** Runs all failed sessions again, or those with a code. @returns how many. */
  async retryAll(code?: string, by?: string): Promise<number> {
    const which = { states: ['failed'], code } as const;
    const failed = await findSessions(this.#backend.index, this.#name, which);
    let requeued = 0;
    await forEachLimit(failed, CONCURRENCY, async (session) => {
      if ((await this.retry(session, by)) === 'requeued') requeued += 1;
    });
    return requeued;
  }

  /**
   * Takes a queued or waiting session out of the queue. Its archived objects stay. A session that is active or has
   * ended stays as well.
   */
  async cancel(session: SessionRef): Promise<CancelOutcome> {
    const state = stateOfJob(await this.#sessions.getJobState(jobId(session)));
    if (state === undefined) return 'unknown';
    if (!CANCELLABLE.includes(state)) return 'not-waiting';
    try {
      return (await this.#sessions.remove(jobId(session))) === 1 ? 'cancelled' : 'not-waiting';
    } catch (error) {
      // A worker took it in this moment, and BullMQ removes no job that is locked.
      const now = stateOfJob(await this.#sessions.getJobState(jobId(session)));
      if (now !== undefined && !CANCELLABLE.includes(now)) return 'not-waiting';
      throw error;
    }
  }

  /**
   * Takes all that the queue knows of a session out of it, in whichever state it is: its job, with its result and what
   * it remembers, and the check for its transcript.
   *
   * @returns whether nothing is left: an active job stays.
   */
  async forget(session: SessionRef): Promise<boolean> {
    const id = jobId(session);
    const gone = await Promise.all([this.#sessions, this.#transcripts].map((queue) => removeJob(queue, id)));
    return gone.every((isGone) => isGone);
  }

  /** Takes all queued and waiting sessions out of the queue, or those that the query names. @returns how many. */
  async cancelAll({ code, backfills, dryRun }: CancelQuery = {}): Promise<number> {
    const found = await findSessions(
      this.#backend.index,
      this.#name,
      { states: CANCELLABLE, code },
      ({ data }) => !backfills || data.backfill === true,
    );
    if (dryRun) return found.length;
    let cancelled = 0;
    await forEachLimit(found, CONCURRENCY, async (session) => {
      if ((await this.cancel(session)) === 'cancelled') cancelled += 1;
    });
    return cancelled;
  }

  /**
   * No worker takes a session until {@link SessionQueue.resume}; those in work go on. Awaited transcripts wait as well.
   */
  async pause(): Promise<void> {
    const wasPaused = await this.#sessions.isPaused();
    await Promise.all([this.#sessions.pause(), this.#transcripts.pause()]);
    if (!wasPaused) await this.board.notePaused();
  }

  /** Workers take sessions again. */
  async resume(): Promise<void> {
    await Promise.all([this.#sessions.resume(), this.#transcripts.resume()]);
    await this.board.noteResumed();
  }

  /** How many sessions a worker could take now: none while the queue is paused. */
  async takeable(): Promise<number> {
    return this.#stats.takeable();
  }

  /** Counts by state and the age of the queue. */
  async stats(): Promise<QueueStats> {
    const stats = await this.#stats.current();
    const pausedSince = stats.paused ? await this.board.pausedSince() : undefined;
    return { ...stats, ...(pausedSince !== undefined && { pausedSince }) };
  }

  /** How many calls to Kore were made in the last `windowMs`, and until when Kore asked to be left alone. */
  async callUsage(windowMs: number): Promise<CallUsage> {
    return answered(this.#backend.callUsage(this.#name, windowMs));
  }

  /** What ended in the last hour, and why sessions failed. */
  async activity(): Promise<QueueActivity> {
    return this.#stats.activity();
  }

  /** Resolves when the queue answers. A queue whose first command failed never does: this rejects then. */
  async ready(): Promise<void> {
    await Promise.all([this.#sessions.waitUntilReady(), this.#transcripts.waitUntilReady()]);
  }

  /** Asks the very objects that all else goes through. @throws when the queue can't be reached. */
  async check(): Promise<void> {
    await this.#backend.check();
    await Promise.all([this.#sessions.isPaused(), this.#transcripts.isPaused()]);
  }

  /** Releases the queue; the backend stays open. */
  async close(): Promise<void> {
    await Promise.all([this.#sessions.close(), this.#transcripts.close()]);
  }

  async #job(session: SessionRef): Promise<SessionJob | undefined> {
    return (await this.#sessions.getJob(jobId(session))) as SessionJob | undefined;
  }
}

/** Awaited transcripts have a queue of their own: they are no sessions, and never get in their way. */
export function transcriptQueueName(name: string): string {
  return `${name}-transcripts`;
}

/** Makes a check that waits for longer than that wait for no longer. */
async function bringForward(transcripts: JobQueue, id: string, delayMs: number): Promise<void> {
  const job = await transcripts.getJob(id);
  if (!job || !(await job.isDelayed())) return;
  // BullMQ gives the delay of a job that waits again, but not its start.
  const { nextAttemptAt } = jobProgress(job as SessionJob);
  const due = nextAttemptAt ? Date.parse(nextAttemptAt) : job.timestamp + job.delay;
  if (due <= Date.now() + delayMs) return;
  try {
    await job.changeDelay(delayMs);
  } catch (error) {
    // It is being made at this moment.
    if (await job.isDelayed()) throw error;
  }
}

/** @returns whether it is gone. BullMQ does not remove a locked job; it throws or returns a number then. */
async function removeJob(queue: JobQueue, id: string): Promise<boolean> {
  const isGone = async () => stateOfJob(await queue.getJobState(id)) === undefined;
  try {
    if (await isGone()) return true;
    await queue.remove(id);
    return await isGone();
  } catch (error) {
    // A worker took it in this moment.
    if (stateOfJob(await queue.getJobState(id)) === 'active') return false;
    throw error;
  }
}

function openQueue(backend: Backend, name: string, log: Logger, telemetry?: QueueTelemetry): JobQueue {
  const queue: JobQueue = new Queue(
    backend.queueName(name),
    { ...backend.options('producer'), ...(telemetry && { telemetry }) },
    backend.factory,
  );
  queue.on('error', errorListener(backend, log));
  return queue;
}
