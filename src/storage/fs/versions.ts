/** The files of a directory, as the only versions that there are of its objects. Nothing in it is protected. */

import { type ArchiveStore, guarded, type Translate } from '../store.ts';
import type { StoredVersions } from '../versions.ts';
import { type HeldDirectory, syncDirectory } from './directories.ts';
import { unlinkIfThere } from './temporary-files.ts';

/** What {@link createDirectoryVersions} works with. */
export interface DirectoryVersionsOptions {
  readonly list: ArchiveStore['list'];
  /** Calls `use` with the directory of a key and the key's path in it; `undefined` when the directory is not there. */
  readonly within: <Result>(
    key: string,
    use: (path: string, directory: HeldDirectory) => Promise<Result>,
  ) => Promise<Result | undefined>;
  readonly translate: Translate;
}

/** The versions in a directory. */
export function createDirectoryVersions(options: DirectoryVersionsOptions): StoredVersions {
  const { list, within, translate } = options;
  const remove = async (key: string, signal: AbortSignal): Promise<void> => {
    await guarded(translate, signal, () =>
      within(key, async (path, directory) => {
        await unlinkIfThere(path);
        await syncDirectory(directory);
      }),
    );
  };
  return {
    async *list(prefix, signal) {
      // A symbolic link in the place of a recording is removed as well; what it leads to is none of the archive's.
      for await (const { key, bytes } of list(prefix, signal, { withOthers: true })) {
        yield { key, bytes, isDeleteMarker: false };
      }
    },
    protection: async () => 'unsupported',
    delete: ({ key }, signal) => remove(key, signal),
    hide: remove,
    setLegalHold: async () => false,
    // What is being written lies under temporary names, and is removed by its writer or after its end.
    abortUploads: async () => 0,
  };
}
