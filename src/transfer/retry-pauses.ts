import { setTimeout as delay } from 'node:timers/promises';
import type { VoicemailError } from '../domain/errors.ts';

/** How often one transfer tries again by itself, and how long it pauses before that. */
export interface RetryPauses {
  /**
   * Pauses after a passing failure.
   * @param gainedBytes what was received since the failure before.
   * @throws `error` once trying again has brought too little too often, or the other side asks for more time
   *   than a transfer waits.
   */
  afterFailure(error: VoicemailError, gainedBytes: number, signal: AbortSignal): Promise<void>;
  /**
   * Pauses after a body that is no recording: perhaps a gateway's glitch.
   * @throws `error` at the third time.
   */
  afterUnusable(error: VoicemailError, signal: AbortSignal): Promise<void>;
  /** Pauses before the `repeat`-th download (from 1) of a recording that may be cut. */
  beforeRepeat(repeat: number, signal: AbortSignal): Promise<void>;
  /**
   * Counts a download that has to begin at its first byte again.
   * @throws `error` once that has happened too often.
   */
  countRestart(error: VoicemailError): void;
}

/** Failures in a row that bring (almost) nothing. A download that gains ground goes on as long as it takes. */
const MAX_FRUITLESS_FAILURES = 6;

/** What counts as ground gained. */
const PROGRESS_BYTES = 64 * 1024;

/** Each costs a whole download, where the server offers no ranges. */
const MAX_RESTARTS = 8;

/** An empty or non-audio body is given so many second chances; after those the session waits. */
const MAX_UNUSABLE = 2;

/** The longest pause within a transfer (milliseconds): who needs longer is left to the session's next attempt. */
const LONGEST_PAUSE_MS = 5000;

/** @param firstPauseMs the first pause; later ones double up to 5 s. */
export function createRetryPauses(firstPauseMs: number): RetryPauses {
  let fruitless = 0;
  let unusable = 0;
  let restarts = 0;

  /** Jittered, so that many transfers broken off together do not come back together. */
  function pause(doublings: number, signal: AbortSignal, atLeastMs = 0): Promise<void> {
    const ceiling = Math.min(LONGEST_PAUSE_MS, firstPauseMs * 2 ** doublings);
    return sleep(Math.max(atLeastMs, ceiling * (0.5 + Math.random() / 2)), signal);
  }

  return {
    async afterFailure(error, gainedBytes, signal) {
      fruitless = gainedBytes >= PROGRESS_BYTES ? 1 : fruitless + 1;
      const isTooLong = (error.retryAfterMs ?? 0) > LONGEST_PAUSE_MS;
      if (fruitless > MAX_FRUITLESS_FAILURES || isTooLong) throw error;
      await pause(fruitless - 1, signal, error.retryAfterMs);
    },
    async afterUnusable(error, signal) {
      unusable += 1;
      if (unusable > MAX_UNUSABLE) throw error;
      await pause(unusable, signal);
    },
    beforeRepeat: (repeat, signal) => pause(repeat - 1, signal),
    countRestart(error) {
      restarts += 1;
      if (restarts > MAX_RESTARTS) throw error;
    },
  };
}

async function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(milliseconds, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}
