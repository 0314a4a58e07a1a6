import { type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { type FastifyRequest, type FastifyServerOptions, fastify, type onRequestHookHandler } from 'fastify';
import type { HttpConfig } from '../config/config.ts';
import { systemCode } from '../domain/errors.ts';
import { type Logger, withLogFields } from '../util/log.ts';
import { ApiError, asApiError, PROBLEM_CONTENT_TYPE, problemOf } from './problem.ts';
import { REQUEST_ID_HEADER, RouteTable, requestId, SECURITY_HEADERS } from './request-context.ts';
import { limitConnections } from './request-limits.ts';
import {
  acceptJsonOnly,
  refuseCompressed,
  serializerCompiler,
  validatorCompiler,
  type ZodServer,
  type ZodTypes,
} from './validation.ts';

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

/** Where to serve. */
interface Serving {
  readonly http: Pick<HttpConfig, 'host' | 'port'>;
  readonly log: Logger;
  /** Whether another port will do where the one that is wanted is taken. */
  readonly mayMove?: boolean;
}

/** Serves what was put together, on the port that is wanted. */
export function servedBy(app: ZodServer, { http, log, mayMove = false }: Serving): Api {
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

/**
 * In place of Fastify's own compilers, which would be loaded otherwise: ajv and fast-json-stringify. Its types know
 * those alone.
 */
const OWN_COMPILERS = {
  compilersFactory: { buildValidator: () => validatorCompiler, buildSerializer: () => serializerCompiler },
} as unknown as NonNullable<FastifyServerOptions['schemaController']>;

/** A server without routes, that answers in the same way whatever goes wrong. */
export function createServer(log: Logger): ZodServer {
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
    schemaController: OWN_COMPILERS,
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
  app.setErrorHandler(answerFault);
  app.setNotFoundHandler((request, reply) => answerFault(unknownRoute(routes, request), request, reply));
  acceptJsonOnly(app);
  app.addHook('onRoute', ({ url, method }) => routes.add(url, method));
  // Again after the body was read: it comes from the connection, which has no request.
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
  return app;
}

/** The routes that a connection beyond the limits may request: see request-limits.ts. */
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

/**
 * The whole answer, head and body, to what is not HTTP or came too slowly, where there is no request yet that
 * could be answered in the usual way.
 *
 * @param code Node's code of the fault: `HPE_HEADER_OVERFLOW`, `ERR_HTTP_REQUEST_TIMEOUT`, ...
 */
function answerToMalformed(code: string | undefined): string {
  const error = errorOf(code);
  const body = JSON.stringify(problemOf(error));
  const headers = {
    ...SECURITY_HEADERS,
    [REQUEST_ID_HEADER]: requestId({ headers: {} }),
    'content-type': PROBLEM_CONTENT_TYPE,
    'content-length': Buffer.byteLength(body),
    connection: 'close',
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}\r\n${lines.join('')}\r\n${body}`;
}

/** Answers, where that is still possible, and closes the connection. */
function closeMalformed(socket: Socket, code: string | undefined, isAnswering: boolean): void {
  // In the middle of another answer it would be taken for a part of that one.
  if (socket.writable && code !== 'ECONNRESET' && !isAnswering) {
    socket.end(answerToMalformed(code), () => socket.destroy());
  } else {
    socket.destroy();
  }
}

function errorOf(code: string | undefined): ApiError {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new ApiError(431, 'HEADERS_TOO_LARGE', 'the path and the headers are longer than 16 KiB');
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new ApiError(413, 'PAYLOAD_TOO_LARGE', 'the extensions of the chunks are too long');
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new ApiError(408, 'REQUEST_TIMEOUT', 'the request did not arrive within its time');
    default:
      return new ApiError(400, 'INVALID_REQUEST', 'this is not HTTP/1.1');
  }
}
