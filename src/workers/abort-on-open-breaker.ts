import type { Breaker } from './breaker.ts';

/** Aborts the requests that began with one signal. */
interface Link {
  /** The signal of the breaker when the requests began. */
  readonly opened: AbortSignal;
  readonly ending: AbortController;
  readonly unlink: () => void;
}

/**
 * Runs work while a breaker is closed. When the breaker opens, running work is aborted and new work is refused, with
 * the error that opened it. Work with the same signal shares one controller: a session sends many requests, and a
 * controller costs more than most of the other work for a request.
 */
export class AbortOnOpenBreaker {
  readonly #breaker: Breaker;
  readonly #isAborted: () => boolean;
  readonly #links = new Map<AbortSignal, Link>();

  /** @param isAborted whether to abort running work, asked when the breaker opens; by default it is aborted. */
  constructor(breaker: Breaker, isAborted: () => boolean = () => true) {
    this.#breaker = breaker;
    this.#isAborted = isAborted;
  }

  /** Runs work with a signal that is aborted with the given one, and when the breaker opens. */
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

  /** Removes the listeners, once all work is done. */
  end(): void {
    for (const { unlink } of this.#links.values()) unlink();
    this.#links.clear();
  }

  #linked(signal: AbortSignal): Link {
    const known = this.#links.get(signal);
    const { opened } = this.#breaker;
    // The breaker may have opened and closed since.
    if (known?.opened === opened) return known;
    known?.unlink();
    const ending = new AbortController();
    const onAbort = () => ending.abort(signal.reason);
    const onOpen = () => {
      if (this.#isAborted()) ending.abort(opened.reason);
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

/** Runs one piece of work while a breaker is closed: see {@link AbortOnOpenBreaker}. */
export async function runWhileClosed<T>(
  breaker: Breaker,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
  isAborted?: () => boolean,
): Promise<T> {
  const closed = new AbortOnOpenBreaker(breaker, isAborted);
  try {
    return await closed.run(signal, work);
  } finally {
    closed.end();
  }
}
