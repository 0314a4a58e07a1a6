/**
 * `calls`: call details v2, which say whether there is a voicemail; `sessions`: the sessions history, which does not.
 */
export const LISTING_SOURCES = ['calls', 'sessions'] as const;

/** Where sessions are listed. */
export type ListingSource = (typeof LISTING_SOURCES)[number];

/** The longest time that a backfill may look through: more than any Kore account is old. */
export const MAX_BACKFILL_YEARS = 10;

/** Whether a backfill would reach over more than {@link MAX_BACKFILL_YEARS}; times in unix milliseconds. */
export function isTooLongBackfill(from: number, to: number): boolean {
  return to - from > MAX_BACKFILL_YEARS * 366 * 24 * 60 * 60 * 1000;
}

/** The order of a backfill: which sessions it goes through. Times are ISO 8601. */
export interface BackfillRequest {
  readonly botId: string;
  readonly from: string;
  readonly to: string;
  /** Without one, call details where the worker has a `KORE_ACCOUNT_ID`, else the sessions history. */
  readonly source?: ListingSource;
  /** Only find out what is missing. */
  readonly dryRun?: boolean;
}

/** The sessions listed so far, counted by outcome. */
export interface BackfillCounts {
  /** Voice sessions. */
  readonly listed: number;
  /** Archived already. */
  readonly skipped: number;
  /** Queued by this backfill. */
  readonly queued: number;
  /** In the queue already. */
  readonly alreadyQueued: number;
  /** Of those listed, the listing says that they have none. */
  readonly withoutVoicemail: number;
  /** Found missing by a dry run. */
  readonly missing: number;
  /** Rows that name no session. */
  readonly unreadable: number;
}

/** How far a backfill has come; from here it can go on. */
export interface BackfillProgress {
  /** Everything before is dealt with (unix milliseconds). */
  readonly listedTo: number;
  /** How long the next window is to be. */
  readonly windowMs: number;
  readonly counts: BackfillCounts;
}
