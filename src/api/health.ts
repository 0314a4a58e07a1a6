import { once } from 'node:events';
import type { Logger } from '../log.ts';
import { ApiError } from './problem.ts';
import { Health } from './schemas.ts';
import type { ZodServer } from './validation.ts';

/** What the health routes work with. */
export interface HealthOptions {
  /** Proves that queue and archive can be reached. */
  readonly check: (signal: AbortSignal) => Promise<void>;
  readonly log: Logger;
}

/** Queue and archive have to answer within this time to count as reachable. */
const READY_TIMEOUT_MS = 5_000;
/** The probes of several watchers share one look at queue and archive. */
const READY_FRESH_MS = 1_000;

/**
 * `GET /livez`: the process answers. `GET /readyz`: it can reach queue and archive. They are open to all, so
 * they tell nothing else; why something can't be reached is in the log.
 */
export function addHealthRoutes(app: ZodServer, { check, log }: HealthOptions): void {
  const isReady = shareResult(async () => {
    const signal = AbortSignal.timeout(READY_TIMEOUT_MS);
    try {
      await Promise.race([check(signal), once(signal, 'abort').then(() => signal.throwIfAborted())]);
      return true;
    } catch (error) {
      log.warn({ err: error }, 'not ready: queue or archive cannot be reached');
      return false;
    }
  }, READY_FRESH_MS);

  app.get('/livez', { schema: { response: { 200: Health } } }, async () => ({ status: 'ok' as const }));

  app.get('/readyz', { schema: { response: { 200: Health } } }, async () => {
    if (await isReady()) return { status: 'ok' as const };
    throw new ApiError(
      503,
      'NOT_READY',
      'the queue or the archive cannot be reached; the log says which and why',
    );
  });
}

/** Hands the result of a look to everybody who asks during it and for a while after it. */
function shareResult<T>(look: () => Promise<T>, freshMs: number): () => Promise<T> {
  let latest: { result: Promise<T>; staleAt: number } | undefined;
  return () => {
    if (latest && Date.now() < latest.staleAt) return latest.result;
    const current = { result: look(), staleAt: Number.POSITIVE_INFINITY };
    latest = current;
    return current.result.finally(() => {
      current.staleAt = Date.now() + freshMs;
    });
  };
}
