/** Memory for bodies that are sent in one piece, used again and again. */

/** Buffers that nobody uses at present. */
export interface BufferPool {
  /** A buffer of that size; what is in it is left from before. */
  take(bytes: number): Buffer;
  /** Gives back a buffer that {@link BufferPool.take} returned. Nobody may read it any more. */
  give(buffer: Buffer): void;
}

/** So that recordings of about the same length share buffers. */
const STEP_BYTES = 64 * 1024;

/**
 * Fresh memory costs more than filling it, as the kernel hands it out page by page: 64 µs for 480 KB. It also stays with
 * the process until the next collection of garbage, since buffers lie outside of the heap.
 *
 * @param maxBytes kept at the most.
 */
export function createBufferPool(maxBytes: number): BufferPool {
  const free: ArrayBufferLike[] = [];
  let keptBytes = 0;
  return {
    take(bytes) {
      const size = Math.max(1, Math.ceil(bytes / STEP_BYTES)) * STEP_BYTES;
      const index = free.findIndex(({ byteLength }) => byteLength >= size && byteLength <= 2 * size);
      const [known] = index === -1 ? [] : free.splice(index, 1);
      if (known === undefined) return Buffer.allocUnsafeSlow(size).subarray(0, bytes);
      keptBytes -= known.byteLength;
      return Buffer.from(known, 0, bytes);
    },
    give({ buffer }) {
      if (keptBytes + buffer.byteLength > maxBytes) return;
      keptBytes += buffer.byteLength;
      free.push(buffer);
    },
  };
}
