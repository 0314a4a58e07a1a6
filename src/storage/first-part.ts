/** The beginning of a body, which decides whether it goes into the bucket as one or in parts. */

import type { Source } from './source.ts';

/** Where to begin when nobody knows how long a body will be. */
const INITIAL_BYTES = 256 * 1024;

/** What a body turned out to be: no longer than one part, or longer. */
export type FirstPart =
  | { readonly whole: true; readonly bytes: Buffer }
  | { readonly whole: false; readonly rest: Remainder };

/** A body longer than a part, from its first byte. */
export interface Remainder {
  /** The next chunk, or `undefined` after the last. */
  next(): Promise<Buffer | undefined>;
  /** How many bytes `next` has given. */
  bytesRead(): number;
}

/**
 * Reads until the body ends or exceeds one part, into a single buffer.
 * @param expectedBytes a hint: a body of just that size is held once, without copies.
 */
export async function collectFirstPart(
  source: Source,
  partBytes: number,
  expectedBytes: number | undefined,
): Promise<FirstPart> {
  let buffer = Buffer.allocUnsafeSlow(Math.min(expectedBytes ?? INITIAL_BYTES, partBytes));
  let length = 0;
  for (let chunk = await source.next(); chunk; chunk = await source.next()) {
    if (length + chunk.length > partBytes) {
      return { whole: false, rest: remainder([buffer.subarray(0, length), chunk], source) };
    }
    if (length + chunk.length > buffer.length) {
      const larger = Math.min(Math.max(2 * buffer.length, length + chunk.length), partBytes);
      const grown = Buffer.allocUnsafeSlow(larger);
      buffer.copy(grown, 0, 0, length);
      buffer = grown;
    }
    length += chunk.copy(buffer, length);
  }
  return { whole: true, bytes: buffer.subarray(0, length) };
}

function remainder(read: Buffer[], source: Source): Remainder {
  let given = 0;
  return {
    async next() {
      const chunk = read.shift() ?? (await source.next());
      given += chunk?.length ?? 0;
      return chunk;
    },
    bytesRead: () => given,
  };
}
