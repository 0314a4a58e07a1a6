import type { ArchiveTarget } from '../config/config.ts';
import type { S3StoreOptions } from './s3/store.ts';
import type { ArchiveStore } from './store.ts';

/**
 * Opens the archive that the configuration names. Nothing is reached out for before it is used, and only the kind of
 * store that is named is loaded: the AWS SDK alone takes 30 MB.
 *
 * @example
 * const store = await openStore(config.archive, { maxObjectBytes: config.work.maxRecordingBytes, logger });
 * await store.check(signal);
 */
export async function openStore(target: ArchiveTarget, options: S3StoreOptions = {}): Promise<ArchiveStore> {
  switch (target.kind) {
    case 's3':
      return (await import('./s3/store.ts')).createS3Store(target, options);
    case 'file':
      return (await import('./fs/store.ts')).createDirectoryStore(target.directory);
  }
}
