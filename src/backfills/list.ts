import type { CallMetadata, createCallFilter } from '../domain/call.ts';
import { VoicemailError } from '../domain/errors.ts';
import type { EnqueueRequest } from '../domain/requests.ts';
import { creationTime, type SessionRef } from '../domain/session.ts';
import {
  type ListedSession,
  type ListingLimits,
  type ListingPage,
  PAGE_SIZE,
  type PageQuery,
} from '../kore/listings/listing.ts';

/** A closed stretch of time, in unix milliseconds of whole seconds. */
export interface Window {
  readonly from: number;
  readonly to: number;
}

/** Lists one page of a window. */
export type ListPage = (query: Omit<PageQuery, 'botId'>, signal: AbortSignal) => Promise<ListingPage>;

/** What the listing of a window came to. */
export type WindowListing =
  | {
      readonly kind: 'listed';
      /** Each once. */
      readonly sessions: readonly ListedSession[];
      readonly unreadable: number;
      /** How many of the possible pages were there. */
      readonly pages: number;
    }
  /** It can't be listed as one: ask again for less time at once. */
  | { readonly kind: 'too-much' };

/** A single second has more sessions than Kore lets anybody page through. */
export class ListingTruncated extends VoicemailError {}

/** Kore's times have seconds, so there is no shorter window. */
export const MIN_WINDOW_MS = 1_000;

/**
 * Lists all pages of a window.
 *
 * It is too much when it has more than the possible pages, and when Kore's own count of it changed while
 * its pages were read: then something was inserted, pages have shifted, and one that was read before may have
 * got rows that were not read. Halved often enough, a window is a single page, which is read all at once.
 *
 * @throws ListingTruncated (`KORE_BAD_RESPONSE`) when a single second has more sessions than can be listed.
 */
export async function listWindow(
  window: Window,
  listPage: ListPage,
  limits: ListingLimits,
  signal: AbortSignal,
): Promise<WindowListing> {
  const canSplit = window.to - window.from > MIN_WINDOW_MS;
  const sessions = new Map<string, ListedSession>();
  let unreadable = 0;
  let rowsBefore = 0;
  let firstTotal: number | undefined;
  for (let page = 0; page < limits.maxPages; page += 1) {
    const query = { from: new Date(window.from), to: new Date(window.to), page, rowsBefore };
    const listed = await listPage(query, signal);
    for (const session of listed.sessions) sessions.set(session.sessionId, better(session, sessions));
    unreadable += listed.unreadable;
    rowsBefore += listed.rows;
    if (page === 0) firstTotal = listed.total;
    const isShifted = firstTotal !== undefined && listed.total !== undefined && listed.total !== firstTotal;
    const isTooLong = listed.total !== undefined && listed.total > limits.maxPages * PAGE_SIZE;
    if ((isShifted || isTooLong) && canSplit) return { kind: 'too-much' };
    // Where Kore counts more than it has shown, a short page is not yet the last.
    const isShort = listed.rows > 0 && listed.total !== undefined && rowsBefore < listed.total;
    if (listed.isLast && !isShort) {
      return { kind: 'listed', sessions: [...sessions.values()], unreadable, pages: page + 1 };
    }
  }
  if (canSplit) return { kind: 'too-much' };
  throw new ListingTruncated(
    'KORE_BAD_RESPONSE',
    `Kore lists more sessions in the second of ${new Date(window.from).toISOString()} than it lets anybody page through: list it with --source sessions`,
    { retryable: false },
  );
}

/** Of two rows of one session, one with a voicemail counts. */
function better(session: ListedSession, known: ReadonlyMap<string, ListedSession>): ListedSession {
  const before = known.get(session.sessionId);
  return before?.hasVoicemail === true ? before : session;
}

/** A listed session that the archive does not have. */
export interface MissingSession extends SessionRef {
  /** Whether it is known to have a voicemail. */
  readonly isCertain: boolean;
  /** What the listing says of the call. */
  readonly call?: CallMetadata | undefined;
}

/**
 * The request that queues a missing session behind live ones. It has all facts of the row, so that Kore is not asked
 * for them again.
 */
export function enqueueRequestOf(
  { botId, sessionId, isCertain, call }: MissingSession,
  keepCall: ReturnType<typeof createCallFilter>,
): EnqueueRequest {
  const kept = keepCall(call);
  const startedAt = Date.parse(call?.startedAt ?? '');
  const isStartNeeded = creationTime(sessionId) === undefined && !Number.isNaN(startedAt);
  return {
    botId,
    sessionId,
    priority: 'backfill',
    missing: true,
    ...(!isCertain && { maybe: true }),
    ...(isStartNeeded && { beganAt: startedAt }),
    ...(kept && { call: kept }),
  };
}
