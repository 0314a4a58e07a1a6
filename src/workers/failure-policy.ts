import type { WorkConfig } from '../config/config.ts';
import { VoicemailError } from '../domain/errors.ts';
import type { SessionError } from '../domain/views.ts';
import { CallLimitReached } from '../jobs/call-limit.ts';
import type { JobDecision } from '../jobs/consumer.ts';
import {
  failureReason,
  type PollReason,
  type Polls,
  type PollsByReason,
  type SessionJobProgress,
} from '../jobs/session-job.ts';
import { redact } from '../util/redact.ts';

/** The times of {@link WorkConfig} that decide what becomes of a failure. */
export type WaitLimits = Pick<
  WorkConfig,
  'recordingWaitMs' | 'pollDelayMs' | 'retryDelayMs' | 'retryWaitMs' | 'unauthorizedPauseMs'
>;

/** What is known of a job when an attempt of it has failed. */
export interface FailedAttempt {
  readonly error: unknown;
  /** Attempts used up before this one. */
  readonly attemptsMade: number;
  readonly progress: SessionJobProgress;
  /** Unix milliseconds. */
  readonly now: number;
}

/** What becomes of a failed attempt. */
export interface Outcome {
  readonly verdict: JobDecision;
  readonly error: VoicemailError;
  /** What the job is to remember. */
  readonly progress: SessionJobProgress;
  /** Every other session would fail the same way: take none for so long. */
  readonly holdMs?: number;
}

/** Growing pauses stop growing here. */
const MAX_PAUSE_MS = 60 * 60 * 1000;
/** A pause is this much shorter or longer than planned, so that what failed together does not return together. */
const JITTER = 0.2;
/** Kore has to refuse a session this often, and for all of `RETRY_WAIT`, before it counts as failed. */
const MIN_RATE_LIMITED_POLLS = 10;
/** For a limit that does not say how long it lasts: the documented one is by the minute. */
const RATE_LIMIT_PAUSE_MS = 60_000;

/**
 * The one place that turns an error into what the queue does next.
 *
 * - What Kore has not ready is looked at again with growing pauses and without using up attempts, for
 *   `RECORDING_WAIT`.
 * - A rate limit delays the session and everybody else as long as it lasts.
 * - Refused credentials are a fault of the configuration, not of the session: it waits, however long it takes.
 * - Other passing failures use up attempts with growing pauses, which add up to about `RETRY_WAIT`.
 * - Everything else fails at once.
 */
export function decideOutcome(
  attempt: FailedAttempt,
  patience: WaitLimits,
  random: () => number = Math.random,
): Outcome {
  const error = asVoicemailError(attempt.error);
  const jittered = (milliseconds: number) => withJitter(milliseconds, random);

  switch (error.code) {
    case 'RECORDING_NOT_READY': {
      const polls = nextPoll(attempt, error.code);
      const deadline = polls.since + patience.recordingWaitMs;
      if (attempt.now >= deadline) return failed(attempt, error);
      const pause = jittered(growingPause(patience.pollDelayMs, polls.count));
      // The last look is at the deadline itself.
      return waits(attempt, error, Math.min(attempt.now + pause, deadline), { [error.code]: polls });
    }
    case 'KORE_RATE_LIMITED': {
      const holdMs = error.retryAfterMs ?? RATE_LIMIT_PAUSE_MS;
      const until = attempt.now + holdMs + jittered(patience.retryDelayMs);
      // Our own limit says nothing about the session, so it never counts against it.
      if (error instanceof CallLimitReached) {
        if (error.callClass === 'live') return { ...waits(attempt, error, until), holdMs };
        // Live sessions go on. The others come back spread out over a time that grows with their number.
        const polls = nextPoll(attempt, 'CALL_LIMIT');
        const spread = random() * growingPause(holdMs, polls.count);
        return waits(attempt, error, until + spread, { CALL_LIMIT: polls });
      }
      const polls = nextPoll(attempt, error.code);
      const isHopeless =
        attempt.now - polls.since >= patience.retryWaitMs && polls.count >= MIN_RATE_LIMITED_POLLS;
      if (isHopeless) return failed(attempt, error);
      return { ...waits(attempt, error, until, { [error.code]: polls }), holdMs };
    }
    case 'KORE_UNAUTHORIZED': {
      const holdMs = error.retryAfterMs ?? patience.unauthorizedPauseMs;
      return { ...waits(attempt, error, attempt.now + jittered(holdMs)), holdMs };
    }
    default: {
      if (!error.retryable || attempt.attemptsMade + 1 >= maxAttempts(patience))
        return failed(attempt, error);
      const planned = jittered(growingPause(patience.retryDelayMs, attempt.attemptsMade));
      const delayMs = Math.max(planned, error.retryAfterMs ?? 0);
      return {
        error,
        verdict: { kind: 'retry', delayMs, reason: failureReason(error.code, error.message) },
        progress: remembered(attempt, error, { nextAttemptAt: attempt.now + delayMs }),
      };
    }
  }
}

/** How many attempts it takes until their growing pauses add up to `retryWaitMs`. */
export function maxAttempts({
  retryDelayMs,
  retryWaitMs,
}: Pick<WaitLimits, 'retryDelayMs' | 'retryWaitMs'>): number {
  let attempts = 1;
  for (let total = 0; total < retryWaitMs; attempts += 1) {
    total += Math.max(1, growingPause(retryDelayMs, attempts - 1));
  }
  return attempts;
}

/** The pause doubles each time, up to an hour. `step` counts from 0. */
export function growingPause(firstMs: number, step: number): number {
  return Math.min(firstMs * 2 ** Math.min(step, 40), MAX_PAUSE_MS);
}

/** A pause made somewhat shorter or longer at random. */
export function withJitter(milliseconds: number, random: () => number = Math.random): number {
  return milliseconds * (1 - JITTER + 2 * JITTER * random());
}

/** Any thrown value as an error of ours; what nobody foresaw is `INTERNAL`. */
export function asVoicemailError(error: unknown): VoicemailError {
  if (error instanceof VoicemailError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new VoicemailError('INTERNAL', redact(message), { cause: error });
}

function waits(attempt: FailedAttempt, error: VoicemailError, until: number, polls?: PollsByReason): Outcome {
  return {
    error,
    verdict: { kind: 'wait', until },
    progress: remembered(attempt, error, { nextAttemptAt: until, ...(polls && { polls }) }),
  };
}

function failed(attempt: FailedAttempt, error: VoicemailError): Outcome {
  return {
    error,
    verdict: { kind: 'fail', reason: failureReason(error.code, error.message) },
    progress: remembered(attempt, error, {}),
  };
}

/** Counts one more look for this reason. */
export function nextPoll(attempt: Pick<FailedAttempt, 'progress' | 'now'>, reason: PollReason): Polls {
  const polls = attempt.progress.polls?.[reason];
  return polls ? { ...polls, count: polls.count + 1 } : { since: attempt.now, count: 0 };
}

function remembered(
  attempt: FailedAttempt,
  error: VoicemailError,
  next: { readonly nextAttemptAt?: number; readonly polls?: PollsByReason },
): SessionJobProgress {
  const { transfer, polls } = attempt.progress;
  return {
    ...(transfer && { transfer }),
    ...((polls || next.polls) && { polls: { ...polls, ...next.polls } }),
    ...(next.nextAttemptAt !== undefined && { nextAttemptAt: new Date(next.nextAttemptAt).toISOString() }),
    error: sessionError(error, attempt.now),
  };
}

function sessionError(error: VoicemailError, now: number): SessionError {
  return {
    code: error.code,
    message: redact(error.message),
    ...(error.hint !== undefined && { hint: redact(error.hint) }),
    retryable: error.retryable,
    at: new Date(now).toISOString(),
  };
}
