/** Reading a body chunk by chunk, in a way that can be broken off at any time. */

import { unlessAborted } from '../util/async.ts';

/** A body being read. One reader at a time. */
export interface BodyReader {
  /** The next chunk, or `undefined` after the last. Throws the body's own error, or the signal's reason. */
  next(): Promise<Buffer | undefined>;
  /** Whether the body itself threw: that error belongs to whoever made the body, not to the store. */
  readonly failed: boolean;
  /** Tells the body that no more of it is wanted, if it has not ended. */
  close(): Promise<void>;
}

/** Opens a body. `signal` breaks off a pending {@link Source.next}, even of a body that hangs. */
export function openBody(chunks: AsyncIterable<Buffer>, signal: AbortSignal): BodyReader {
  const iterator = chunks[Symbol.asyncIterator]();
  let pending: Promise<IteratorResult<Buffer>> | undefined;
  let ended = false;
  let failed = false;

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
      pending = advance();
      const result = await unlessAborted(pending, signal);
      return result.done ? undefined : result.value;
    },
    async close() {
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
