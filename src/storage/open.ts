import type { ArchiveTarget } from '../config/config.ts';
import { createDirectoryStore } from './fs/store.ts';
import { createS3Store, type S3StoreOptions } from './s3/store.ts';
import type { ArchiveStore } from './store.ts';

/**
 * Opens the archive that the configuration names. Nothing is reached out for before it is used.
 *
 * @example
 * const store = openStore(config.archive, { maxObjectBytes: config.work.maxRecordingBytes, logger });
 * await store.check(signal);
 */
export function openStore(target: ArchiveTarget, options: S3StoreOptions = {}): ArchiveStore {
  switch (target.kind) {
    case 's3':
      return createS3Store(target, options);
    case 'file':
      return createDirectoryStore(target.directory);
  }
}
