/** Lets go of reserved bytes; calling it again does nothing. */
export type Release = () => void;

/** The bound on audio held in memory by all transfers of this process together. */
export interface MemoryBudget {
  readonly limitBytes: number;
  readonly usedBytes: number;
  /** How many transfers wait for their turn. */
  readonly waiting: number;
  /** Reserves bytes if that is possible at once without overtaking anybody; otherwise `undefined`. */
  tryAcquire(bytes: number): Release | undefined;
  /**
   * Waits until so many bytes are free. Who has the earliest deadline goes first, whatever its size, so
   * large transfers are not overtaken for ever. A request beyond the whole budget counts as all of it.
   *
   * @param deadline when waiting loses its sense (unix milliseconds): the expiry of the recording's URL.
   * @throws the signal's reason, having reserved nothing.
   */
  acquire(bytes: number, options: { deadline?: number | undefined }, signal: AbortSignal): Promise<Release>;
}

/** Who has no deadline of its own is treated as if it had one so long after it came, and so is never starved. */
const DEFAULT_DEADLINE_MS = 60 * 60 * 1000;

interface Waiter {
  readonly bytes: number;
  readonly deadline: number;
  readonly grant: (release: Release) => void;
}

/** Creates a budget of so many bytes. */
export function createMemoryBudget(limitBytes: number): MemoryBudget {
  let usedBytes = 0;
  /** By deadline, the earliest first; equal ones in the order they came. */
  const waiters: Waiter[] = [];

  function reserve(bytes: number): Release {
    usedBytes += bytes;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      usedBytes -= bytes;
      serve();
    };
  }

  function serve(): void {
    for (let first = waiters[0]; first !== undefined && fits(first.bytes); first = waiters[0]) {
      waiters.shift();
      first.grant(reserve(first.bytes));
    }
  }

  const fits = (bytes: number): boolean => usedBytes + bytes <= limitBytes;

  function tryAcquire(bytes: number): Release | undefined {
    const wanted = Math.min(bytes, limitBytes);
    return waiters.length === 0 && fits(wanted) ? reserve(wanted) : undefined;
  }

  return {
    limitBytes,
    get usedBytes() {
      return usedBytes;
    },
    get waiting() {
      return waiters.length;
    },
    tryAcquire,
    async acquire(bytes, { deadline = Date.now() + DEFAULT_DEADLINE_MS }, signal) {
      signal.throwIfAborted();
      const immediate = tryAcquire(bytes);
      if (immediate !== undefined) return immediate;
      const { promise, resolve, reject } = Promise.withResolvers<Release>();
      const waiter: Waiter = { bytes: Math.min(bytes, limitBytes), deadline, grant: resolve };
      const after = waiters.findIndex((other) => other.deadline > deadline);
      waiters.splice(after === -1 ? waiters.length : after, 0, waiter);
      const giveUp = (): void => {
        const index = waiters.indexOf(waiter);
        if (index === -1) return;
        waiters.splice(index, 1);
        reject(signal.reason);
        // Whoever stood behind a large request may fit now.
        serve();
      };
      signal.addEventListener('abort', giveUp, { once: true });
      try {
        return await promise;
      } finally {
        signal.removeEventListener('abort', giveUp);
      }
    },
  };
}
