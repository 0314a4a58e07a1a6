import { randomBytes } from 'node:crypto';
import { seededBytes } from './seeded.ts';

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
