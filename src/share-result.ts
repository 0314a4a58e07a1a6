/** Hands the result of a look to everybody who asks during it and, unless it failed, for a while after it. */
export function shareResult<T>(look: () => Promise<T>, freshMs: number): () => Promise<T> {
  let latest: { readonly result: Promise<T>; staleAt: number } | undefined;
  return () => {
    if (latest && performance.now() < latest.staleAt) return latest.result;
    const current = { result: look(), staleAt: Number.POSITIVE_INFINITY };
    latest = current;
    current.result.then(
      () => {
        current.staleAt = performance.now() + freshMs;
      },
      () => {
        current.staleAt = 0;
      },
    );
    return current.result;
  };
}
