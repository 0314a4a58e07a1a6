import type { BackfillCounts, BackfillProgress } from '../domain/backfills.ts';
import type { SessionRef } from '../domain/session.ts';
import type { ListedSession, ListingLimits } from '../kore/listings/listing.ts';
import { manifestKey } from '../storage/layout.ts';
import { type ListPage, listWindow, MIN_WINDOW_MS, type MissingSession, type Window } from './list.ts';

/** What to look through: a bot's sessions of a stretch of time. */
export interface BackfillTask extends Window {
  readonly botId: string;
  /** Only find out what is missing. */
  readonly dryRun: boolean;
}

/** What became of a batch of sessions. */
export interface Queued {
  readonly queued: number;
  readonly alreadyQueued: number;
  /** Archived since they were looked up. */
  readonly alreadyArchived: number;
}

/** Everything a backfill depends on. */
export interface BackfillDeps {
  readonly limits: ListingLimits;
  readonly listPage: ListPage;
  /** @returns the manifest keys of those sessions that are archived. */
  readonly findArchived: (
    sessions: readonly SessionRef[],
    signal: AbortSignal,
  ) => Promise<ReadonlySet<string>>;
  /** Queues sessions behind live ones, and notes that this backfill did. */
  readonly enqueue: (missing: readonly MissingSession[]) => Promise<Queued>;
  /** Notes what a dry run found missing. */
  readonly noteMissing: (sessions: readonly SessionRef[]) => Promise<void>;
  /** Keeps what there is to go on from, whatever happens to this process. */
  readonly save: (progress: BackfillProgress) => Promise<void>;
}

const NOTHING: BackfillCounts = {
  listed: 0,
  skipped: 0,
  queued: 0,
  alreadyQueued: 0,
  withoutVoicemail: 0,
  missing: 0,
  unreadable: 0,
};

/** Sessions queued in one go. */
const BATCH_SIZE = 1_000;
/** A window that came on fewer pages than this is followed by one twice as long. */
const FEW_PAGES = 5;

/**
 * Looks through the sessions of a stretch of time, oldest first, window by window: list them, leave out those
 * without a voicemail and those archived, queue the rest behind live sessions, and remember how far it came.
 *
 * Whatever it is interrupted by, it goes on with the window it was in: what of that was queued before is then
 * found in the queue or in the archive.
 *
 * @param before how far it came before; `undefined` for a new one.
 * @throws VoicemailError with the code of whatever keeps it from going on; the signal's reason when aborted.
 */
export async function runBackfill(
  task: BackfillTask,
  before: BackfillProgress | undefined,
  deps: BackfillDeps,
  signal: AbortSignal,
): Promise<BackfillProgress> {
  let progress = before ?? { listedTo: task.from, windowMs: deps.limits.maxWindowMs, counts: NOTHING };
  // Whether a window includes its last second is not documented, so the next one begins with it.
  let known: ReadonlySet<string> = new Set();
  while (progress.listedTo < task.to) {
    signal.throwIfAborted();
    const from = progress.listedTo;
    const window = { from, to: Math.min(from + progress.windowMs, task.to) };
    const listing = await listWindow(window, deps.listPage, deps.limits, signal);
    if (listing.kind === 'too-much') {
      progress = { ...progress, windowMs: half(window.to - window.from) };
      continue;
    }
    const fresh = listing.sessions.filter(({ sessionId }) => !known.has(sessionId));
    known = new Set(listing.sessions.map(({ sessionId }) => sessionId));
    const found = await dealWith(fresh, task, deps, signal);
    const isShort = listing.pages < FEW_PAGES;
    progress = {
      listedTo: window.to,
      windowMs: isShort ? Math.min(progress.windowMs * 2, deps.limits.maxWindowMs) : progress.windowMs,
      counts: add(progress.counts, { ...found, unreadable: listing.unreadable }),
    };
    await deps.save(progress);
  }
  return progress;
}

/** Queues those of the sessions that are missing, or notes them in a dry run. */
async function dealWith(
  listed: readonly ListedSession[],
  { botId, dryRun }: BackfillTask,
  deps: BackfillDeps,
  signal: AbortSignal,
): Promise<BackfillCounts> {
  const possible: MissingSession[] = listed
    .filter(({ hasVoicemail }) => hasVoicemail !== false)
    .map(({ sessionId, hasVoicemail, call }) => ({
      botId,
      sessionId,
      isCertain: hasVoicemail === true,
      ...(call && { call }),
    }));
  const archived = await deps.findArchived(possible, signal);
  const missing = possible.filter((session) => !archived.has(manifestKey(session)));
  const counts = {
    ...NOTHING,
    listed: listed.length,
    withoutVoicemail: listed.length - possible.length,
    skipped: possible.length - missing.length,
  };
  if (dryRun) {
    if (missing.length > 0) await deps.noteMissing(missing);
    return { ...counts, missing: missing.length };
  }
  let total: BackfillCounts = counts;
  for (let at = 0; at < missing.length; at += BATCH_SIZE) {
    signal.throwIfAborted();
    const { queued, alreadyQueued, alreadyArchived } = await deps.enqueue(missing.slice(at, at + BATCH_SIZE));
    total = add(total, { ...NOTHING, queued, alreadyQueued, skipped: alreadyArchived });
  }
  return total;
}

/** Half a window, in whole seconds. */
function half(milliseconds: number): number {
  return Math.max(MIN_WINDOW_MS, Math.ceil(milliseconds / 2 / MIN_WINDOW_MS) * MIN_WINDOW_MS);
}

function add(a: BackfillCounts, b: BackfillCounts): BackfillCounts {
  return {
    listed: a.listed + b.listed,
    skipped: a.skipped + b.skipped,
    queued: a.queued + b.queued,
    alreadyQueued: a.alreadyQueued + b.alreadyQueued,
    withoutVoicemail: a.withoutVoicemail + b.withoutVoicemail,
    missing: a.missing + b.missing,
    unreadable: a.unreadable + b.unreadable,
  };
}
