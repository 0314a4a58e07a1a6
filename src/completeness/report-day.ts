import { ListingTruncated, type ListPage, listWindow, MIN_WINDOW_MS } from '../backfills/list.ts';
import type { ListingSource } from '../domain/backfills.ts';
import {
  DAY_MS,
  type DayReport,
  dayOf,
  type IncompleteReason,
  type ReportBasis,
} from '../domain/completeness.ts';
import { isVoicemailError, type VoicemailError } from '../domain/errors.ts';
import { creationTime, type SessionRef } from '../domain/session.ts';
import type { JobStatus } from '../jobs/backends/backend.ts';
import { jobId } from '../jobs/session-job.ts';
import type { SessionQueue } from '../jobs/session-queue.ts';
import type { ListedSession, ListingLimits } from '../kore/listings/listing.ts';
import { readManifest } from '../storage/documents.ts';
import { UNDATED } from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';
import { forEachLimit } from '../util/async.ts';
import { redact } from '../util/redact.ts';
import {
  type ArchivedState,
  readArchivedDay,
  readListed,
  readWithoutVoicemail,
  writeListed,
} from './documents.ts';
import { coveredTo, type JudgedDay, judgeDay } from './judge-day.ts';

/** What computing a day depends on. */
export interface DayReportDeps {
  readonly source: ListingSource;
  readonly lister: DayLister;
  readonly archive: ArchiveStore;
  readonly queue: Pick<SessionQueue, 'statuses' | 'view' | 'awaitingCheck'>;
  /** `KORE_RETENTION`, where it is known. */
  readonly retentionMs: number | undefined;
  readonly now: () => number;
  /** Whether to remember in the archive what is listed. */
  readonly remembers: boolean;
}

/** The verdict on a day, and what kept Kore from listing it. */
export interface ComputedDay extends JudgedDay {
  readonly fault?: VoicemailError;
}

/** The number of jobs in one request to the queue, and of single checks at a time. */
const BATCH = 1_000;
const CONCURRENCY = 8;

/**
 * Computes what became of a bot's sessions of a day: lists them at Kore page by page, lists the day in the archive, and
 * asks the queue in batches.
 *
 * @param known a fault that keeps Kore from listing anything: it is not asked again.
 * @throws what the archive throws; the signal's reason when aborted. Kore and the queue may fail: the report says so.
 */
export async function reportDay(
  botId: string,
  date: string,
  deps: DayReportDeps,
  signal: AbortSignal,
  known?: VoicemailError,
): Promise<ComputedDay> {
  const { archive, retentionMs } = deps;
  const now = deps.now();
  const before = await readListed(botId, date, archive, signal);
  const listing = known ?? (await listOrFail(date, deps, now, signal));
  const isListed = 'sessions' in listing;
  const doubts: IncompleteReason[] = [];
  if (!isListed) doubts.push(listing instanceof ListingTruncated ? 'listing-truncated' : 'listing-failed');
  if (isListed && listing.unreadable > 0) doubts.push('unreadable-entries');

  const listed = union(before?.sessions, isListed ? listing.sessions : []);
  const covered = isListed
    ? coveredTo(date, before?.coveredTo, now, retentionMs)
    : (before?.coveredTo ?? Date.parse(date));
  if (isListed && deps.remembers) {
    const sessions = Object.fromEntries(listed.map((one) => [one.sessionId, one.hasVoicemail ?? null]));
    await writeListed(botId, date, { coveredTo: covered, sessions }, archive, signal);
  }
  const { archived, withoutVoicemail } = await readArchive(botId, date, listed, archive, signal);
  const queue = await askQueue(botId, listed, archived, deps, signal);
  const verdict = judgeDay({
    date,
    botId,
    now,
    retentionMs,
    listed,
    coveredTo: covered,
    doubts,
    archived,
    withoutVoicemail,
    ...queue,
    ...(isListed ? { basis: basisOf(listing, listed, deps.source, now) } : { error: errorOf(listing) }),
  });
  return isListed || known !== undefined ? verdict : { ...verdict, fault: listing };
}

async function listOrFail(
  date: string,
  { lister }: DayReportDeps,
  now: number,
  signal: AbortSignal,
): Promise<DayListing | VoicemailError> {
  try {
    return await listDay(date, lister, now, signal);
  } catch (error) {
    if (signal.aborted || !isVoicemailError(error)) throw error;
    return error;
  }
}

/** What was ever listed, with what is known of it by now. */
function union(
  before: Readonly<Record<string, boolean | null>> | undefined,
  listed: readonly ListedSession[],
): ListedSession[] {
  const sessions = new Map<string, ListedSession>(
    Object.entries(before ?? {}).map(([sessionId, flag]) => [
      sessionId,
      { sessionId, hasVoicemail: flag ?? undefined },
    ]),
  );
  for (const session of listed) {
    const hasVoicemail = session.hasVoicemail ?? sessions.get(session.sessionId)?.hasVoicemail;
    sessions.set(session.sessionId, { ...session, hasVoicemail });
  }
  return [...sessions.values()];
}

/** What the archive has of the day, and of the listed sessions whose ids have no day. */
async function readArchive(
  botId: string,
  date: string,
  listed: readonly ListedSession[],
  archive: ArchiveStore,
  signal: AbortSignal,
): Promise<{ archived: Map<string, ArchivedState>; withoutVoicemail: Set<string> }> {
  const archived = await readArchivedDay(botId, date, archive, signal);
  const withoutVoicemail = await readWithoutVoicemail(botId, date, archive, signal);
  const undated = new Set(
    listed.filter(({ sessionId }) => creationTime(sessionId) === undefined).map(({ sessionId }) => sessionId),
  );
  if (undated.size > 0) {
    for (const [id, state] of await readArchivedDay(botId, UNDATED, archive, signal)) {
      if (undated.has(id)) archived.set(id, state);
    }
    for (const id of await readWithoutVoicemail(botId, UNDATED, archive, signal)) withoutVoicemail.add(id);
  }
  return { archived, withoutVoicemail };
}

interface QueueFacts {
  readonly statuses: ReadonlyMap<string, JobStatus> | undefined;
  readonly codes: ReadonlyMap<string, string>;
  readonly transcriptPending: ReadonlySet<string>;
}

async function askQueue(
  botId: string,
  listed: readonly ListedSession[],
  archived: ReadonlyMap<string, ArchivedState>,
  { queue, archive }: DayReportDeps,
  signal: AbortSignal,
): Promise<QueueFacts> {
  const refs = listed.map(({ sessionId }) => ({ botId, sessionId }));
  const statuses = new Map<string, JobStatus>();
  const toCheck: SessionRef[] = [];
  try {
    for (let at = 0; at < refs.length; at += BATCH) {
      signal.throwIfAborted();
      const batch = refs.slice(at, at + BATCH);
      for (const [id, status] of await queue.statuses(batch)) statuses.set(id, status);
      toCheck.push(
        ...(await queue.awaitingCheck(
          batch.filter(({ sessionId }) => archived.get(sessionId) === 'archived'),
        )),
      );
    }
  } catch (error) {
    if (signal.aborted || isVoicemailError(error)) throw error;
    return { statuses: undefined, codes: new Map(), transcriptPending: new Set() };
  }
  const codes = new Map<string, string>();
  const failed = refs.filter((session) => statuses.get(jobId(session)) === 'failed');
  await forEachLimit(failed, CONCURRENCY, async (session) => {
    const code = (await queue.view(session))?.error?.code;
    if (code) codes.set(session.sessionId, code);
  });
  const transcriptPending = new Set<string>();
  await forEachLimit(toCheck, CONCURRENCY, async (session) => {
    const transcript =
      (await queue.view(session))?.transcript ?? (await readTranscriptState(session, archive, signal));
    if (transcript === 'pending') transcriptPending.add(session.sessionId);
  });
  return { statuses, codes, transcriptPending };
}

/** For an archived session of which the queue has only a later check. */
async function readTranscriptState(session: SessionRef, archive: ArchiveStore, signal: AbortSignal) {
  try {
    return (await readManifest(session, archive, signal))?.transcript.state;
  } catch (error) {
    // `verify` reports a manifest that can't be read.
    if (isVoicemailError(error, 'ARCHIVE_CONFLICT')) return undefined;
    throw error;
  }
}

function basisOf(
  { from, to, windows, pages, rows }: DayListing,
  listed: readonly ListedSession[],
  source: ListingSource,
  now: number,
): ReportBasis {
  return {
    source,
    from: new Date(from).toISOString(),
    to: new Date(to).toISOString(),
    windows,
    pages,
    rows,
    withFlag: listed.filter(({ hasVoicemail }) => hasVoicemail !== undefined).length,
    startedAt: new Date(now).toISOString(),
  };
}

function errorOf({ code, message }: VoicemailError): NonNullable<DayReport['error']> {
  return { code, message: redact(message) };
}

/** What Kore lists of a day, and how that was found out. */
interface DayListing {
  /** The sessions of the day, each once. */
  readonly sessions: readonly ListedSession[];
  /** Entries that name no session. */
  readonly unreadable: number;
  readonly from: number;
  readonly to: number;
  readonly windows: number;
  readonly pages: number;
  readonly rows: number;
}

/** What listing depends on. */
interface DayLister {
  readonly limits: ListingLimits;
  readonly listPage: ListPage;
}

/** By so much the start of a session in a listing may differ from the time in its id. */
const MARGIN_MS = 60 * 60 * 1000;

/**
 * Lists the sessions of a day. A session belongs to the day in its id, as in the archive. Where the id has none, it
 * belongs to the day on which it began by the listing. So an hour before and after the day is listed as well.
 *
 * @param date `YYYY-MM-DD`
 * @throws ListingTruncated when a single second has more sessions than can be listed; VoicemailError with any of the
 * `KORE_*` codes; the signal's reason when aborted.
 */
async function listDay(
  date: string,
  { limits, listPage }: DayLister,
  now: number,
  signal: AbortSignal,
): Promise<DayListing> {
  const dayStart = Date.parse(date);
  const from = dayStart - MARGIN_MS;
  // Nothing has begun after now, and Kore may refuse a request for it.
  const to = Math.min(dayStart + DAY_MS + MARGIN_MS, Math.ceil((now + 1) / 1000) * 1000);
  const sessions = new Map<string, ListedSession>();
  const total = { unreadable: 0, windows: 0, pages: 0, rows: 0 };
  const counting: ListPage = async (query, pageSignal) => {
    const page = await listPage(query, pageSignal);
    total.pages += 1;
    total.rows += page.rows;
    return page;
  };
  let windowMs = limits.maxWindowMs;
  for (let at = from; at < to; ) {
    signal.throwIfAborted();
    const window = { from: at, to: Math.min(at + windowMs, to) };
    const listing = await listWindow(window, counting, limits, signal);
    if (listing.kind === 'too-much') {
      windowMs = Math.max(
        MIN_WINDOW_MS,
        Math.ceil((window.to - window.from) / 2 / MIN_WINDOW_MS) * MIN_WINDOW_MS,
      );
      continue;
    }
    total.windows += 1;
    total.unreadable += listing.unreadable;
    for (const session of listing.sessions) {
      if (
        (dayOfSession(session) ?? date) === date &&
        sessions.get(session.sessionId)?.hasVoicemail !== true
      ) {
        sessions.set(session.sessionId, session);
      }
    }
    at = window.to;
  }
  return { sessions: [...sessions.values()], from, to, ...total };
}

function dayOfSession({ sessionId, call }: ListedSession): string | undefined {
  const began = creationTime(sessionId)?.getTime() ?? Date.parse(call?.startedAt ?? '');
  return Number.isNaN(began) ? undefined : dayOf(began);
}
