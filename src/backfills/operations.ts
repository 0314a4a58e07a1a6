import type { ScheduleSpec } from '../config/config.ts';
import type { BackfillRequest, ListingSource } from '../domain/backfills.ts';
import type { SessionRef } from '../domain/session.ts';
import type { SessionError } from '../domain/views.ts';
import { type BackfillJob, type BackfillQueue, openEnd, type Schedule } from '../jobs/backfill-queue.ts';
import { jobId } from '../jobs/session-job.ts';
import type { SessionQueue } from '../jobs/session-queue.ts';
import { manifestKey } from '../storage/layout.ts';
import { shareResult } from '../util/async.ts';
import { type ArchiveLookup, findArchived } from './archived.ts';

/**
 * How far a backfill is. `listing`: it looks through Kore's sessions; `waiting`: it can't at present, and goes on by
 * itself; `listed`: all are listed and the missing ones queued, of which `open` are still to be archived; `cancelled`:
 * nothing more is looked through, and what was queued before is archived all the same.
 */
export const BACKFILL_STATES = ['queued', 'listing', 'waiting', 'listed', 'cancelled', 'failed'] as const;
export type BackfillState = (typeof BACKFILL_STATES)[number];

/** A backfill as everybody outside sees it. Times are ISO 8601 in UTC. */
export interface BackfillView {
  readonly id: string;
  readonly state: BackfillState;
  readonly botId: string;
  readonly from: string;
  readonly to: string;
  /** Known from its start on, where it was left open. */
  readonly source?: ListingSource;
  readonly dryRun: boolean;
  /** Voice sessions that Kore lists, as far as they are looked through. */
  readonly listed: number;
  /** Of those: archived before. */
  readonly skipped: number;
  /** Of those: queued by this backfill. */
  readonly queued: number;
  /** Of those: in the queue before. */
  readonly alreadyQueued: number;
  /** Of those: without a voicemail, by the listing or by Kore's answer. */
  readonly withoutVoicemail: number;
  /** Of those: missing from the archive, in a dry run. */
  readonly missing: number;
  /** Of those in the queue through this backfill or before: archived by now. */
  readonly archived: number;
  /** Of those: failed. */
  readonly failed: number;
  /** Of those: still to be archived. */
  readonly open: number;
  /** Entries of Kore's listing that name no session. */
  readonly unreadable: number;
  /** Everything before is looked through. */
  readonly listedTo?: string;
  readonly enqueuedAt: string;
  readonly startedAt?: string;
  readonly finishedAt?: string;
  readonly nextAttemptAt?: string;
  readonly error?: SessionError;
}

/** What to look through; `to` is now if not given. */
export type BackfillOrder = Omit<BackfillRequest, 'to'> & { readonly to?: string };

/** What people and programs may ask of backfills and schedules. */
export interface BackfillOperations {
  /** Starts a backfill, or joins the one that looks through the same. */
  start(order: BackfillOrder): Promise<BackfillView>;
  /** `undefined` when there is none of that id. */
  view(id: string): Promise<BackfillView | undefined>;
  /**
   * Ends a backfill that has not ended; what it has queued stays queued.
   * @returns `undefined` when there is none of that id.
   */
  cancel(id: string): Promise<'cancelled' | 'ended' | undefined>;
  /** The latest ones, those that have not ended first. */
  list(): Promise<readonly BackfillView[]>;
  /** Sessions that a backfill queued, or that a dry run found missing: the first `limit` of them. */
  sessions(id: string, limit: number): Promise<readonly string[]>;
  schedules(): Promise<readonly Schedule[]>;
  /** Sets a schedule, in place of the one of that name. */
  setSchedule(schedule: ScheduleSpec): Promise<void>;
  /** @returns whether there was one. */
  removeSchedule(name: string): Promise<boolean>;
}

/** Backfills in a list at most. */
const MAX_LISTED = 100;

/** How the sessions of a backfill stand. */
interface SessionCounts {
  readonly archived: number;
  readonly failed: number;
  readonly open: number;
  readonly gone: number;
}

const NONE: SessionCounts = { archived: 0, failed: 0, open: 0, gone: 0 };

/** Counting many sessions takes long: the counts are reused for a multiple of that time, but not longer than this. */
const FRESH_FOR = 9;
const MAX_FRESH_MS = 3_000;

/** Backfills on a queue and an archive that this process has open. */
export function createBackfillOperations(
  backfills: BackfillQueue,
  sessions: Pick<SessionQueue, 'statuses'>,
  archive: ArchiveLookup,
): BackfillOperations {
  const snapshots = new Map<
    string,
    { readonly version: string; readonly look: () => Promise<SessionCounts> }
  >();

  /** How the sessions of a backfill stand, by the last check of them or by a new one. */
  function sessionCountsOf(job: BackfillJob): Promise<SessionCounts> {
    const version = JSON.stringify([job.enqueuedAt, job.state, job.progress.reached?.counts]);
    let last = snapshots.get(job.id);
    if (last?.version !== version) {
      // What all has ended well does not change any more.
      const isSettled = ({ open, failed }: SessionCounts) =>
        job.state === 'completed' && open === 0 && failed === 0;
      const look = shareResult(
        () => countSessions(job),
        (counts, tookMs) =>
          isSettled(counts) ? Number.POSITIVE_INFINITY : Math.min(FRESH_FOR * tookMs, MAX_FRESH_MS),
      );
      last = { version, look };
      snapshots.set(job.id, last);
    }
    return last.look();
  }

  /**
   * The states of a backfill's sessions, from the queue and, for those it has forgotten, from the archive. A session
   * that neither has was checked and had no voicemail (or was removed by hand).
   */
  async function countSessions({ id, request }: BackfillJob): Promise<SessionCounts> {
    if (request.dryRun) return NONE;
    const seen = new Set<string>();
    const counts = { archived: 0, failed: 0, open: 0, gone: 0 };
    const forgotten: SessionRef[] = [];
    for await (const batch of backfills.sessions(id, request.botId)) {
      const fresh = batch.filter(({ sessionId }) => !seen.has(sessionId));
      for (const { sessionId } of fresh) seen.add(sessionId);
      const statuses = await sessions.statuses(fresh);
      for (const session of fresh) {
        const status = statuses.get(jobId(session));
        if (status === undefined) forgotten.push(session);
        else if (status === 'completed') counts.archived += 1;
        else if (status === 'failed') counts.failed += 1;
        else counts.open += 1;
      }
    }
    const archived = await findArchived(forgotten, archive, new AbortController().signal);
    for (const session of forgotten) counts[archived.has(manifestKey(session)) ? 'archived' : 'gone'] += 1;
    return counts;
  }

  const viewOf = async (job: BackfillJob) => backfillView(job, await sessionCountsOf(job));

  return {
    async start(order) {
      const request = { ...order, to: order.to ?? openEnd(Date.now()) };
      const id = await backfills.start(request, order.to === undefined);
      const job = await backfills.get(id);
      if (!job) throw new Error(`the backfill ${id} was removed in the moment it was started`);
      return viewOf(job);
    },
    async view(id) {
      const job = await backfills.get(id);
      return job && viewOf(job);
    },
    cancel: (id) => backfills.cancel(id),
    list: async () => Promise.all((await backfills.list(MAX_LISTED)).map(viewOf)),
    async sessions(id, limit) {
      const found = new Set<string>();
      for await (const batch of backfills.sessions(id, '')) {
        for (const { sessionId } of batch) found.add(sessionId);
        if (found.size >= limit) break;
      }
      return [...found].slice(0, limit);
    },
    schedules: () => backfills.schedules(),
    setSchedule: (schedule) => backfills.setSchedule(schedule),
    removeSchedule: (name) => backfills.removeSchedule(name),
  };
}

const STATES: Readonly<Record<BackfillJob['state'], BackfillState>> = {
  queued: 'queued',
  active: 'listing',
  waiting: 'waiting',
  completed: 'listed',
  failed: 'failed',
};

function backfillView(job: BackfillJob, sessions: SessionCounts): BackfillView {
  const { id, request, progress, enqueuedAt, startedAt, finishedAt } = job;
  const { botId, from, to, dryRun = false } = request;
  const state = job.isCancelled ? 'cancelled' : STATES[job.state];
  const source = progress.source ?? request.source;
  const counts = progress.reached?.counts;
  const nextAttemptAt = state === 'waiting' ? progress.trouble?.nextAttemptAt : undefined;
  const error = state === 'waiting' || state === 'failed' ? errorOf(job) : undefined;
  return {
    id,
    state,
    botId,
    from,
    to,
    ...(source && { source }),
    dryRun,
    listed: counts?.listed ?? 0,
    skipped: counts?.skipped ?? 0,
    queued: counts?.queued ?? 0,
    alreadyQueued: counts?.alreadyQueued ?? 0,
    withoutVoicemail: (counts?.withoutVoicemail ?? 0) + sessions.gone,
    missing: counts?.missing ?? 0,
    archived: sessions.archived,
    failed: sessions.failed,
    open: sessions.open,
    unreadable: counts?.unreadable ?? 0,
    ...(progress.reached && { listedTo: iso(progress.reached.listedTo) }),
    enqueuedAt: iso(enqueuedAt),
    ...(startedAt !== undefined && { startedAt: iso(startedAt) }),
    ...(finishedAt !== undefined && { finishedAt: iso(finishedAt) }),
    ...(nextAttemptAt && { nextAttemptAt }),
    ...(error && { error }),
  };
}

/** BullMQ itself fails a job whose workers died too often; then no worker recorded an error. */
function errorOf({ progress, failedReason, state, finishedAt }: BackfillJob): SessionError | undefined {
  if (progress.trouble?.error || state !== 'failed') return progress.trouble?.error;
  return { code: 'INTERNAL', message: failedReason, retryable: true, at: iso(finishedAt ?? Date.now()) };
}

function iso(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
