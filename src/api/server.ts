import type { AddressInfo } from 'node:net';
import { fastify } from 'fastify';
import type { HttpConfig } from '../config/config.ts';
import type { Logger } from '../log.ts';
import type { Operations } from '../operations/operations.ts';
import { createGuard } from './access.ts';
import { addHealthRoutes } from './health.ts';
import { ApiError, asApiError, PROBLEM_TYPE, problemOf, RETRY_AFTER_S } from './problem.ts';
import type { ProblemCode } from './schemas.ts';
import { addSessionRoutes } from './sessions.ts';
import { serializerCompiler, validatorCompiler, type ZodServer, type ZodTypes } from './validation.ts';

/** What the API is made of. */
export interface ApiOptions {
  readonly operations: Operations;
  /** Proves that queue and archive can be reached. */
  readonly check: (signal: AbortSignal) => Promise<void>;
  readonly http: HttpConfig;
  /** `KORE_BOT_ID`, the bot that ids belong to when none is named. */
  readonly defaultBotId: string | undefined;
  /** A token accepted beside `API_TOKEN`, for commands that find this process by its `owner.json`. */
  readonly loopbackToken?: string;
  readonly log: Logger;
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
  constructor({ host, port }: HttpConfig, cause: unknown) {
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    const why = LISTEN_REASONS[reason] ?? reason;
    super(`cannot serve the API on ${host} port ${port}: ${why}`, { cause });
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
  addHealthRoutes(app, options);
  const guard = createGuard({ tokens: http.tokens, loopbackToken: options.loopbackToken });
  app.register(
    async (v1: ZodServer) => {
      v1.addHook('onRequest', async (request) => guard(request.headers));
      addSessionRoutes(v1, options);
    },
    { prefix: '/v1' },
  );

  return {
    async listen() {
      try {
        await app.listen({ host: http.host, port: http.port });
      } catch (error) {
        throw new ListenError(http, error);
      }
      const { port } = app.server.address() as AddressInfo;
      log.info({ host: http.host, port }, 'listening');
      return { url: `http://${localName(http.host)}:${port}`, port };
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

function createServer(log: Logger): ZodServer {
  const answerFault = (error: unknown, reply: FaultReply): void => {
    const fault = asFault(error);
    if (fault.status >= 500) {
      log[fault.status === 503 ? 'warn' : 'error']({ err: error, code: fault.code }, 'request failed');
    }
    if (fault.status === 503) reply.header('retry-after', String(RETRY_AFTER_S));
    if (fault.status === 401) reply.header('www-authenticate', 'Bearer');
    reply.code(fault.status).header('content-type', PROBLEM_TYPE);
    // As text, since a route's own schemas describe only what it answers when all is well.
    reply.send(JSON.stringify(problemOf(fault)));
  };

  const app = fastify({
    logger: false,
    bodyLimit: BODY_LIMIT_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    http: { headersTimeout: HEADERS_TIMEOUT_MS },
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    frameworkErrors: (error, _request, reply) => answerFault(error, reply as unknown as FaultReply),
  }).withTypeProvider<ZodTypes>();

  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  app.setErrorHandler((error, _request, reply) => answerFault(error, reply));
  app.setNotFoundHandler((request, reply) =>
    answerFault(new ApiError(404, 'NOT_FOUND', `there is no ${request.method} on this path`), reply),
  );
  acceptJsonOnly(app);
  app.addHook('onResponse', async (request, reply) => {
    const { method, routeOptions } = request;
    log.debug(
      {
        method,
        route: routeOptions.url,
        status: reply.statusCode,
        milliseconds: Math.round(reply.elapsedTime),
      },
      'answered',
    );
  });
  return app;
}

/** The part of a Fastify reply that it takes to answer with a problem, whatever types its route has. */
interface FaultReply {
  code(status: number): FaultReply;
  header(name: string, value: string): FaultReply;
  send(body: string): unknown;
}

/** Text would let web pages post across sites; clients that announce JSON may still send nothing at all. */
function acceptJsonOnly(app: ZodServer): void {
  app.removeContentTypeParser(['text/plain', 'application/json']);
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') done(null, undefined);
    else parseJson(request, body, done);
  });
}

const CODE_BY_STATUS: Readonly<Record<number, ProblemCode>> = {
  404: 'NOT_FOUND',
  413: 'PAYLOAD_TOO_LARGE',
  415: 'UNSUPPORTED_MEDIA_TYPE',
};

/** Fastify's own complaints about a request carry a status; everything else comes from the operations. */
function asFault(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof Error && 'statusCode' in error) {
    const status = Number(error.statusCode);
    if (status >= 400 && status < 500) {
      return new ApiError(status, CODE_BY_STATUS[status] ?? 'INVALID_REQUEST', error.message, {
        cause: error,
      });
    }
  }
  return asApiError(error);
}

/** The name under which this machine reaches what listens on `host`. */
function localName(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}
