/** An archive in a directory: every file appears under its final name whole, synced and in one step. */

import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { access, type FileHandle, rename } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { VoicemailError } from '../../domain/errors.ts';
import { directoryTransferMemory } from '../../domain/transfer-memory.ts';
import { type BodyReader, openBody } from '../body.ts';
import { assertKey, assertPrefix, assertReadable, DEFAULT_MAX_READ_BYTES } from '../keys.ts';
import {
  type ArchiveStore,
  guarded,
  type ListedObject,
  type ListingOptions,
  type ObjectVersion,
  type OverVersion,
  type StoredVersions,
  type StreamedBody,
  type Translate,
  type WriteMode,
  type WriteOutcome,
} from '../store.ts';
import { type HeldDirectory, holdWithin, makeDirectories, makeWithin, syncDirectory } from './directories.ts';
import { openIfThere, scanFile, sha256OfFile, statIfThere, toArchiveFileError, writeFully } from './files.ts';
import { DirectoryReader, isBefore } from './listing.ts';
import { withLock } from './lock.ts';
import { publishIfAbsent } from './publish.ts';
import { createTemporaryFile, removeLeftovers, unlinkIfThere } from './temporary-files.ts';

/** How often a process that keeps running looks for what others left. */
const SWEEP_INTERVAL_MS = 5 * 60 * 1000;

/** What was written: its size, and its hash should it have to be compared. */
interface Content {
  readonly bytes: number;
  sha256(): string;
}

/**
 * Opens an archive in a directory, which is created when first needed. Any number of processes may write to
 * it at once.
 *
 * @example
 * const store = createDirectoryStore('./data/archive');
 */
export function createDirectoryStore(directory: string): ArchiveStore {
  const root = resolve(directory);
  const location = `file:${root}`;
  const translate = (error: unknown) => toArchiveFileError(error, location);
  let swept: { readonly at: number; readonly done: Promise<void> } | undefined;

  /** First and every few minutes: makes the directory and clears what killed processes left in it. */
  async function ready(): Promise<void> {
    const now = Date.now();
    if (!swept || now - swept.at > SWEEP_INTERVAL_MS) {
      swept = { at: now, done: makeDirectories(root).then(() => removeLeftovers(root, now)) };
    }
    const current = swept;
    try {
      await current.done;
    } catch (error) {
      if (swept === current) swept = undefined;
      throw error;
    }
  }

  /** Calls `use` with the path of a key, which is good until then; `undefined` when its directory is not there. */
  async function atPath<Result>(
    key: string,
    use: (path: string, directory: HeldDirectory) => Promise<Result>,
  ): Promise<Result | undefined> {
    assertKey(key);
    const path = join(root, ...key.split('/'));
    const held = await holdWithin(root, dirname(path));
    if (!held) return undefined;
    await using directory = held;
    return await use(directory.entry(basename(path)), directory);
  }

  async function store(
    key: string,
    mode: WriteMode | OverVersion,
    fill: (handle: FileHandle) => Promise<Content>,
    signal: AbortSignal,
  ): Promise<WriteOutcome> {
    await ready();
    // A link that leads out of the archive is reported before the download.
    await atPath(key, async () => undefined);
    const temporary = await createTemporaryFile(root);
    try {
      let content: Content;
      try {
        content = await fill(temporary.handle);
        await temporary.handle.sync();
      } finally {
        await temporary.handle.close();
      }
      signal.throwIfAborted();
      const path = join(root, ...key.split('/'));
      await using parent = await makeWithin(root, dirname(path));
      const outcome = await publish(temporary.path, parent.entry(basename(path)), key, mode, content, signal);
      await parent.confirm();
      if (outcome === 'stored') await syncDirectory(parent);
      return outcome;
    } finally {
      await temporary.remove();
    }
  }

  /** Gives a finished file its name, as its mode says. */
  async function publish(
    temporary: string,
    final: string,
    key: string,
    mode: WriteMode | OverVersion,
    content: Content,
    signal: AbortSignal,
  ): Promise<WriteOutcome> {
    if (mode === 'absent') {
      if (await publishIfAbsent(temporary, final, { root, key, signal })) return 'stored';
      await assertSameFile(final, key, content);
      return 'exists';
    }
    // The lock keeps a replacement from coming between the comparison and the rename of another one.
    const replaced = await withLock(root, key, signal, async () => {
      if (mode !== 'replace' && !(await isVersion(final, mode.over))) return false;
      await rename(temporary, final);
      return true;
    });
    return replaced ? 'stored' : settleOver(final, key, content);
  }

  async function* list(
    prefix: string,
    signal: AbortSignal,
    { after, onUnreadable, withOthers = false }: ListingOptions = {},
  ): AsyncGenerator<ListedObject> {
    assertPrefix(prefix);
    await using reader = new DirectoryReader(root);
    // The entries that are still to be read, the next one last.
    const pending = [prefix];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const key = next;
      if (after !== undefined && isBefore(key, after)) continue;
      const found = await guarded(translate, signal, () => reader.look(key)).catch((error: unknown) => {
        if (signal.aborted || !onUnreadable) throw error;
        onUnreadable(key, error);
      });
      if (found === undefined) continue;
      if ('key' in found) {
        if (withOthers || !found.isOther) yield found;
      } else for (const name of found.names.toReversed()) pending.push(name);
    }
  }

  return {
    location,
    versions: createDirectoryVersions({ list, within: atPath, translate }),
    fullKey(key) {
      assertKey(key);
      return key;
    },
    async read(key, signal, maxBytes = DEFAULT_MAX_READ_BYTES) {
      return guarded(translate, signal, async () => {
        const handle = await atPath(key, openIfThere);
        if (!handle) return undefined;
        await using _closed = handle;
        assertReadable(key, (await handle.stat()).size, maxBytes);
        return await handle.readFile({ signal });
      });
    },
    async readVersion(key, signal, maxBytes) {
      const bytes = await this.read(key, signal, maxBytes);
      return bytes && { bytes, version: versionOf(bytes) };
    },
    async head(key, signal) {
      return guarded(translate, signal, async () => {
        const found = await atPath(key, statIfThere);
        return found?.isFile() ? { bytes: found.size } : undefined;
      });
    },
    async open(key, range, signal) {
      return guarded(translate, signal, async () => {
        const handle = await atPath(key, openIfThere);
        if (!handle) return undefined;
        const { size } = await handle.stat();
        return { bytes: size, body: handle.createReadStream({ ...range, signal }) };
      });
    },
    async scan(key, onChunk, signal) {
      return guarded(translate, signal, async () => {
        const handle = await atPath(key, openIfThere);
        if (!handle) return false;
        await using _closed = handle;
        await scanFile(handle, onChunk, signal);
        return true;
      });
    },
    list,
    async names(directory, signal) {
      const names = new Set<string>();
      for await (const { key } of list(directory, signal)) names.add(key.slice(directory.length));
      return names;
    },
    async *listDirectory(prefix, signal) {
      assertPrefix(prefix);
      await using reader = new DirectoryReader(root);
      for (const name of await guarded(translate, signal, () => reader.names(prefix))) {
        if (name.endsWith('/')) {
          yield { directory: name };
          continue;
        }
        const found = await guarded(translate, signal, () => reader.file(name));
        if (found) yield found;
      }
    },
    async write(key, body, _info, mode, signal) {
      return guarded(translate, signal, () =>
        store(
          key,
          mode,
          async (handle) => {
            await writeFully(handle, body);
            return { bytes: body.length, sha256: () => createHash('sha256').update(body).digest('hex') };
          },
          signal,
        ),
      );
    },
    async writeStream(key, body, _info, mode, signal) {
      const source = openBody(body.chunks, signal);
      return guarded(
        translate,
        signal,
        async () => {
          try {
            return await store(key, mode, (handle) => writeAll(handle, source, body), signal);
          } finally {
            await source.close();
          }
        },
        source,
      );
    },
    transferMemory: directoryTransferMemory,
    isInParts: () => false,
    async check(signal) {
      await guarded(translate, signal, async () => {
        await ready();
        await access(root, constants.R_OK | constants.W_OK | constants.X_OK);
      });
    },
    async close() {
      // Nothing is held between calls: each write has removed what it needed on the way.
    },
  };
}

async function writeAll(handle: FileHandle, source: BodyReader, body: StreamedBody): Promise<Content> {
  let bytes = 0;
  for (let chunk = await source.next(); chunk; chunk = await source.next()) {
    await writeFully(handle, chunk);
    bytes += chunk.length;
  }
  return { bytes, sha256: () => body.sha256() };
}

/** @throws VoicemailError `ARCHIVE_CONFLICT` unless the file at `path` holds these very bytes. */
async function assertSameFile(path: string, key: string, content: Content): Promise<void> {
  const handle = await openIfThere(path);
  if (!handle) {
    throw new VoicemailError('ARCHIVE_UNAVAILABLE', `${key} was there and has gone while it was read`);
  }
  await using _closed = handle;
  const same =
    (await handle.stat()).size === content.bytes && (await sha256OfFile(handle)) === content.sha256();
  if (!same) {
    throw new VoicemailError('ARCHIVE_CONFLICT', `another file is already at ${key}; it was left as it is`);
  }
}

/** Files have no ETag: their bytes identify a version. */
function versionOf(bytes: Buffer): ObjectVersion {
  return createHash('sha256').update(bytes).digest('hex');
}

async function isVersion(path: string, version: ObjectVersion): Promise<boolean> {
  const handle = await openIfThere(path);
  if (!handle) return false;
  await using _closed = handle;
  return (await sha256OfFile(handle)) === version;
}

/** Ends a write that did not find the version it was to replace. */
async function settleOver(path: string, key: string, content: Content): Promise<WriteOutcome> {
  if (await isVersion(path, content.sha256())) return 'exists';
  throw new VoicemailError('ARCHIVE_CONFLICT', `${key} was changed since it was read; it was left as it is`);
}

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
function createDirectoryVersions(options: DirectoryVersionsOptions): StoredVersions {
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
