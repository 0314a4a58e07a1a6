import { createHash, randomBytes } from 'node:crypto';

/** Bytes that depend on the seed alone; at most 32. */
export function seededBytes(seed: string, count: number): Buffer {
  return createHash('sha256').update(seed).digest().subarray(0, count);
}

/** A UUID (version 5 by its digits, like Kore's) that depends on the seed alone. */
export function seededUuid(seed: string): string {
  const hex = seededBytes(seed, 16).toString('hex');
  const parts = [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `5${hex.slice(13, 16)}`,
    `8${hex.slice(17, 20)}`,
    hex.slice(20),
  ];
  return parts.join('-');
}

/** A generator of numbers from 0 (inclusive) to 1 (exclusive), the same for the same seed. */
export function seededRandom(seed: string): () => number {
  let state = seededBytes(seed, 4).readUInt32LE();
  // mulberry32: short, fast and even enough for melodies; https://gist.github.com/tommyettinger/46a874533244883189143505d203312c
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * A session id as Kore makes them: a MongoDB ObjectId in 24 lowercase hex digits, whose first 8 are its
 * creation time in unix seconds.
 *
 * @param createdAt when the session is said to have begun; milliseconds are dropped.
 * @param seed makes the other 16 digits depend on it alone; without it they are random.
 *
 * @example
 * makeSessionId(new Date('2025-02-10T17:34:26Z')); // '67aa3802' and 16 random digits
 */
export function makeSessionId(createdAt: Date, seed?: string): string {
  const seconds = Math.floor(createdAt.getTime() / 1000);
  if (!(seconds >= 0 && seconds < 2 ** 32)) {
    throw new RangeError('the creation time of a session id must lie between 1970 and 2106');
  }
  const rest = seed === undefined ? randomBytes(8) : seededBytes(`session id ${seed}`, 8);
  return seconds.toString(16).padStart(8, '0') + rest.toString('hex');
}
