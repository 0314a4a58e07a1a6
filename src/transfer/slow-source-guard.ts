import { abortWith } from '../util/async.ts';

/** What a slow source has to deliver while somebody waits for the memory that is held for it. */
const LEAST_BYTES_PER_SECOND = 64 * 1024;

/** The part of the time between two checks that must have gone into waiting for the source before its speed tells anything. */
const LEAST_WAITING = 0.5;

/** Why an attempt was broken off: no failure, others need the memory that it holds. */
export interface SlowSource {
  readonly kind: 'slow';
}

/** Watches one attempt at a transfer for as long as it holds memory. */
export interface SlowSourceGuard {
  /** Aborted when the attempt has to yield its memory, and when the transfer is. */
  readonly signal: AbortSignal;
  /** Set where the attempt was broken off for that. */
  readonly setback: SlowSource | undefined;
  /** Memory is held from now on; calling it again does nothing. */
  begin(): void;
  /** It has been given back. */
  end(): void;
}

/** What an attempt is judged by. */
export interface SlowSourceGuardOptions {
  /** Runs whenever the source is waited for. */
  readonly waiting: Stopwatch;
  receivedBytes(): number;
  /** Whether others wait for memory. */
  isWanted(): boolean;
  /** How often the source's speed is checked (milliseconds). */
  readonly checkMs: number;
  /** How often the transfer yielded before: each time doubles how long it may then keep its memory. */
  readonly yieldsBefore: number;
  /** The transfer's own, which is aborted when that ends, whatever its end. */
  readonly signal: AbortSignal;
}

/**
 * A transfer that holds memory while its source delivers next to nothing (it trickles, stalls, pauses, or waits for
 * fresh metadata) yields it to those who wait: it drops what it has, waits behind them and begins anew. It never does
 * so while the archive is what is waited for. As its time doubles, even the slowest ends.
 */
export function createSlowSourceGuard(options: SlowSourceGuardOptions): SlowSourceGuard {
  const { waiting, checkMs, yieldsBefore } = options;
  const controller = new AbortController();
  abortWith(controller, options.signal);
  let setback: SlowSource | undefined;
  let timer: NodeJS.Timeout | undefined;
  let checksLeft = 2 ** yieldsBefore;
  let before = { milliseconds: 0, bytes: 0 };

  const measure = () => ({ milliseconds: waiting.milliseconds, bytes: options.receivedBytes() });

  function check(): void {
    const now = measure();
    const waitedMs = now.milliseconds - before.milliseconds;
    const bytes = now.bytes - before.bytes;
    before = now;
    checksLeft -= 1;
    const isSlow = waitedMs >= LEAST_WAITING * checkMs && bytes < (LEAST_BYTES_PER_SECOND * waitedMs) / 1000;
    if (checksLeft > 0 || !isSlow || !waiting.running || !options.isWanted()) return;
    if (controller.signal.aborted) return;
    setback = { kind: 'slow' };
    controller.abort();
  }

  return {
    signal: controller.signal,
    get setback() {
      return setback;
    },
    begin() {
      if (timer !== undefined) return;
      before = measure();
      timer = setInterval(check, checkMs);
    },
    end: () => clearInterval(timer),
  };
}

/** Adds up how long several things took, one after another. */
export interface Stopwatch {
  /** What runs at the moment is part of it. */
  readonly milliseconds: number;
  readonly running: boolean;
  /** Measures until the work settles. */
  time<Result>(work: Promise<Result>): Promise<Result>;
}

/** Starts at zero. */
export function createStopwatch(): Stopwatch {
  let milliseconds = 0;
  let running: { readonly since: number } | undefined;
  return {
    get milliseconds() {
      return milliseconds + (running === undefined ? 0 : performance.now() - running.since);
    },
    get running() {
      return running !== undefined;
    },
    async time(work) {
      const mine = { since: performance.now() };
      running = mine;
      try {
        return await work;
      } finally {
        // What was left waiting when its attempt was given up ends whenever it likes.
        if (running === mine) {
          milliseconds += performance.now() - mine.since;
          running = undefined;
        }
      }
    },
  };
}
