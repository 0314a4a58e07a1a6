import { isTombstoneName, MANIFEST_NAME, PARTIAL_MANIFEST_NAME, readSessionKey } from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';
import { type SigningKey, signDocument } from './signatures.ts';

/**
 * The same store, but what records a session is signed as it is written: manifests, partial manifests and the notes that
 * a session was erased. So it is whoever writes them, and a new revision never carries the signature of the one before.
 */
export function signingStore(store: ArchiveStore, key: SigningKey): ArchiveStore {
  return {
    ...store,
    write: (at, body, info, mode, signal) =>
      store.write(at, isSigned(at) ? signDocument(body, key) : body, info, mode, signal),
  };
}

function isSigned(key: string): boolean {
  const name = readSessionKey(key)?.name;
  if (name === undefined) return false;
  return name === MANIFEST_NAME || name === PARTIAL_MANIFEST_NAME || isTombstoneName(name);
}
