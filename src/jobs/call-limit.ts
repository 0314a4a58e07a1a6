import { setTimeout as sleep } from 'node:timers/promises';
import type { Rate } from '../config/config.ts';
import { VoicemailError } from '../domain/errors.ts';
import type { CallClass, CallLimit } from '../domain/voicemail.ts';
import type { Backend } from './backends/backend.ts';

/** Longest wait for a call while a session holds its place in a worker; beyond it, the session goes back. */
export const MAX_WAIT_MS = 3_000;
/** The part of the limit that background work may use; the rest is there for live sessions alone. */
const BACKGROUND_SHARE = 0.75;
/**
 * Calls are counted when they are sent; Kore counts them when they arrive. A window a little longer than Kore's makes
 * up for the jitter of the network.
 */
const MARGIN_MS = 250;
const MARGIN_SHARE = 0.05;

/** A rate limit as a window: the allowed calls of each class in any window of that length. */
export interface CallWindow {
  readonly windowMs: number;
  readonly allowed: Readonly<Record<CallClass, number>>;
}

/** The window in which calls are counted. */
export function windowFor(rate: Rate): CallWindow {
  return {
    windowMs: Math.ceil(rate.windowMs + Math.min(MARGIN_MS, rate.windowMs * MARGIN_SHARE)),
    allowed: { live: rate.calls, background: Math.max(1, Math.floor(rate.calls * BACKGROUND_SHARE)) },
  };
}

/**
 * The fleet-wide limit on calls to Kore (`KORE_RATE_LIMIT`): a sliding window kept where the queue is, so that
 * all workers of a queue share it.
 *
 * @param onWait called with the seconds that a call waited, where it had to wait.
 */
export function createCallLimit(
  backend: Backend,
  queueName: string,
  rate: Rate,
  onWait?: (seconds: number) => void,
): CallLimit {
  const { windowMs, allowed } = windowFor(rate);
  return {
    async acquire(callClass, signal) {
      let waited = 0;
      for (;;) {
        signal.throwIfAborted();
        const wait = await backend.takeCall(queueName, allowed[callClass], windowMs);
        if (wait === 0) {
          if (waited > 0) onWait?.(waited / 1000);
          return;
        }
        if (waited + wait > MAX_WAIT_MS) {
          throw new CallLimitReached(wait, callClass);
        }
        await sleep(wait, undefined, { signal });
        waited += wait;
      }
    },
    pause: (milliseconds) => backend.pauseCalls(queueName, milliseconds),
  };
}

/** The configured limit, not an answer of Kore: nothing is wrong, and the session calls later. */
export class CallLimitReached extends VoicemailError {
  /** Whose share is used up; where it is that of background work, live sessions may still call. */
  readonly callClass: CallClass;

  constructor(waitMs: number, callClass: CallClass) {
    super('KORE_RATE_LIMITED', 'the limit on calls to Kore (KORE_RATE_LIMIT) is used up for now', {
      retryAfterMs: waitMs,
    });
    this.name = 'CallLimitReached';
    this.callClass = callClass;
  }
}
