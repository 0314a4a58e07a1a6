/** A body cut into parts for the bucket, one in memory at a time. */

import type { BodyReader } from '../body.ts';

/** Where to begin when nobody knows how long a body will be. */
const INITIAL_BYTES = 256 * 1024;

/** A part of a body. */
export interface Part {
  /** As many bytes as a part has, except in the last one. Good until the next part is asked for. */
  readonly bytes: Buffer;
  /** Whether the body ends with it. */
  readonly isLast: boolean;
}

/** Reads a body part by part, into one buffer that all parts share. */
export class PartReader {
  readonly #source: BodyReader;
  readonly #partBytes: number;
  #buffer: Buffer;
  /** Read, but not part of a part yet. */
  #pending: Buffer | undefined;
  #bytesRead = 0;

  /** @param expectedBytes a hint: a body of just that size is held once, without copies. */
  constructor(source: BodyReader, partBytes: number, expectedBytes: number | undefined) {
    this.#source = source;
    this.#partBytes = partBytes;
    this.#buffer = Buffer.allocUnsafeSlow(Math.min(expectedBytes ?? INITIAL_BYTES, partBytes));
  }

  /** How many bytes the parts have had so far. */
  get bytesRead(): number {
    return this.#bytesRead;
  }

  /** The next part, empty if the body is. Not to be called after the last one. */
  async next(): Promise<Part> {
    let length = 0;
    for (;;) {
      const chunk = this.#pending ?? (await this.#source.next());
      this.#pending = chunk;
      const isLast = chunk === undefined;
      if (isLast || length === this.#partBytes) {
        this.#bytesRead += length;
        return { bytes: this.#buffer.subarray(0, length), isLast };
      }
      this.#makeRoom(length, length + chunk.length);
      const taken = chunk.copy(this.#buffer, length);
      length += taken;
      this.#pending = taken < chunk.length ? chunk.subarray(taken) : undefined;
    }
  }

  /** Grows the buffer up to a part. */
  #makeRoom(length: number, wanted: number): void {
    if (wanted <= this.#buffer.length || this.#buffer.length === this.#partBytes) return;
    const grown = Buffer.allocUnsafeSlow(
      Math.min(Math.max(2 * this.#buffer.length, wanted), this.#partBytes),
    );
    this.#buffer.copy(grown, 0, 0, length);
    this.#buffer = grown;
  }
}
