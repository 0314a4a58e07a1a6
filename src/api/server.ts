import type { Server, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { type FastifyRequest, fastify, type onRequestHookHandler } from 'fastify';
import type { BackfillOperations } from '../backfills/operations.ts';
import type { CompletenessOperations } from '../completeness/operations.ts';
import type { HttpConfig } from '../config/config.ts';
import { isLoopback } from '../config/parsers.ts';
import type { AuditLog } from '../domain/audit-log.ts';
import { systemCode } from '../domain/errors.ts';
import type { BreakerView } from '../domain/views.ts';
import type { EventFeed } from '../jobs/event-feed.ts';
import type { SessionQueue } from '../jobs/session-queue.ts';
import type { Metrics } from '../observability/metrics/metrics.ts';
import type { RequestTracer } from '../observability/tracing/tracing.ts';
import type { ArchivedObjects } from '../operations/archived-objects.ts';
import type { CustodyOperations } from '../operations/custody.ts';
import type { Operations } from '../operations/operations.ts';
import { type Logger, withLogFields } from '../util/log.ts';
import { assertLocal, assertPermitted, createGuard, type Guard } from './access.ts';
import { auditRequests } from './audit.ts';
import { addBackfillRoutes, addScheduleRoutes } from './backfills.ts';
import { addCompletenessRoutes } from './completeness.ts';
import { addCustodyRoutes } from './custody.ts';
import { addDashboard } from './dashboard/dashboard.ts';
import { addEventRoutes } from './events.ts';
import { admitToApi } from './login/cookie.ts';
import { createLoginSessions } from './login/sessions.ts';
import { closeMalformed } from './malformed.ts';
import { addObjectRoutes } from './objects.ts';
import { addDocumentationRoutes, collectDocumentation } from './openapi.ts';
import { addOverviewRoutes } from './overview.ts';
import { addPage } from './page/page.ts';
import { addHealthRoutes, addMetricsRoute, type Liveness } from './probes.ts';
import { ApiError, asApiError, PROBLEM_CONTENT_TYPE, problemOf } from './problem.ts';
import {
  REQUEST_ID_HEADER,
  RouteTable,
  requestId,
  SECURITY_HEADERS,
  traceRequests,
} from './request-context.ts';
import { limitConnections, WrongCredentials } from './request-limits.ts';
import { type Identity, permissionOf } from './roles.ts';
import { addSessionRoutes } from './sessions.ts';
import {
  acceptJsonOnly,
  refuseCompressed,
  serializerCompiler,
  validatorCompiler,
  type ZodServer,
  type ZodTypes,
} from './validation.ts';
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
  /** How often a client of the events hears something even if nothing happens, in milliseconds. */
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
  /** Notes who did what; without it nobody does. */
  readonly auditLog?: AuditLog | undefined;
  /** Follows the requests that bring sessions in. */
  readonly requestTracer?: RequestTracer | undefined;
  readonly log: Logger;
}

/** What route modules get. */
export interface RouteOptions extends ApiOptions {
  /** For routes with another way in than the header `Authorization`. */
  readonly guard: Guard;
}

/** Adds routes of one kind to a server. */
type RouteModule = (app: ZodServer, options: RouteOptions) => void;

/** What a process without an API serves. */
export type ProbeOptions = Pick<ApiOptions, 'check' | 'liveness' | 'breakers' | 'metrics' | 'log'> & {
  readonly http: Pick<HttpConfig, 'host' | 'port' | 'isPortDefault'> &
    Partial<Pick<HttpConfig, 'tokens' | 'jwt'>>;
};

/**
 * For whoever watches over a process: open to everybody, as they tell counts and times alone, and Kubernetes and
 * Prometheus come without credentials.
 */
const PROBE_ROUTES: readonly ((app: ZodServer, options: ProbeOptions) => void)[] = [
  addHealthRoutes,
  addMetricsRoute,
];
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

/**
 * Of the open routes, those that tell something of this archiver: without credentials they are for programs on this
 * machine, like the rest. A webhook comes from elsewhere by its nature, and probes by any name.
 */
const NOT_FOR_FOREIGN_PAGES = /^\/(metrics$|openapi\.json$|docs(\/|$))/;

declare module 'fastify' {
  interface FastifyRequest {
    /** Who sent the request; set on the routes under `/v1`. */
    identity: Identity | undefined;
  }
}

/** Where the API can be reached from this machine. */
export interface ApiAddress {
  /** `http://127.0.0.1:8080` */
  readonly url: string;
  readonly port: number;
}

/** The HTTP API. */
export interface Api {
  /** @throws ListenError when the port is taken or the address is not this machine's. */
  listen(): Promise<ApiAddress>;
  /** Takes no new requests, lets running ones finish for a moment, and gives the port back. */
  close(): Promise<void>;
}

/** The API can't be served where it was asked to. `message` says why, and names the variables. */
export class ListenError extends Error {
  constructor({ host, port }: Pick<HttpConfig, 'host' | 'port'>, cause: unknown) {
    const reason = systemCode(cause) ?? String(cause);
    const why = LISTEN_REASONS[reason] ?? reason;
    super(`cannot serve HTTP on ${host} port ${port}: ${why}`, { cause });
    this.name = 'ListenError';
  }
}

const LISTEN_REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another program uses that port; set HTTP_PORT to another one, or to 0 for any free one',
  EADDRNOTAVAIL: 'this machine has no such address; set HTTP_HOST to one of its own',
  EACCES: 'that port needs more rights; set HTTP_PORT to one above 1023',
};

/** 10,000 ids of the longest kind, with quotes, commas and white space. */
const BODY_LIMIT_BYTES = 2 * 1024 * 1024;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
/** How often Node checks whether one of these times has passed. */
const TIMEOUT_CHECK_INTERVAL_MS = 2_000;
/** Longer than load balancers keep idle connections, so that it is they who close them. */
const KEEP_ALIVE_TIMEOUT_MS = 75_000;
/** Longer than any valid id, so that it is the id's own check that refuses it. */
const MAX_PARAM_LENGTH = 512;
/** How long running requests may finish when the API closes. */
const CLOSE_GRACE_MS = 5_000;

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
  if (options.requestTracer) traceRequests(app, options.requestTracer);
  const { tokens, jwt } = http;
  const wrongCredentials = new WrongCredentials({ log });
  const guard = createGuard({ tokens, jwt, loopbackToken: options.loopbackToken, wrongCredentials });
  const routeOptions: RouteOptions = { ...options, guard };
  const { queue, auditLog } = options;
  const logins = queue && createLoginSessions({ tokens, guard, ended: queue });
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
      auditRequests(guarded, options);
      for (const addRoutes of GUARDED_ROUTES) addRoutes(guarded, routeOptions);
    },
    { prefix: '/v1' },
  );

  return servedBy(app, { http, log });
}

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

interface Serving {
  readonly http: ProbeOptions['http'];
  readonly log: Logger;
  /** Whether another port will do where the one that is wanted is taken. */
  readonly mayMove?: boolean;
}

function servedBy(app: ZodServer, { http, log, mayMove = false }: Serving): Api {
  const { host } = http;
  const listenOn = async (port: number): Promise<void> => {
    try {
      await app.listen({ host, port });
    } catch (error) {
      if (mayMove && port !== 0 && systemCode(error) === 'EADDRINUSE') return listenOn(0);
      throw new ListenError({ host, port }, error);
    }
  };
  return {
    async listen() {
      await listenOn(http.port);
      const { port } = app.server.address() as AddressInfo;
      const isElsewhere = http.port !== 0 && port !== http.port;
      log.info({ host, port, ...(isElsewhere && { portTaken: http.port }) }, 'listening');
      return { url: `http://${localName(host)}:${port}`, port };
    },
    async close() {
      const deadline = setTimeout(() => app.server.closeAllConnections(), CLOSE_GRACE_MS);
      try {
        await app.close();
      } finally {
        clearTimeout(deadline);
      }
    },
  };
}

/** A server without routes, that answers in the same way whatever goes wrong. */
function createServer(log: Logger): ZodServer {
  const answerFault = (thrown: unknown, request: { id: string }, reply: AnyReply): void => {
    const fault = asApiError(thrown);
    if (fault.status >= 500) {
      const level = fault.status === 503 ? 'warn' : 'error';
      log[level]({ requestId: request.id, err: thrown, code: fault.code }, 'request failed');
    }
    for (const [name, value] of Object.entries(fault.headers)) reply.header(name, value);
    reply.code(fault.status).header('content-type', PROBLEM_CONTENT_TYPE);
    // As text, since a route's own schemas describe only what it answers when all is well.
    reply.send(JSON.stringify(problemOf(fault)));
  };
  const answers = new WeakMap<Socket, ServerResponse>();

  const app = fastify({
    logger: false,
    bodyLimit: BODY_LIMIT_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    http: {
      headersTimeout: HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: TIMEOUT_CHECK_INTERVAL_MS,
      // Refused below, by a problem document.
      requireHostHeader: false,
    },
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    genReqId: requestId,
    clientErrorHandler: (error, socket) => {
      const answer = answers.get(socket);
      closeMalformed(socket, error.code, answer?.headersSent === true && !answer.writableEnded);
    },
    frameworkErrors: (error, request, reply) => {
      const anyReply = reply as unknown as AnyReply;
      addHeaders(request.id, anyReply);
      answerFault(error, request, anyReply);
    },
  }).withTypeProvider<ZodTypes>();
  const connections = limitConnections(app.server as Server, log);
  (app.server as Server).on('request', ({ socket }, answer) => answers.set(socket, answer));

  const routes = new RouteTable();
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  app.setErrorHandler(answerFault);
  app.setNotFoundHandler((request, reply) => answerFault(unknownRoute(routes, request), request, reply));
  acceptJsonOnly(app);
  app.addHook('onRoute', ({ url, method }) => routes.add(url, method));
  // Once more after the body was read, which comes from the connection and so knows of no request.
  const nameInLog: onRequestHookHandler = (request, _reply, done) =>
    withLogFields({ requestId: request.id }, done);
  app.addHook('onRequest', nameInLog);
  app.addHook('preValidation', nameInLog);
  app.addHook('onRequest', async (request, reply) => {
    addHeaders(request.id, reply);
    if (connections.isSpare(request.raw.socket)) {
      reply.header('connection', 'close');
      if (!PROBES.has(request.routeOptions.url ?? '')) throw tooManyConnections();
    }
    if (request.headers.host === undefined && request.raw.httpVersion === '1.1') {
      throw new ApiError(400, 'INVALID_REQUEST', 'the header Host is missing', {
        headers: { connection: 'close' },
      });
    }
    refuseCompressed(request.headers);
  });
  app.addHook('onResponse', async (request, reply) => {
    const { method, routeOptions } = request;
    log.debug(
      {
        requestId: request.id,
        method,
        route: routeOptions.url,
        status: reply.statusCode,
        milliseconds: Math.round(reply.elapsedTime),
      },
      'answered',
    );
  });
  collectDocumentation(app);
  return app;
}

/** What may be asked for on a connection beyond the limits: see connections.ts. */
const PROBES: ReadonlySet<string> = new Set(['/livez', '/readyz']);

function tooManyConnections(): ApiError {
  return new ApiError(503, 'TOO_MANY_CONNECTIONS', 'there are too many connections; close some of them');
}

/** The part of a Fastify reply that it takes to answer with a problem, whatever types its route has. */
interface AnyReply {
  code(status: number): AnyReply;
  header(name: string, value: string): AnyReply;
  send(body: string): unknown;
}

function addHeaders(id: string, reply: AnyReply): void {
  for (const [name, value] of Object.entries(SECURITY_HEADERS)) reply.header(name, value);
  reply.header(REQUEST_ID_HEADER, id);
}

function unknownRoute(routes: RouteTable, { method, url }: Pick<FastifyRequest, 'method' | 'url'>): ApiError {
  const methods = routes.methodsOf(url.replace(/\?.*$/s, ''));
  // Where the method is right, a route took the path and found nothing there.
  if (methods.length === 0 || methods.includes(method))
    return new ApiError(404, 'NOT_FOUND', `there is no ${method} on this path`);
  const allow = methods.join(', ');
  return new ApiError(405, 'METHOD_NOT_ALLOWED', `this path takes ${allow}, not ${method}`, {
    headers: { allow },
  });
}

/** The name under which this machine reaches what listens on `host`. */
function localName(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}
