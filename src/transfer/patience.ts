import { setTimeout as delay } from 'node:timers/promises';
import type { ArchiverError } from '../errors.ts';

/** How often one transfer tries again by itself, and how long it pauses before that. */
export interface Patience {
  /**
   * Pauses after a passing failure; returns when to try again.
   * @param gainedBytes what was received since the failure before.
   * @throws `error` once trying again has brought too little too often, or the other side asks for more time
   *   than a transfer waits.
   */
  afterFailure(error: ArchiverError, gainedBytes: number, signal: AbortSignal): Promise<void>;
  /**
   * Pauses after an answer that is no recording, or a refusal: perhaps a gateway's glitch.
   * @throws `error` at the third time.
   */
  afterUnusable(error: ArchiverError, signal: AbortSignal): Promise<void>;
  /**
   * Counts a download that has to begin anew.
   * @throws `error` once that has happened too often.
   */
  beforeStartingAnew(error: ArchiverError): void;
}

/** Failures in a row that bring (almost) nothing. A download that gains ground goes on as long as it takes. */
const MAX_FRUITLESS_FAILURES = 6;

/** What counts as ground gained. */
const PROGRESS_BYTES = 64 * 1024;

/** Each costs a whole download, where the server offers no ranges. */
const MAX_FRESH_STARTS = 8;

/** An empty or non-audio body is given so many second chances before it counts as permanent. */
const MAX_UNUSABLE = 2;

const MAX_PAUSE_MS = 5000;

/** @param firstPauseMs the first pause; later ones double up to 5 s. */
export function createPatience(firstPauseMs: number): Patience {
  let fruitless = 0;
  let unusable = 0;
  let freshStarts = 0;

  /** Jittered, so that many transfers broken off together do not come back together. */
  function pause(doublings: number, signal: AbortSignal, atLeastMs = 0): Promise<void> {
    const ceiling = Math.min(MAX_PAUSE_MS, firstPauseMs * 2 ** doublings);
    return sleep(Math.max(atLeastMs, ceiling * (0.5 + Math.random() / 2)), signal);
  }

  return {
    async afterFailure(error, gainedBytes, signal) {
      fruitless = gainedBytes >= PROGRESS_BYTES ? 1 : fruitless + 1;
      const tooLong = (error.retryAfterMs ?? 0) > MAX_PAUSE_MS;
      if (fruitless > MAX_FRUITLESS_FAILURES || tooLong) throw error;
      await pause(fruitless - 1, signal, error.retryAfterMs);
    },
    async afterUnusable(error, signal) {
      unusable += 1;
      if (unusable > MAX_UNUSABLE) throw error;
      await pause(unusable, signal);
    },
    beforeStartingAnew(error) {
      freshStarts += 1;
      if (freshStarts > MAX_FRESH_STARTS) throw error;
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
