import type { FastifyRequest } from 'fastify';

/** A listen ends when nothing of the recording has been asked for during so long (milliseconds). */
const LISTEN_PAUSE_MS = 10 * 60_000;
/** Listens that are remembered; the one that was heard of least recently is forgotten first. */
const MAX_LISTENS = 10_000;

/** Tells the first request of a listen from those that follow. */
export interface Listens {
  /**
   * Whether a request asks for a part of what the same person has been reading a part of: players ask for many parts,
   * and again whenever somebody seeks. A whole object is a download of its own.
   */
  goesOn(request: Pick<FastifyRequest, 'identity' | 'ip' | 'url' | 'headers'>): boolean;
}

/** @param now milliseconds on a clock that never goes back; for tests. */
export function createListens(now: () => number = () => performance.now()): Listens {
  /** When each was last heard of, the least recent first. */
  const lastAt = new Map<string, number>();
  return {
    goesOn({ identity, ip, url, headers }) {
      if (headers.range === undefined) return false;
      const key = JSON.stringify([identity?.name, identity?.roles, ip, url]);
      const before = lastAt.get(key);
      lastAt.delete(key);
      lastAt.set(key, now());
      if (lastAt.size > MAX_LISTENS) {
        for (const oldest of lastAt.keys()) {
          lastAt.delete(oldest);
          break;
        }
      }
      return before !== undefined && now() - before < LISTEN_PAUSE_MS;
    },
  };
}
