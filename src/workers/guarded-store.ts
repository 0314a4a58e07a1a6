import type { ArchiveStore } from '../storage/store.ts';

/**
 * The same store, but nothing is written before `before` has resolved, and single requests are made within `around`.
 *
 * @param before gets the key; throws when nothing may be written there.
 */
export function guardStore(
  store: ArchiveStore,
  before: (key: string) => Promise<void>,
  around: <T>(request: () => Promise<T>) => Promise<T>,
): ArchiveStore {
  return {
    location: store.location,
    versions: store.versions,
    fullKey: (key) => store.fullKey(key),
    read: (...args) => around(() => store.read(...args)),
    readVersion: (...args) => around(() => store.readVersion(...args)),
    head: (...args) => around(() => store.head(...args)),
    scan: (...args) => store.scan(...args),
    open: (...args) => store.open(...args),
    list: (...args) => store.list(...args),
    listDirectory: (...args) => store.listDirectory(...args),
    async write(...args) {
      await before(args[0]);
      return around(() => store.write(...args));
    },
    async writeStream(...args) {
      await before(args[0]);
      return store.writeStream(...args);
    },
    transferMemory: (expectedBytes) => store.transferMemory(expectedBytes),
    check: (signal) => store.check(signal),
    close: () => store.close(),
  };
}
