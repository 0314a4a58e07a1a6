/** What all digests say, sorted by date partition in temporary files: memory holds one digest or one partition of it. */

import { hash } from 'node:crypto';
import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Digest, DigestEntry } from '../signing/digest.ts';
import { datePrefix, readSessionKey } from '../storage/layout.ts';

/** What the digests say last of a manifest. */
export interface Known {
  readonly entry: DigestEntry;
  /** The day of the digest that says so. */
  readonly date: string;
}

/** Entries of digests, to be read partition by partition. */
export interface EntrySpool {
  /** Takes in a digest; they come in the order of their days. */
  add(digest: Digest): Promise<void>;
  /** The partitions (`bot_id=…/date=…/`) that digests name manifests of. */
  readonly partitions: ReadonlySet<string>;
  /** What is said last of each manifest of a partition, by its relative key. */
  read(partition: string): Promise<Map<string, Known>>;
  /** Removes the files. */
  remove(): Promise<void>;
}

/** Makes an empty spool in the system's directory for temporary files. */
export async function openEntrySpool(): Promise<EntrySpool> {
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-verify-'));
  const partitions = new Set<string>();
  const fileOf = (partition: string) => join(directory, hash('sha256', partition));
  return {
    partitions,
    async add({ date, entries }) {
      const lines = new Map<string, string[]>();
      for (const entry of entries) {
        const place = readSessionKey(entry.key);
        if (!place) continue;
        const partition = datePrefix(place.session);
        const own = lines.get(partition) ?? [];
        own.push(`${JSON.stringify({ entry, date } satisfies Known)}\n`);
        lines.set(partition, own);
      }
      for (const [partition, own] of lines) {
        await appendFile(fileOf(partition), own.join(''));
        partitions.add(partition);
      }
    },
    async read(partition) {
      if (!partitions.has(partition)) return new Map();
      const known = (await readFile(fileOf(partition), 'utf8'))
        .split('\n')
        .filter((line) => line !== '')
        .map((line): Known => JSON.parse(line));
      return new Map(known.map((one) => [one.entry.key, one]));
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}
