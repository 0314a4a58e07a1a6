import { describe, expect, it } from 'vitest';
import type { Polls } from '../../src/jobs/session-job.ts';
import { nextSettleCheck, SETTLE_TIMES, transcriptDeadline } from '../../src/workers/settle.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const ARCHIVED_AT = Date.UTC(2026, 2, 1, 12);
const even = () => 0.5;

/** The ages (in seconds) at which a transcript that never comes is polled, from the first check on. */
function pollAges(until: number, dueAt: number | undefined): number[] {
  const ages: number[] = [];
  let polls: Polls | undefined;
  for (let at = ARCHIVED_AT + 30 * SECOND; ages.length < 100; ) {
    ages.push((at - ARCHIVED_AT) / SECOND);
    if (at >= until) return ages;
    const due = dueAt !== undefined && dueAt > at ? dueAt : until;
    const next = nextSettleCheck(polls, at, { pollDelayMs: 30 * SECOND, dueAt: due }, even);
    ({ at, polls } = next);
  }
  return ages;
}

describe('polls for a transcript', () => {
  it('polls for a transcript that never comes grow apart to an hour, include the settling check, and end when it is given up', () => {
    const ages = pollAges(ARCHIVED_AT + 24 * HOUR, ARCHIVED_AT + HOUR);
    expect(ages.slice(0, 7)).toEqual([30, 150, 630, 2_550, 3_600, 7_200, 10_800]);
    expect(ages.at(-1)).toBe(24 * 3_600);
    expect(ages).toHaveLength(28);
  });

  it('polls for a transcript share the next check that is due soon after', () => {
    const now = ARCHIVED_AT;
    const pauseBefore = (dueIn: number) =>
      nextSettleCheck({ since: 0, count: 0 }, now, { pollDelayMs: MINUTE, dueAt: now + dueIn }, even).at -
      now;
    const pause = 4 * MINUTE;
    expect(pauseBefore(pause * 1.2)).toBe(pause * 1.2);
    expect(pauseBefore(pause * 1.3)).toBe(pause);
    expect(pauseBefore(pause * 0.5)).toBe(pause * 0.5);
    expect(pauseBefore(-MINUTE)).toBe(0);
  });
});

describe('a transcript is given up', () => {
  const DAY = 24 * HOUR;
  const deadline = (beganAgo: number | undefined, waitMs: number) =>
    transcriptDeadline(beganAgo === undefined ? undefined : ARCHIVED_AT - beganAgo, ARCHIVED_AT, waitMs) -
    ARCHIVED_AT;

  it.each([
    ['after TRANSCRIPT_WAIT, of a new session', MINUTE, DAY, DAY],
    ['after TRANSCRIPT_WAIT, of one of which nobody knows when it began', undefined, DAY, DAY],
    ['after TRANSCRIPT_WAIT, of one that was archived late', 23 * HOUR, DAY, DAY],
    ['after some minutes, of one that began long ago', 30 * DAY, DAY, SETTLE_TIMES.oldTranscriptWaitMs],
    ['after TRANSCRIPT_WAIT where that is shorter', 30 * DAY, MINUTE, MINUTE],
    ['after TRANSCRIPT_WAIT, of one that began in the future', -HOUR, DAY, DAY],
  ] as const)('a transcript is given up %s', (_, beganAgo, waitMs, expected) => {
    expect(deadline(beganAgo, waitMs)).toBe(expected);
  });
});
