/** An archive in a directory: every file appears under its final name whole, synced and in one step. */

import { createHash } from 'node:crypto';
import { constants, type Dirent, type Stats } from 'node:fs';
import { access, type FileHandle, lstat, open, readdir, realpath, rename } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import { systemCode, VoicemailError } from '../../domain/errors.ts';
import { directoryTransferMemory } from '../../domain/transfer-memory.ts';
import { type BodyReader, openBody } from '../body.ts';
import {
  assertKey,
  assertPrefix,
  assertReadable,
  compareKeys,
  DEFAULT_MAX_READ_BYTES,
  TEMPORARY_SEGMENT,
} from '../keys.ts';
import {
  type ArchiveStore,
  guarded,
  type ListedObject,
  type ObjectVersion,
  type OverVersion,
  type StreamedBody,
  type WriteMode,
  type WriteOutcome,
} from '../store.ts';
import { makeDirectories } from './directories.ts';
import { toArchiveFileError } from './errors.ts';
import { withLock } from './lock.ts';
import { directoriesUpTo, publishIfAbsent, syncDirectory } from './publish.ts';
import { createTemporaryFile, removeLeftovers, removeTemporaryFile } from './temporary-files.ts';

/** How often a process that keeps running looks for what others left. */
const SWEEP_INTERVAL_MS = 5 * 60 * 1000;

/** A file is scanned in pieces of such sizes; the smallest one finds its end. */
const MIN_SCAN_BYTES = 512;
const MAX_SCAN_BYTES = 256 * 1024;

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

  /** The path of a key, after a look that no symbolic link leads it out of the archive. */
  async function pathOf(key: string): Promise<string> {
    assertKey(key);
    const path = join(root, ...key.split('/'));
    const [real, realRoot] = await Promise.all([nearestRealPath(dirname(path)), nearestRealPath(root)]);
    if (real !== realRoot && !real.startsWith(realRoot.endsWith(sep) ? realRoot : realRoot + sep)) {
      throw new VoicemailError('ARCHIVE_DENIED', `${location}: a symbolic link leads out of the archive`, {
        hint: 'remove the link',
      });
    }
    return path;
  }

  async function store(
    key: string,
    mode: WriteMode | OverVersion,
    fill: (handle: FileHandle) => Promise<Content>,
    signal: AbortSignal,
  ): Promise<WriteOutcome> {
    await ready();
    const final = await pathOf(key);
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
      const parent = dirname(final);
      const firstMade = await makeDirectories(parent);
      if (mode === 'absent') {
        if (!(await publishIfAbsent(temporary.path, final, { root, signal }))) {
          await assertSameFile(final, key, content);
          return 'exists';
        }
      } else {
        // The lock keeps a replacement from coming between the comparison and the rename of another one.
        const replaced = await withLock(root, key, signal, async () => {
          if (mode !== 'replace' && !(await isVersion(final, mode.over))) return false;
          await rename(temporary.path, final);
          return true;
        });
        if (!replaced) return await settleOver(final, key, content);
      }
      // A new directory is a name in the one above it, which has to be kept as well.
      for (const changed of directoriesUpTo(parent, firstMade ? dirname(firstMade) : parent)) {
        await syncDirectory(changed);
      }
      return 'stored';
    } finally {
      await removeTemporaryFile(root, temporary.path);
    }
  }

  /** What a listing comes upon at a key: a file, what lies in a directory, or by now nothing. */
  async function look(key: string): Promise<ListedObject | { names: string[] } | undefined> {
    const isDirectory = key === '' || key.endsWith('/');
    return isDirectory ? { names: await readNames(root, key) } : findFile(root, key);
  }

  return {
    location,
    fullKey(key) {
      assertKey(key);
      return key;
    },
    async read(key, signal, maxBytes = DEFAULT_MAX_READ_BYTES) {
      return guarded(translate, signal, async () => {
        const handle = await openIfThere(await pathOf(key));
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
        const found = await statIfThere(await pathOf(key));
        return found?.isFile() ? { bytes: found.size } : undefined;
      });
    },
    async scan(key, onChunk, signal) {
      return guarded(translate, signal, async () => {
        const handle = await openIfThere(await pathOf(key));
        if (!handle) return false;
        await using _closed = handle;
        await scanFile(handle, onChunk, signal);
        return true;
      });
    },
    async *list(prefix, signal, { after, onUnreadable, withOthers = false } = {}) {
      assertPrefix(prefix);
      // What is still to be looked at, the next one last.
      const pending = [prefix];
      for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
        const key = next;
        if (after !== undefined && isBefore(key, after)) continue;
        const found = await guarded(translate, signal, () => look(key)).catch((error: unknown) => {
          if (signal.aborted || !onUnreadable) throw error;
          onUnreadable(key, error);
        });
        if (found === undefined) continue;
        if ('key' in found) {
          if (withOthers || !found.isOther) yield found;
        } else for (const name of found.names.reverse()) pending.push(name);
      }
    },
    async *listDirectory(prefix, signal) {
      assertPrefix(prefix);
      for (const name of await guarded(translate, signal, () => readNames(root, prefix))) {
        if (name.endsWith('/')) {
          yield { directory: name };
          continue;
        }
        const found = await guarded(translate, signal, () => findFile(root, name));
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

/** A single `write` may take less than it is given. */
async function writeFully(handle: FileHandle, chunk: Buffer): Promise<void> {
  for (let offset = 0; offset < chunk.length; ) {
    const { bytesWritten } = await handle.write(chunk, offset);
    offset += bytesWritten;
  }
}

/** Never waits for the other end of a pipe. */
const READ_FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    const handle = await open(path, READ_FLAGS);
    const found = await handle.stat();
    if (found.isFile() || found.isDirectory()) return handle; // reading a directory fails by itself
    await handle.close();
    throw Object.assign(new Error('a pipe or a device'), { code: 'ENXIO' }); // what a socket says
  } catch (error) {
    if (isNotThere(error)) return undefined;
    throw error;
  }
}

/** Reads to the end in pieces of their own, no larger than what there is to read. */
async function scanFile(
  handle: FileHandle,
  onChunk: (chunk: Buffer) => void,
  signal: AbortSignal,
): Promise<void> {
  const { size } = await handle.stat();
  for (let at = 0; ; ) {
    const piece = Buffer.allocUnsafe(Math.min(Math.max(size - at, MIN_SCAN_BYTES), MAX_SCAN_BYTES));
    const { bytesRead } = await handle.read(piece, 0, piece.length, at);
    signal.throwIfAborted();
    if (bytesRead === 0) return;
    onChunk(piece.subarray(0, bytesRead));
    at += bytesRead;
  }
}

async function statIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (isNotThere(error)) return undefined;
    throw error;
  }
}

/**
 * The keys of what is in a directory, in the order of keys; those of directories with a `/` at their ends. Symbolic
 * links are no directories.
 * @param prefix the directory's own key, with a `/` at its end; empty for the archive's own.
 */
async function readNames(root: string, prefix: string): Promise<string[]> {
  const names: string[] = [];
  for (const entry of await entriesIfThere(join(root, ...prefix.split('/')))) {
    const key = prefix + entry.name;
    if (key === TEMPORARY_SEGMENT && entry.isDirectory()) continue;
    names.push(entry.isDirectory() && !isGarbled(key) ? `${key}/` : key);
  }
  return names.sort(compareKeys);
}

/** What is no directory, as listings show it. */
async function findFile(root: string, key: string): Promise<ListedObject | undefined> {
  const found = await statIfThere(join(root, ...key.split('/')));
  if (found?.isFile()) return { key, bytes: found.size, modifiedAt: found.mtime };
  if (!found && !isGarbled(key)) return undefined;
  return { key, bytes: 0, modifiedAt: new Date(0), isOther: true };
}

/** Names that are no UTF-8 come with the replacement character in them, and can't be looked up by it. */
function isGarbled(key: string): boolean {
  return key.includes('\uFFFD');
}

/** Whether nothing in this directory, or not this file, comes behind the key `after`. */
function isBefore(key: string, after: string): boolean {
  const holdsAfter = key === '' || (key.endsWith('/') && after.startsWith(key) && after !== key);
  return !holdsAfter && compareKeys(key, after) <= 0;
}

async function entriesIfThere(path: string): Promise<Dirent[]> {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    if (isNotThere(error)) return [];
    throw error;
  }
}

/** The real path of the innermost directory of `path` that exists. */
async function nearestRealPath(path: string): Promise<string> {
  for (let current = path; ; current = dirname(current)) {
    try {
      return await realpath(current);
    } catch (error) {
      if (!isNotThere(error) || dirname(current) === current) throw error;
    }
  }
}

function isNotThere(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '');
}

/** @throws VoicemailError `ARCHIVE_CONFLICT` unless the file at `path` holds these very bytes. */
async function assertSameFile(path: string, key: string, content: Content): Promise<void> {
  const handle = await openIfThere(path);
  if (!handle) {
    throw new VoicemailError('ARCHIVE_UNAVAILABLE', `${key} was there and has gone while it was looked at`);
  }
  await using _closed = handle;
  const same = (await handle.stat()).size === content.bytes && (await sha256Of(handle)) === content.sha256();
  if (!same) {
    throw new VoicemailError('ARCHIVE_CONFLICT', `another file is already at ${key}; it was left as it is`);
  }
}

async function sha256Of(handle: FileHandle): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of handle.createReadStream({ autoClose: false })) hash.update(chunk);
  return hash.digest('hex');
}

/** Files have no ETag: their bytes tell one version from another. */
function versionOf(bytes: Buffer): ObjectVersion {
  return createHash('sha256').update(bytes).digest('hex');
}

async function isVersion(path: string, version: ObjectVersion): Promise<boolean> {
  const handle = await openIfThere(path);
  if (!handle) return false;
  await using _closed = handle;
  return (await sha256Of(handle)) === version;
}

/** Ends a write that did not find the version it was to replace. */
async function settleOver(path: string, key: string, content: Content): Promise<WriteOutcome> {
  if (await isVersion(path, content.sha256())) return 'exists';
  throw new VoicemailError('ARCHIVE_CONFLICT', `${key} was changed since it was read; it was left as it is`);
}
