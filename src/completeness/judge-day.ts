import { DAY_MS, type DayReport, type IncompleteReason, type ReportBasis } from '../domain/completeness.ts';
import { creationTime, type SessionRef } from '../domain/session.ts';
import type { JobStatus } from '../jobs/backends/backend.ts';
import { jobId } from '../jobs/session-job.ts';
import type { ListedSession } from '../kore/listings/listing.ts';
import type { ArchivedState } from './documents.ts';

/** All that is known of a day. Maps are by session id, but for `statuses`, which is by job id. */
export interface DayFacts {
  readonly date: string;
  readonly botId: string;
  /** Unix milliseconds. */
  readonly now: number;
  /** `KORE_RETENTION`, where it is known. */
  readonly retentionMs: number | undefined;
  /** What Kore lists of the day, now or in an earlier run. */
  readonly listed: readonly ListedSession[];
  /** Up to when the day's sessions were listed before Kore could forget them; see {@link coveredTo}. */
  readonly coveredTo: number;
  /** What kept the day from being listed as a whole. */
  readonly doubts: readonly IncompleteReason[];
  readonly archived: ReadonlyMap<string, ArchivedState>;
  /** Sessions without a voicemail, by Kore's answer. */
  readonly withoutVoicemail: ReadonlySet<string>;
  /** `undefined` where the queue could not be asked. */
  readonly statuses: ReadonlyMap<string, JobStatus> | undefined;
  /** Of the failed ones. */
  readonly codes: ReadonlyMap<string, string>;
  readonly transcriptPending: ReadonlySet<string>;
  readonly basis?: ReportBasis | undefined;
  readonly error?: DayReport['error'];
}

/** What became of a session. */
export type ReportedState =
  | 'archived'
  | 'partial'
  | 'erased'
  | 'waiting'
  | 'failed'
  | 'withoutVoicemail'
  | 'unknown'
  | 'missing';

/** A session to archive that is not in the queue. */
export interface OpenSession extends SessionRef {
  /** Whether it is known to have a voicemail. */
  readonly isCertain: boolean;
  readonly call?: ListedSession['call'];
}

/** The verdict on a day. */
export interface JudgedDay {
  readonly report: DayReport;
  /** Those that are missing, saved in part, or unknown, and not in the queue. */
  readonly open: readonly OpenSession[];
}

/** How long after a day its sessions may still come: calls end after midnight, and listings are late. */
const LATE_MS = 2 * 60 * 60 * 1000;
/** With less of the retention left than this part, a session is at risk. */
export const RISK_PART = 0.25;
const HOUR_MS = 60 * 60 * 1000;

/** Judges a day by the known facts, without any request. */
export function judgeDay(facts: DayFacts): JudgedDay {
  const { date, botId, now, retentionMs, listed } = facts;
  const counts: Record<ReportedState, number> = {
    archived: 0,
    partial: 0,
    erased: 0,
    waiting: 0,
    failed: 0,
    withoutVoicemail: 0,
    unknown: 0,
    missing: 0,
  };
  const failedByCode: Record<string, number> = {};
  const open: OpenSession[] = [];
  let atRisk = 0;
  for (const session of listed) {
    const { sessionId, hasVoicemail, call } = session;
    const state = reportedStateOf(session, facts);
    counts[state] += 1;
    if (state === 'failed') {
      const code = facts.codes.get(sessionId) ?? 'INTERNAL';
      failedByCode[code] = (failedByCode[code] ?? 0) + 1;
    }
    if ((state === 'missing' || state === 'waiting') && isAtRisk(sessionId, facts)) atRisk += 1;
    const status = facts.statuses?.get(jobId({ botId, sessionId }));
    const isIdle = status !== 'live' && status !== 'backfill' && facts.statuses !== undefined;
    const isOpen = state === 'missing' || state === 'unknown' || (state === 'partial' && status !== 'failed');
    if (isOpen && isIdle) {
      const isCertain = hasVoicemail === true || state === 'partial';
      open.push({ botId, sessionId, isCertain, ...(call && { call }) });
    }
  }
  const isListed = new Set(listed.map(({ sessionId }) => sessionId));
  const unlisted = [...facts.archived].filter(([id, state]) => state === 'archived' && !isListed.has(id));
  const reasons = reasonsOf(facts, counts);
  const report: DayReport = {
    date,
    botId,
    complete: reasons.length === 0,
    reasons,
    listed: listed.length,
    ...counts,
    transcriptPending: listed.filter(({ sessionId }) => facts.transcriptPending.has(sessionId)).length,
    failedByCode,
    archivedUnlisted: unlisted.length,
    atRisk,
    ...(retentionMs !== undefined && { hoursLeft: hoursUntil(Date.parse(date) + retentionMs, now) }),
    queued: 0,
    computedAt: new Date(now).toISOString(),
    ...(facts.basis && { basis: facts.basis }),
    ...(facts.error && { error: facts.error }),
  };
  return { report, open };
}

/**
 * Up to when (unix milliseconds) all sessions of a day were listed while Kore still had them, after one more listing at
 * `now`. With a retention of a day no single listing sees a whole day that is over; several one after the other do.
 */
export function coveredTo(
  date: string,
  before: number | undefined,
  now: number,
  retentionMs: number | undefined,
): number {
  const dayStart = Date.parse(date);
  const known = before ?? dayStart;
  const hasGap = retentionMs !== undefined && now - retentionMs > known;
  return hasGap ? known : Math.max(known, Math.min(dayStart + DAY_MS, now - LATE_MS));
}

function reportedStateOf({ sessionId, hasVoicemail }: ListedSession, facts: DayFacts): ReportedState {
  const state = facts.archived.get(sessionId);
  if (state !== undefined) return state;
  const status = facts.statuses?.get(jobId({ botId: facts.botId, sessionId }));
  if (status === 'live' || status === 'backfill') return 'waiting';
  if (status === 'failed') return 'failed';
  // A listing with a voicemail counts more than an earlier check without one.
  const isNoted = hasVoicemail === undefined && facts.withoutVoicemail.has(sessionId);
  if (hasVoicemail === false || isNoted) return 'withoutVoicemail';
  // It is unknown whether it is in the queue, or whether there is anything to archive.
  if (facts.statuses === undefined || hasVoicemail === undefined) return 'unknown';
  return 'missing';
}

function isAtRisk(sessionId: string, { date, retentionMs, now }: DayFacts): boolean {
  if (retentionMs === undefined) return false;
  const began = creationTime(sessionId)?.getTime() ?? Date.parse(date);
  return began + retentionMs - now < retentionMs * RISK_PART;
}

function hoursUntil(time: number, now: number): number {
  return Math.max(0, Math.floor((time - now) / (HOUR_MS / 10)) / 10);
}

function reasonsOf(facts: DayFacts, counts: Readonly<Record<ReportedState, number>>): IncompleteReason[] {
  const { date, now, retentionMs, statuses, doubts } = facts;
  const dayEnd = Date.parse(date) + DAY_MS;
  const reasons: IncompleteReason[] = [...doubts];
  if (now < dayEnd) reasons.push('day-not-over');
  else if (now < dayEnd + LATE_MS) reasons.push('late-sessions');
  const isForgetting = retentionMs !== undefined && facts.coveredTo + retentionMs < now;
  if (isForgetting && facts.coveredTo < dayEnd) reasons.push('purged');
  if (statuses === undefined) reasons.push('queue-unreachable');
  for (const state of ['missing', 'partial', 'waiting', 'failed', 'unknown'] as const) {
    if (counts[state] > 0) reasons.push(state);
  }
  return reasons;
}
