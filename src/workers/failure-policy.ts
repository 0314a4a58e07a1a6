import type { WorkConfig } from '../config/config.ts';
import { type ErrorCode, VoicemailError } from '../domain/errors.ts';
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
import { printable } from '../util/text.ts';

/** The times of {@link WorkConfig} that decide what becomes of a failure. */
export type WaitLimits = Pick<
  WorkConfig,
  'sessionWaitMs' | 'recordingWaitMs' | 'pollDelayMs' | 'retryDelayMs' | 'retryWaitMs' | 'unauthorizedPauseMs'
>;

/** The dependency that a failure points to: during its outage, every other session that needs it fails the same way. */
export type DependencyKind = 'kore' | 'media' | 'bucket';

/** What becomes of a session that fails with a code. */
export interface FailureRule {
  /**
   * How long the session is polled: for the time of that setting, counted from the first failure of those that share
   * it; `forever`, as what a person has to fix ends by itself once it is fixed; or `never`.
   */
  readonly waits: 'sessionWaitMs' | 'recordingWaitMs' | 'retryWaitMs' | 'forever' | 'never';
  /** The first pause. Pauses double each time, up to an hour, and vary by a fifth at random. */
  readonly firstPause: 'pollDelayMs' | 'retryDelayMs';
  /** Each failure uses up an attempt, and attempts are bounded by how many fit into `waits`. */
  readonly usesAttempts?: true;
  /** It fails at once where the error says that it cannot change (`retryable: false`). */
  readonly mayBeFinal?: true;
  /** The dependency that may be unavailable. */
  readonly dependency?: DependencyKind;
}

const NOT_YET = { waits: 'recordingWaitMs', firstPause: 'pollDelayMs' } as const;
const OUTAGE = { waits: 'retryWaitMs', firstPause: 'retryDelayMs' } as const;
const NEVER = { waits: 'never', firstPause: 'retryDelayMs' } as const;

/**
 * The one policy for all failures. `KORE_UNAUTHORIZED` and `KORE_RATE_LIMITED` keep everybody waiting as long as they
 * say: see {@link decideOutcome}.
 */
export const FAILURE_RULES: Readonly<Record<ErrorCode, FailureRule>> = {
  KORE_UNAUTHORIZED: { waits: 'forever', firstPause: 'retryDelayMs' },
  KORE_RATE_LIMITED: OUTAGE,
  KORE_UNAVAILABLE: { ...OUTAGE, dependency: 'kore' },
  KORE_BAD_RESPONSE: { ...OUTAGE, dependency: 'kore', mayBeFinal: true },
  SESSION_NOT_FOUND: { waits: 'sessionWaitMs', firstPause: 'pollDelayMs' },
  RECORDING_NOT_READY: NOT_YET,
  RECORDING_UNAVAILABLE: { waits: 'sessionWaitMs', firstPause: 'pollDelayMs' },
  RECORDING_URL_EXPIRED: NOT_YET,
  RECORDING_HOST_NOT_ALLOWED: { ...NOT_YET, mayBeFinal: true },
  RECORDING_TRUNCATED: NOT_YET,
  RECORDING_EMPTY: NOT_YET,
  // A page for every recording is how a host under maintenance looks.
  RECORDING_NOT_AUDIO: { ...NOT_YET, dependency: 'media' },
  RECORDING_TOO_LARGE: NEVER,
  DOWNLOAD_FAILED: { ...OUTAGE, dependency: 'media' },
  ARCHIVE_DENIED: { waits: 'forever', firstPause: 'retryDelayMs', dependency: 'bucket' },
  ARCHIVE_UNAVAILABLE: { ...OUTAGE, dependency: 'bucket' },
  ARCHIVE_CONFLICT: NEVER,
  INTERNAL: { ...OUTAGE, usesAttempts: true, mayBeFinal: true },
};

/** What is known of a job when an attempt of it has failed. */
export interface FailedAttempt {
  readonly error: unknown;
  /** Attempts used up before this one. */
  readonly attemptsMade: number;
  readonly progress: SessionJobProgress;
  /** Unix milliseconds. */
  readonly now: number;
  /** The attempt would have archived a recording that looks cut: see {@link archivesUncertain}. */
  readonly settledDoubt?: boolean;
  /** Set where the session may have no voicemail. */
  readonly maybe?: {
    /** When the session began (unix milliseconds), where its id says so. */
    readonly beganAt: number | undefined;
  };
}

/** What becomes of a failed attempt. */
export interface Outcome {
  /**
   * `forget` for a session that was queued as a maybe, and has no voicemail.
   */
  readonly verdict: JobDecision;
  readonly error: VoicemailError;
  /** What the job is to remember. */
  readonly progress: SessionJobProgress;
  /** Every other session would fail the same way: how long to take none. */
  readonly holdMs?: number;
}

/** Messages lie in the queue and show on terminals and dashboards. */
const MAX_MESSAGE_CHARACTERS = 1_000;

/**
 * Most sessions that may have no voicemail have none: their pauses grow fourfold each time, as calls to Kore are few.
 */
const MAYBE_DOUBLINGS = 2;
/** Growing pauses stop growing here. */
const MAX_PAUSE_MS = 60 * 60 * 1000;
/** A pause is this much shorter or longer than planned, so that what failed together does not return together. */
const JITTER = 0.2;
/** Kore has to refuse a session this often, and for all of `RETRY_WAIT`, before it counts as failed. */
const MIN_RATE_LIMITED_POLLS = 10;
/** For a limit that does not say how long it lasts: the documented one is by the minute. */
const RATE_LIMIT_PAUSE_MS = 60_000;
/**
 * How long a recording that looks cut is downloaded again, or for `RECORDING_WAIT` where that is shorter. Then it is
 * archived as suspect. A file that has not grown in that time is hardly still being written; if it is, the later check
 * (`SETTLE_WAIT`) downloads it again.
 */
const SETTLE_DOUBT_AFTER_MS = 40_000;
/** Kore has recordings within 10 minutes of a call's end, and a call that goes on has another status. */
const EMPTY_FOR_GOOD_MS = 60 * 60 * 1000;

/** Codes that say of a session that it has no voicemail, when it is given up for one of them. */
const NO_VOICEMAIL: ReadonlySet<ErrorCode> = new Set([
  'RECORDING_UNAVAILABLE',
  'RECORDING_NOT_READY',
  'SESSION_NOT_FOUND',
]);

/** Whether a failure can't change, so that a session fails for it at once. */
export function isFinal({ code, retryable }: VoicemailError): boolean {
  const { waits, mayBeFinal } = FAILURE_RULES[code];
  return waits === 'never' || (mayBeFinal === true && !retryable);
}

/** Whether a failure is waited for as long as outages are. */
export function isOutage({ code }: Pick<VoicemailError, 'code'>): boolean {
  const { waits } = FAILURE_RULES[code];
  return waits === 'retryWaitMs' || waits === 'forever';
}

/** Turns an error into what the queue does next, by {@link FAILURE_RULES}. */
export function decideOutcome(
  attempt: FailedAttempt,
  limits: WaitLimits,
  random: () => number = Math.random,
): Outcome {
  const error = asVoicemailError(attempt.error);
  const rule = FAILURE_RULES[error.code];
  if (error.code === 'KORE_RATE_LIMITED') return decideRateLimited(attempt, error, limits, random);
  if (error.code === 'KORE_UNAUTHORIZED') {
    const holdMs = error.retryAfterMs ?? limits.unauthorizedPauseMs;
    return { ...waits(attempt, error, attempt.now + withJitter(holdMs, random)), holdMs };
  }
  if (isFinal(error)) return failed(attempt, error);
  if (rule.usesAttempts) return decideByAttempts(attempt, error, limits, random);

  const polls = nextPoll(attempt, error.code);
  const deadline = deadlineOf(attempt, error.code, polls, limits);
  const mayStillSettle = error.code === 'RECORDING_TRUNCATED' && attempt.settledDoubt === false;
  if (attempt.now >= deadline && !mayStillSettle) return failed(attempt, error);
  const step = attempt.maybe ? MAYBE_DOUBLINGS * polls.count : polls.count;
  const pause = withJitter(growingPause(limits[rule.firstPause], step), random);
  const until = attempt.now + Math.max(pause, error.retryAfterMs ?? 0);
  // The last check is at the deadline itself; one that is to settle a doubt may come after it.
  const ends = [deadline, ...(mayStillSettle ? [settleAt(polls.since, limits)] : [])];
  const next = Math.min(until, ...ends.filter((end) => end > attempt.now));
  return waits(attempt, error, next, { [error.code]: polls });
}

/**
 * Whether the next check is to archive a recording that looks cut, with the doubt written down: once it has looked so
 * for some minutes, and with the last check before the session fails.
 */
export function archivesUncertain(
  { progress, now }: Pick<FailedAttempt, 'progress' | 'now'>,
  limits: WaitLimits,
): boolean {
  const polls = progress.polls?.RECORDING_TRUNCATED;
  if (!polls) return false;
  const deadline = firstOf(progress.polls ?? {}, 'recordingWaitMs', polls.since) + limits.recordingWaitMs;
  return now >= Math.min(settleAt(polls.since, limits), deadline);
}

function settleAt(since: number, { recordingWaitMs }: WaitLimits): number {
  return since + Math.min(recordingWaitMs, SETTLE_DOUBT_AFTER_MS);
}

/**
 * Whether a session that lists no recordings has none, rather than none yet: it began more than an hour ago, by its id
 * or a listing. Looking again for `RECORDING_WAIT` would cost each of the many sessions without a voicemail dozens of
 * calls; one whose recording comes later still is found by a later backfill.
 *
 * @param beganAt unix milliseconds, like `now`.
 */
export function isLongOver(beganAt: number | undefined, now: number): boolean {
  return beganAt !== undefined && now - beganAt > EMPTY_FOR_GOOD_MS;
}

/** When a session that goes on failing with a code fails for good (unix milliseconds). */
function deadlineOf(
  { progress, maybe, now }: FailedAttempt,
  code: ErrorCode,
  polls: Polls,
  limits: WaitLimits,
): number {
  const { waits: wait } = FAILURE_RULES[code];
  if (wait === 'forever') return Number.POSITIVE_INFINITY;
  if (wait === 'never') return now;
  const deadline = firstOf(progress.polls ?? {}, wait, polls.since) + limits[wait];
  // Of many sessions without a voicemail each would cost dozens of calls to Kore for nothing.
  const isNone =
    maybe?.beganAt !== undefined && (code === 'SESSION_NOT_FOUND' || code === 'RECORDING_UNAVAILABLE');
  return isNone ? Math.min(deadline, (maybe?.beganAt ?? 0) + EMPTY_FOR_GOOD_MS) : deadline;
}

/** When a session first failed with one of the codes that share a wait. */
function firstOf(polls: PollsByReason, wait: FailureRule['waits'], since: number): number {
  const sharing = Object.entries(polls).filter(([code]) => rulesOf(code)?.waits === wait);
  return Math.min(since, ...sharing.map(([, one]) => one.since));
}

function rulesOf(reason: string): FailureRule | undefined {
  return (FAILURE_RULES as Readonly<Record<string, FailureRule>>)[reason];
}

/** A rate limit delays the session, and everybody else as long as it lasts. */
function decideRateLimited(
  attempt: FailedAttempt,
  error: VoicemailError,
  limits: WaitLimits,
  random: () => number,
): Outcome {
  const holdMs = error.retryAfterMs ?? RATE_LIMIT_PAUSE_MS;
  const until = attempt.now + holdMs + withJitter(limits.retryDelayMs, random);
  // Our own limit says nothing about the session, so it never counts against it.
  if (error instanceof CallLimitReached) {
    const polls = nextPoll(attempt, 'CALL_LIMIT');
    // In front of the line again, where it came from: at the end of a long one it would wait for all the others.
    if (error.callClass === 'live') {
      const turn = attempt.now + holdMs;
      const outcome = waits(attempt, error, turn, { CALL_LIMIT: polls });
      return { ...outcome, verdict: { kind: 'wait', until: turn, keepsPlace: true }, holdMs };
    }
    // Live sessions go on. The others come back spread out over a time that grows with their number.
    const spread = random() * growingPause(holdMs, polls.count);
    return waits(attempt, error, until + spread, { CALL_LIMIT: polls });
  }
  const polls = nextPoll(attempt, error.code);
  const isHopeless = attempt.now - polls.since >= limits.retryWaitMs && polls.count >= MIN_RATE_LIMITED_POLLS;
  if (isHopeless) return failed(attempt, error);
  return { ...waits(attempt, error, until, { [error.code]: polls }), holdMs };
}

/** What may be a fault of this program is tried a number of times, with pauses that add up to `RETRY_WAIT`. */
function decideByAttempts(
  attempt: FailedAttempt,
  error: VoicemailError,
  limits: WaitLimits,
  random: () => number,
): Outcome {
  if (attempt.attemptsMade + 1 >= maxAttempts(limits)) return failed(attempt, error);
  const planned = withJitter(growingPause(limits.retryDelayMs, attempt.attemptsMade), random);
  const delayMs = Math.max(planned, error.retryAfterMs ?? 0);
  return {
    error,
    verdict: { kind: 'retry', delayMs, reason: failureReason(error.code, error.message) },
    progress: remembered(attempt, error, { nextAttemptAt: attempt.now + delayMs }),
  };
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

/** The pause doubles each time, up to an hour unless `longestMs` says otherwise. `step` counts from 0. */
export function growingPause(firstMs: number, step: number, longestMs: number = MAX_PAUSE_MS): number {
  return Math.min(firstMs * 2 ** Math.min(step, 40), longestMs);
}

/** A pause made somewhat shorter or longer at random. */
export function withJitter(milliseconds: number, random: () => number = Math.random): number {
  return milliseconds * (1 - JITTER + 2 * JITTER * random());
}

/** Any thrown value as a VoicemailError; an unexpected one is `INTERNAL`. */
export function asVoicemailError(error: unknown): VoicemailError {
  if (error instanceof VoicemailError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new VoicemailError('INTERNAL', printable(message, MAX_MESSAGE_CHARACTERS), { cause: error });
}

function waits(attempt: FailedAttempt, error: VoicemailError, until: number, polls?: PollsByReason): Outcome {
  return {
    error,
    verdict: { kind: 'wait', until },
    progress: remembered(attempt, error, { nextAttemptAt: until, ...(polls && { polls }) }),
  };
}

function failed(attempt: FailedAttempt, error: VoicemailError): Outcome {
  const isNoFailure = attempt.maybe !== undefined && NO_VOICEMAIL.has(error.code);
  return {
    error,
    verdict: isNoFailure
      ? { kind: 'forget' }
      : { kind: 'fail', reason: failureReason(error.code, error.message) },
    progress: remembered(attempt, error, {}),
  };
}

/** Counts one more check for this reason. */
export function nextPoll(attempt: Pick<FailedAttempt, 'progress' | 'now'>, reason: PollReason): Polls {
  const polls = attempt.progress.polls?.[reason];
  return polls ? { ...polls, count: polls.count + 1 } : { since: attempt.now, count: 0 };
}

function remembered(
  attempt: FailedAttempt,
  error: VoicemailError,
  next: { readonly nextAttemptAt?: number; readonly polls?: PollsByReason },
): SessionJobProgress {
  const { transfer } = attempt.progress;
  const polls = { ...kept(attempt.progress.polls ?? {}, error.code), ...next.polls };
  const goesOn = next.nextAttemptAt !== undefined;
  return {
    ...(transfer && { transfer }),
    ...(Object.keys(polls).length > 0 && { polls }),
    ...(next.nextAttemptAt !== undefined && { nextAttemptAt: new Date(next.nextAttemptAt).toISOString() }),
    error: sessionError(error, goesOn, attempt.now),
  };
}

/** An outage that was followed by a failure of another kind is over: the next one has all of its time again. */
function kept(polls: PollsByReason, code: ErrorCode): PollsByReason {
  const isPassing = (reason: string) => rulesOf(reason)?.waits === 'retryWaitMs';
  if (isPassing(code)) return polls;
  return Object.fromEntries(Object.entries(polls).filter(([reason]) => !isPassing(reason)));
}

function sessionError(error: VoicemailError, goesOn: boolean, now: number): SessionError {
  return {
    code: error.code,
    message: printable(error.message, MAX_MESSAGE_CHARACTERS),
    ...(error.hint !== undefined && { hint: printable(error.hint, MAX_MESSAGE_CHARACTERS) }),
    retryable: goesOn || error.retryable,
    at: new Date(now).toISOString(),
  };
}
