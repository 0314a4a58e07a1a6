/** What work on a session owes to its erasure and to its legal hold, either of which may come at any moment. */

import type { SessionRef } from '../domain/session.ts';
import { isErased, readHold } from '../storage/custody-records.ts';
import { deleteSession, setLegalHolds } from '../storage/erase.ts';
import type { ArchiveStore } from '../storage/store.ts';
import type { Logger } from '../util/log.ts';

/** What {@link unlessErased} works with. */
export interface CustodyDeps {
  readonly store: ArchiveStore;
  readonly log: Logger;
}

/**
 * Works on a session unless it was erased.
 *
 * An erasure writes its record and then deletes what it finds; the record is read before the work, by
 * the caller, and after the last write. So whichever comes later sees the other: what was written after the erasure has
 * looked is deleted here. A hold is met in the same way: it is recorded before the objects that are there are held, and
 * read here after the last write.
 *
 * @param wasErased as of a moment ago.
 * @param work gets the store that it is to write with.
 * @returns what `work` returns; `erased` where nothing of the session is to be left.
 */
export async function unlessErased<Result>(
  session: SessionRef,
  wasErased: boolean,
  { store, log }: CustodyDeps,
  signal: AbortSignal,
  work: (store: ArchiveStore) => Promise<Result>,
): Promise<Result | 'erased'> {
  if (wasErased) return clear(session, { store, log }, signal);
  let hasWritten = false;
  const watched = guardStore(
    store,
    async () => {
      hasWritten = true;
    },
    (request, outer) => request(outer),
  );
  try {
    const result = await work(watched);
    if (!hasWritten) return result;
    return (await settleCustody(session, { store, log }, signal)) ?? result;
  } catch (error) {
    if (signal.aborted || !hasWritten) throw error;
    const settled = await settleCustody(session, { store, log }, signal);
    if (settled !== undefined) return settled;
    throw error;
  }
}

/** After a write: deletes it again where the session was erased meanwhile, and holds it where the session is held. */
async function settleCustody(
  session: SessionRef,
  deps: CustodyDeps,
  signal: AbortSignal,
): Promise<'erased' | undefined> {
  const { store, log } = deps;
  const [wasErased, hold] = await Promise.all([
    isErased(session, store, signal),
    readHold(session, store, signal),
  ]);
  if (wasErased) return clear(session, deps, signal);
  if (!hold) return undefined;
  try {
    await setLegalHolds(session, true, store, signal);
  } catch (error) {
    signal.throwIfAborted();
    // It is archived, and `hold.json` keeps it from being erased; only the bucket's own hold is missing.
    log.error(
      { session: session.sessionId, bot: session.botId, err: error },
      'the legal hold could not be put on new objects of a held session: run "hold set" on it again',
    );
  }
  return undefined;
}

/** Nothing of an erased session may be left, whichever process wrote it. */
async function clear(
  session: SessionRef,
  { store, log }: CustodyDeps,
  signal: AbortSignal,
): Promise<'erased'> {
  const about = { session: session.sessionId, bot: session.botId };
  try {
    const { objects } = await deleteSession(session, store, signal);
    log.info({ ...about, objects }, 'the session was erased: nothing of it is archived');
  } catch (error) {
    signal.throwIfAborted();
    log.error(
      { ...about, err: error },
      'the session was erased, and what was written since could not be deleted: run "erase" on it again',
    );
  }
  return 'erased';
}

/**
 * The same store, but nothing is written before `before` has resolved, and single requests are made within `around`.
 *
 * @param before gets the key; throws when nothing may be written there.
 * @param around runs a request, perhaps more than once, with a signal that is aborted with the given one.
 */
export function guardStore(
  store: ArchiveStore,
  before: (key: string) => Promise<void>,
  around: <T>(request: (signal: AbortSignal) => Promise<T>, signal: AbortSignal) => Promise<T>,
): ArchiveStore {
  return {
    location: store.location,
    versions: store.versions,
    fullKey: (key) => store.fullKey(key),
    read: (key, signal, ...rest) => around((inner) => store.read(key, inner, ...rest), signal),
    readVersion: (key, signal, ...rest) => around((inner) => store.readVersion(key, inner, ...rest), signal),
    head: (key, signal) => around((inner) => store.head(key, inner), signal),
    names: (directory, signal) => around((inner) => store.names(directory, inner), signal),
    scan: (...args) => store.scan(...args),
    open: (...args) => store.open(...args),
    list: (...args) => store.list(...args),
    listDirectory: (...args) => store.listDirectory(...args),
    async write(key, body, info, mode, signal) {
      await before(key);
      return around((inner) => store.write(key, body, info, mode, inner), signal);
    },
    async writeStream(...args) {
      await before(args[0]);
      return store.writeStream(...args);
    },
    transferMemory: (expectedBytes) => store.transferMemory(expectedBytes),
    isInParts: (expectedBytes) => store.isInParts(expectedBytes),
    check: (signal) => store.check(signal),
    close: () => store.close(),
  };
}
