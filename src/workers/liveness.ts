import { withinTime } from '../util/async.ts';

/** What a worker is doing. */
export interface WorkerActivity {
  /** When it last took a session (unix ms); when it was started if it never did. */
  readonly lastTakenAt: number;
  /** Sessions it works on. */
  readonly activeSessions: number;
  /** How many it works on at most. */
  readonly concurrency: number;
  /** Until when it takes none on purpose, or last did so (unix ms). */
  readonly heldUntil: number | undefined;
}

/** What the liveness check of a worker uses. */
export interface LivenessDeps {
  readonly activity: () => WorkerActivity;
  /** How many sessions wait to be taken; 0 while the queue is paused. It may throw: then the number is unknown. */
  readonly waiting: () => Promise<number>;
  /** How long a worker may leave waiting sessions alone, default a minute. */
  readonly idleTimeoutMs?: number;
  /** How long the queue may take to count waiting sessions, default half a second. */
  readonly checkMs?: number;
  readonly now?: () => number;
}

const IDLE_TIMEOUT_MS = 60_000;
/** Kubernetes gives a probe one second, which must be enough while the queue is unavailable. */
const CHECK_MS = 500;

/**
 * A function that decides whether a worker takes sessions. A connected worker that could take waiting sessions, but has
 * taken none for a while, is not alive.
 *
 * Time counts from when sessions were first seen to wait, since a worker may have been idle for hours before.
 * While the queue can't be reached or answers too late, the worker counts as alive: a restart would not help.
 */
export function createLivenessCheck(
  deps: LivenessDeps,
): () => Promise<{ readonly alive: boolean; readonly reason?: string }> {
  const { activity, waiting, idleTimeoutMs = IDLE_TIMEOUT_MS, checkMs = CHECK_MS, now = Date.now } = deps;
  let seenWaitingAt: number | undefined;
  return async () => {
    const { lastTakenAt, activeSessions, concurrency, heldUntil } = activity();
    const isBusy = activeSessions >= concurrency || (heldUntil ?? 0) > now();
    const count = isBusy ? 0 : await within(checkMs, waiting());
    if (count === 0) {
      seenWaitingAt = undefined;
      return { alive: true };
    }
    seenWaitingAt ??= now();
    const idleMs = now() - Math.max(seenWaitingAt, lastTakenAt, heldUntil ?? 0);
    if (idleMs < idleTimeoutMs) return { alive: true };
    return {
      alive: false,
      reason: `the worker has taken no session for ${Math.round(idleMs / 1000)} s, though ${count} wait and it could`,
    };
  };
}

/** What the queue says; 0 when it says nothing in time, or can't be asked. */
async function within(milliseconds: number, reading: Promise<number>): Promise<number> {
  let waiting = 0;
  const answered = reading.then((count) => {
    waiting = count;
  });
  try {
    await withinTime(answered, milliseconds);
  } catch {
    // The metrics, the log and /readyz report an unreachable queue.
  }
  return waiting;
}
