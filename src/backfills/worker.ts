import { setTimeout as sleep, setInterval as ticks } from 'node:timers/promises';
import type { ScheduleSpec, WorkConfig } from '../config/config.ts';
import type { BackfillRequest, ListingSource } from '../domain/backfills.ts';
import type { createCallFilter } from '../domain/call.ts';
import type { CompletenessOrder, DayReport } from '../domain/completeness.ts';
import { isVoicemailError, VoicemailError } from '../domain/errors.ts';
import type { EnqueueResult } from '../domain/requests.ts';
import type { Backend } from '../jobs/backends/backend.ts';
import {
  type BackfillJobData,
  type BackfillJobProgress,
  type BackfillQueue,
  backfillQueueName,
  type DailyCompleteness,
  openEnd,
} from '../jobs/backfill-queue.ts';
import { CallLimitReached } from '../jobs/call-limit.ts';
import { Consumer, type JobDecision, type TakenJob } from '../jobs/consumer.ts';
import type { SessionQueue } from '../jobs/session-queue.ts';
import type { KoreClient } from '../kore/client.ts';
import { callsListing } from '../kore/listings/calls.ts';
import type { Listing } from '../kore/listings/listing.ts';
import { sessionsListing } from '../kore/listings/sessions.ts';
import type { Logger } from '../util/log.ts';
import { decideOutcome } from '../workers/failure-policy.ts';
import { type ArchiveLookup, findArchived } from './archived.ts';
import { enqueueRequestOf, type ListPage } from './list.ts';
import { type BackfillDeps, type Queued, runBackfill } from './run.ts';

/** What a worker on backfills works with. */
export interface BackfillWorkerDeps {
  readonly backend: Backend;
  /** `QUEUE_NAME` */
  readonly queueName: string;
  readonly backfills: BackfillQueue;
  readonly sessions: Pick<SessionQueue, 'enqueue'>;
  readonly archive: ArchiveLookup;
  readonly listPage: KoreClient['listPage'];
  /** `KORE_ACCOUNT_ID` */
  readonly accountId: string | undefined;
  /** `KORE_BOT_ID`, the bot that schedules look after. */
  readonly defaultBotId: string;
  /** `SCHEDULES` */
  readonly schedules: readonly ScheduleSpec[];
  /** Makes of what a listing says of a call what is kept of it (`CALL_METADATA`). */
  readonly keepCall: ReturnType<typeof createCallFilter>;
  /** Computes the reports of a completeness run. */
  readonly completeness: CompletenessWorker;
  /** Writes the daily digests that are due; left out where nothing is signed. */
  readonly writeDigests?: ((signal: AbortSignal) => Promise<void>) | undefined;
  readonly work: WorkConfig;
  readonly log: Logger;
}

/** Works on completeness runs, which lie in the same queue. */
export interface CompletenessWorker {
  /** When the daily run is to be made; without it, there is none. */
  readonly daily: DailyCompleteness | undefined;
  /**
   * @param before the days done before an interruption.
   * @param save stores the finished days.
   */
  run(
    order: CompletenessOrder & { readonly isDaily: boolean },
    before: readonly DayReport[],
    save: (days: readonly DayReport[]) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void>;
}

/** A running worker on backfills. */
export interface BackfillWorker {
  /** Resolves when backfills are being taken, and the declared schedules are set. */
  ready(): Promise<void>;
  /** Gives what it does back to the queue, and ends. */
  stop(): Promise<void>;
}

type BackfillTaken = TakenJob<BackfillJobData, BackfillJobProgress>;

/** A nightly backfill and a completeness run need not wait for a backfill over years. */
const CONCURRENCY = 3;
/**
 * A backfill waits this long for a call without being given back: it would have to list its window again from the
 * first page, and might never come to the last.
 */
const MAX_WAIT_IN_PLACE_MS = 2 * 60 * 1000;
/** Kore may refuse a page this often in a row before the backfill is given back. */
const MAX_REFUSALS = 10;

/** The longest time until a declared schedule that is gone is set again. */
const SCHEDULES_CHECK_MS = 10_000;

/** Starts working on backfills and schedules. */
export function startBackfillWorker(deps: BackfillWorkerDeps): BackfillWorker {
  const stopping = new AbortController();
  const consumer = new Consumer<BackfillJobData, BackfillJobProgress, null>(
    deps.backend,
    backfillQueueName(deps.queueName),
    {
      concurrency: CONCURRENCY,
      log: deps.log,
      handle: (job, signal) => handle(job, deps, AbortSignal.any([signal, stopping.signal])),
    },
  );
  let keeping: Promise<void> | undefined;
  return {
    async ready() {
      await consumer.ready();
      for (const schedule of deps.schedules) await deps.backfills.setSchedule(schedule);
      await deps.backfills.setDailyCompleteness(deps.completeness.daily);
      if (deps.writeDigests) await deps.backfills.setDigestSchedule();
      if (deps.schedules.length > 0 || deps.completeness.daily || deps.writeDigests)
        keeping ??= keepSchedules(deps, stopping.signal);
    },
    async stop() {
      // Nothing is lost by breaking off: it goes on with the window it is in.
      stopping.abort();
      await Promise.all([keeping, consumer.stop(deps.work.shutdownGraceMs)]);
    },
  };
}

/** Sets declared schedules again when they are gone, as when Redis was replaced by an empty one. */
async function keepSchedules(
  { schedules, backfills, completeness, writeDigests, log }: BackfillWorkerDeps,
  signal: AbortSignal,
): Promise<void> {
  try {
    for await (const _ of ticks(SCHEDULES_CHECK_MS, undefined, { signal })) {
      try {
        if (completeness.daily) await backfills.setDailyCompleteness(completeness.daily);
        const names = (await backfills.schedules()).map(({ name }) => name);
        for (const schedule of schedules.filter(({ name }) => !names.includes(name))) {
          await backfills.setSchedule(schedule);
          log.warn({ schedule: schedule.name }, 'a schedule that SCHEDULES declares was gone: set again');
        }
        if (writeDigests) await backfills.setDigestSchedule();
      } catch (error) {
        log.warn({ err: error }, 'could not look for the schedules that SCHEDULES declares');
      }
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

async function handle(
  job: BackfillTaken,
  deps: BackfillWorkerDeps,
  signal: AbortSignal,
): Promise<JobDecision<null>> {
  const memory = new Memory(job);
  try {
    if (job.data.kind === 'schedule') await startScheduled(job, job.data.lookbackMs, deps);
    else if (job.data.kind === 'digests') await writeDueDigests(deps, signal);
    else if (job.data.kind === 'completeness') await computeDays(job, job.data, memory, deps, signal);
    else await work(job, job.data, memory, deps, signal);
    return { kind: 'done', result: null };
  } catch (error) {
    if (signal.aborted) return { kind: 'give-back' };
    if (error instanceof BackfillCancelled) {
      deps.log.info({ backfill: job.id }, 'backfill cancelled');
      return { kind: 'done', result: null };
    }
    return whatNext(job, error, memory, deps);
  }
}

/** The backfill was cancelled. */
class BackfillCancelled extends Error {}

async function writeDueDigests({ writeDigests }: BackfillWorkerDeps, signal: AbortSignal): Promise<void> {
  if (writeDigests) return writeDigests(signal);
  throw new VoicemailError('INTERNAL', 'digests are due, and this worker has no key to sign them', {
    retryable: false,
    hint: 'set MANIFEST_KEY_FILE for all workers; the next run makes up for the days that are missed',
  });
}

/** What the job remembers, as last saved. */
class Memory {
  readonly #job: BackfillTaken;
  #progress: BackfillJobProgress;

  constructor(job: BackfillTaken) {
    this.#job = job;
    this.#progress = job.progress;
  }

  get progress(): BackfillJobProgress {
    return this.#progress;
  }

  async save(progress: BackfillJobProgress): Promise<void> {
    this.#progress = progress;
    await this.#job.saveProgress(progress);
  }
}

/**
 * Starts the backfill of a schedule that is due. It looks back from when it was due, and up to now: so a run that
 * was missed while everything was down, and comes late, leaves no gap.
 */
async function startScheduled(
  { scheduledAt }: BackfillTaken,
  lookbackMs: number,
  { backfills, defaultBotId, log }: BackfillWorkerDeps,
): Promise<void> {
  const now = Date.now();
  const request = {
    botId: defaultBotId,
    from: new Date(wholeSecond((scheduledAt ?? now) - lookbackMs)).toISOString(),
    to: openEnd(now),
  };
  const id = await backfills.start(request, true);
  log.info({ backfill: id, from: request.from, to: request.to }, 'a schedule is due: backfill started');
}

async function computeDays(
  { scheduledAt }: BackfillTaken,
  order: CompletenessOrder,
  memory: Memory,
  { completeness }: BackfillWorkerDeps,
  signal: AbortSignal,
): Promise<void> {
  const isDaily = scheduledAt !== undefined;
  const save = (days: readonly DayReport[]) => memory.save({ days });
  await completeness.run({ ...order, isDaily }, memory.progress.days ?? [], save, signal);
}

async function work(
  { id }: BackfillTaken,
  request: BackfillRequest,
  memory: Memory,
  deps: BackfillWorkerDeps,
  signal: AbortSignal,
): Promise<void> {
  const { log, backfills, archive } = deps;
  const { botId, dryRun = false } = request;
  const source = request.source ?? (deps.accountId === undefined ? 'sessions' : 'calls');
  const listing = listingOf(source, deps.accountId);
  const task = {
    botId,
    from: wholeSecond(Date.parse(request.from)),
    to: Math.ceil(Date.parse(request.to) / 1000) * 1000,
    dryRun,
  };
  const note = async (sessions: readonly { readonly sessionId: string }[]) => {
    if (sessions.length > 0) {
      await backfills.addSessions(
        id,
        sessions.map(({ sessionId }) => sessionId),
      );
    }
  };
  const runDeps: BackfillDeps = {
    limits: listing.limits,
    listPage: retryWhileLimited(async (query, pageSignal) => {
      // Beside a call to Kore, this one costs nothing.
      if (await backfills.isCancelled(id)) throw new BackfillCancelled();
      return deps.listPage(listing, { botId, ...query }, pageSignal);
    }),
    findArchived: (sessions, lookupSignal) => findArchived(sessions, archive, lookupSignal),
    async enqueue(missing) {
      const results = await deps.sessions.enqueue(
        missing.map((session) => ({ ...enqueueRequestOf(session, deps.keepCall), by: `backfill ${id}` })),
      );
      await note(results.filter(({ outcome }) => outcome !== 'already-archived'));
      return tally(results);
    },
    noteMissing: note,
    async save(reached) {
      await memory.save({ source, reached });
      log.info({ backfill: id, listedTo: iso(reached.listedTo), ...reached.counts }, 'backfill goes on');
    },
  };
  if (memory.progress.source === undefined) await memory.save({ ...memory.progress, source });
  const { counts } = await runBackfill(task, memory.progress.reached, runDeps, signal);
  log.info({ backfill: id, ...counts }, 'backfill has listed everything');
}

/** @throws VoicemailError when call details are requested and no account is known. */
export function listingOf(source: ListingSource, accountId: string | undefined): Listing {
  if (source === 'sessions') return sessionsListing;
  if (accountId !== undefined) return callsListing(accountId);
  throw new VoicemailError('INTERNAL', 'call details are listed by account, and KORE_ACCOUNT_ID is not set', {
    retryable: false,
    hint: 'set KORE_ACCOUNT_ID for the workers, or use the source "sessions"',
  });
}

function tally(results: readonly EnqueueResult[]): Queued {
  const count = (...outcomes: EnqueueResult['outcome'][]) =>
    results.filter(({ outcome }) => outcomes.includes(outcome)).length;
  return {
    queued: count('queued', 'requeued'),
    alreadyQueued: count('already-queued'),
    alreadyArchived: count('already-archived'),
  };
}

/** Waits for a call as long as that makes sense. */
export function retryWhileLimited(listPage: ListPage): ListPage {
  return async (query, signal) => {
    for (let refusals = 0; ; ) {
      try {
        return await listPage(query, signal);
      } catch (error) {
        if (!isVoicemailError(error, 'KORE_RATE_LIMITED')) throw error;
        if (!(error instanceof CallLimitReached)) refusals += 1;
        const waitMs = error.retryAfterMs ?? MAX_WAIT_IN_PLACE_MS;
        if (waitMs > MAX_WAIT_IN_PLACE_MS || refusals > MAX_REFUSALS) throw error;
        await sleep(waitMs, undefined, { signal });
      }
    }
  };
}

/**
 * What becomes of a backfill that can't go on: it waits, with growing pauses as long as it does not get on at all.
 * Only what never passes by itself, or lasts longer than `RETRY_WAIT`, fails it.
 */
async function whatNext(
  { id, data }: BackfillTaken,
  error: unknown,
  memory: Memory,
  { work: limits, log }: BackfillWorkerDeps,
): Promise<JobDecision<null>> {
  const { failures = 0, trouble = {}, ...rest } = memory.progress;
  const now = Date.now();
  const attempt = { error, attemptsMade: failures, progress: trouble, now };
  const { verdict, error: known, progress } = decideOutcome(attempt, limits);
  log.warn(
    { backfill: id, kind: data.kind, code: known.code, err: known },
    'a backfill cannot go on for now',
  );
  await memory.save({ ...rest, trouble: progress, failures: failures + 1 });
  if (verdict.kind === 'fail') return verdict;
  if (verdict.kind === 'retry') return { kind: 'wait', until: now + verdict.delayMs };
  return verdict.kind === 'wait' ? verdict : { kind: 'give-back' };
}

function wholeSecond(milliseconds: number): number {
  return Math.floor(milliseconds / 1000) * 1000;
}

function iso(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
