/** Counts from the sandbox's calls how downloads used the lifetimes of their URLs. */

import type { Call } from '../../src/sandbox/call-log.ts';

/** What became of the URLs of many sessions of one recording each. */
export interface UrlUse {
  /** Seconds left of the URL's life when each download began, that gave bytes. */
  readonly secondsLeft: readonly number[];
  /** URLs that had expired: when they were issued, as their `e=` tells, or by a refused download. */
  readonly expired: number;
  /** Sessions with one of those, and without another metadata call and a download after it. */
  readonly unseen: number;
  readonly metadataCalls: number;
}

/**
 * @param calls of the whole run.
 * @param lifeOf the life (seconds) of the URL in a session's n-th answer, counted from 0.
 */
export function reportUrlUse(
  calls: readonly Call[],
  lifeOf: (sessionId: string, answer: number) => number,
): UrlUse {
  const secondsLeft: number[] = [];
  let expired = 0;
  let unseen = 0;
  let metadataCalls = 0;
  const bySession = Map.groupBy(
    calls.filter(({ sessionId }) => sessionId !== undefined),
    ({ sessionId }) => sessionId ?? '',
  );
  for (const [sessionId, own] of bySession) {
    let answers = 0;
    let answeredAt = 0;
    let isOwed = false;
    for (const { route, at, status } of own) {
      if (route === 'voicemail' && status === 200) {
        if (lifeOf(sessionId, answers) <= 0) {
          expired += 1;
          isOwed = true;
        }
        answers += 1;
        answeredAt = at;
      } else if (route === 'media' && status === 200) {
        isOwed = false;
        secondsLeft.push(lifeOf(sessionId, answers - 1) - (at - answeredAt) / 1000);
      } else if (route === 'media' && status === 403) {
        if (!isOwed) expired += 1;
        isOwed = true;
      }
    }
    if (isOwed) unseen += 1;
    metadataCalls += own.filter(({ route }) => route === 'voicemail').length;
  }
  return { secondsLeft, expired, unseen, metadataCalls };
}
