/** What digests say, sorted by date partition in temporary files: memory holds one partition of it. */

import { hash } from 'node:crypto';
import { datePrefix, readSessionKey } from '../storage/layout.ts';
import type { DigestEntry } from './digest.ts';
import type { LineFiles } from './line-files.ts';

/** What the digests say last of a manifest. */
export interface Known {
  readonly entry: DigestEntry;
  /** The day of the digest that says so. */
  readonly date: string;
}

/** Entries of digests, to be read partition by partition. */
export interface EntrySpool {
  /** Takes in entries of the digest of a day; they come in the order of their days. */
  add(date: string, entries: readonly DigestEntry[]): Promise<void>;
  /** The partitions (`bot_id=…/date=…/`) that digests name manifests of. */
  readonly partitions: ReadonlySet<string>;
  /** What is said last of each manifest of a partition, by its relative key. */
  read(partition: string): Promise<Map<string, Known>>;
}

/** Lines read at once. */
const BATCH = 1_000;

/** @param isWanted what says of other partitions is passed over. */
export function createEntrySpool(
  files: LineFiles,
  isWanted: (partition: string) => boolean = () => true,
): EntrySpool {
  const partitions = new Set<string>();
  const fileOf = (partition: string) => `entries-${hash('sha256', partition)}`;
  return {
    partitions,
    async add(date, entries) {
      const byPartition = new Map<string, Known[]>();
      for (const entry of entries) {
        const partition = partitionOf(entry.key);
        if (partition === undefined || !isWanted(partition)) continue;
        const own = byPartition.get(partition) ?? [];
        own.push({ entry, date });
        byPartition.set(partition, own);
      }
      for (const [partition, own] of byPartition) {
        await files.append(fileOf(partition), own);
        partitions.add(partition);
      }
    },
    async read(partition) {
      const known = new Map<string, Known>();
      if (!partitions.has(partition)) return known;
      for await (const batch of files.read<Known>(fileOf(partition), BATCH)) {
        for (const one of batch) known.set(one.entry.key, one);
      }
      return known;
    },
  };
}

/** The date partition that a relative key of a session's object lies in. */
export function partitionOf(key: string): string | undefined {
  const place = readSessionKey(key);
  return place && datePrefix(place.session);
}
