/** Reading and writing single files. */

import { createHash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
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
