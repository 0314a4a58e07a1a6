import { type ListPage, listWindow, MIN_WINDOW_MS } from '../backfills/list.ts';
import { DAY_MS, dayOf } from '../domain/completeness.ts';
import { creationTime } from '../domain/session.ts';
import type { ListedSession, ListingLimits } from '../kore/listings/listing.ts';

/** What Kore lists of a day, and how that was found out. */
export interface DayListing {
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
export interface DayLister {
  readonly limits: ListingLimits;
  readonly listPage: ListPage;
}

/** By so much the time that a listing has of a session may differ from the one that its id tells. */
const MARGIN_MS = 60 * 60 * 1000;

/**
 * Lists the sessions of a day. A session belongs to the day that its id tells, as in the archive, and only where the id
 * tells none to the day that the listing says it began on. So an hour before and after the day is listed as well.
 *
 * @param date `YYYY-MM-DD`
 * @throws ListingTruncated when a single second has more sessions than can be listed; VoicemailError with any of the
 * `KORE_*` codes; the signal's reason when aborted.
 */
export async function listDay(
  date: string,
  { limits, listPage }: DayLister,
  now: number,
  signal: AbortSignal,
): Promise<DayListing> {
  const dayStart = Date.parse(date);
  const from = dayStart - MARGIN_MS;
  // Nothing has begun after now, and Kore need not like to be asked for it.
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
