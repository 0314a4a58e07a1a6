/** What digests say, sorted by date partition in temporary files: memory holds one partition of it. */

import { hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { appendFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { datePrefix, readSessionKey } from '../storage/layout.ts';
import type { DigestEntry } from './digest.ts';

/** What the digests say last of a manifest. */
export interface LatestEntry {
  readonly entry: DigestEntry;
  /** The day of the digest that says so. */
  readonly date: string;
}

/** Entries of digests, to be read partition by partition. */
export interface EntrySpool {
  /** Adds entries of a day's digest, in the order of their days. */
  add(date: string, entries: readonly DigestEntry[]): Promise<void>;
  /** The partitions (`bot_id=…/date=…/`) that digests name manifests of. */
  readonly partitions: ReadonlySet<string>;
  /** What is said last of each manifest of a partition, by its relative key. */
  read(partition: string): Promise<Map<string, LatestEntry>>;
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
      const byPartition = new Map<string, LatestEntry[]>();
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
      const known = new Map<string, LatestEntry>();
      if (!partitions.has(partition)) return known;
      for await (const batch of files.read<LatestEntry>(fileOf(partition), BATCH)) {
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

/** Some files in a directory of their own. Names are names of files. */
export interface LineFiles {
  /** Adds values to the end of a file. */
  append(name: string, values: readonly unknown[]): Promise<void>;
  /**
   * The values of a file that was written, as they were added and as JSON has them, at most `size` at a time.
   * `Value` is what was added.
   */
  read<Value>(name: string, size: number): AsyncGenerator<Value[]>;
  /** Removes the files. */
  remove(): Promise<void>;
}

/** Makes an empty directory among the system's temporary files. */
export async function openLineFiles(): Promise<LineFiles> {
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-'));
  return {
    async append(name, values) {
      const lines = values.map((value) => `${JSON.stringify(value)}\n`);
      if (lines.length > 0) await appendFile(join(directory, name), lines.join(''));
    },
    async *read<Value>(name: string, size: number) {
      const lines = createInterface({ input: createReadStream(join(directory, name)), crlfDelay: Infinity });
      let batch: Value[] = [];
      for await (const line of lines) {
        batch.push(JSON.parse(line));
        if (batch.length < size) continue;
        yield batch;
        batch = [];
      }
      if (batch.length > 0) yield batch;
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}
