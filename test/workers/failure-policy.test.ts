import { describe, expect, it } from 'vitest';
import { ERROR_CODES, type ErrorCode, VoicemailError } from '../../src/domain/errors.ts';
import { CallLimitReached } from '../../src/jobs/call-limit.ts';
import type { SessionJobProgress } from '../../src/jobs/session-job.ts';
import { registerSecret } from '../../src/util/redact.ts';
import {
  archivesUncertain,
  asVoicemailError,
  decideOutcome,
  FAILURE_RULES,
  growingPause,
  maxAttempts,
  nextPoll,
  type WaitLimits,
  withJitter,
} from '../../src/workers/failure-policy.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** The documented defaults. */
const WAIT_LIMITS: WaitLimits = {
  sessionWaitMs: HOUR,
  recordingWaitMs: 2 * DAY,
  pollDelayMs: 30 * SECOND,
  retryDelayMs: 2 * SECOND,
  retryWaitMs: DAY,
  unauthorizedPauseMs: MINUTE,
};
const NOW = Date.UTC(2026, 0, 2, 3, 4, 5);
const at = (milliseconds: number) => new Date(milliseconds).toISOString();
/** No jitter: half-way between shorter and longer. */
const even = () => 0.5;

interface Situation {
  readonly attemptsMade?: number;
  readonly progress?: SessionJobProgress;
  readonly random?: () => number;
}

function decide(error: unknown, { attemptsMade = 0, progress = {}, random = even }: Situation = {}) {
  return decideOutcome({ error, attemptsMade, progress, now: NOW }, WAIT_LIMITS, random);
}

const errorOf = (code: ErrorCode, options?: { retryable?: boolean; retryAfterMs?: number }) =>
  new VoicemailError(code, 'it went wrong', options);

const forever = Number.POSITIVE_INFINITY;

describe('the outcome of a failed attempt', () => {
  /** By code: the verdict, how long it is checked again (milliseconds), and the first pause. */
  const EXPECTED: Readonly<Record<ErrorCode, readonly ['retry' | 'wait' | 'fail', number, number]>> = {
    KORE_UNAUTHORIZED: ['wait', forever, MINUTE],
    KORE_RATE_LIMITED: ['wait', DAY, MINUTE + 2 * SECOND],
    KORE_UNAVAILABLE: ['wait', DAY, 2 * SECOND],
    KORE_BAD_RESPONSE: ['wait', DAY, 2 * SECOND],
    SESSION_NOT_FOUND: ['wait', HOUR, 30 * SECOND],
    RECORDING_NOT_READY: ['wait', 2 * DAY, 30 * SECOND],
    RECORDING_UNAVAILABLE: ['wait', HOUR, 30 * SECOND],
    RECORDING_URL_EXPIRED: ['wait', 2 * DAY, 30 * SECOND],
    RECORDING_HOST_NOT_ALLOWED: ['wait', 2 * DAY, 30 * SECOND],
    RECORDING_TRUNCATED: ['wait', 2 * DAY, 30 * SECOND],
    RECORDING_EMPTY: ['wait', 2 * DAY, 30 * SECOND],
    RECORDING_NOT_AUDIO: ['wait', 2 * DAY, 30 * SECOND],
    RECORDING_TOO_LARGE: ['fail', 0, 0],
    DOWNLOAD_FAILED: ['wait', DAY, 2 * SECOND],
    ARCHIVE_DENIED: ['wait', forever, 2 * SECOND],
    ARCHIVE_UNAVAILABLE: ['wait', DAY, 2 * SECOND],
    ARCHIVE_CONFLICT: ['fail', 0, 0],
    INTERNAL: ['retry', DAY, 2 * SECOND],
  };
  /** The thrower marks hosts that the configuration could allow as retryable. */
  const thrown = (code: ErrorCode) =>
    errorOf(code, code === 'RECORDING_HOST_NOT_ALLOWED' ? { retryable: true } : {});

  it.each(ERROR_CODES)('a failed attempt with %s has its documented outcome', (code) => {
    const [kind, , pause] = EXPECTED[code];
    const { verdict, progress, error, holdMs } = decide(thrown(code));
    expect(verdict.kind).toBe(kind);
    expect(error.code).toBe(code);
    expect(progress.error).toEqual({
      code,
      message: 'it went wrong',
      retryable: kind !== 'fail',
      at: at(NOW),
    });
    expect(progress.nextAttemptAt).toBe(kind === 'fail' ? undefined : at(NOW + pause));
    expect(holdMs !== undefined).toBe(code === 'KORE_UNAUTHORIZED' || code === 'KORE_RATE_LIMITED');
  });

  it.each(ERROR_CODES.filter((code) => EXPECTED[code][0] === 'wait'))(
    'a session with %s is polled for its time, however many attempts were used up, and then fails',
    (code) => {
      const [, lasts] = EXPECTED[code];
      const failing = (since: number) =>
        decide(thrown(code), {
          attemptsMade: 1_000,
          progress: { polls: { [code]: { since, count: 1_000 } } },
        }).verdict.kind;
      expect(failing(NOW - Math.min(lasts, 1_000 * DAY) + 1)).toBe('wait');
      expect(failing(NOW - lasts)).toBe(lasts === forever ? 'wait' : 'fail');
      expect(failing(NOW - 1_000 * DAY)).toBe(lasts === forever ? 'wait' : 'fail');
    },
  );

  it.each(ERROR_CODES.filter((code) => FAILURE_RULES[code].dependency !== undefined))(
    '%s means that another system may be unavailable, and uses up no attempt',
    (code) => {
      expect(EXPECTED[code][0]).toBe('wait');
      expect(FAILURE_RULES[code].usesAttempts).toBeUndefined();
    },
  );

  it('the thrower of an error decides its outcome where the code can mean either', () => {
    for (const code of ['RECORDING_HOST_NOT_ALLOWED', 'KORE_BAD_RESPONSE', 'INTERNAL'] as const) {
      expect(decide(errorOf(code, { retryable: false })).verdict.kind).toBe('fail');
    }
    for (const code of ['SESSION_NOT_FOUND', 'RECORDING_EMPTY', 'KORE_UNAVAILABLE'] as const) {
      expect(decide(errorOf(code, { retryable: false })).verdict.kind).toBe('wait');
    }
  });

  it('all reasons that a recording is unavailable share one time limit', () => {
    const progress = { polls: { RECORDING_NOT_READY: { since: NOW - 2 * DAY, count: 50 } } };
    expect(decide(errorOf('RECORDING_EMPTY'), { progress }).verdict.kind).toBe('fail');
    expect(decide(errorOf('SESSION_NOT_FOUND'), { progress }).verdict.kind).toBe('wait');
  });

  it('the time limit starts again when another kind of outage follows one that ended', () => {
    const outage = { KORE_UNAVAILABLE: { since: NOW - DAY, count: 40 } };
    const later = decide(errorOf('RECORDING_NOT_READY'), { progress: { polls: outage } });
    expect(later.progress.polls).toEqual({ RECORDING_NOT_READY: { since: NOW, count: 0 } });
    const together = decide(errorOf('KORE_BAD_RESPONSE'), { progress: { polls: outage } });
    expect(together.verdict.kind).toBe('fail');
  });

  it('the reason that the queue keeps shows the code', () => {
    expect(decide(errorOf('RECORDING_TOO_LARGE')).verdict).toEqual({
      kind: 'fail',
      reason: 'RECORDING_TOO_LARGE: it went wrong',
    });
    expect(decide(errorOf('INTERNAL')).verdict).toMatchObject({
      kind: 'retry',
      reason: 'INTERNAL: it went wrong',
    });
  });

  it('a failed attempt keeps the progress of the transfer and the other polls', () => {
    const progress: SessionJobProgress = {
      transfer: { recordings: 2, recordingsDone: 1, bytes: 5 },
      polls: { RECORDING_NOT_READY: { since: NOW - DAY / 2, count: 3 } },
      nextAttemptAt: at(0),
      error: { code: 'INTERNAL', message: 'old', retryable: true, at: at(0) },
    };
    const { transfer, polls, nextAttemptAt, error } = decide(errorOf('DOWNLOAD_FAILED'), {
      progress,
    }).progress;
    expect({ transfer, polls }).toEqual({
      transfer: progress.transfer,
      polls: { ...progress.polls, DOWNLOAD_FAILED: { since: NOW, count: 0 } },
    });
    expect(nextAttemptAt).toBe(at(NOW + 2 * SECOND));
    expect(error?.code).toBe('DOWNLOAD_FAILED');
  });
});

describe('a recording that is not ready', () => {
  const looked = (since: number, count: number): Situation => ({
    progress: { polls: { RECORDING_NOT_READY: { since, count } } },
  });

  it('a recording that is not ready is polled after the first pause', () => {
    const { verdict, progress } = decide(errorOf('RECORDING_NOT_READY'));
    expect(verdict).toEqual({ kind: 'wait', until: NOW + 30 * SECOND });
    expect(progress).toMatchObject({
      polls: { RECORDING_NOT_READY: { since: NOW, count: 0 } },
      nextAttemptAt: at(NOW + 30 * SECOND),
    });
  });

  it.each([
    [0, MINUTE],
    [1, 2 * MINUTE],
    [5, 32 * MINUTE],
    [6, HOUR],
    [500, HOUR],
  ])(
    'a recording that is not ready is polled after pauses that grow to an hour (%i polls before: %i ms)',
    (count, pause) => {
      const since = NOW - MINUTE;
      const { verdict, progress } = decide(errorOf('RECORDING_NOT_READY'), looked(since, count));
      expect(verdict).toEqual({ kind: 'wait', until: NOW + pause });
      expect(progress.polls).toEqual({ RECORDING_NOT_READY: { since, count: count + 1 } });
    },
  );

  it('a recording that is not ready is polled for the last time when the wait is over', () => {
    const since = NOW - 2 * DAY + 1;
    expect(decide(errorOf('RECORDING_NOT_READY'), looked(since, 40)).verdict).toEqual({
      kind: 'wait',
      until: NOW + 1,
    });
  });

  it('a recording that is not ready fails when it is not there by the end of the wait', () => {
    const { verdict, progress } = decide(errorOf('RECORDING_NOT_READY'), looked(NOW - 2 * DAY, 40));
    expect(verdict.kind).toBe('fail');
    expect(progress.nextAttemptAt).toBeUndefined();
  });

  it('a recording that is not ready uses up no attempts however many were used up before', () => {
    expect(decide(errorOf('RECORDING_NOT_READY'), { attemptsMade: 1_000 }).verdict.kind).toBe('wait');
  });
});

describe('a rate limit', () => {
  it('a rate limit delays everybody as long as Kore says', () => {
    const { verdict, holdMs } = decide(errorOf('KORE_RATE_LIMITED', { retryAfterMs: 7_000 }));
    expect(holdMs).toBe(7_000);
    expect(verdict).toEqual({ kind: 'wait', until: NOW + 7_000 + WAIT_LIMITS.retryDelayMs });
  });

  it('a rate limit lasts a minute when Kore does not say', () => {
    expect(decide(errorOf('KORE_RATE_LIMITED')).holdMs).toBe(MINUTE);
  });

  it.each([
    ['for all of the time, often enough', DAY, 9, 'fail'],
    ['for all of the time, but seldom', DAY, 8, 'wait'],
    ['often, but not for all of the time', DAY - 1, 1_000, 'wait'],
  ] as const)('a rate limit that is met %s: %s', (_, ago, count, kind) => {
    const progress = { polls: { KORE_RATE_LIMITED: { since: NOW - ago, count } } };
    const { verdict, holdMs } = decide(errorOf('KORE_RATE_LIMITED'), { progress });
    expect(verdict.kind).toBe(kind);
    expect(holdMs).toBe(kind === 'fail' ? undefined : MINUTE);
  });

  it('a rate limit of our own never counts against a session', () => {
    const polls = { KORE_RATE_LIMITED: { since: NOW - 10 * DAY, count: 1_000 } };
    const { verdict, holdMs, progress } = decide(new CallLimitReached(4_000, 'live'), {
      progress: { polls },
    });
    // It keeps its place: it is still the one that has waited longest.
    expect(verdict).toEqual({ kind: 'wait', until: NOW + 4_000, keepsPlace: true });
    expect(holdMs).toBe(4_000);
    expect(progress).toMatchObject({
      polls: { ...polls, CALL_LIMIT: { since: NOW, count: 0 } },
      nextAttemptAt: new Date(NOW + 4_000).toISOString(),
      error: { code: 'KORE_RATE_LIMITED', retryable: true },
    });
  });

  it('a rate limit of our own on background work lets live sessions go on, and spreads the others out', () => {
    const first = decide(new CallLimitReached(4_000, 'background'), {});
    expect(first.holdMs).toBeUndefined();
    expect(first.verdict.kind).toBe('wait');
    expect(first.progress.polls).toEqual({ CALL_LIMIT: { since: NOW, count: 0 } });
    const later = decide(new CallLimitReached(4_000, 'background'), {
      progress: { polls: { CALL_LIMIT: { since: 0, count: 1_000 } } },
    });
    const latest = NOW + 4_000 + WAIT_LIMITS.retryDelayMs + 60 * MINUTE;
    expect(later.verdict).toMatchObject({ kind: 'wait' });
    expect(later.verdict.kind === 'wait' && later.verdict.until).toBeLessThanOrEqual(latest);
  });
});

describe('refused credentials', () => {
  it('refused credentials make everything wait, without limit, and use up nothing', () => {
    const situation = {
      attemptsMade: 1_000_000,
      progress: { polls: { KORE_UNAUTHORIZED: { since: 0, count: 1e6 } } },
    };
    const { verdict, holdMs } = decide(errorOf('KORE_UNAUTHORIZED'), situation);
    expect(verdict).toEqual({ kind: 'wait', until: NOW + MINUTE });
    expect(holdMs).toBe(MINUTE);
  });
});

describe('a recording that looks cut', () => {
  const cut = (since: number, settledDoubt?: boolean) =>
    decideOutcome(
      {
        error: errorOf('RECORDING_TRUNCATED'),
        attemptsMade: 0,
        progress: { polls: { RECORDING_TRUNCATED: { since, count: 10 } } },
        now: NOW,
        ...(settledDoubt !== undefined && { settledDoubt }),
      },
      WAIT_LIMITS,
      even,
    );
  const settles = (polls: SessionJobProgress['polls'], limits = WAIT_LIMITS) =>
    archivesUncertain({ progress: polls ? { polls } : {}, now: NOW }, limits);

  it('a recording that looks cut is downloaded again for forty seconds, and then accepted as it comes', () => {
    const at = (since: number) => settles({ RECORDING_TRUNCATED: { since, count: 0 } });
    expect([at(NOW), at(NOW - 40 * SECOND + 1), at(NOW - 40 * SECOND)]).toEqual([false, false, true]);
    expect(settles(undefined)).toBe(false);
    expect(settles({ RECORDING_NOT_READY: { since: 0, count: 0 } })).toBe(false);
  });

  it.each([50, 15 * SECOND, 30 * SECOND, 5 * MINUTE])(
    'a recording that looks cut is polled when the forty seconds are over, though POLL_DELAY is %d ms',
    (pollDelayMs) => {
      const limits = { ...WAIT_LIMITS, pollDelayMs };
      const polls: number[] = [];
      let progress: SessionJobProgress = {};
      for (let now = NOW; !archivesUncertain({ progress, now }, limits); now = polls.at(-1) ?? now) {
        const outcome = decideOutcome(
          { error: errorOf('RECORDING_TRUNCATED'), attemptsMade: 0, progress, now, settledDoubt: false },
          limits,
          even,
        );
        if (outcome.verdict.kind !== 'wait') throw new Error(`no wait but ${outcome.verdict.kind}`);
        progress = outcome.progress;
        polls.push(outcome.verdict.until);
      }
      expect(polls.at(-1)).toBe(NOW + 40 * SECOND);
    },
  );

  it('a recording that looks cut is accepted as it comes by the last poll of a shorter wait', () => {
    const limits = { ...WAIT_LIMITS, recordingWaitMs: SECOND };
    expect(settles({ RECORDING_TRUNCATED: { since: NOW - SECOND, count: 1 } }, limits)).toBe(true);
    expect(settles({ RECORDING_TRUNCATED: { since: NOW - SECOND + 1, count: 1 } }, limits)).toBe(false);
    const polls = {
      RECORDING_NOT_READY: { since: NOW - SECOND, count: 1 },
      RECORDING_TRUNCATED: { since: NOW - 1, count: 0 },
    };
    expect(settles(polls, limits)).toBe(true);
  });

  it('a recording that looks cut never fails before a poll that would have accepted it as it comes', () => {
    expect(cut(NOW - 2 * DAY, false).verdict.kind).toBe('wait');
    expect(cut(NOW - 2 * DAY, true).verdict.kind).toBe('fail');
    const { verdict, progress } = decideOutcome(
      { error: errorOf('RECORDING_TRUNCATED'), attemptsMade: 0, progress: {}, now: NOW, settledDoubt: false },
      { ...WAIT_LIMITS, recordingWaitMs: 0 },
      even,
    );
    expect(verdict).toEqual({ kind: 'wait', until: NOW + 30 * SECOND });
    expect(
      archivesUncertain({ progress, now: NOW + 30 * SECOND }, { ...WAIT_LIMITS, recordingWaitMs: 0 }),
    ).toBe(true);
  });
});

describe('a maybe session', () => {
  const maybe = (code: ErrorCode, beganAt: number | undefined, since = NOW) =>
    decideOutcome(
      {
        error: errorOf(code),
        attemptsMade: 0,
        progress: { polls: { [code]: { since, count: 1 } } },
        now: NOW,
        maybe: { beganAt },
      },
      WAIT_LIMITS,
      even,
    ).verdict.kind;

  it('a maybe session is forgotten when it has no voicemail, and never fails for that', () => {
    for (const code of ['SESSION_NOT_FOUND', 'RECORDING_UNAVAILABLE'] as const) {
      expect(maybe(code, undefined, NOW - HOUR)).toBe('forget');
      expect(maybe(code, NOW - HOUR)).toBe('forget');
      expect(maybe(code, NOW - HOUR + 1)).toBe('wait');
      expect(maybe(code, undefined)).toBe('wait');
    }
    expect(maybe('RECORDING_NOT_READY', NOW - HOUR)).toBe('wait');
    expect(maybe('RECORDING_NOT_READY', NOW - DAY, NOW - 2 * DAY)).toBe('forget');
  });

  it('a maybe session fails for everything else like any other', () => {
    expect(maybe('KORE_UNAVAILABLE', NOW - DAY, NOW - DAY)).toBe('fail');
    expect(maybe('RECORDING_TOO_LARGE', NOW - DAY)).toBe('fail');
  });
});

describe('an outage', () => {
  it.each([
    [0, 4 * SECOND],
    [1, 8 * SECOND],
    [9, 2_048 * SECOND],
    [10, HOUR],
    [20, HOUR],
  ])('an outage is waited for with pauses that grow to an hour (%i polls before: %i ms)', (count, pause) => {
    const progress = { polls: { ARCHIVE_UNAVAILABLE: { since: NOW - HOUR, count } } };
    const { verdict } = decide(errorOf('ARCHIVE_UNAVAILABLE'), { progress });
    expect(verdict).toEqual({ kind: 'wait', until: NOW + pause });
  });

  it('an outage is checked again no sooner than the other side asks', () => {
    const { verdict, progress } = decide(errorOf('KORE_UNAVAILABLE', { retryAfterMs: 90_000 }));
    expect(verdict).toEqual({ kind: 'wait', until: NOW + 90_000 });
    expect(progress.nextAttemptAt).toBe(at(NOW + 90_000));
    expect(decide(errorOf('KORE_UNAVAILABLE', { retryAfterMs: 1 })).verdict).toEqual({
      kind: 'wait',
      until: NOW + 2 * SECOND,
    });
  });
});

describe('a possible fault of this program', () => {
  it.each([
    [0, 2 * SECOND],
    [10, 2_048 * SECOND],
    [11, HOUR],
  ])(
    'a possible fault of this program is tried again after pauses that grow to an hour (%i attempts before: %i ms)',
    (attemptsMade, delayMs) => {
      expect(decide(errorOf('INTERNAL'), { attemptsMade }).verdict).toMatchObject({ kind: 'retry', delayMs });
    },
  );

  it('a possible fault of this program fails when the attempts are used up', () => {
    const attempts = maxAttempts(WAIT_LIMITS);
    expect(decide(errorOf('INTERNAL'), { attemptsMade: attempts - 2 }).verdict.kind).toBe('retry');
    expect(decide(errorOf('INTERNAL'), { attemptsMade: attempts - 1 }).verdict.kind).toBe('fail');
  });
});

describe('the number of attempts', () => {
  it.each([
    ['the defaults', 2 * SECOND, DAY, 35],
    ['no time at all', 2 * SECOND, 0, 1],
    ['a time shorter than the first pause', 2 * SECOND, 1, 2],
    ['exactly the first pause', 2 * SECOND, 2 * SECOND, 2],
    ['a little more than the first pause', 2 * SECOND, 2 * SECOND + 1, 3],
    ['pauses of an hour from the start', HOUR, DAY, 25],
    ['pauses longer than an hour, which are cut', DAY, DAY, 25],
  ])('the number of attempts is right for %s', (_, retryDelayMs, retryWaitMs, expected) => {
    expect(maxAttempts({ retryDelayMs, retryWaitMs })).toBe(expected);
  });

  it('the number of attempts is as many as their pauses take to fill the time', () => {
    const attempts = maxAttempts(WAIT_LIMITS);
    const pauses = Array.from({ length: attempts - 1 }, (_, step) =>
      growingPause(WAIT_LIMITS.retryDelayMs, step),
    );
    const sum = (numbers: number[]) => numbers.reduce((total, pause) => total + pause, 0);
    expect(sum(pauses)).toBeGreaterThanOrEqual(DAY);
    expect(sum(pauses.slice(0, -1))).toBeLessThan(DAY);
  });

  it('the number of attempts is bounded also without any pause', () => {
    expect(maxAttempts({ retryDelayMs: 0, retryWaitMs: 1_000 })).toBe(1_001);
  });
});

describe('pauses between attempts', () => {
  it.each([
    [1_000, 0, 1_000],
    [1_000, 1, 2_000],
    [1_000, 11, 2_048_000],
    [1_000, 12, HOUR],
    [1_000, 100_000, HOUR],
    [HOUR, 0, HOUR],
    [2 * HOUR, 0, HOUR],
    [0, 50, 0],
  ])('a pause of %i ms at first is, at step %i, %i ms', (first, step, expected) => {
    expect(growingPause(first, step)).toBe(expected);
  });

  it('a pause is up to a fifth shorter or longer at random', () => {
    expect(withJitter(1_000, () => 0)).toBe(800);
    expect(withJitter(1_000, even)).toBe(1_000);
    expect(withJitter(1_000, () => 1)).toBeCloseTo(1_200);
    expect(decide(errorOf('INTERNAL'), { random: () => 0 }).verdict).toMatchObject({ delayMs: 1_600 });
    expect(decide(errorOf('RECORDING_NOT_READY'), { random: () => 1 }).verdict).toEqual({
      kind: 'wait',
      until: NOW + 36 * SECOND,
    });
  });
});

describe('polls of a session', () => {
  it('the polls of a session are counted by their reason', () => {
    const progress: SessionJobProgress = { polls: { KORE_RATE_LIMITED: { since: 5, count: 2 } } };
    expect(nextPoll({ progress, now: NOW }, 'KORE_RATE_LIMITED')).toEqual({ since: 5, count: 3 });
    expect(nextPoll({ progress, now: NOW }, 'RECORDING_NOT_READY')).toEqual({ since: NOW, count: 0 });
  });
});

describe('an unexpected error', () => {
  it.each([
    ['an error', new TypeError('x is not a function'), 'x is not a function'],
    ['a text', 'just text', 'just text'],
    ['nothing', undefined, 'undefined'],
  ])('an unexpected error is INTERNAL and tried again: %s', (_, thrown, message) => {
    const { error, verdict, progress } = decide(thrown);
    expect(error.code).toBe('INTERNAL');
    expect(verdict.kind).toBe('retry');
    expect(progress.error).toMatchObject({ code: 'INTERNAL', message, retryable: true });
  });

  it('an unexpected error keeps its cause', () => {
    const cause = new Error('underneath');
    expect(asVoicemailError(cause).cause).toBe(cause);
    const known = errorOf('RECORDING_EMPTY');
    expect(asVoicemailError(known)).toBe(known);
  });

  it('an unexpected error shows no secret, signed URL or token', () => {
    registerSecret('correct-horse-battery');
    const thrown = new Error(
      'GET https://media.example/a.wav?e=1&s=SIGNED$$ with correct-horse-battery and eyJhbGciOi.eyJhcHAi.c2ln',
    );
    const { verdict, progress } = decide(thrown);
    const shown = JSON.stringify({ verdict, progress });
    expect(shown).toContain('https://media.example/a.wav');
    expect(shown).not.toMatch(/SIGNED|correct-horse|eyJhb/);
  });
});
