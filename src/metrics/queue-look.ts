import type { QueueStats } from '../jobs/session-requests.ts';

/** What a look at the queue came to. */
export type QueueLook =
  | { readonly kind: 'reached'; readonly stats: QueueStats }
  | { readonly kind: 'unreachable'; readonly error: unknown };

/** Times of {@link createQueueLook}, in milliseconds. */
export interface LookTimes {
  /** The queue has to answer within this time. */
  readonly timeoutMs: number;
  /** So long a look counts for everybody who asks. */
  readonly freshMs: number;
}

/**
 * A function that looks at the queue and never rejects. Whoever asks while a look is under way shares it, and a
 * queue that does not answer is not asked again before it has: so however often metrics are read, the queue is
 * asked one thing at a time.
 */
export function createQueueLook(
  stats: () => Promise<QueueStats>,
  { timeoutMs, freshMs }: LookTimes,
): () => Promise<QueueLook> {
  let running: Promise<QueueLook> | undefined;
  let latest: { readonly look: QueueLook; readonly staleAt: number } | undefined;

  async function look(): Promise<QueueLook> {
    const found = await reach(stats);
    latest = { look: found, staleAt: performance.now() + freshMs };
    running = undefined;
    return found;
  }

  return async () => {
    if (latest && performance.now() < latest.staleAt) return latest.look;
    running ??= look();
    return await withinTime(running, timeoutMs);
  };
}

async function reach(stats: () => Promise<QueueStats>): Promise<QueueLook> {
  try {
    return { kind: 'reached', stats: await stats() };
  } catch (error) {
    return { kind: 'unreachable', error };
  }
}

async function withinTime(look: Promise<QueueLook>, timeoutMs: number): Promise<QueueLook> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<QueueLook>((resolve) => {
    timer = setTimeout(() => {
      resolve({ kind: 'unreachable', error: new Error(`the queue did not answer within ${timeoutMs} ms`) });
    }, timeoutMs);
  });
  try {
    return await Promise.race([look, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
