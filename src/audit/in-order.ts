/** So many results may wait for an earlier one that takes long, for each piece of work at a time. */
const WINDOW_PER_WORKER = 4;

/**
 * Works on several items at a time, and yields the results in the order of the items, each as soon as those before
 * it are there.
 *
 * Ends with the first error, once all that was begun has ended.
 *
 * @param work gets a signal that is also aborted when the results are no longer wanted.
 */
export async function* inOrder<Item, Result>(
  items: AsyncIterable<Item>,
  work: (item: Item, signal: AbortSignal) => Promise<Result>,
  concurrency: number,
  signal: AbortSignal,
): AsyncGenerator<Result> {
  const end = new AbortController();
  const either = AbortSignal.any([signal, end.signal]);
  const running = new Set<Promise<void>>();
  const window: { readonly result: Promise<Result>; isDone: boolean }[] = [];
  const start = (item: Item) => {
    const result = work(item, either);
    const entry = { result, isDone: false };
    window.push(entry);
    // A failure is told by `result` itself, when its turn comes.
    const done: Promise<void> = result.then(
      () => settled(),
      () => settled(),
    );
    const settled = () => {
      entry.isDone = true;
      running.delete(done);
    };
    running.add(done);
  };
  /** Yields the first results for as long as `want` holds of what is there. */
  const take = async function* (want: () => boolean | undefined): AsyncGenerator<Result> {
    for (let first = want() && window.shift(); first; first = want() && window.shift())
      yield await first.result;
  };
  try {
    for await (const item of items) {
      while (running.size >= concurrency) {
        await Promise.race(running);
        yield* take(() => window[0]?.isDone);
      }
      start(item);
      yield* take(() => window.length >= concurrency * WINDOW_PER_WORKER);
    }
    yield* take(() => true);
  } finally {
    end.abort();
    await Promise.all(running);
  }
}
