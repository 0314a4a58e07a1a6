/** Reads a body chunk by chunk. It can be aborted at any time. */

/** A body being read. One reader at a time. */
export interface BodyReader {
  /** The next chunk, or `undefined` after the last. Throws the body's own error, or the signal's reason. */
  next(): Promise<Buffer | undefined>;
  /** Whether the body itself threw: that error belongs to the source of the body, not to the store. */
  readonly failed: boolean;
  /** Stops the body, if it has not ended. Must be called in the end, after an error as well. */
  close(): Promise<void>;
}

/** Opens a body. `signal` aborts a pending {@link BodyReader.next}, even of a body that hangs. */
export function openBody(chunks: AsyncIterable<Buffer>, signal: AbortSignal): BodyReader {
  const iterator = chunks[Symbol.asyncIterator]();
  let pending: Promise<IteratorResult<Buffer>> | undefined;
  let ended = false;
  let failed = false;
  let breakOff: ((reason: unknown) => void) | undefined;
  // Once for all chunks: a listener for each costs more than the chunk's way through the rest of this.
  const onAbort = () => breakOff?.(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });

  async function advance(): Promise<IteratorResult<Buffer>> {
    try {
      const result = await iterator.next();
      if (result.done) ended = true;
      return result;
    } catch (error) {
      ended = true;
      failed = true;
      throw error;
    } finally {
      pending = undefined;
    }
  }

  return {
    get failed() {
      return failed;
    },
    async next() {
      signal.throwIfAborted();
      const advancing = advance();
      pending = advancing;
      const result = await new Promise<IteratorResult<Buffer>>((resolve, reject) => {
        breakOff = reject;
        advancing.then(resolve, reject);
      });
      return result.done ? undefined : result.value;
    },
    async close() {
      signal.removeEventListener('abort', onAbort);
      if (ended) return;
      ended = true;
      const returned = Promise.resolve(iterator.return?.());
      if (pending) {
        // Only after an abort: a generator that hangs takes note of `return` when it wakes up, which its own
        // signal brings about. What it says then is of no interest, the abort has been reported.
        returned.catch(() => undefined);
      } else {
        await returned;
      }
    },
  };
}
