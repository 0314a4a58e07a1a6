import type { ArchiveStore } from '../storage/store.ts';

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
    check: (signal) => store.check(signal),
    close: () => store.close(),
  };
}
