import { isVoicemailError, type VoicemailError } from '../domain/errors.ts';
import type { SessionRef } from '../domain/session.ts';
import { readTombstone } from '../storage/custody-records.ts';
import {
  type Manifest,
  type PartialManifest,
  parseManifest,
  parsePartialManifest,
} from '../storage/documents.ts';
import {
  isCompanionName,
  isTombstoneName,
  MANIFEST_NAME,
  manifestKey,
  PARTIAL_MANIFEST_NAME,
  sessionPrefix,
} from '../storage/layout.ts';
import type { ArchiveStore, ListedObject } from '../storage/store.ts';
import {
  type Comparison,
  checkObject,
  type ExpectedObject,
  fullKeyOf,
  isFolderMark,
  isUnreadable,
  readWithRetries,
  type Unreadable,
  waitUntilSettled,
} from './check-object.ts';
import { type CheckOutcome, type Facts, type Finding, type FindingKind, NO_OUTCOME } from './findings.ts';

/** What a listing shows of one session. */
export interface SessionDirectory {
  /** Relative, with a `/` at its end. */
  readonly directory: string;
  readonly session: SessionRef;
  readonly objects: readonly ListedObject[];
  /** By its id: then it is missing if nothing is there. */
  readonly isAskedFor: boolean;
}

/** What a check depends on. */
export interface CheckDeps {
  readonly store: ArchiveStore;
  /** The age of all objects from which findings are checked again (milliseconds). */
  readonly settleMs: number;
}

/**
 * Reads everything that belongs to a session again, and compares it with the session's manifest.
 *
 * Findings are checked a second time before they are reported, because the session may be being archived.
 *
 * @throws VoicemailError when nothing in the archive can be read; the signal's reason when aborted.
 */
export async function checkSession(
  listed: SessionDirectory,
  { store, settleMs }: CheckDeps,
  signal: AbortSignal,
): Promise<CheckOutcome> {
  const first = await checkOnce(listed, store, signal);
  if (first.findings.length === 0) return first;
  const relist = async () => ({ ...listed, objects: await listAll(listed.directory, store, signal) });
  const now = await relist();
  const waited = await waitUntilSettled(now.objects, settleMs, signal);
  return checkOnce(waited ? await relist() : now, store, signal);
}

/** All objects of a session's directory. An unreadable one is noticed when it is read. */
export async function listAll(
  directory: string,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<ListedObject[]> {
  const objects: ListedObject[] = [];
  const options = { onUnreadable: () => undefined, withOthers: true };
  for await (const object of store.list(directory, signal, options)) {
    if (!isFolderMark(object)) objects.push(object);
  }
  return objects;
}

async function checkOnce(
  { directory, session, objects, isAskedFor }: SessionDirectory,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<CheckOutcome> {
  // It was removed since it was listed.
  if (objects.length === 0 && !isAskedFor) return NO_OUTCOME;
  const notes = new SessionNotes(session, store);
  const key = `${directory}${MANIFEST_NAME}`;
  const isListed = objects.some((object) => object.key === key);
  const others = objects.filter((object) => object.key !== key);
  if (directory !== sessionPrefix(session)) {
    if (isListed)
      notes.add(
        'changed',
        key,
        'it lies in the directory of another date',
        false,
        placeOf(key, session, store),
      );
    notes.orphans(others, 'it lies in the directory of another date than its session began at', false);
    return notes.outcome();
  }
  const tombstone = objects.find((object) => isTombstoneName(object.key.slice(directory.length)));
  if (tombstone) {
    await checkErased(tombstone, objects, { session, store, notes, signal });
    return notes.outcome();
  }
  const bytes = await readManifest(key, isListed || isAskedFor, store, signal);
  if (isUnreadable(bytes)) {
    notes.unreadable(key, bytes.error);
    return notes.outcome();
  }
  if (bytes === undefined && objects.some((object) => object.key === directory + PARTIAL_MANIFEST_NAME)) {
    await checkPartial(directory, others, { session, store, notes, signal });
    return notes.outcome();
  }
  if (bytes === undefined) {
    if (isAskedFor) notes.add('missing', key, 'the session is not archived', true);
    notes.orphans(
      others,
      'there is no manifest: it was deleted, or the session is still being archived',
      true,
    );
    return notes.outcome();
  }
  notes.read(bytes.length);
  const manifest = readable(() => parseManifest(bytes, store.fullKey(key)), key, notes);
  if (!manifest) return notes.outcome();
  const named = await compareWith(manifest, key, directory, { session, store, notes, signal });
  notes.orphans(
    others.filter((object) => !named.has(object.key)),
    'its manifest does not name it',
    false,
  );
  return notes.outcome();
}

/** A session that was erased: nothing but the record of that may be there, and it has to say that it is done. */
async function checkErased(
  tombstone: ListedObject,
  objects: readonly ListedObject[],
  { session, store, notes, signal }: Check,
): Promise<void> {
  const erasure = await readWithRetries(store, () => readTombstone(session, store, signal), signal);
  if (isUnreadable(erasure)) {
    notes.add('unreadable', tombstone.key, erasure.error.message, false);
  } else if (erasure) {
    notes.read(tombstone.bytes);
    if (erasure.state === 'erasing') {
      notes.add(
        'changed',
        tombstone.key,
        'the erasure of the session was not completed: erase it again',
        false,
      );
    }
  }
  for (const { key, bytes } of objects) {
    if (key === tombstone.key) continue;
    notes.add('orphaned', key, 'its session was erased: erase it again', false, { found: { bytes } });
  }
}

/** What `parse` returns. A document that can't be read may name any object, so none is called orphaned then. */
function readable<Document>(parse: () => Document, key: string, notes: SessionNotes): Document | undefined {
  try {
    return parse();
  } catch (error) {
    if (!isVoicemailError(error)) throw error;
    notes.unreadable(key, error);
    return undefined;
  }
}

/** A session with some of its recordings: those must be unchanged, and the others are reported. */
async function checkPartial(
  directory: string,
  objects: readonly ListedObject[],
  check: Check,
): Promise<void> {
  const { store, notes, signal } = check;
  const key = directory + PARTIAL_MANIFEST_NAME;
  const bytes = await readManifest(key, true, store, signal);
  if (isUnreadable(bytes)) {
    notes.unreadable(key, bytes.error);
    return;
  }
  // It was removed since it was listed.
  if (bytes === undefined) return;
  notes.read(bytes.length);
  const partial = readable(() => parsePartialManifest(bytes, store.fullKey(key)), key, notes);
  if (!partial) return;
  notes.add('partial', key, sayMissing(partial), true);
  const named = await compareWith(partial, key, directory, check);
  notes.orphans(
    objects.filter((object) => !named.has(object.key)),
    'its partial manifest does not name it',
    false,
  );
}

/** More of them are counted. */
const MAX_NAMED = 5;

function sayMissing({ missing }: PartialManifest): string {
  const named = missing
    .slice(0, MAX_NAMED)
    .map(({ fileName, code }) => `${fileName || 'one without a name'} (${code})`);
  const more = missing.length > named.length ? `, and ${missing.length - named.length} more` : '';
  return `not all of its recordings are saved: ${named.join(', ')}${more}`;
}

async function readManifest(
  key: string,
  mayBeThere: boolean,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<Buffer | undefined | Unreadable> {
  return mayBeThere ? readWithRetries(store, () => store.read(key, signal), signal) : undefined;
}

function placeOf(key: string, session: SessionRef, store: ArchiveStore) {
  return { expected: { key: store.fullKey(manifestKey(session)) }, found: { key: store.fullKey(key) } };
}

interface Check {
  readonly session: SessionRef;
  readonly store: ArchiveStore;
  readonly notes: SessionNotes;
  readonly signal: AbortSignal;
}

/**
 * Checks what a manifest says, and every object that it names.
 *
 * @param own where the manifest lies.
 * @returns the relative keys of those objects.
 */
async function compareWith(
  manifest: Manifest,
  own: string,
  directory: string,
  { session, store, notes, signal }: Check,
): Promise<ReadonlySet<string>> {
  if (manifest.sessionId !== session.sessionId || manifest.botId !== session.botId) {
    const { sessionId, botId } = manifest;
    notes.add('changed', own, `it is of session ${sessionId} of bot ${botId}`, true, {
      expected: { sessionId: session.sessionId, botId: session.botId },
      found: { sessionId, botId },
    });
  }
  const named = new Set<string>();
  const compare = async (fullKey: string, promised: ExpectedObject) => {
    const key = keyWithin(directory, fullKey, store);
    if (key === undefined) {
      notes.add('changed', own, `it names an object outside of its own directory: ${fullKey}`, true, {
        expected: { key: fullKeyOf(store, directory) },
        found: { key: fullKey },
      });
      return;
    }
    named.add(key);
    const comparison = await checkObject(key, promised, store, signal);
    notes.compared(key, promised, comparison);
  };
  const keys = new Set(manifest.recordings.map(({ key }) => key));
  for (const { key, bytes, sha256, audio, integrity, supersededBy } of manifest.recordings) {
    if (integrity?.state === 'suspect' && supersededBy === undefined) notes.suspect();
    if (supersededBy !== undefined && !keys.has(supersededBy)) {
      notes.add('changed', own, `it does not name what takes the place of ${key}`, true, {
        expected: { key: supersededBy },
      });
    }
    await compare(key, { bytes, sha256, ...(audio && { container: audio.container }) });
  }
  const { state, key, bytes, sha256 } = manifest.transcript;
  if (state !== 'archived') return named;
  if (key === undefined || bytes === undefined || sha256 === undefined) {
    notes.add(
      'changed',
      own,
      'it says that the transcript is archived, but not where or with what size and hash',
      true,
    );
  } else {
    await compare(key, { bytes, sha256 });
  }
  return named;
}

/** The relative key of what a manifest names; `undefined` unless it lies right in the manifest's own directory. */
function keyWithin(directory: string, fullKey: string, store: ArchiveStore): string | undefined {
  const own = fullKeyOf(store, directory);
  if (!fullKey.startsWith(own)) return undefined;
  const name = fullKey.slice(own.length);
  const isPlain = !/^\.{0,2}$|[/\\\p{Cc}]/u.test(name);
  return isPlain && name !== MANIFEST_NAME ? directory + name : undefined;
}

/** What is collected while one session is checked. */
class SessionNotes {
  readonly #session: SessionRef;
  readonly #store: ArchiveStore;
  readonly #findings: Finding[] = [];
  #objects = 0;
  #bytes = 0;
  #suspect = 0;

  constructor(session: SessionRef, store: ArchiveStore) {
    this.#session = session;
    this.#store = store;
  }

  /** Notes a finding. @param key relative. */
  add(
    kind: FindingKind,
    key: string,
    what: string,
    repairable: boolean,
    facts: { readonly expected?: Facts; readonly found?: Facts } = {},
  ): void {
    const { sessionId, botId } = this.#session;
    this.#findings.push({
      kind,
      key: fullKeyOf(this.#store, key),
      sessionId,
      botId,
      what,
      ...facts,
      repairable,
    });
  }

  /** Notes a recording that was in doubt when it was archived. */
  suspect(): void {
    this.#suspect += 1;
  }

  /** Notes that an object was read. */
  read(bytes: number): void {
    this.#objects += 1;
    this.#bytes += bytes;
  }

  /** Notes what can't be read. What is denied is fixed by a right or by restoring it, not by archiving it again. */
  unreadable(key: string, error: VoicemailError): void {
    this.add('unreadable', key, error.message, error.code !== 'ARCHIVE_DENIED');
  }

  /** Notes how an object compares with its manifest. */
  compared(key: string, { bytes, sha256 }: ExpectedObject, comparison: Comparison): void {
    switch (comparison.kind) {
      case 'same':
        this.read(comparison.bytes);
        break;
      case 'missing':
        this.add('missing', key, 'its manifest names it', true, { expected: { bytes, sha256 } });
        break;
      case 'changed': {
        const { what, expected, found } = comparison;
        this.read(comparison.bytes);
        this.add('changed', key, what, true, { expected, found });
        break;
      }
      case 'unreadable':
        this.unreadable(key, comparison.error);
        break;
    }
  }

  /** Notes objects that no manifest names. Documents about a session are named by none. */
  orphans(objects: readonly ListedObject[], what: string, repairable: boolean): void {
    const others = objects.filter(({ key }) => !isCompanionName(key.slice(key.lastIndexOf('/') + 1)));
    for (const { key, bytes } of others) this.add('orphaned', key, what, repairable, { found: { bytes } });
  }

  /** What it all came to. */
  outcome(): CheckOutcome {
    return {
      sessions: 1,
      objects: this.#objects,
      bytes: this.#bytes,
      suspect: this.#suspect,
      findings: this.#findings,
    };
  }
}
