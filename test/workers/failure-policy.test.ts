import { describe, expect, it } from 'vitest';
import { ERROR_CODES, type ErrorCode, VoicemailError } from '../../src/domain/errors.ts';
import { CallLimitReached } from '../../src/jobs/call-limit.ts';
import type { SessionJobProgress } from '../../src/jobs/session-job.ts';
import { registerSecret } from '../../src/util/redact.ts';
import {
  asVoicemailError,
  decideOutcome,
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
const PATIENCE: WaitLimits = {
  recordingWaitMs: DAY,
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
  return decideOutcome({ error, attemptsMade, progress, now: NOW }, PATIENCE, random);
}

const errorOf = (code: ErrorCode, options?: { retryable?: boolean; retryAfterMs?: number }) =>
  new VoicemailError(code, 'it went wrong', options);

describe('what becomes of a failed attempt', () => {
  const EXPECTED: Readonly<Record<ErrorCode, 'retry' | 'wait' | 'fail'>> = {
    KORE_UNAUTHORIZED: 'wait',
    KORE_RATE_LIMITED: 'wait',
    KORE_UNAVAILABLE: 'retry',
    KORE_BAD_RESPONSE: 'retry',
    SESSION_NOT_FOUND: 'fail',
    RECORDING_NOT_READY: 'wait',
    RECORDING_UNAVAILABLE: 'fail',
    RECORDING_URL_EXPIRED: 'retry',
    RECORDING_HOST_NOT_ALLOWED: 'fail',
    RECORDING_TRUNCATED: 'retry',
    RECORDING_EMPTY: 'fail',
    RECORDING_NOT_AUDIO: 'fail',
    RECORDING_TOO_LARGE: 'fail',
    DOWNLOAD_FAILED: 'retry',
    ARCHIVE_DENIED: 'retry',
    ARCHIVE_UNAVAILABLE: 'retry',
    ARCHIVE_CONFLICT: 'fail',
    INTERNAL: 'retry',
  };

  it.each(ERROR_CODES)('%s', (code) => {
    const { verdict, progress, error, holdMs } = decide(errorOf(code));
    expect(verdict.kind).toBe(EXPECTED[code]);
    expect(error.code).toBe(code);
    expect(progress.error).toEqual({
      code,
      message: 'it went wrong',
      retryable: EXPECTED[code] !== 'fail',
      at: at(NOW),
    });
    expect(progress.nextAttemptAt === undefined).toBe(EXPECTED[code] === 'fail');
    expect(holdMs !== undefined).toBe(code === 'KORE_UNAUTHORIZED' || code === 'KORE_RATE_LIMITED');
  });

  it('is what the one who threw says, where the code can mean either', () => {
    expect(decide(errorOf('KORE_BAD_RESPONSE', { retryable: false })).verdict.kind).toBe('fail');
    expect(decide(errorOf('RECORDING_EMPTY', { retryable: true })).verdict.kind).toBe('retry');
  });

  it('shows the code in the reason that the queue keeps', () => {
    expect(decide(errorOf('RECORDING_EMPTY')).verdict).toEqual({
      kind: 'fail',
      reason: 'RECORDING_EMPTY: it went wrong',
    });
    expect(decide(errorOf('DOWNLOAD_FAILED')).verdict).toMatchObject({
      kind: 'retry',
      reason: 'DOWNLOAD_FAILED: it went wrong',
    });
  });

  it('keeps how far the transfer had come and the other polls', () => {
    const progress: SessionJobProgress = {
      transfer: { recordings: 2, recordingsDone: 1, bytes: 5 },
      polls: { RECORDING_NOT_READY: { since: NOW - DAY / 2, count: 3 } },
      nextAttemptAt: at(0),
      error: { code: 'INTERNAL', message: 'old', retryable: true, at: at(0) },
    };
    const { transfer, polls, nextAttemptAt, error } = decide(errorOf('DOWNLOAD_FAILED'), {
      progress,
    }).progress;
    expect({ transfer, polls }).toEqual({ transfer: progress.transfer, polls: progress.polls });
    expect(nextAttemptAt).toBe(at(NOW + 2 * SECOND));
    expect(error?.code).toBe('DOWNLOAD_FAILED');
  });
});

describe('a recording that is not ready', () => {
  const looked = (since: number, count: number): Situation => ({
    progress: { polls: { RECORDING_NOT_READY: { since, count } } },
  });

  it('is looked at again after the first pause', () => {
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
  ])('is looked at after pauses that grow to an hour (%i polls before: %i ms)', (count, pause) => {
    const since = NOW - MINUTE;
    const { verdict, progress } = decide(errorOf('RECORDING_NOT_READY'), looked(since, count));
    expect(verdict).toEqual({ kind: 'wait', until: NOW + pause });
    expect(progress.polls).toEqual({ RECORDING_NOT_READY: { since, count: count + 1 } });
  });

  it('is looked at for the last time when the wait is over', () => {
    const since = NOW - DAY + 1;
    expect(decide(errorOf('RECORDING_NOT_READY'), looked(since, 40)).verdict).toEqual({
      kind: 'wait',
      until: NOW + 1,
    });
  });

  it('fails when it is not there by then', () => {
    const { verdict, progress } = decide(errorOf('RECORDING_NOT_READY'), looked(NOW - DAY, 40));
    expect(verdict.kind).toBe('fail');
    expect(progress.nextAttemptAt).toBeUndefined();
  });

  it('uses up no attempts however many were used up before', () => {
    expect(decide(errorOf('RECORDING_NOT_READY'), { attemptsMade: 1_000 }).verdict.kind).toBe('wait');
  });
});

describe('a rate limit', () => {
  it('delays everybody as long as Kore says', () => {
    const { verdict, holdMs } = decide(errorOf('KORE_RATE_LIMITED', { retryAfterMs: 7_000 }));
    expect(holdMs).toBe(7_000);
    expect(verdict).toEqual({ kind: 'wait', until: NOW + 7_000 + PATIENCE.retryDelayMs });
  });

  it('lasts a minute when Kore does not say', () => {
    expect(decide(errorOf('KORE_RATE_LIMITED')).holdMs).toBe(MINUTE);
  });

  it.each([
    ['for all of the time, often enough', DAY, 9, 'fail'],
    ['for all of the time, but seldom', DAY, 8, 'wait'],
    ['often, but not for all of the time', DAY - 1, 1_000, 'wait'],
  ] as const)('that is met %s: %s', (_, ago, count, kind) => {
    const progress = { polls: { KORE_RATE_LIMITED: { since: NOW - ago, count } } };
    const { verdict, holdMs } = decide(errorOf('KORE_RATE_LIMITED'), { progress });
    expect(verdict.kind).toBe(kind);
    expect(holdMs).toBe(kind === 'fail' ? undefined : MINUTE);
  });

  it('of our own never counts against a session', () => {
    const polls = { KORE_RATE_LIMITED: { since: NOW - 10 * DAY, count: 1_000 } };
    const { verdict, holdMs, progress } = decide(new CallLimitReached(4_000, 'live'), {
      progress: { polls },
    });
    expect(verdict).toEqual({ kind: 'wait', until: NOW + 4_000 + PATIENCE.retryDelayMs });
    expect(holdMs).toBe(4_000);
    expect(progress.polls).toEqual(polls);
  });

  it('of our own on background work lets live sessions go on, and spreads the others out', () => {
    const first = decide(new CallLimitReached(4_000, 'background'), {});
    expect(first.holdMs).toBeUndefined();
    expect(first.verdict.kind).toBe('wait');
    expect(first.progress.polls).toEqual({ CALL_LIMIT: { since: NOW, count: 0 } });
    const later = decide(new CallLimitReached(4_000, 'background'), {
      progress: { polls: { CALL_LIMIT: { since: 0, count: 1_000 } } },
    });
    const latest = NOW + 4_000 + PATIENCE.retryDelayMs + 60 * MINUTE;
    expect(later.verdict).toMatchObject({ kind: 'wait' });
    expect(later.verdict.kind === 'wait' && later.verdict.until).toBeLessThanOrEqual(latest);
  });
});

describe('refused credentials', () => {
  it('make everything wait, for as long as it takes, and use up nothing', () => {
    const situation = {
      attemptsMade: 1_000_000,
      progress: { polls: { KORE_UNAUTHORIZED: { since: 0, count: 1e6 } } },
    };
    const { verdict, holdMs } = decide(errorOf('KORE_UNAUTHORIZED'), situation);
    expect(verdict).toEqual({ kind: 'wait', until: NOW + MINUTE });
    expect(holdMs).toBe(MINUTE);
  });
});

describe('a passing failure', () => {
  it.each([
    [0, 2 * SECOND],
    [1, 4 * SECOND],
    [10, 2_048 * SECOND],
    [11, HOUR],
    [20, HOUR],
  ])(
    'is tried again after pauses that grow to an hour (%i attempts before: %i ms)',
    (attemptsMade, delayMs) => {
      expect(decide(errorOf('ARCHIVE_UNAVAILABLE'), { attemptsMade }).verdict).toMatchObject({
        kind: 'retry',
        delayMs,
      });
    },
  );

  it('is tried again no sooner than the other side asks', () => {
    const { verdict, progress } = decide(errorOf('KORE_UNAVAILABLE', { retryAfterMs: 90_000 }));
    expect(verdict).toMatchObject({ kind: 'retry', delayMs: 90_000 });
    expect(progress.nextAttemptAt).toBe(at(NOW + 90_000));
    expect(decide(errorOf('KORE_UNAVAILABLE', { retryAfterMs: 1 })).verdict).toMatchObject({
      delayMs: 2 * SECOND,
    });
  });

  it('fails when the attempts are used up', () => {
    const attempts = maxAttempts(PATIENCE);
    const last = errorOf('DOWNLOAD_FAILED');
    expect(decide(last, { attemptsMade: attempts - 2 }).verdict.kind).toBe('retry');
    expect(decide(last, { attemptsMade: attempts - 1 }).verdict.kind).toBe('fail');
  });
});

describe('how many attempts there are', () => {
  it.each([
    ['the defaults', 2 * SECOND, DAY, 35],
    ['no time at all', 2 * SECOND, 0, 1],
    ['a time shorter than the first pause', 2 * SECOND, 1, 2],
    ['exactly the first pause', 2 * SECOND, 2 * SECOND, 2],
    ['a little more than the first pause', 2 * SECOND, 2 * SECOND + 1, 3],
    ['pauses of an hour from the start', HOUR, DAY, 25],
    ['pauses longer than an hour, which are cut', DAY, DAY, 25],
  ])('%s', (_, retryDelayMs, retryWaitMs, expected) => {
    expect(maxAttempts({ retryDelayMs, retryWaitMs })).toBe(expected);
  });

  it('is as many as their pauses take to fill the time', () => {
    const attempts = maxAttempts(PATIENCE);
    const pauses = Array.from({ length: attempts - 1 }, (_, step) =>
      growingPause(PATIENCE.retryDelayMs, step),
    );
    const sum = (numbers: number[]) => numbers.reduce((total, pause) => total + pause, 0);
    expect(sum(pauses)).toBeGreaterThanOrEqual(DAY);
    expect(sum(pauses.slice(0, -1))).toBeLessThan(DAY);
  });

  it('is bounded also without any pause', () => {
    expect(maxAttempts({ retryDelayMs: 0, retryWaitMs: 1_000 })).toBe(1_001);
  });
});

describe('pauses', () => {
  it.each([
    [1_000, 0, 1_000],
    [1_000, 1, 2_000],
    [1_000, 11, 2_048_000],
    [1_000, 12, HOUR],
    [1_000, 100_000, HOUR],
    [HOUR, 0, HOUR],
    [2 * HOUR, 0, HOUR],
    [0, 50, 0],
  ])('of %i ms at first are, at step %i, %i ms', (first, step, expected) => {
    expect(growingPause(first, step)).toBe(expected);
  });

  it('are up to a fifth shorter or longer at random', () => {
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

describe('polls', () => {
  it('are counted by their reason', () => {
    const progress: SessionJobProgress = { polls: { KORE_RATE_LIMITED: { since: 5, count: 2 } } };
    expect(nextPoll({ progress, now: NOW }, 'KORE_RATE_LIMITED')).toEqual({ since: 5, count: 3 });
    expect(nextPoll({ progress, now: NOW }, 'RECORDING_NOT_READY')).toEqual({ since: NOW, count: 0 });
  });
});

describe('what nobody foresaw', () => {
  it.each([
    ['an error', new TypeError('x is not a function'), 'x is not a function'],
    ['a text', 'just text', 'just text'],
    ['nothing', undefined, 'undefined'],
  ])('is INTERNAL and tried again: %s', (_, thrown, message) => {
    const { error, verdict, progress } = decide(thrown);
    expect(error.code).toBe('INTERNAL');
    expect(verdict.kind).toBe('retry');
    expect(progress.error).toMatchObject({ code: 'INTERNAL', message, retryable: true });
  });

  it('keeps its cause', () => {
    const cause = new Error('underneath');
    expect(asVoicemailError(cause).cause).toBe(cause);
    const known = errorOf('RECORDING_EMPTY');
    expect(asVoicemailError(known)).toBe(known);
  });

  it('shows no secret, signed URL or token', () => {
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
