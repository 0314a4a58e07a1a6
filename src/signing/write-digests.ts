import { hash } from 'node:crypto';
import { isVoicemailError, VoicemailError } from '../domain/errors.ts';
import type { ArchiveStore } from '../storage/store.ts';
import type { Logger } from '../util/log.ts';
import { type Change, findChanges } from './changes.ts';
import {
  DIGESTS_DIRECTORY,
  type Digest,
  type DigestEntry,
  digestKey,
  MAX_DIGEST_BYTES,
  parseDigest,
  readDigestKey,
  sealDigest,
} from './digest.ts';
import { judge, SLACK_MS, type Verdict } from './judge.ts';
import { describeManifest, isTombstoneOf } from './records.ts';
import { checkSignature, publicKeys, type SigningKey } from './signatures.ts';

/** What writing digests depends on. */
export interface DigestDeps {
  readonly store: ArchiveStore;
  readonly key: SigningKey;
  readonly now: () => Date;
  readonly log: Logger;
}

/** What a run came to. */
export interface DigestRun {
  /** The digests that were written, oldest first. */
  readonly written: readonly WrittenDigest[];
  /** What contradicts earlier digests, or is not signed: no digest names it, and `verify --public-key` will. */
  readonly refused: number;
}

/** A digest as it was written. Whoever keeps `sha256` elsewhere can tell when the whole chain is made anew. */
export interface WrittenDigest {
  readonly date: string;
  readonly key: string;
  readonly sha256: string;
  readonly entries: number;
}

const DAY_MS = 24 * 60 * 60 * 1000;
/** Manifests read at a time. */
const CONCURRENCY = 16;

/**
 * Writes the digests of all days that are over and have none: of yesterday, and of those before it since the last one.
 * The first digest names everything that is archived.
 *
 * It reads the archive, not the queue, so it does not matter who wrote or erased what, and when this ran last. Of several
 * that run at once, one wins.
 *
 * @throws VoicemailError `ARCHIVE_CONFLICT` when an earlier digest is no digest, or its signature does not fit; what the
 * store throws.
 */
export async function writeDigests(
  { store, key, now, log }: DigestDeps,
  signal: AbortSignal,
): Promise<DigestRun> {
  const startedAt = now().getTime();
  const dates = await digestDates(store, signal);
  const last = await readLast(dates, store, key, signal);
  const due = dueDates(dates.at(-1), startedAt);
  if (due.length === 0) return { written: [], refused: 0 };

  const coversTo = last && Date.parse(last.digest.coversTo);
  const changes: Change[] = [];
  for await (const change of findChanges(coversTo && coversTo - SLACK_MS, store, signal))
    changes.push(change);
  const known = await foldDigests(changes, dates, { store, key }, signal);
  const entries: DigestEntry[] = [];
  let refused = 0;
  for (let at = 0; at < changes.length; at += CONCURRENCY) {
    const batch = changes.slice(at, at + CONCURRENCY);
    const looked = batch.map((change) =>
      describe(change, known.get(change.key), coversTo, { store, key }, signal),
    );
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
  }

  const written: WrittenDigest[] = [];
  let previous: Digest['previous'] = last ? { date: last.digest.date, sha256: last.sha256 } : null;
  for (const date of due) {
    const end = date === due.at(-1) ? startedAt : Date.parse(date) + DAY_MS;
    // What waited for a day that had no digest goes into that day's.
    const isOfThisDay = ({ at }: DigestEntry) => Date.parse(at) < end || date === due.at(-1);
    const own = entries.filter(isOfThisDay);
    entries.splice(0, entries.length, ...entries.filter((entry) => !isOfThisDay(entry)));
    const facts = {
      date,
      createdAt: new Date(startedAt).toISOString(),
      coversTo: new Date(end).toISOString(),
      previous,
      entries: own,
    };
    const bytes = sealDigest(facts, key);
    if (!(await wrote(digestKey(date), bytes, store, signal))) {
      log.info({ date }, 'another process has written this digest');
      break;
    }
    const sha256 = hash('sha256', bytes);
    previous = { date, sha256 };
    written.push({ date, key: store.fullKey(digestKey(date)), sha256, entries: own.length });
    log.info({ date, sha256, entries: own.length }, 'digest written');
  }
  return { written, refused };
}

/** The days that have a digest, oldest first. */
export async function digestDates(store: ArchiveStore, signal: AbortSignal): Promise<string[]> {
  const dates: string[] = [];
  for await (const { key } of store.list(DIGESTS_DIRECTORY, signal)) {
    const date = readDigestKey(key);
    if (date !== undefined) dates.push(date);
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

/** A digest whose signature fits, as far as this key can tell: one of an earlier key is taken as it is. */
async function readDigest(date: string, { store, key }: Access, signal: AbortSignal): Promise<ReadDigest> {
  const at = digestKey(date);
  const bytes = await store.read(at, signal, MAX_DIGEST_BYTES);
  const digest = bytes && parseDigest(bytes);
  const check = bytes && checkSignature(bytes, publicKeys([key.publicKey]));
  if (!bytes || digest?.date !== date || (check?.kind !== 'valid' && check?.kind !== 'unknown-key')) {
    throw new VoicemailError('ARCHIVE_CONFLICT', `${store.fullKey(at)} is not as it was written`, {
      retryable: false,
      hint: 'run verify with --public-key, find out who changed it, and restore it or move it away',
    });
  }
  return { digest, sha256: hash('sha256', bytes) };
}

/** A session is archived after it began; ids and clocks may be that far apart. */
const EARLIEST_MS = 2 * DAY_MS;

/** What the digests say last of the manifests that changed. Only those are read that may name them. */
async function foldDigests(
  changes: readonly Change[],
  dates: readonly string[],
  access: Access,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, DigestEntry>> {
  const isWanted = new Set(changes.map(({ key }) => key));
  const earliest = changes.reduce((least, { key }) => Math.min(least, begin(key)), Date.now()) - EARLIEST_MS;
  const known = new Map<string, DigestEntry>();
  for (const date of dates.filter((one) => Date.parse(one) >= earliest)) {
    const { digest } = await readDigest(date, access, signal);
    for (const entry of digest.entries) if (isWanted.has(entry.key)) known.set(entry.key, entry);
  }
  return known;
}

/** The day on which a session began; for one that does not tell, the beginning of time. */
function begin(key: string): number {
  return Date.parse(/\/date=([^/]+)\//.exec(key)?.[1] ?? '') || 0;
}

type Described =
  | { readonly entry: DigestEntry }
  | { readonly key: string; readonly verdict: Verdict }
  | undefined;

/** What a digest is to say of a change; `undefined` for nothing. */
async function describe(
  { key: at, object, isErased }: Change,
  known: DigestEntry | undefined,
  coversTo: number | undefined,
  { store, key }: Access,
  signal: AbortSignal,
): Promise<Described> {
  const bytes = await store.read(object.key, signal);
  // It was taken away or erased since it was listed: that is for the next digest.
  if (!bytes) return undefined;
  const check = checkSignature(bytes, publicKeys([key.publicKey]));
  // Who verifies has the keys of earlier times, and checks them.
  const isSigned = check.kind === 'valid' || check.kind === 'unknown-key';
  const written = object.modifiedAt.toISOString();
  if (isErased) {
    if (!known || known.event === 'erased') return undefined;
    if (!isSigned || !isTombstoneOf(bytes, at))
      return { key: store.fullKey(object.key), verdict: 'unsigned' };
    const { key: _, event: __, sha256, at: ___, ...rest } = known;
    const entry = { event: 'erased' as const, key: at, ...rest };
    return { entry: { ...entry, sha256: hash('sha256', bytes), previousSha256: sha256, at: written } };
  }
  const found = describeManifest(bytes, store.fullKey(at), isSigned);
  const verdict = judge(known, found, coversTo);
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
