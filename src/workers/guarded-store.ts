import type { ArchiveStore } from '../storage/store.ts';

/**
 * The same store, but documents are written only after `before` has resolved, and within `around`.
 *
 * @param before throws when nothing may be written.
 */
export function guardWrites(
  store: ArchiveStore,
  before: () => Promise<void>,
  around: <T>(write: () => Promise<T>) => Promise<T>,
): ArchiveStore {
  return {
    location: store.location,
    fullKey: (key) => store.fullKey(key),
    read: (...args) => store.read(...args),
    readVersion: (...args) => store.readVersion(...args),
    head: (...args) => store.head(...args),
    scan: (...args) => store.scan(...args),
    open: (...args) => store.open(...args),
    list: (...args) => store.list(...args),
    listDirectory: (...args) => store.listDirectory(...args),
    async write(...args) {
      await before();
      return around(() => store.write(...args));
    },
    async writeStream(...args) {
      await before();
      return store.writeStream(...args);
    },
    transferMemory: (expectedBytes) => store.transferMemory(expectedBytes),
    check: (signal) => store.check(signal),
    close: () => store.close(),
  };
}
