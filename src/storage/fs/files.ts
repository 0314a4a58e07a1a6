/** Reading and writing single files. */

import { createHash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { type ErrorCode, systemCode, VoicemailError } from '../../domain/errors.ts';
import { isNotThere } from './directories.ts';

/** A file is scanned in pieces of such sizes; the smallest one finds its end. */
const MIN_SCAN_BYTES = 512;
const MAX_SCAN_BYTES = 256 * 1024;

/** Never waits for the other end of a pipe. */
const READ_FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

/** Opens a file for reading, or a directory, which then can't be read; `undefined` when nothing is there. */
export async function openIfThere(path: string): Promise<FileHandle | undefined> {
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

/** What is there, symbolic links as such; `undefined` when nothing is. */
export async function statIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (isNotThere(error)) return undefined;
    throw error;
  }
}

/** Writes a whole chunk: a single `write` may take less than it is given. */
export async function writeFully(handle: FileHandle, chunk: Buffer): Promise<void> {
  for (let offset = 0; offset < chunk.length; ) {
    const { bytesWritten } = await handle.write(chunk, offset);
    offset += bytesWritten;
  }
}

/** Reads to the end in pieces of their own, no larger than what there is to read. */
export async function scanFile(
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

/** Lowercase hex of what a file holds. */
export async function sha256OfFile(handle: FileHandle): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of handle.createReadStream({ autoClose: false })) hash.update(chunk);
  return hash.digest('hex');
}

interface Meaning {
  readonly code: ErrorCode;
  readonly words: string;
  /** What to do. */
  readonly hint: string;
}

const DENIED = {
  words: 'this program may not read or write there',
  hint: 'give its user the rights to the directory of ARCHIVE_URL',
};
const NO_DIRECTORY = {
  words: 'a file is where a directory belongs',
  hint: 'rename it, or move it out of the archive',
};
const FULL = {
  words: 'the disk is full',
  hint: 'free some space, or name another directory in ARCHIVE_URL',
};
const TOO_MANY_FILES = {
  words: 'too many files are open',
  hint: 'raise the limit (ulimit -n)',
};

const MEANINGS: Readonly<Record<string, Meaning>> = {
  EACCES: { code: 'ARCHIVE_DENIED', ...DENIED },
  EPERM: { code: 'ARCHIVE_DENIED', ...DENIED },
  EROFS: {
    code: 'ARCHIVE_DENIED',
    words: 'the file system is read-only',
    hint: 'mount it writable, or name another directory in ARCHIVE_URL',
  },
  ENOTDIR: { code: 'ARCHIVE_DENIED', ...NO_DIRECTORY },
  EEXIST: { code: 'ARCHIVE_DENIED', ...NO_DIRECTORY }, // what mkdir says of it
  EISDIR: {
    code: 'ARCHIVE_DENIED',
    words: 'a directory is where a file belongs',
    hint: 'rename it, or move it out of the archive',
  },
  ELOOP: {
    code: 'ARCHIVE_DENIED',
    words: 'a symbolic link is where a file belongs',
    hint: 'rename it, or move it out of the archive',
  },
  ENXIO: {
    code: 'ARCHIVE_DENIED',
    words: 'a pipe, socket or device is where a file belongs',
    hint: 'rename it, or move it out of the archive',
  },
  ENAMETOOLONG: {
    code: 'ARCHIVE_DENIED',
    words: 'the path is too long for this file system',
    hint: 'name a directory with a shorter path in ARCHIVE_URL',
  },
  ENOSPC: { code: 'ARCHIVE_UNAVAILABLE', ...FULL },
  EDQUOT: { code: 'ARCHIVE_UNAVAILABLE', ...FULL },
  EMFILE: { code: 'ARCHIVE_UNAVAILABLE', ...TOO_MANY_FILES },
  ENFILE: { code: 'ARCHIVE_UNAVAILABLE', ...TOO_MANY_FILES },
};

/**
 * Turns a file system's error into a VoicemailError, in words. A VoicemailError, or an error that is no file system's
 * error, is returned as it is.
 */
export function toArchiveFileError(error: unknown, location: string): unknown {
  const system = systemCode(error);
  if (error instanceof VoicemailError || system === undefined) return error;
  const { code, words, hint } = MEANINGS[system] ?? {
    code: 'ARCHIVE_UNAVAILABLE',
    words: 'the disk reports a fault',
    hint: "check the system's log",
  };
  return new VoicemailError(code, `${location}: ${words} (${system})`, { cause: error, hint });
}
