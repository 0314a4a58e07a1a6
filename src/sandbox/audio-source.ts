import { createHash } from 'node:crypto';

/**
 * A file of any size that is never held as a whole: each part is made when it is asked for, and is the same
 * every time.
 */
export interface AudioSource {
  readonly contentType: string;
  /** The size of the whole file. */
  readonly bytes: number;
  /** The bytes from `start` (inclusive) to `end` (exclusive), cut to what there is. */
  slice(start: number, end: number): Buffer;
}

/** Serves bytes that are there already. */
export function bufferSource(content: Buffer, contentType = 'application/octet-stream'): AudioSource {
  return { contentType, bytes: content.length, slice: (start, end) => content.subarray(start, end) };
}

/** SHA-256 of the whole file in lowercase hex, read a megabyte at a time. */
export function sha256Of(source: AudioSource): string {
  const hash = createHash('sha256');
  const step = 1024 * 1024;
  for (let start = 0; start < source.bytes; start += step) hash.update(source.slice(start, start + step));
  return hash.digest('hex');
}
