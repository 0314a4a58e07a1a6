import { inLanes } from '../in-lanes.ts';
import type { SessionRef } from '../session.ts';
import { datePrefix, manifestKey } from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';

/** What looking sessions up needs of the archive. */
export type ArchiveLookup = Pick<ArchiveStore, 'list' | 'head'>;

/** From so many sessions of one day on, listing the day costs less than asking for each. */
const MANY_OF_A_DAY = 20;
/** Sessions asked for, or days listed, at a time. */
const LOOKUPS_AT_ONCE = 8;

/**
 * Which of the sessions are archived. A day with many of them is listed, of others each is asked for.
 *
 * @returns the manifest keys of those that are.
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
        for await (const { key } of archive.list(prefix, signal)) if (isWanted.has(key)) archived.add(key);
      });
    } else {
      for (const key of wanted) {
        lookups.push(async () => {
          if (await archive.head(key, signal)) archived.add(key);
        });
      }
    }
  }
  await inLanes(lookups, LOOKUPS_AT_ONCE, (lookUp) => lookUp());
  return archived;
}
