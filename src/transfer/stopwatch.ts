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
