/** Works on items in their order, with a limit on how many at a time. */
export async function forEachLimit<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const rest = items.values();
  const worker = async () => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: limit }, worker));
}
/**
 * Hands the result of a request to everybody who asks during it and, unless it failed, for a while after it.
 *
 * @param freshMs for how long, in milliseconds; may depend on what it came to and how long it took.
 */
export function shareResult<T>(
  load: () => Promise<T>,
  freshMs: number | ((result: T, tookMs: number) => number),
): () => Promise<T> {
  let latest: { readonly result: Promise<T>; staleAt: number } | undefined;
  return () => {
    const begunAt = performance.now();
    if (latest && begunAt < latest.staleAt) return latest.result;
    const current = { result: load(), staleAt: Number.POSITIVE_INFINITY };
    latest = current;
    current.result.then(
      (result) => {
        const now = performance.now();
        current.staleAt = now + (typeof freshMs === 'number' ? freshMs : freshMs(result, now - begunAt));
      },
      () => {
        current.staleAt = 0;
      },
    );
    return current.result;
  };
}
/** Waits for `promise`, or rejects with the signal's reason once it is aborted. */
export async function unlessAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    if (signal.aborted) onAbort();
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/**
 * Aborts a controller when `signal` is, with its reason. Costs less than half of `AbortSignal.any`, whose weak
 * references the collection of garbage has to follow as well.
 *
 * @returns removes the listener from the signal. Call it once the controller's work has ended, unless the signal ends
 *   too.
 */
export function abortWith(controller: AbortController, signal: AbortSignal): () => void {
  const onAbort = () => controller.abort(signal.reason);
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  return () => signal.removeEventListener('abort', onAbort);
}

/** Waits for some work, but not longer than that. @returns whether it was done by then; if not, it goes on. */
export async function withinTime(work: Promise<unknown>, milliseconds: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const time = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), milliseconds);
  });
  try {
    return await Promise.race([work.then(() => true), time]);
  } finally {
    clearTimeout(timer);
  }
}
/** Runs work with the same key in order, and work with different keys in parallel. */
export class KeyedMutex {
  /** The latest work of each key that is in progress. */
  readonly #last = new Map<string, Promise<unknown>>();

  /**
   * Runs work once all earlier work with any of the keys is done. If earlier work fails, this fails as well: otherwise
   * each of many callers would wait for an unreachable server by itself, one after the other.
   */
  async run<T>(keys: readonly string[], work: () => Promise<T>): Promise<T> {
    const earlier = new Set(keys.map((key) => this.#last.get(key)));
    const own = Promise.all(earlier).then(work);
    for (const key of keys) this.#last.set(key, own);
    try {
      return await own;
    } finally {
      for (const key of keys) if (this.#last.get(key) === own) this.#last.delete(key);
    }
  }
}

/**
 * Runs all of them at once, to their ends, whatever one of them does.
 * @throws the error of the one that failed, or an `AggregateError` of several.
 */
export async function settleAll(works: readonly (() => Promise<unknown>)[]): Promise<void> {
  const results = await Promise.allSettled(works.map(async (work) => work()));
  throwTogether(
    results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : [])),
  );
}

/** Like {@link settleAll}, one after the other. */
export async function settleInOrder(works: readonly (() => Promise<unknown>)[]): Promise<void> {
  const errors: unknown[] = [];
  for (const work of works) {
    try {
      await work();
    } catch (error) {
      errors.push(error);
    }
  }
  throwTogether(errors);
}

function throwTogether(errors: readonly unknown[]): void {
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new AggregateError(errors, errors.map(messageOf).join('; '));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
