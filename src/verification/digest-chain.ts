/** Verifies the chain of daily digests: each has its signed content, and names the one before. */

import { hash } from 'node:crypto';
import {
  DIGESTS_DIRECTORY,
  type Digest,
  type DigestEntry,
  digestKey,
  MAX_DIGEST_BYTES,
  parseDigest,
  readDigestKey,
  readPart,
} from '../signing/digest.ts';
import { checkSignature, type PublicKeys } from '../signing/signatures.ts';
import type { ArchiveStore } from '../storage/store.ts';
import { fullKeyOf, isFolderMark, isUnreadable, readWithRetries } from './check-object.ts';
import type { Finding, FindingKind } from './findings.ts';

/** A stretch of time (unix milliseconds) of which no digest can be trusted. */
export interface Gap {
  readonly from: number;
  readonly to: number;
}

/** What the digests come to. */
export interface DigestChain {
  /** The days that have a digest, whatever is wrong with it, oldest first. */
  readonly dates: readonly string[];
  /** Up to when there are digests that can be trusted (unix milliseconds); `undefined` where there are none. */
  readonly coversTo: number | undefined;
  /** Up to when the first of them goes: what is older may be unsigned. */
  readonly beginsAt: number | undefined;
  readonly gaps: readonly Gap[];
  readonly findings: readonly Finding[];
}

/** What reading the digests depends on. */
export interface ChainDeps {
  readonly store: ArchiveStore;
  readonly keys: PublicKeys;
  /** Gets what the digests say that can be trusted, in the order of their days, part by part. */
  readonly onEntries: (date: string, entries: readonly DigestEntry[]) => Promise<void>;
}

/**
 * Reads all digests.
 *
 * A digest that was removed is named by the one after it; the last one by none: its absence shows by what was archived
 * on its day (see `verify-signatures.ts`).
 *
 * @throws VoicemailError when nothing in the archive can be read; the signal's reason when aborted.
 */
export async function readDigestChain(
  { store, keys, onEntries }: ChainDeps,
  signal: AbortSignal,
): Promise<DigestChain> {
  const findings = new ChainFindings(store);
  const { dates, parts } = await listDigests(store, findings, signal);
  const gaps: Gap[] = [];
  const unreadable = new Set<string>();
  let before: ReadDigest | undefined;
  let coversTo: number | undefined;
  let beginsAt: number | undefined;
  for (const date of dates) {
    const read = await readDigest(date, { store, keys, findings }, signal);
    if (read.digest) {
      const isLinked = checkLink(read.digest, before, dates, findings);
      const end = Date.parse(read.digest.coversTo);
      await onEntries(date, read.digest.entries);
      const isWhole = await readParts(read.digest, { store, findings, onEntries }, signal);
      if (!isLinked || !isWhole) gaps.push({ from: coversTo ?? 0, to: end });
      for (const { key } of read.digest.parts ?? []) parts.delete(key);
      coversTo = end;
      beginsAt ??= end;
    } else {
      // Its parts are unknown.
      unreadable.add(date);
    }
    before = read;
  }
  // Those behind the last digest may be of one that is being written.
  const last = dates.at(-1) ?? '';
  for (const [key, date] of parts) {
    if (!unreadable.has(date) && date <= last) findings.add('orphaned', key, 'no digest names this part');
  }
  return { dates, coversTo, beginsAt, gaps, findings: findings.all };
}

interface ReadDigest {
  readonly date: string;
  /** Of its bytes; `undefined` where they can't be read. */
  readonly sha256: string | undefined;
  /** Left out where it can't be trusted. */
  readonly digest?: Digest;
}

interface Listed {
  /** The days that have a digest, oldest first. */
  readonly dates: string[];
  /** The days of parts of digests, by their relative keys. */
  readonly parts: Map<string, string>;
}

async function listDigests(
  store: ArchiveStore,
  findings: ChainFindings,
  signal: AbortSignal,
): Promise<Listed> {
  const listed: Listed = { dates: [], parts: new Map() };
  for await (const object of store.list(DIGESTS_DIRECTORY, signal)) {
    const place = readDigestKey(object.key);
    if (place?.kind === 'digest') listed.dates.push(place.date);
    else if (place) listed.parts.set(object.key, place.date);
    else if (!isFolderMark(object))
      findings.add('orphaned', object.key, 'it lies among the digests, and is none');
  }
  return listed;
}

/** @returns whether all parts are as the digest says. */
async function readParts(
  { date, parts = [] }: Digest,
  { store, findings, onEntries }: Omit<ChainDeps, 'keys'> & { readonly findings: ChainFindings },
  signal: AbortSignal,
): Promise<boolean> {
  let isWhole = true;
  for (const part of parts) {
    const read = await readWithRetries(store, () => readPart(part, store, signal), signal);
    if (!isUnreadable(read) && read.kind === 'read') {
      await onEntries(date, read.entries);
      continue;
    }
    isWhole = false;
    if (isUnreadable(read)) findings.add('unreadable', part.key, read.error.message);
    else if (read.kind === 'missing') findings.add('missing', part.key, `the digest of ${date} names it`);
    else findings.add('changed', part.key, `the digest of ${date} names it with SHA-256 ${part.sha256}`);
  }
  return isWhole;
}

async function readDigest(
  date: string,
  { store, keys, findings }: Omit<ChainDeps, 'onEntries'> & { readonly findings: ChainFindings },
  signal: AbortSignal,
): Promise<ReadDigest> {
  const key = digestKey(date);
  const bytes = await readWithRetries(store, () => store.read(key, signal, MAX_DIGEST_BYTES), signal);
  if (isUnreadable(bytes)) {
    findings.add('unreadable', key, bytes.error.message);
    return { date, sha256: undefined };
  }
  if (!bytes) {
    findings.add('missing', key, 'it was removed a moment ago');
    return { date, sha256: undefined };
  }
  const sha256 = hash('sha256', bytes);
  const check = checkSignature(bytes, keys);
  const digest = parseDigest(bytes);
  if (check.kind === 'none') findings.add('forged', key, 'it is not signed, or no digest');
  else if (check.kind === 'unknown-key')
    findings.add('forged', key, `it is signed with the key ${check.kid}, which was not given`);
  else if (check.kind === 'wrong') findings.add('changed', key, 'its signature does not fit');
  else if (!digest) findings.add('changed', key, 'it is signed, and no digest that this version knows');
  else if (digest.date !== date) findings.add('forged', key, `it is the digest of ${digest.date}`);
  else return { date, sha256, digest };
  return { date, sha256 };
}

/** @returns whether all before this digest can be trusted as far as the digest before it can. */
function checkLink(
  { date, previous }: Digest,
  before: ReadDigest | undefined,
  dates: readonly string[],
  findings: ChainFindings,
): boolean {
  if (!previous) {
    if (before)
      findings.add('changed', digestKey(date), 'it says that it is the first, and there are earlier ones');
    return !before;
  }
  const between = dates.filter((one) => one > previous.date && one < date);
  for (const one of between)
    findings.add('unlisted', digestKey(one), `the digest of ${date} does not know it`);
  if (!dates.includes(previous.date)) {
    findings.add('missing', digestKey(previous.date), `the digest of ${date} names it`);
    return false;
  }
  if (before?.date !== previous.date) return false;
  if (before.sha256 !== undefined && before.sha256 !== previous.sha256) {
    findings.add(
      'changed',
      digestKey(before.date),
      `the digest of ${date} names it with SHA-256 ${previous.sha256}`,
    );
    return false;
  }
  return before.digest !== undefined;
}

/** What is wrong with digests, the first thing that is wrong with each. */
class ChainFindings {
  readonly #store: ArchiveStore;
  readonly #byKey = new Map<string, Finding>();

  constructor(store: ArchiveStore) {
    this.#store = store;
  }

  /** @param key relative. */
  add(kind: FindingKind, key: string, what: string): void {
    if (this.#byKey.has(key)) return;
    this.#byKey.set(key, { kind, key: fullKeyOf(this.#store, key), what, repairable: false });
  }

  get all(): Finding[] {
    return [...this.#byKey.values()];
  }
}
