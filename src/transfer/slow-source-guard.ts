/** What a slow source has to deliver while somebody waits for the memory that is held for it. */
const LEAST_BYTES_PER_SECOND = 64 * 1024;

/** The part of the time that must have gone into waiting for the source before its speed tells anything. */
const LEAST_WAITING = 0.5;

/** Why an attempt was broken off: not a failure, the transfer goes on when it is its turn again. */
export class SlowSource extends Error {
  constructor() {
    super('its source is slow, and others wait for the memory');
    this.name = 'GivesWay';
  }
}

/** One attempt at a transfer, as long as it may hold memory. */
export interface SlowSourceGuard {
  /** Aborted when the attempt has to give way, and when the transfer is. */
  readonly signal: AbortSignal;
  readonly gaveWay: boolean;
  /** Memory is held from now on; calling it again does nothing. */
  begin(): void;
  /** It has been given back. */
  end(): void;
}

/** What a turn is judged by. */
export interface SlowSourceGuardOptions {
  /** Runs whenever the source is waited for. */
  readonly waiting: Stopwatch;
  receivedBytes(): number;
  /** Whether others wait for memory. */
  isWanted(): boolean;
  /** How often the source is looked at. */
  readonly lookMs: number;
  /** How often the transfer gave way before: each time doubles how long it may then keep its memory. */
  readonly gaveWayBefore: number;
  readonly signal: AbortSignal;
}

/**
 * A transfer that holds memory while its source delivers next to nothing (it trickles, stalls, pauses, or waits for
 * fresh metadata) gives way to those who wait for memory: it drops what it has, waits behind them and begins anew.
 * It never does so while the archive is what is waited for. As its patience doubles, even the slowest ends.
 */
export function createSlowSourceGuard(options: SlowSourceGuardOptions): SlowSourceGuard {
  const { waiting, lookMs, gaveWayBefore } = options;
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  let looksLeft = 2 ** gaveWayBefore;
  let before = { milliseconds: 0, bytes: 0 };

  const measure = () => ({ milliseconds: waiting.milliseconds, bytes: options.receivedBytes() });

  function look(): void {
    const now = measure();
    const waitedMs = now.milliseconds - before.milliseconds;
    const bytes = now.bytes - before.bytes;
    before = now;
    looksLeft -= 1;
    const slow = waitedMs >= LEAST_WAITING * lookMs && bytes < (LEAST_BYTES_PER_SECOND * waitedMs) / 1000;
    if (looksLeft <= 0 && slow && waiting.running && options.isWanted()) controller.abort(new SlowSource());
  }

  return {
    signal: AbortSignal.any([options.signal, controller.signal]),
    get gaveWay() {
      return controller.signal.aborted;
    },
    begin() {
      if (timer !== undefined) return;
      before = measure();
      timer = setInterval(look, lookMs);
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

/** The same items, while the time spent waiting for each is measured. */
export async function* timed<Item>(items: AsyncIterable<Item>, stopwatch: Stopwatch): AsyncGenerator<Item> {
  const iterator = items[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await stopwatch.time(iterator.next());
      if (next.done) return;
      yield next.value;
    }
  } finally {
    await iterator.return?.();
  }
}
