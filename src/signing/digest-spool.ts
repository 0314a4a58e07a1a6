/** What digests are made of while they are being written, in temporary files: the archive may be of any size. */

import { isTombstoneName, MANIFEST_NAME, readBotDirectory, readSessionKey } from '../storage/layout.ts';
import type { ArchiveStore, ListedObject } from '../storage/store.ts';
import type { DigestEntry } from './digest.ts';
import { SLACK_MS } from './digest-comparison.ts';
import { type LineFiles, partitionOf } from './entry-spool.ts';

/** What happened on the days that get a digest, in a temporary file each. */
export class DueDays {
  readonly dates: readonly string[];
  readonly #files: LineFiles;
  readonly #counts = new Map<string, number>();

  constructor(dates: readonly string[], files: LineFiles) {
    this.dates = dates;
    this.#files = files;
  }

  /** What waited for a day that had no digest goes into that day's; what is older or newer, into the first or last. */
  async add(entries: readonly DigestEntry[]): Promise<void> {
    for (const [date, own] of Map.groupBy(entries, ({ at }) => this.#dayOf(at))) {
      await this.#files.append(`day-${date}`, own);
      this.#counts.set(date, this.count(date) + own.length);
    }
  }

  #dayOf(at: string): string {
    const day = at.slice(0, 'YYYY-MM-DD'.length);
    return this.dates.find((date) => date >= day) ?? this.dates.at(-1) ?? day;
  }

  count(date: string): number {
    return this.#counts.get(date) ?? 0;
  }

  /** The entries of a day, at most `size` at a time. */
  async *entries(date: string, size: number): AsyncGenerator<DigestEntry[]> {
    if (this.count(date) > 0) yield* this.#files.read<DigestEntry>(`day-${date}`, size);
  }
}

/** What changed since the last digest, in a temporary file. */
export interface Changes {
  readonly count: number;
  readonly partitions: ReadonlySet<string>;
  /** When the oldest of the sessions began (unix milliseconds). */
  readonly earliest: number;
}

const CHANGES = 'changes';
/** Changes kept in memory until they are written. */
const BATCH = 1_000;

/** A change as JSON has it. */
export type ChangeLine = Omit<Change, 'object'> & { readonly objectKey: string; readonly modifiedAt: string };

/** @param coversTo up to when there are digests (unix milliseconds); `undefined` where there are none. */
export async function spoolChanges(
  coversTo: number | undefined,
  store: ArchiveStore,
  files: LineFiles,
  signal: AbortSignal,
): Promise<Changes> {
  const partitions = new Set<string>();
  let count = 0;
  let earliest = Number.POSITIVE_INFINITY;
  let batch: ChangeLine[] = [];
  const flush = async () => {
    await files.append(CHANGES, batch);
    batch = [];
  };
  for await (const { key, object, isErased } of findChanges(coversTo && coversTo - SLACK_MS, store, signal)) {
    count += 1;
    earliest = Math.min(earliest, begin(key));
    const partition = partitionOf(key);
    if (partition !== undefined) partitions.add(partition);
    batch.push({ key, isErased, objectKey: object.key, modifiedAt: object.modifiedAt.toISOString() });
    if (batch.length >= BATCH) await flush();
  }
  await flush();
  return { count, partitions, earliest };
}

/** The changes as they were found, in the order of their keys, at most `size` at a time. */
export async function* readChanges(
  { count }: Changes,
  files: LineFiles,
  size: number,
): AsyncGenerator<ChangeLine[]> {
  if (count > 0) yield* files.read<ChangeLine>(CHANGES, size);
}

/** The day on which a session began; 0 where its id has no time. */
function begin(key: string): number {
  return Date.parse(/\/date=([^/]+)\//.exec(key)?.[1] ?? '') || 0;
}

/** A session of which something was written. */
interface Change {
  /** Relative key of its manifest, whether it is there or not. */
  readonly key: string;
  /** The manifest; or, where there is none, the note that the session was erased. */
  readonly object: ListedObject;
  readonly isErased: boolean;
}

/**
 * The sessions whose manifests, or notes of their erasure, were written at some time or later. The whole archive is
 * listed for it, as any session may be archived again or erased; only listed.
 *
 * @param since unix milliseconds; `undefined` for all that is archived.
 */
async function* findChanges(
  since: number | undefined,
  store: ArchiveStore,
  signal: AbortSignal,
): AsyncGenerator<Change> {
  const isRecent = ({ modifiedAt }: ListedObject) => since === undefined || modifiedAt.getTime() >= since;
  for await (const { directory, manifest, tombstone } of sessions(store, signal)) {
    const object = manifest ?? tombstone;
    if (object && isRecent(object)) {
      yield { key: directory + MANIFEST_NAME, object, isErased: manifest === undefined };
    }
  }
}

interface Session {
  readonly directory: string;
  manifest?: ListedObject;
  tombstone?: ListedObject;
}

async function* sessions(store: ArchiveStore, signal: AbortSignal): AsyncGenerator<Session> {
  const bots: string[] = [];
  for await (const entry of store.listDirectory('', signal)) {
    if ('directory' in entry && readBotDirectory(entry.directory) !== undefined) bots.push(entry.directory);
  }
  for (const bot of bots) {
    let session: Session | undefined;
    for await (const object of store.list(bot, signal)) {
      const place = readSessionKey(object.key);
      if (!place) continue;
      if (session?.directory !== place.directory) {
        if (session) yield session;
        session = { directory: place.directory };
      }
      if (place.name === MANIFEST_NAME) session.manifest = object;
      if (isTombstoneName(place.name)) session.tombstone = object;
    }
    if (session) yield session;
  }
}
