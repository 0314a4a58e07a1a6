import type { RateLimitView } from '../domain/requests.ts';

/**
 * A list of more sessions than this goes behind live ones unless somebody gives it a priority: before them it would
 * keep every voicemail that comes in meanwhile waiting, for hours at the usual rate limit.
 */
export const LARGE_LIST = 1_000;

/** How long so many sessions take at the rate limit, one call each, in whole seconds. */
export function secondsAtRateLimit(sessions: number, { limit, windowSeconds }: RateLimitView): number {
  return Math.ceil((sessions * windowSeconds) / limit);
}
