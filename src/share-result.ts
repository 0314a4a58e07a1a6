/**
 * Hands the result of a look to everybody who asks during it and, unless it failed, for a while after it.
 *
 * @param freshMs for how long, in milliseconds; may depend on what it came to and how long it took.
 */
export function shareResult<T>(
  look: () => Promise<T>,
  freshMs: number | ((result: T, tookMs: number) => number),
): () => Promise<T> {
  let latest: { readonly result: Promise<T>; staleAt: number } | undefined;
  return () => {
    const begunAt = performance.now();
    if (latest && begunAt < latest.staleAt) return latest.result;
    const current = { result: look(), staleAt: Number.POSITIVE_INFINITY };
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
