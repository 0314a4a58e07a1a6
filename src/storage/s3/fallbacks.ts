/** What becomes of requests that the fast path did not bring to their end: counted, logged once, and learned from. */

import type { Logger } from '../../util/log.ts';

/** A request of the fast path that the SDK has to send again. */
export interface Fallback {
  readonly method: 'GET' | 'PUT' | 'LIST';
  /** Why: the store's status, or the error's code. */
  readonly reason: string;
}

/** The fallbacks of one store. */
export interface Fallbacks {
  /**
   * Whether requests of that kind are left to the SDK from the start, as the store answers them in a way of its own.
   */
  isLeftToSdk(method: Fallback['method']): boolean;
  /** A request was brought to its end. */
  fulfilled(method: Fallback['method']): void;
  /** @param isAnswer the store answered, and in a way that the fast path does not know. */
  happened(fallback: Fallback, isAnswer: boolean): void;
}

/** The number of fallbacks in a row for one reason from which the store counts as unfit for the fast path. */
const ANSWERS_TO_LEARN = 3;
/** The time after which the fast path is tried again: a gateway may have been repaired. */
const LEARNED_FOR_MS = 10 * 60_000;

/**
 * @param onFallback called with each.
 * @param logger gets a line for each cause, once.
 * @param now milliseconds, of any clock that runs steadily.
 */
export function createFallbacks(
  onFallback: ((fallback: Fallback) => void) | undefined,
  logger: Logger | undefined,
  now: () => number = () => performance.now(),
): Fallbacks {
  const logged = new Set<string>();
  const inRow = new Map<Fallback['method'], { readonly reason: string; readonly count: number }>();
  const leftUntil = new Map<Fallback['method'], number>();

  return {
    isLeftToSdk: (method) => (leftUntil.get(method) ?? 0) > now(),
    fulfilled(method) {
      inRow.delete(method);
    },
    happened(fallback, isAnswer) {
      const { method, reason } = fallback;
      onFallback?.(fallback);
      const cause = `${method} ${reason}`;
      if (!logged.has(cause)) {
        logged.add(cause);
        logger?.info(
          fallback,
          'a request to the bucket was not fulfilled at the first try and is left to the SDK; further ones of this cause are counted',
        );
      }
      if (!isAnswer) return;
      const before = inRow.get(method);
      const count = before?.reason === reason ? before.count + 1 : 1;
      inRow.set(method, { reason, count });
      if (count < ANSWERS_TO_LEARN) return;
      inRow.delete(method);
      leftUntil.set(method, now() + LEARNED_FOR_MS);
      logger?.warn(
        fallback,
        'the store answers requests of this kind in a way of its own: they are all left to the SDK for the next minutes',
      );
    },
  };
}
