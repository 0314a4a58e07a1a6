import type { ListingSource } from './backfills.ts';

/** Why the report of a day does not say that the day is complete. */
export const INCOMPLETE_REASONS = [
  /** Kore could not be asked, or not to the end. */
  'listing-failed',
  /** More sessions in one second than Kore lets anybody page through. */
  'listing-truncated',
  /** Kore's listing had entries that name no session. */
  'unreadable-entries',
  'day-not-over',
  /** The day ended a short time ago: calls that were still going on then may be listed later. */
  'late-sessions',
  /** Kore has forgotten the day, or its first hours, so that its listing may lack some (`KORE_RETENTION`). */
  'purged',
  /** The queue could not be read. */
  'queue-unreachable',
  /** The day has not been computed yet. */
  'not-computed',
  'missing',
  'partial',
  'waiting',
  'failed',
  /** Whether these sessions have a voicemail is not known. */
  'unknown',
] as const;
export type IncompleteReason = (typeof INCOMPLETE_REASONS)[number];

/** What the report of a day was computed from. Times are ISO 8601. */
export interface ReportBasis {
  readonly source: ListingSource;
  /** The requested time: the day, and an hour before and after it. */
  readonly from: string;
  readonly to: string;
  /** How many windows that was split into. */
  readonly windows: number;
  /** Calls to Kore. */
  readonly pages: number;
  /** Entries of all pages, also those of other days and of text channels, and those listed twice. */
  readonly rows: number;
  /** Of the sessions of the day: how many the listing says of whether they have a voicemail. */
  readonly withFlag: number;
  readonly startedAt: string;
}

/**
 * What became of a bot's sessions of one day (UTC, by the time of creation in the session's id, as in the
 * archive). Each session that Kore lists is counted once: `listed` is the sum of `archived`, `partial`, `waiting`,
 * `failed`, `withoutVoicemail`, `erased`, `unknown` and `missing`.
 */
export interface DayReport {
  /** `YYYY-MM-DD` */
  readonly date: string;
  readonly botId: string;
  /** Whether all was seen and nothing is left to be done: `reasons` is empty. */
  readonly complete: boolean;
  readonly reasons: readonly IncompleteReason[];
  /** Voice sessions that Kore lists. */
  readonly listed: number;
  readonly archived: number;
  /** Of those archived: whose transcript is awaited, as far as the queue knows. */
  readonly transcriptPending: number;
  /** Only some recordings are saved. */
  readonly partial: number;
  /** In the queue, to be archived. */
  readonly waiting: number;
  readonly failed: number;
  readonly failedByCode: Readonly<Record<string, number>>;
  /** By the listing, or by Kore's answer for the session. */
  readonly withoutVoicemail: number;
  readonly erased: number;
  /** Neither archived nor queued, and whether they have a voicemail is not known. */
  readonly unknown: number;
  /** Have a voicemail, and are neither archived nor queued nor failed. */
  readonly missing: number;
  /** Archived, and not (or no longer) listed by Kore. */
  readonly archivedUnlisted: number;
  /** Missing or waiting, with less than a quarter of `KORE_RETENTION` left. */
  readonly atRisk: number;
  /** Until Kore forgets the first session of the day; left out where `KORE_RETENTION` is not known. */
  readonly hoursLeft?: number;
  /** Queued by the run that computed this. */
  readonly queued: number;
  readonly computedAt: string;
  readonly basis?: ReportBasis;
  /** What the listing failed with. */
  readonly error?: { readonly code: string; readonly message: string };
}

/** What a run is to compute. Days are `YYYY-MM-DD`, both included; without them, those within retention. */
export interface CompletenessOrder {
  readonly botId: string;
  readonly from?: string;
  readonly to?: string;
  readonly source?: ListingSource;
  /** Queue nothing of what is missing. */
  readonly reportOnly?: boolean;
  /** Put the reports into the archive. */
  readonly write?: boolean;
}

/** A run as everybody outside sees it. */
export interface CompletenessRun {
  readonly id: string;
  readonly state: 'queued' | 'active' | 'waiting' | 'completed' | 'failed';
  /** Of the days that are computed, in order. */
  readonly days: readonly DayReport[];
  readonly error?: { readonly code: string; readonly message: string };
}

/** Days of one run at most. */
export const MAX_RUN_DAYS = 93;
/** The most days that the daily run checks, and that metrics show. */
const MAX_KEPT_DAYS = 31;
/** The days that it checks where `KORE_RETENTION` is not known. */
const DAYS_WITHOUT_RETENTION = 7;

export const DAY_MS = 24 * 60 * 60 * 1000;

/** A day as `YYYY-MM-DD` in UTC. */
export function dayOf(time: number): string {
  return new Date(time).toISOString().slice(0, 'YYYY-MM-DD'.length);
}

/** Whether a run may take all days from one to another: there are some, and not too many. */
export function isRunOfDays(from: string, to: string): boolean {
  const days = (Date.parse(to) - Date.parse(from)) / DAY_MS + 1;
  return days >= 1 && days <= MAX_RUN_DAYS;
}

/** All days from one to another, both included. */
export function daysBetween(from: string, to: string): string[] {
  const days: string[] = [];
  for (let at = Date.parse(from); at <= Date.parse(to); at += DAY_MS) days.push(dayOf(at));
  return days;
}

/** The days that Kore still has something of, the oldest first; at most {@link MAX_KEPT_DAYS}. */
export function daysWithinRetention(now: number, retentionMs: number | undefined): string[] {
  const kept = retentionMs === undefined ? DAYS_WITHOUT_RETENTION : Math.ceil(retentionMs / DAY_MS) + 1;
  const first = now - (Math.min(kept, MAX_KEPT_DAYS) - 1) * DAY_MS;
  return daysBetween(dayOf(first), dayOf(now));
}
