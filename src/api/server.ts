import type { BackfillOperations } from '../backfills/operations.ts';
import type { CompletenessOperations } from '../completeness/operations.ts';
import type { HttpConfig } from '../config/config.ts';
import type { AuditLog } from '../domain/audit-log.ts';
import type { BreakerView } from '../domain/views.ts';
import type { EventFeed } from '../jobs/event-feed.ts';
import type { SessionQueue } from '../jobs/session-queue.ts';
import type { Metrics } from '../observability/metrics/metrics.ts';
import type { RequestTracer } from '../observability/tracing/tracing.ts';
import type { ArchivedObjects } from '../operations/archived-objects.ts';
import type { CustodyOperations } from '../operations/custody.ts';
import type { Operations } from '../operations/operations.ts';
import type { Logger } from '../util/log.ts';
import { assertPermitted, createGuard, type Guard } from './access.ts';
import { addAuditLogHook } from './audit-log.ts';
import { addBackfillRoutes, addScheduleRoutes } from './backfills.ts';
import { addCompletenessRoutes } from './completeness.ts';
import { addCustodyRoutes } from './custody.ts';
import { addDashboard } from './dashboard/dashboard.ts';
import { addEventRoutes } from './events.ts';
import { type Api, createServer, servedBy } from './http-server.ts';
import { admitToApi, createLoginCookies, type LoginCookies } from './login/login-cookie.ts';
import { addObjectRoutes } from './objects.ts';
import { addDocumentationRoutes, collectDocumentation } from './openapi.ts';
import { addOverviewRoutes } from './overview.ts';
import { addPage } from './page/page.ts';
import { type Liveness, NOT_FOR_FOREIGN_PAGES, PROBE_ROUTES } from './probes.ts';
import { traceRequests } from './request-context.ts';
import { WrongCredentials } from './request-limits.ts';
import { type Identity, permissionOf } from './roles.ts';
import { addSessionRoutes } from './sessions.ts';
import type { ZodServer } from './validation.ts';
import { addWebhookRoutes } from './webhook/webhook.ts';

/** What the API is made of. */
export interface ApiOptions {
  readonly operations: Operations;
  /** Without it there are no routes of backfills and schedules. */
  readonly backfills?: BackfillOperations;
  /** Without it there are no routes of completeness. */
  readonly completeness?: CompletenessOperations;
  /** `KORE_RETENTION` (milliseconds), where it is known. */
  readonly retentionMs?: number | undefined;
  /** Without it there is no route of events. */
  readonly events?: EventFeed;
  /** How often a client of the events gets a comment while nothing happens, in milliseconds. */
  readonly heartbeatMs?: number;
  /** What is archived; without it no recordings, transcripts and manifests are served. */
  readonly objects?: ArchivedObjects;
  /** Erasing and holding sessions; without it there are no such routes. */
  readonly custody?: CustodyOperations | undefined;
  /** What log-ins rest on and what the dashboard shows; without it there are no pages. */
  readonly queue?: SessionQueue;
  /** Without them there is no route of metrics. */
  readonly metrics?: Pick<Metrics, 'contentType' | 'render'> & Partial<Pick<Metrics, 'webhook'>>;
  /** Proves that queue and archive can be reached. */
  readonly check: (signal: AbortSignal) => Promise<void>;
  /** Whether this process does what it is there for: see `/livez`. */
  readonly liveness?: (() => Promise<Liveness>) | undefined;
  /** How those stand that the worker of this process depends on, where it has one: see `/readyz`. */
  readonly breakers?: (() => readonly BreakerView[]) | undefined;
  readonly http: HttpConfig;
  /** `KORE_BOT_ID`, the bot that ids belong to when none is named. */
  readonly defaultBotId: string | undefined;
  /** A token accepted beside `API_TOKEN`, for commands that find this process by its `owner.json`. */
  readonly loopbackToken?: string;
  /** Records who did what; without it nothing is recorded. */
  readonly auditLog?: AuditLog | undefined;
  /** Follows the requests that bring sessions in. */
  readonly requestTracer?: RequestTracer | undefined;
  readonly log: Logger;
}

/** What route modules get. */
export interface RouteOptions extends ApiOptions {
  /** For routes with another way in than the header `Authorization`. */
  readonly guard: Guard;
  /** Without a queue there are none. */
  readonly logins: LoginCookies | undefined;
}

/** Adds routes of one kind to a server. */
type RouteModule = (app: ZodServer, options: RouteOptions) => void;

/** Open to everybody, or with locks of their own. */
const OPEN_ROUTES: readonly RouteModule[] = [...PROBE_ROUTES, addWebhookRoutes, addDocumentationRoutes];
/** Under `/v1`, for whom the guard admits. */
const GUARDED_ROUTES: readonly RouteModule[] = [
  addSessionRoutes,
  addOverviewRoutes,
  addObjectRoutes,
  addCustodyRoutes,
  addBackfillRoutes,
  addScheduleRoutes,
  addCompletenessRoutes,
  addEventRoutes,
];

declare module 'fastify' {
  interface FastifyRequest {
    /** Who sent the request; set on the routes under `/v1`. */
    identity: Identity | undefined;
  }
}

/**
 * The HTTP API over the given operations.
 *
 * @example
 * const api = createApi({ operations, check, http: config.http, defaultBotId: config.defaultBotId, log });
 * const { url } = await api.listen();
 * await api.close();
 */
export function createApi(options: ApiOptions): Api {
  const { http, log } = options;
  const app = createServer(log);
  collectDocumentation(app);
  if (options.requestTracer) traceRequests(app, options.requestTracer);
  const { tokens, jwt } = http;
  const wrongCredentials = new WrongCredentials({ log });
  const guard = createGuard({ tokens, jwt, loopbackToken: options.loopbackToken, wrongCredentials });
  const { queue, auditLog } = options;
  const logins = queue && createLoginCookies({ tokens, guard, ended: queue });
  const routeOptions: RouteOptions = { ...options, guard, logins };
  app.decorateRequest('identity', undefined);
  app.register(async (open: ZodServer) => {
    open.addHook('onRequest', async ({ routeOptions: { url }, headers }) => {
      if (url !== undefined && NOT_FOR_FOREIGN_PAGES.test(url)) guard.refuseWebPages(headers);
    });
    for (const addRoutes of OPEN_ROUTES) addRoutes(open, routeOptions);
    if (!queue || !logins) return;
    const login = { guard, logins, auditLog };
    addPage(open, login);
    addDashboard(open, { queue, login, log });
  });
  app.register(
    async (guarded: ZodServer) => {
      // A route for which no role is defined keeps the API from being made at all.
      guarded.addHook('onRoute', ({ method, url }) => {
        for (const one of [method].flat()) permissionOf(one, url);
      });
      guarded.addHook('onRequest', async (request) => {
        const identity = await admitToApi(request, { guard, logins });
        assertPermitted(identity, permissionOf(request.method, request.routeOptions.url ?? ''));
        request.identity = identity;
      });
      addAuditLogHook(guarded, options);
      for (const addRoutes of GUARDED_ROUTES) addRoutes(guarded, routeOptions);
    },
    { prefix: '/v1' },
  );

  return servedBy(app, { http, log });
}
