/**
 * Whether the archive is as it was signed: every manifest's signature, the chain of daily digests, and that both agree.
 * It needs the archive and public keys, nothing else.
 */

import { DAY_MS } from '../domain/completeness.ts';
import { digestKey } from '../signing/digest.ts';
import {
  createEntrySpool,
  type EntrySpool,
  type LatestEntry,
  openLineFiles,
} from '../signing/entry-spool.ts';
import type { PublicKeys } from '../signing/signatures.ts';
import { OVERDUE_MS } from '../signing/write-digests.ts';
import { datePrefix, readSessionKey, sessionPrefix } from '../storage/layout.ts';
import type { ArchiveStore, ListedObject } from '../storage/store.ts';
import { fullKeyOf } from './check-object.ts';
import { checkRecords, type RecordsOutcome, type SessionRecords } from './check-records.ts';
import { listAll } from './check-session.ts';
import { type DigestChain, readDigestChain } from './digest-chain.ts';
import type { Finding } from './findings.ts';
import { isInScope, mayContain, planUnits, type Scope } from './scope.ts';
import { inOrder } from './verify.ts';

/** What this depends on. */
export interface SignatureDeps {
  readonly store: ArchiveStore;
  /** Of all keys that ever signed here. */
  readonly keys: PublicKeys;
  /** Manifests read at a time. */
  readonly concurrency: number;
  readonly now: () => Date;
  /** Called for each finding, one after the other. */
  readonly onFinding: (finding: Finding) => Promise<void>;
}

/** Which digests there are. */
export interface DigestSpan {
  readonly count: number;
  /** Days; left out where there is none. */
  readonly from?: string;
  readonly to?: string;
}

/**
 * Names every manifest and every digest that was changed, removed, forged or slipped in. Memory is bounded by a part of
 * a digest and the largest date partition; nothing is written to the archive.
 *
 * @throws VoicemailError when nothing in the archive can be read; the signal's reason when aborted.
 */
export async function verifySignatures(
  scope: Scope,
  { store, keys, concurrency, now, onFinding }: SignatureDeps,
  signal: AbortSignal,
): Promise<DigestSpan> {
  const startedAt = now().getTime();
  const files = await openLineFiles();
  try {
    const spool = createEntrySpool(files);
    const chain = await readDigestChain({ store, keys, onEntries: spool.add }, signal);
    for (const finding of chain.findings) await onFinding(finding);
    const work = (records: SessionRecords, either: AbortSignal) =>
      checkRecords(records, { store, keys, chain }, either);
    const tail = new Tail(chain, startedAt);
    for await (const outcome of inOrder(recordsIn(scope, spool, store, signal), work, concurrency, signal)) {
      tail.add(outcome);
      for (const finding of outcome.findings) await onFinding(finding);
    }
    for (const finding of tail.findings(store)) await onFinding(finding);
    const [from] = chain.dates;
    const to = chain.dates.at(-1);
    return {
      count: chain.dates.length,
      ...(from !== undefined && { from }),
      ...(to !== undefined && { to }),
    };
  } finally {
    await files.remove();
  }
}

/** Days behind the last digest of which manifests are there, and that should have one by now. */
class Tail {
  readonly #last: string;
  readonly #now: number;
  readonly #days = new Set<string>();

  constructor({ dates }: DigestChain, now: number) {
    this.#last = dates.at(-1) ?? '';
    this.#now = now;
  }

  add({ signedAt }: RecordsOutcome): void {
    const day = signedAt?.slice(0, 'YYYY-MM-DD'.length);
    if (day !== undefined && day > this.#last && Date.parse(day) + DAY_MS + OVERDUE_MS <= this.#now)
      this.#days.add(day);
  }

  findings(store: ArchiveStore): Finding[] {
    return [...this.#days].sort().map((day) => ({
      kind: 'missing',
      key: fullKeyOf(store, digestKey(day)),
      what: 'sessions were archived on that day, and neither it nor a later one has a digest',
      repairable: false,
    }));
  }
}

/** The sessions that are there, and those that the digests know and are not. */
async function* recordsIn(
  scope: Scope,
  spool: EntrySpool,
  store: ArchiveStore,
  signal: AbortSignal,
): AsyncGenerator<SessionRecords> {
  if (scope.kind === 'sessions') {
    for (const session of scope.sessions) {
      const known = await spool.read(datePrefix(session));
      const directory = sessionPrefix(session);
      yield recordsOf(directory, await listAll(directory, store, signal), known);
    }
    return;
  }
  const listed = (await planUnits(scope, store, signal)).filter(({ kind }) => kind === 'partition');
  const partitions = new Set(listed.map(({ prefix }) => prefix));
  for (const partition of spool.partitions) if (isWanted(partition, scope)) partitions.add(partition);
  for (const partition of [...partitions].sort()) {
    const known = await spool.read(partition);
    for await (const { directory, objects } of directoriesIn(partition, store, signal)) {
      const records = recordsOf(directory, objects, known);
      known.delete(records.key);
      if (isInScope(records.session, scope)) yield records;
    }
    for (const key of known.keys()) {
      const place = readSessionKey(key);
      if (place && isInScope(place.session, scope)) yield recordsOf(place.directory, [], known);
    }
  }
}

/** Whether sessions of a partition that only the digests know may be in scope. */
function isWanted(partition: string, scope: Extract<Scope, { kind: 'archive' }>): boolean {
  const [, bot, date = ''] = /^bot_id=([^/]+)\/date=([^/]+)\/$/.exec(partition) ?? [];
  return (scope.botId === undefined || scope.botId === bot) && mayContain(date, scope);
}

async function* directoriesIn(
  partition: string,
  store: ArchiveStore,
  signal: AbortSignal,
): AsyncGenerator<{ readonly directory: string; readonly objects: readonly ListedObject[] }> {
  let group: { directory: string; objects: ListedObject[] } | undefined;
  // The verification of objects reports what can't be read.
  for await (const object of store.list(partition, signal, { onUnreadable: () => undefined })) {
    const directory = readSessionKey(object.key)?.directory;
    if (directory === undefined) continue;
    if (group?.directory !== directory) {
      if (group) yield group;
      group = { directory, objects: [] };
    }
    group.objects.push(object);
  }
  if (group) yield group;
}

function recordsOf(
  directory: string,
  objects: readonly ListedObject[],
  known: ReadonlyMap<string, LatestEntry>,
): SessionRecords {
  const place = readSessionKey(`${directory}-`);
  if (!place) throw new Error(`${directory} is not the directory of a session`);
  const key = `${directory}manifest.json`;
  return { directory, session: place.session, key, objects, known: known.get(key) };
}
