import { once } from 'node:events';
import { z } from 'zod';
import type { BreakerView } from '../domain/views.ts';
import type { Metrics } from '../observability/metrics/metrics.ts';
import { shareResult } from '../util/async.ts';
import type { Logger } from '../util/log.ts';
import { ApiError } from './problem.ts';
import { Health } from './schemas/sessions.ts';
import type { ZodServer } from './validation.ts';

/** What the health routes work with. */
export interface HealthOptions {
  /** Proves that queue and archive can be reached. */
  readonly check: (signal: AbortSignal) => Promise<void>;
  /** Whether the process does what it is there for; without it, answering is enough. */
  readonly liveness?: (() => Promise<Liveness>) | undefined;
  /** How those stand that the worker of this process depends on, where it has one. */
  readonly breakers?: (() => readonly BreakerView[]) | undefined;
  readonly log: Logger;
}

/** Whether a process does what it is there for. */
export interface Liveness {
  readonly alive: boolean;
  /** Why not. */
  readonly reason?: string;
}

/** Queue and archive have to answer within this time to count as reachable. */
const READY_TIMEOUT_MS = 5_000;
/** The probes of several watchers share one look at queue and archive. */
const READY_FRESH_MS = 1_000;

/**
 * `GET /livez`: the process answers and, where it has a worker, that one takes sessions. `GET /readyz`: it can
 * reach queue and archive. They are open to all, so they tell nothing else; why something can't be reached is in
 * the log.
 */
export function addHealthRoutes(app: ZodServer, { check, liveness, breakers, log }: HealthOptions): void {
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

  app.get('/livez', { schema: probeDocs('Whether the process lives, and takes sessions') }, async () => {
    const { alive, reason } = (await liveness?.()) ?? { alive: true };
    if (alive) return { status: 'ok' as const };
    log.error({ reason }, 'not alive');
    throw new ApiError(503, 'NOT_ALIVE', reason ?? 'the process does not do what it is there for');
  });

  app.get('/readyz', { schema: probeDocs('Whether queue and archive can be reached') }, async () => {
    if (await isReady()) {
      // To send requests elsewhere while Kore is away would help nobody: that is told, and no more.
      const dependencies = breakers?.().map(({ dependency, state }) => ({ dependency, state }));
      return { status: 'ok' as const, ...(dependencies && { dependencies }) };
    }
    throw new ApiError(
      503,
      'NOT_READY',
      'the queue or the archive cannot be reached; the log says which and why',
    );
  });
}

function probeDocs(summary: string) {
  return { tags: ['health'], summary, response: { 200: Health }, problems: [503] };
}

/** What the route of metrics works with. */
export interface MetricsOptions {
  /** Without them there is no such route. */
  readonly metrics?: Pick<Metrics, 'contentType' | 'render'> | undefined;
}

/** `GET /metrics`, for Prometheus; open like the health routes, as it tells counts and times alone. */
export function addMetricsRoute(app: ZodServer, { metrics }: MetricsOptions): void {
  if (!metrics) return;
  const schema = {
    summary: "The process's metrics, and those of the queue, for Prometheus",
    tags: ['health'],
    response: { 200: z.string() },
    answers: metrics.contentType,
  };
  app.get('/metrics', { schema }, async (_request, reply) => {
    reply.header('content-type', metrics.contentType);
    return reply.send(await metrics.render());
  });
}
