import type { HttpConfig } from '../config/config.ts';
import { isLoopback } from '../config/parsers.ts';
import { assertLocal } from './access.ts';
import { type Api, createServer, servedBy } from './http-server.ts';
import { addHealthRoutes, addMetricsRoute, type HealthOptions, type MetricsOptions } from './probes.ts';
import type { ZodServer } from './validation.ts';

/** What a process without an API serves. */
export type ProbeOptions = HealthOptions &
  MetricsOptions & {
    readonly http: Pick<HttpConfig, 'host' | 'port' | 'isPortDefault'> &
      Partial<Pick<HttpConfig, 'tokens' | 'jwt'>>;
  };

/**
 * For whoever watches over a process: open to everybody, as they tell counts and times alone, and Kubernetes and
 * Prometheus come without credentials.
 */
export const PROBE_ROUTES: readonly ((app: ZodServer, options: ProbeOptions) => void)[] = [
  addHealthRoutes,
  addMetricsRoute,
];

/**
 * Of the open routes, those that tell something of this archiver: without credentials they are for programs on this
 * machine, like the rest. A webhook comes from elsewhere by its nature, and probes by any name.
 */
export const NOT_FOR_FOREIGN_PAGES = /^\/(metrics$|openapi\.json$|docs(\/|$))/;

/**
 * `/livez`, `/readyz` and `/metrics` alone, for a worker without an API. They tell counts and times alone, so they may
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
