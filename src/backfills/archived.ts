import type { SessionRef } from '../domain/session.ts';
import { datePrefix, isTombstoneName, manifestKey, readSessionKey, tombstoneKey } from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';
import { forEachLimit } from '../util/async.ts';

/** What looking sessions up needs of the archive. */
export type ArchiveLookup = Pick<ArchiveStore, 'list' | 'head'>;

/** The number of sessions of one day from which a listing of the day costs less than a request for each. */
const MANY_OF_A_DAY = 20;
/** Requests for sessions, or listings of days, at a time. */
const LOOKUPS_AT_ONCE = 8;

/**
 * Which of the sessions are archived, or were erased and so are never archived again. A day with many of them is
 * listed; otherwise there is a request for each.
 *
 * @returns the manifest keys of those that are, also where an erased session has no manifest any more.
 */
export async function findArchived(
  sessions: readonly SessionRef[],
  archive: ArchiveLookup,
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const archived = new Set<string>();
  const lookups: (() => Promise<void>)[] = [];
  for (const [prefix, ofDay] of Map.groupBy(sessions, datePrefix)) {
    const wanted = ofDay.map(manifestKey);
    if (ofDay.length >= MANY_OF_A_DAY) {
      const isWanted = new Set(wanted);
      lookups.push(async () => {
        for await (const { key } of archive.list(prefix, signal)) {
          const done = key.endsWith('.json') ? doneKey(key) : undefined;
          if (done !== undefined && isWanted.has(done)) archived.add(done);
        }
      });
    } else {
      for (const session of ofDay) {
        lookups.push(async () => {
          const keys = [manifestKey(session), tombstoneKey(session)];
          for (const key of keys) {
            if (!(await archive.head(key, signal))) continue;
            archived.add(manifestKey(session));
            return;
          }
        });
      }
    }
  }
  await forEachLimit(lookups, LOOKUPS_AT_ONCE, (lookUp) => lookUp());
  return archived;
}

/** The manifest key of the session that a key says is done; the key itself where it may be a manifest's. */
function doneKey(key: string): string {
  const place = readSessionKey(key);
  return place && isTombstoneName(place.name) && key === tombstoneKey(place.session)
    ? manifestKey(place.session)
    : key;
}
