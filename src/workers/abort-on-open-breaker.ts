import type { Breaker } from './breaker.ts';

/** What breaks off the requests that were begun with a signal, while a breaker was closed. */
interface Link {
  /** Of the breaker when they were begun. */
  readonly opened: AbortSignal;
  readonly ending: AbortController;
  readonly unlink: () => void;
}

/**
 * Work that is done while a breaker is closed: it is not begun, or broken off, with the reason why that is open. All that
 * is begun with the same signal is broken off by one controller: a session sends many requests, and controllers cost more
 * than much of what else is done for a request.
 */
export class WhileClosed {
  readonly #breaker: Breaker;
  readonly #isBrokenOff: () => boolean;
  readonly #links = new Map<AbortSignal, Link>();

  /** @param isBrokenOff asked when the breaker opens; by default work is broken off then. */
  constructor(breaker: Breaker, isBrokenOff: () => boolean = () => true) {
    this.#breaker = breaker;
    this.#isBrokenOff = isBrokenOff;
  }

  /** Works with a signal that is aborted with the given one, and when the breaker opens. */
  async run<T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#breaker.reason) throw this.#breaker.reason;
    const { opened, ending } = this.#linked(signal);
    try {
      signal.throwIfAborted();
      return await work(ending.signal);
    } catch (error) {
      if (!signal.aborted && ending.signal.aborted) throw opened.reason;
      throw error;
    }
  }

  /** Releases the breaker and the signals, once all work is done. */
  end(): void {
    for (const { unlink } of this.#links.values()) unlink();
    this.#links.clear();
  }

  #linked(signal: AbortSignal): Link {
    const known = this.#links.get(signal);
    const { opened } = this.#breaker;
    // It may have opened and closed since.
    if (known?.opened === opened) return known;
    known?.unlink();
    const ending = new AbortController();
    const onAbort = () => ending.abort(signal.reason);
    const onOpen = () => {
      if (this.#isBrokenOff()) ending.abort(opened.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    opened.addEventListener('abort', onOpen, { once: true });
    const unlink = () => {
      signal.removeEventListener('abort', onAbort);
      opened.removeEventListener('abort', onOpen);
    };
    const link = { opened, ending, unlink };
    this.#links.set(signal, link);
    return link;
  }
}

/** Does one piece of work while a breaker is closed: see {@link WhileClosed}. */
export async function whileClosed<T>(
  breaker: Breaker,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
  isBrokenOff?: () => boolean,
): Promise<T> {
  const closed = new WhileClosed(breaker, isBrokenOff);
  try {
    return await closed.run(signal, work);
  } finally {
    closed.end();
  }
}
