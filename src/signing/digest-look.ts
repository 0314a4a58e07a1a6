import type { ArchiveStore } from '../storage/store.ts';
import { shareResult } from '../util/async.ts';
import { digestDates, dueDates } from './write-digests.ts';

/** Digests are written right after midnight; so long after it one should be there, whatever happened meanwhile. */
export const OVERDUE_MS = 6 * 60 * 60 * 1000;
/** For so long a look at the digests counts: they change once a day. */
const FRESH_MS = 5 * 60 * 1000;

/** A function that counts the days that should have a digest by now, and have none. It lists digests, and reads none. */
export function createDigestLook(
  store: Pick<ArchiveStore, 'list'>,
  now: () => number,
): () => Promise<number> {
  return shareResult(async () => {
    const dates = await digestDates(store, new AbortController().signal); // stores have timeouts of their own
    return dueDates(dates.at(-1), now() - OVERDUE_MS).length;
  }, FRESH_MS);
}
