/** What the beginning of a part tells: its whole length, or how many of its first bytes are needed to tell. */
export type PartLength = { readonly bytes: number } | { readonly need: number };

/**
 * Reads the beginning of the part at a position of the file.
 *
 * @param header at least as many of the part's bytes as were asked for.
 * @returns `undefined` where no part can begin so. A part of infinite length takes up all the rest.
 */
export type ReadPartLength = (header: Buffer, at: number) => PartLength | undefined;

/** More of a part's beginning is never looked at. */
export const MAX_HEADER_BYTES = 64 * 1024;

/**
 * Walks through a file of parts that follow each other (chunks, boxes, frames) as its bytes pass, in time that grows
 * with their number and in memory for one part's beginning.
 */
export class PartWalker {
  readonly #read: ReadPartLength;
  readonly #leastHeader: number;
  /** How many bytes have passed. */
  #position = 0;
  #nextAt: number;
  /** How much of the next part's beginning is needed. */
  #need: number;
  /** Holds that beginning where it comes in several chunks. */
  #header = Buffer.alloc(0);
  #stopped = false;

  /**
   * @param start where the first part begins.
   * @param leastHeader how many bytes `read` wants to see of any part, at least 1.
   */
  constructor(start: number, leastHeader: number, read: ReadPartLength) {
    this.#nextAt = start;
    this.#leastHeader = leastHeader;
    this.#need = leastHeader;
    this.#read = read;
  }

  /** Where the part after the last one that was read begins; `Infinity` behind one that takes up all the rest. */
  get nextAt(): number {
    return this.#nextAt;
  }

  /** Whether something that is no part stands at {@link nextAt}. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** What came of the part at {@link nextAt}, where that is too little to read its beginning; empty otherwise. */
  get unread(): Buffer {
    const came = this.#position - this.#nextAt;
    return this.#stopped || came <= 0 ? Buffer.alloc(0) : this.#header.subarray(0, came);
  }

  /** Takes note of the next bytes. */
  add(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length && !this.#stopped) {
      const skipped = Math.min(this.#nextAt - this.#position, chunk.length - at);
      if (skipped > 0) {
        at += skipped;
        this.#position += skipped;
      } else if (this.#position === this.#nextAt && chunk.length - at >= this.#need) {
        // Skipped with its part once that is known.
        this.#readHeader(chunk.subarray(at, at + this.#need));
      } else {
        at += this.#keepHeader(chunk, at);
      }
    }
    this.#position += chunk.length - at;
  }

  /** Keeps what the chunk has of a header; returns how many bytes it took. */
  #keepHeader(chunk: Buffer, at: number): number {
    const filled = this.#position - this.#nextAt;
    if (this.#header.length < this.#need) {
      const larger = Buffer.alloc(this.#need);
      this.#header.copy(larger, 0, 0, filled);
      this.#header = larger;
    }
    const count = chunk.copy(this.#header, filled, at, at + this.#need - filled);
    this.#position += count;
    if (filled + count === this.#need) this.#readHeader(this.#header.subarray(0, this.#need));
    return count;
  }

  /** Goes on behind the part, or asks for more of its beginning. */
  #readHeader(header: Buffer): void {
    const part = this.#read(header, this.#nextAt);
    if (part !== undefined && 'need' in part) {
      this.#need = Math.min(part.need, MAX_HEADER_BYTES);
      this.#stopped = this.#need <= header.length;
      return;
    }
    this.#need = this.#leastHeader;
    if (part === undefined || !(part.bytes >= header.length)) this.#stopped = true;
    else this.#nextAt += part.bytes;
  }
}

/** Ids of chunks and boxes are of four printable characters. */
export function isChunkId(id: Buffer): boolean {
  return id.every((byte) => byte >= 0x20 && byte <= 0x7e);
}

/** Chunks start at even positions. */
export function padded(bytes: number): number {
  return bytes + (bytes % 2);
}
