/** Finding what changed in the archive since the last digest. */

import { isTombstoneName, MANIFEST_NAME, readBotDirectory, readSessionKey } from '../storage/layout.ts';
import type { ArchiveStore, ListedObject } from '../storage/store.ts';

/** A session of which something was written. */
export interface Change {
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
export async function* findChanges(
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
