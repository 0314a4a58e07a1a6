/** When archived sessions are looked at again. Each look is a call to Kore, of which there are few. */

import type { Polls } from '../jobs/session-job.ts';
import { growingPause, withJitter } from './failure-policy.ts';

const HOUR_MS = 60 * 60 * 1000;

/** How looks at archived sessions are spread over time. Simulations and documents take these numbers from here. */
export const SETTLE_TIMES = {
  /** Pauses grow up to this: Kore may forget within a day, so hours without a look could cost the transcript, */
  longestPauseMs: HOUR_MS,
  /** and so many doublings with each look. */
  doublings: 2,
  /** A look that would come within this part of its pause before one that has its time is that one. */
  sharedPart: 0.25,
  /**
   * A session that began longer ago than `TRANSCRIPT_WAIT` when it was archived is looked at for so long: the
   * transcript may be made when it is first asked for, and comes no more if it was not made in all that time.
   */
  oldTranscriptWaitMs: 10 * 60 * 1000,
} as const;

/**
 * When an awaited transcript is given up (unix milliseconds): `waitMs` after the session was archived, and sooner for
 * one that began long before that.
 *
 * @param beganAt when the session began, where its id tells.
 */
export function transcriptDeadline(beganAt: number | undefined, archivedAt: number, waitMs: number): number {
  const sinceBegan = Math.min(beganAt ?? archivedAt, archivedAt) + waitMs;
  const isOld = sinceBegan <= archivedAt;
  return archivedAt + (isOld ? Math.min(waitMs, SETTLE_TIMES.oldTranscriptWaitMs) : waitMs);
}

/** The next look for what is awaited. */
export interface NextSettle {
  /** Unix milliseconds. */
  readonly at: number;
  readonly polls: Polls;
}

/**
 * When to look again for what is awaited. Pauses grow fourfold from look to look.
 *
 * @param before the looks so far.
 * @param dueAt when a look is to be made in any case (unix milliseconds): one that would come shortly before is that one.
 */
export function nextSettleAt(
  before: Polls | undefined,
  now: number,
  {
    pollDelayMs,
    dueAt = Number.POSITIVE_INFINITY,
  }: { readonly pollDelayMs: number; readonly dueAt?: number },
  random: () => number = Math.random,
): NextSettle {
  const polls = before ? { ...before, count: before.count + 1 } : { since: now, count: 1 };
  const { doublings, longestPauseMs } = SETTLE_TIMES;
  const pause = withJitter(growingPause(pollDelayMs, doublings * polls.count, longestPauseMs), random);
  const isShared = now + pause * (1 + SETTLE_TIMES.sharedPart) >= dueAt;
  return { at: isShared ? Math.max(dueAt, now) : now + pause, polls };
}
