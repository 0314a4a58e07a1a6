/** Whether the signed records of one session are as they were signed, and as the digests say. */

import type { SessionRef } from '../domain/session.ts';
import {
  compareWithDigest,
  describeManifest,
  isTombstoneOf,
  SLACK_MS,
} from '../signing/digest-comparison.ts';
import type { LatestEntry } from '../signing/entry-spool.ts';
import { checkSignature, type PublicKeys, type SignatureCheck } from '../signing/signatures.ts';
import { isTombstoneName, MANIFEST_NAME, PARTIAL_MANIFEST_NAME } from '../storage/layout.ts';
import type { ArchiveStore, ListedObject } from '../storage/store.ts';
import { fullKeyOf, isUnreadable, readWithRetries } from './check-object.ts';
import { listAll } from './check-session.ts';
import type { DigestChain } from './digest-chain.ts';
import type { Facts, Finding, FindingKind } from './findings.ts';

/** A session that is there, or that the digests know. */
export interface SessionRecords {
  readonly directory: string;
  readonly session: SessionRef;
  /** Relative key of its manifest. */
  readonly key: string;
  readonly objects: readonly ListedObject[];
  readonly known: LatestEntry | undefined;
}

/** The result of checking the records of a session. */
export interface RecordsOutcome {
  readonly findings: readonly Finding[];
  /** When it was archived, as a manifest with a good signature says (ISO 8601). */
  readonly signedAt?: string;
}

/** What a check depends on. */
export interface RecordsDeps {
  readonly store: ArchiveStore;
  readonly keys: PublicKeys;
  readonly chain: DigestChain;
}

/**
 * Checks the manifest of a session, or the record that it was erased. Findings are checked a second time, because the
 * session may be being archived or erased at this moment.
 *
 * @throws VoicemailError when nothing in the archive can be read; the signal's reason when aborted.
 */
export async function checkRecords(
  records: SessionRecords,
  deps: RecordsDeps,
  signal: AbortSignal,
): Promise<RecordsOutcome> {
  const first = await checkOnce(records, deps, signal);
  if (first.findings.length === 0) return first;
  const objects = await listAll(records.directory, deps.store, signal);
  return checkOnce({ ...records, objects }, deps, signal);
}

async function checkOnce(
  records: SessionRecords,
  deps: RecordsDeps,
  signal: AbortSignal,
): Promise<RecordsOutcome> {
  const { directory, key, objects } = records;
  const named = (isName: (name: string) => boolean) =>
    objects.find((object) => isName(object.key.slice(directory.length)));
  if (named((name) => name === MANIFEST_NAME)) return checkManifest(records, deps, signal);
  const tombstone = named(isTombstoneName);
  const gone = await checkGone(records, tombstone, deps, signal);
  const partial = named((name) => name === PARTIAL_MANIFEST_NAME);
  if (gone.length > 0 || !partial) return { findings: gone };
  return { findings: await checkPartial(partial, { ...records, key }, deps, signal) };
}

async function checkManifest(
  records: SessionRecords,
  { store, keys, chain }: RecordsDeps,
  signal: AbortSignal,
): Promise<RecordsOutcome> {
  const { key, known } = records;
  const find = finder(records, store);
  const bytes = await readWithRetries(store, () => store.read(key, signal), signal);
  // The verification of objects reports that.
  if (isUnreadable(bytes) || !bytes) return { findings: [] };
  const check = checkSignature(bytes, keys);
  const found = describeManifest(bytes, store.fullKey(key), check.kind === 'valid');
  const live = known?.entry.event === 'erased' ? undefined : known;
  const isSame = live?.entry.sha256 === found.sha256;
  if (isSame && live.entry.kid === undefined && check.kind === 'none') return { findings: [] };
  if (!found.isSigned) {
    const kind = check.kind === 'wrong' || (live && !isSame) ? 'changed' : 'forged';
    const digest = live && !isSame ? `, and the digest of ${live.date} names other bytes` : '';
    return { findings: [find(kind, key, sayCheck(check) + digest, factsOf(live, found))] };
  }
  const signedAt = found.archivedAt;
  const verdict = compareWithDigest(known?.entry, found, chain.coversTo);
  if (verdict === 'changed') {
    const what = `it is an earlier revision than the digest of ${live?.date} names`;
    return { signedAt, findings: [find('changed', key, what, factsOf(live, found))] };
  }
  if (verdict === 'unlisted' && !isInGap(signedAt, chain)) {
    const what = known
      ? `the digest of ${known.date} says that it was erased`
      : 'it says that it was archived before the last digest was written, and no digest names it';
    return { signedAt, findings: [find('unlisted', key, what, { found: { sha256: found.sha256 } })] };
  }
  return { signedAt, findings: [] };
}

/** What was archived while digests can't be trusted is known by its signature alone. */
function isInGap(archivedAt: string, { gaps }: DigestChain): boolean {
  const at = Date.parse(archivedAt);
  return gaps.some(({ from, to }) => at >= from - SLACK_MS && at <= to);
}

/** A session without a manifest: what the digests know has to be erased, with a signature. */
async function checkGone(
  records: SessionRecords,
  tombstone: ListedObject | undefined,
  { store, keys }: RecordsDeps,
  signal: AbortSignal,
): Promise<Finding[]> {
  const { key, known } = records;
  if (!known) return [];
  const find = finder(records, store);
  const { entry, date } = known;
  if (entry.event === 'erased') {
    const what = `the digest of ${date} says that the session was erased, and the record of it is gone`;
    return tombstone ? [] : [find('missing', key, what, {})];
  }
  const expected = { expected: { sha256: entry.sha256 } };
  if (!tombstone) return [find('missing', key, `the digest of ${date} names it`, expected)];
  const bytes = await readWithRetries(store, () => store.read(tombstone.key, signal), signal);
  const isErased =
    bytes !== undefined &&
    !isUnreadable(bytes) &&
    checkSignature(bytes, keys).kind === 'valid' &&
    isTombstoneOf(bytes, key);
  if (isErased) return [];
  return [
    find(
      'missing',
      key,
      `the digest of ${date} names it, and the record that it was erased is not signed`,
      expected,
    ),
  ];
}

/** No digest names partial manifests: they come and go. */
async function checkPartial(
  { key, modifiedAt }: ListedObject,
  records: SessionRecords,
  { store, keys, chain }: RecordsDeps,
  signal: AbortSignal,
): Promise<Finding[]> {
  const bytes = await readWithRetries(store, () => store.read(key, signal), signal);
  if (isUnreadable(bytes) || !bytes) return [];
  const check = checkSignature(bytes, keys);
  const isOlderThanSigning = chain.beginsAt !== undefined && modifiedAt.getTime() < chain.beginsAt;
  if (check.kind === 'valid' || (check.kind === 'none' && isOlderThanSigning)) return [];
  const kind = check.kind === 'wrong' ? 'changed' : 'forged';
  return [finder(records, store)(kind, key, sayCheck(check), {})];
}

function sayCheck(check: SignatureCheck): string {
  switch (check.kind) {
    case 'wrong':
      return 'its signature does not fit';
    case 'unknown-key':
      return `it is signed with the key ${check.kid}, which was not given`;
    case 'none':
      return 'it is not signed';
    case 'valid':
      return "it is signed, and can't be read as a manifest";
  }
}

function factsOf(live: LatestEntry | undefined, { sha256 }: { readonly sha256: string }) {
  return { ...(live && { expected: { sha256: live.entry.sha256 } }), found: { sha256 } };
}

type Found = { readonly expected?: Facts; readonly found?: Facts };

function finder({ session }: SessionRecords, store: ArchiveStore) {
  return (kind: FindingKind, key: string, what: string, facts: Found): Finding => ({
    kind,
    key: fullKeyOf(store, key),
    sessionId: session.sessionId,
    botId: session.botId,
    what,
    ...facts,
    // What was tampered with is evidence: nothing takes its place by itself.
    repairable: false,
  });
}
