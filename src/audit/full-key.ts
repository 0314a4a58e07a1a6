import type { ArchiveStore } from '../storage/store.ts';

/** The full key of anything that may lie in an archive, directories and keys that it would never write included. */
export function fullKeyOf(store: ArchiveStore, key: string): string {
  return store.fullKey('-').slice(0, -1) + key;
}
