/** Bodies to write: bytes that can be made again, streamed as a transfer streams them. */

import { createHash } from 'node:crypto';
import type { StreamedBody } from '../../src/storage/store.ts';

/** Bytes that look random and are the same for the same seed. */
export function bytesOf(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = seed >>> 0 || 1;
  for (let index = 0; index < length; index += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[index] = state >>> 24;
  }
  return bytes;
}

/** A body whose reading can be watched. */
export interface TestBody extends StreamedBody {
  /** How many bytes have been asked for so far. */
  readonly given: number;
  /** Whether the iterator has ended or was closed. */
  readonly closed: boolean;
}

/** How a test body behaves. */
export interface BodyOptions {
  readonly chunkBytes?: number;
  readonly expectedBytes?: number;
  /** Called before each chunk with the count of bytes given so far; may throw or wait. */
  readonly beforeChunk?: (given: number) => void | Promise<void>;
}

/** Streams `bytes` in chunks. */
export function bodyOf(
  bytes: Buffer,
  { chunkBytes = 64 * 1024, expectedBytes, beforeChunk }: BodyOptions = {},
): TestBody {
  const hash = createHash('sha256');
  let given = 0;
  let closed = false;
  async function* chunks(): AsyncGenerator<Buffer> {
    try {
      while (given < bytes.length) {
        await beforeChunk?.(given);
        const chunk = Buffer.from(bytes.subarray(given, given + chunkBytes));
        hash.update(chunk);
        given += chunk.length;
        yield chunk;
      }
      await beforeChunk?.(given);
    } finally {
      closed = true;
    }
  }
  return {
    chunks: chunks(),
    sha256: () => hash.digest('hex'),
    ...(expectedBytes !== undefined && { expectedBytes }),
    get given() {
      return given;
    },
    get closed() {
      return closed;
    },
  };
}

/** SHA-256 in lowercase hex. */
export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
