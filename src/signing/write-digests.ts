import { hash } from 'node:crypto';
import { DAY_MS } from '../domain/completeness.ts';
import { isVoicemailError, VoicemailError } from '../domain/errors.ts';
import type { ArchiveStore } from '../storage/store.ts';
import { shareResult } from '../util/async.ts';
import type { Logger } from '../util/log.ts';
import {
  DIGESTS_DIRECTORY,
  type Digest,
  type DigestEntry,
  type DigestPart,
  digestKey,
  MAX_DIGEST_BYTES,
  PART_ENTRIES,
  parseDigest,
  readDigestKey,
  readPart,
  sealDigest,
  sealPart,
} from './digest.ts';
import {
  compareWithDigest,
  type DigestComparison,
  describeManifest,
  isTombstoneOf,
} from './digest-comparison.ts';
import { type ChangeLine, type Changes, DueDays, readChanges, spoolChanges } from './digest-spool.ts';
import {
  createEntrySpool,
  type EntrySpool,
  type LatestEntry,
  type LineFiles,
  openLineFiles,
  partitionOf,
} from './entry-spool.ts';
import { checkSignature, readPublicKeys, type SigningKey } from './signatures.ts';

/** What writing digests depends on. */
export interface DigestDeps {
  readonly store: ArchiveStore;
  readonly key: SigningKey;
  readonly now: () => Date;
  readonly log: Logger;
  /** The entries of one part: a digest of more is written in parts; default {@link PART_ENTRIES}. */
  readonly partEntries?: number;
}

/** What a run came to. */
export interface DigestRun {
  /** The digests that were written, oldest first. */
  readonly written: readonly WrittenDigest[];
  /** What contradicts earlier digests, or is not signed: no digest names it, and `verify --public-key` will. */
  readonly refused: number;
}

/** A written digest. A copy of `sha256` kept elsewhere shows whether the whole chain was replaced. */
export interface WrittenDigest {
  readonly date: string;
  readonly key: string;
  readonly sha256: string;
  readonly entries: number;
}

/** Manifests read at a time. */
const CONCURRENCY = 16;

/**
 * Writes the digests of all days that are over and have none: of yesterday, and of those before it since the last one.
 * The first digest names everything that is archived.
 *
 * It reads the archive, not the queue, so it does not matter who wrote or erased what, and when this ran last. Of
 * several that run at once, one wins. What there is to be said lies in temporary files meanwhile, so that memory holds
 * a part of a digest and a date partition, however large the archive is.
 *
 * @throws VoicemailError `ARCHIVE_CONFLICT` when an earlier digest is no digest, or its signature does not fit; what
 *   the store throws.
 */
export async function writeDigests(deps: DigestDeps, signal: AbortSignal): Promise<DigestRun> {
  const { store, key, now } = deps;
  const startedAt = now().getTime();
  const dates = await digestDates(store, signal);
  const due = dueDates(dates.at(-1), startedAt);
  const last = await readLast(dates, store, key, signal);
  if (due.length === 0) return { written: [], refused: 0 };

  const files = await openLineFiles();
  try {
    const changes = await spoolChanges(last && Date.parse(last.digest.coversTo), store, files, signal);
    const known = createEntrySpool(files, (partition) => changes.partitions.has(partition));
    await spoolDigests(dates, changes.earliest, known, deps, signal);
    const days = new DueDays(due, files);
    const refused = await describeAll(changes, { ...deps, known, last, files, days }, signal);
    const written = await writeDays(days, { ...deps, startedAt, last }, signal);
    return { written, refused };
  } finally {
    await files.remove();
  }
}

/** The days that have a digest, oldest first. */
export async function digestDates(store: Pick<ArchiveStore, 'list'>, signal: AbortSignal): Promise<string[]> {
  const dates: string[] = [];
  for await (const { key } of store.list(DIGESTS_DIRECTORY, signal)) {
    const place = readDigestKey(key);
    if (place?.kind === 'digest') dates.push(place.date);
  }
  return dates;
}

/** The days behind `last` that are over; without a last one, yesterday. */
function dueDates(last: string | undefined, now: number): string[] {
  const today = now - (now % DAY_MS);
  const from = last === undefined ? today - DAY_MS : Date.parse(last) + DAY_MS;
  const dates: string[] = [];
  for (let at = from; at < today; at += DAY_MS) dates.push(new Date(at).toISOString().slice(0, 10));
  return dates;
}

interface DescribeDeps extends DigestDeps {
  readonly known: EntrySpool;
  readonly last: ReadDigest | undefined;
  readonly files: LineFiles;
  readonly days: DueDays;
}

/** Reads changed manifests, a few at a time. @returns how many are in no digest. */
async function describeAll(
  changes: Changes,
  { store, key, log, known, last, files, days }: DescribeDeps,
  signal: AbortSignal,
): Promise<number> {
  const coversTo = last && Date.parse(last.digest.coversTo);
  let refused = 0;
  let partition: { readonly name: string | undefined; readonly known: Map<string, LatestEntry> } | undefined;
  // Changes are in the order of their keys, so each partition is read once.
  for await (const batch of readChanges(changes, files, CONCURRENCY)) {
    const looked: Promise<Described>[] = [];
    for (const change of batch) {
      const name = partitionOf(change.key);
      if (!partition || partition.name !== name) {
        partition = { name, known: name === undefined ? new Map() : await known.read(name) };
      }
      const { entry } = partition.known.get(change.key) ?? {};
      looked.push(entryOf(change, entry, coversTo, { store, key }, signal));
    }
    const entries: DigestEntry[] = [];
    for (const outcome of await Promise.all(looked)) {
      if (outcome === undefined) continue;
      if ('entry' in outcome) entries.push(outcome.entry);
      else {
        refused += 1;
        log.warn(
          { key: outcome.key, verdict: outcome.verdict },
          'not taken into the digest: run verify with --public-key',
        );
      }
    }
    await days.add(entries);
  }
  return refused;
}

interface WriteDeps extends DigestDeps {
  readonly startedAt: number;
  readonly last: ReadDigest | undefined;
}

async function writeDays(days: DueDays, deps: WriteDeps, signal: AbortSignal): Promise<WrittenDigest[]> {
  const { store, key, log, startedAt, last } = deps;
  const written: WrittenDigest[] = [];
  let previous: Digest['previous'] = last ? { date: last.digest.date, sha256: last.sha256 } : null;
  for (const date of days.dates) {
    const end = date === days.dates.at(-1) ? startedAt : Date.parse(date) + DAY_MS;
    const facts = {
      date,
      createdAt: new Date(startedAt).toISOString(),
      coversTo: new Date(end).toISOString(),
      previous,
      ...(await entriesOf(date, days, deps, signal)),
    };
    const bytes = sealDigest(facts, key);
    const isOurs = await wrote(digestKey(date), bytes, store, signal);
    await clearParts(date, isOurs ? facts.parts : undefined, deps, signal);
    if (!isOurs) {
      log.info({ date }, 'another process has written this digest');
      break;
    }
    const sha256 = hash('sha256', bytes);
    previous = { date, sha256 };
    const entries = days.count(date);
    written.push({ date, key: store.fullKey(digestKey(date)), sha256, entries });
    log.info({ date, sha256, entries }, 'digest written');
  }
  return written;
}

/** What a digest says: its entries, or the parts that hold them, which are written before it. */
async function entriesOf(
  date: string,
  days: DueDays,
  { store, partEntries = PART_ENTRIES }: DigestDeps,
  signal: AbortSignal,
): Promise<Pick<Digest, 'entries' | 'parts'>> {
  const parts: DigestPart[] = [];
  for await (const entries of days.entries(date, partEntries)) {
    if (days.count(date) <= partEntries) return { entries };
    const { part, bytes } = sealPart(date, entries);
    await store.write(part.key, bytes, { contentType: 'application/x-ndjson' }, 'replace', signal);
    parts.push(part);
  }
  return { entries: [], ...(parts.length > 0 && { parts }) };
}

/**
 * Removes parts that no digest names: those of an interrupted run, or of a run that another one overtook.
 * @param named by the digest that was written; `undefined` where another process wrote it.
 */
async function clearParts(
  date: string,
  named: readonly DigestPart[] | undefined,
  { store, log }: DigestDeps,
  signal: AbortSignal,
): Promise<void> {
  const left: string[] = [];
  for await (const { key } of store.list(digestKey(date).replace(/[^/]*$/, ''), signal)) {
    if (readDigestKey(key)?.kind === 'part') left.push(key);
  }
  if (left.length === 0) return;
  const theirs = named ? undefined : await store.read(digestKey(date), signal, MAX_DIGEST_BYTES);
  const parts = named ?? (theirs && parseDigest(theirs)?.parts) ?? [];
  const keys = new Set(parts.map(({ key }) => key));
  for (const key of left.filter((one) => !keys.has(one))) {
    try {
      await store.versions.hide(key, signal);
    } catch (error) {
      if (!isVoicemailError(error)) throw error;
      log.warn({ key: store.fullKey(key), err: error }, 'a part that no digest names could not be deleted');
    }
  }
}

interface ReadDigest {
  readonly digest: Digest;
  /** Of its bytes. */
  readonly sha256: string;
}

type Access = Pick<DigestDeps, 'store' | 'key'>;

async function readLast(
  dates: readonly string[],
  store: ArchiveStore,
  key: SigningKey,
  signal: AbortSignal,
): Promise<ReadDigest | undefined> {
  const date = dates.at(-1);
  return date === undefined ? undefined : readDigest(date, { store, key }, signal);
}

/** A digest with a valid signature. The signature of an earlier key is not checked. */
async function readDigest(date: string, { store, key }: Access, signal: AbortSignal): Promise<ReadDigest> {
  const at = digestKey(date);
  const bytes = await store.read(at, signal, MAX_DIGEST_BYTES);
  const digest = bytes && parseDigest(bytes);
  const check = bytes && checkSignature(bytes, readPublicKeys([key.publicKey]));
  if (!bytes || digest?.date !== date || (check?.kind !== 'valid' && check?.kind !== 'unknown-key')) {
    throw notAsWritten(store.fullKey(at));
  }
  return { digest, sha256: hash('sha256', bytes) };
}

function notAsWritten(key: string): VoicemailError {
  return new VoicemailError('ARCHIVE_CONFLICT', `${key} is not as it was written`, {
    retryable: false,
    hint: 'run verify with --public-key, find out who changed it, and restore it or move it out of the archive',
  });
}

/** A session is archived after it began; ids and clocks may be that far apart. */
const EARLIEST_MS = 2 * DAY_MS;

/** What the digests say of the manifests that changed. Only those are read that may name them. */
async function spoolDigests(
  dates: readonly string[],
  earliest: number,
  known: EntrySpool,
  access: Access,
  signal: AbortSignal,
): Promise<void> {
  for (const date of dates.filter((one) => Date.parse(one) >= earliest - EARLIEST_MS)) {
    const { digest } = await readDigest(date, access, signal);
    await known.add(date, digest.entries);
    for (const part of digest.parts ?? []) {
      const read = await readPart(part, access.store, signal);
      if (read.kind !== 'read') throw notAsWritten(access.store.fullKey(part.key));
      await known.add(date, read.entries);
    }
  }
}

type Described =
  | { readonly entry: DigestEntry }
  | { readonly key: string; readonly verdict: DigestComparison }
  | undefined;

/** What a digest is to say of a change; `undefined` for nothing. */
async function entryOf(
  { key: at, objectKey, modifiedAt: written, isErased }: ChangeLine,
  known: DigestEntry | undefined,
  coversTo: number | undefined,
  { store, key }: Access,
  signal: AbortSignal,
): Promise<Described> {
  const bytes = await store.read(objectKey, signal);
  // It was removed or erased since it was listed: that is for the next digest.
  if (!bytes) return undefined;
  const check = checkSignature(bytes, readPublicKeys([key.publicKey]));
  // Who verifies has the keys of earlier times, and checks them.
  const isSigned = check.kind === 'valid' || check.kind === 'unknown-key';
  if (isErased) {
    if (!known || known.event === 'erased') return undefined;
    if (!isSigned || !isTombstoneOf(bytes, at)) return { key: store.fullKey(objectKey), verdict: 'unsigned' };
    const { key: _, event: __, sha256, at: ___, ...rest } = known;
    const entry = { event: 'erased' as const, key: at, ...rest };
    return { entry: { ...entry, sha256: hash('sha256', bytes), previousSha256: sha256, at: written } };
  }
  const found = describeManifest(bytes, store.fullKey(at), isSigned);
  const verdict = compareWithDigest(known, found, coversTo);
  if (verdict === 'same') return undefined;
  if (verdict !== 'added' && verdict !== 'replaced') return { key: store.fullKey(at), verdict };
  return {
    entry: {
      event: verdict,
      key: at,
      revision: found.revision,
      sha256: found.sha256,
      ...(known && { previousSha256: known.sha256 }),
      at: written,
      archivedAt: found.archivedAt,
      ...('kid' in check && { kid: check.kid }),
    },
  };
}

async function wrote(key: string, bytes: Buffer, store: ArchiveStore, signal: AbortSignal): Promise<boolean> {
  try {
    await store.write(key, bytes, { contentType: 'application/json' }, 'absent', signal);
    return true;
  } catch (error) {
    if (isVoicemailError(error, 'ARCHIVE_CONFLICT')) return false;
    throw error;
  }
}

/** The delay after midnight from which a missing digest counts as late: digests are written right after midnight. */
export const OVERDUE_MS = 6 * 60 * 60 * 1000;
/** How long the result of a check is reused: digests change once a day. */
const FRESH_MS = 5 * 60 * 1000;

/**
 * A function that counts the days that should have a digest by now, and have none. It lists digests, and reads none.
 */
export function createOverdueDigestCount(
  store: Pick<ArchiveStore, 'list'>,
  now: () => number,
): () => Promise<number> {
  return shareResult(async () => {
    const dates = await digestDates(store, new AbortController().signal); // stores have timeouts of their own
    return dueDates(dates.at(-1), now() - OVERDUE_MS).length;
  }, FRESH_MS);
}
