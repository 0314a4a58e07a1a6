import { once } from 'node:events';
import { z } from 'zod';
import type { HttpConfig } from '../config/config.ts';
import { isLoopback } from '../config/parsers.ts';
import type { BreakerView } from '../domain/views.ts';
import type { Metrics } from '../observability/metrics/metrics.ts';
import { shareResult } from '../util/async.ts';
import type { Logger } from '../util/log.ts';
import { assertLocal } from './access.ts';
import { type Api, createServer, servedBy } from './http-server.ts';
import { ApiError } from './problem.ts';
import { ProbeAnswer } from './schemas/sessions.ts';
import type { ZodServer } from './validation.ts';

/** What the health routes work with. */
interface HealthOptions {
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
/** The probes of several watchers share one check of queue and archive. */
const READY_FRESH_MS = 1_000;

/**
 * `GET /livez`: the process answers and, where it has a worker, that one takes sessions. `GET /readyz`: it can
 * reach queue and archive. They are open to all, so they say nothing else; why something can't be reached is in
 * the log.
 */
function addHealthRoutes(app: ZodServer, { check, liveness, breakers, log }: HealthOptions): void {
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
      // While Kore is unreachable, another process could do no better: it is reported, but the process stays ready.
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
  return { tags: ['health'], summary, response: { 200: ProbeAnswer }, problems: [503] };
}

/** What the route of metrics works with. */
interface MetricsOptions {
  /** Without them there is no such route. */
  readonly metrics?: Pick<Metrics, 'contentType' | 'render'> | undefined;
}

/** `GET /metrics`, for Prometheus; open like the health routes, because it has only counts and times. */
function addMetricsRoute(app: ZodServer, { metrics }: MetricsOptions): void {
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

/** What a process without an API serves. */
export type ProbeOptions = HealthOptions &
  MetricsOptions & {
    readonly http: Pick<HttpConfig, 'host' | 'port' | 'isPortDefault'> &
      Partial<Pick<HttpConfig, 'tokens' | 'jwt'>>;
  };

/**
 * For monitoring: open to everybody, because they have only counts and times, and Kubernetes and Prometheus send no
 * credentials.
 */
export const PROBE_ROUTES: readonly ((app: ZodServer, options: ProbeOptions) => void)[] = [
  addHealthRoutes,
  addMetricsRoute,
];

/**
 * The open routes with facts about this archiver: without credentials they are for programs on this machine, like the
 * rest. A webhook comes from elsewhere by its nature, and probes by any name.
 */
export const NOT_FOR_FOREIGN_PAGES = /^\/(metrics$|openapi\.json$|docs(\/|$))/;

/**
 * `/livez`, `/readyz` and `/metrics` alone, for a worker without an API. They have only counts and times, so they may
 * be served on any address without credentials; on this machine alone, `/metrics` is kept from web pages as the API
 * keeps it. Where `HTTP_PORT` is not set and its default is taken (by
 * an API on the same machine), any free port is taken instead.
 *
 * @example
 * const probes = createProbes({ check, liveness, metrics, http: config.http, log });
 * const { port } = await probes.listen();
 */
export function createProbes(options: ProbeOptions): Api {
  const { http, log } = options;
  const app = createServer(log);
  const isOpenHere = isLoopback(http.host) && !http.tokens?.length && !http.jwt;
  app.register(async (open: ZodServer) => {
    open.addHook('onRequest', async ({ routeOptions: { url }, headers }) => {
      if (isOpenHere && url !== undefined && NOT_FOR_FOREIGN_PAGES.test(url)) assertLocal(headers);
    });
    for (const addRoutes of PROBE_ROUTES) addRoutes(open, options);
  });
  return servedBy(app, { http, log, mayMove: http.isPortDefault === true });
}
