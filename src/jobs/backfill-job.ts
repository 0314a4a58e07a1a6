import { hash } from 'node:crypto';
import type { BackfillProgress } from '../backfill/run-backfill.ts';
import type { ListingSource } from '../kore/listing-source.ts';
import type { SessionJobProgress } from './session-job.ts';

/** What a backfill is asked to look through. Times are ISO 8601. */
export interface BackfillRequest {
  readonly botId: string;
  readonly from: string;
  readonly to: string;
  /** Without one, call details where the worker has a `KORE_ACCOUNT_ID`, else the sessions history. */
  readonly source?: ListingSource;
  /** Only find out what is missing. */
  readonly dryRun?: boolean;
}

/** What lies in the queue of backfills: a backfill, or a schedule that is due. */
export type BackfillJobData =
  | ({ readonly kind: 'backfill' } & BackfillRequest)
  | { readonly kind: 'schedule'; readonly lookbackMs: number };

/** What a backfill remembers between attempts. */
export interface BackfillJobProgress {
  /** Which listing it goes by. */
  readonly source?: ListingSource;
  readonly reached?: BackfillProgress;
  /** What keeps it from going on at present. */
  readonly trouble?: SessionJobProgress;
  /** Failures since it last got on. */
  readonly failures?: number;
}

/** Ids are made of times, so an open end counts as the minute it is in: then asking again at once joins the first. */
const OPEN_END_MS = 60 * 1000;

/**
 * The id of a backfill, made of what it looks through: asking for the same again while it runs joins the one that
 * runs.
 */
export function backfillId(
  { botId, from, to, source, dryRun }: BackfillRequest,
  isOpenEnded: boolean,
): string {
  const end = Date.parse(to);
  const what = JSON.stringify([
    botId,
    Date.parse(from),
    isOpenEnded ? end - (end % OPEN_END_MS) : end,
    source ?? null,
    dryRun === true,
  ]);
  return `bf-${hash('sha256', what).slice(0, 24)}`;
}

/** The end of a backfill that is to reach up to now (unix milliseconds); ISO 8601. */
export function openEnd(now: number): string {
  return new Date(now - (now % 1000)).toISOString();
}
