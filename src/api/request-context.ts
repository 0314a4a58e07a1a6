import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { RequestSpan, RequestTracer } from '../observability/tracing/tracing.ts';
import { asApiError } from './problem.ts';
import type { ZodServer } from './validation.ts';

/** The header that names a request, in both directions and in the log. */
export const REQUEST_ID_HEADER = 'x-request-id';

/** Ids of others that are kept: printable, short, and harmless in logs and headers. */
const REQUEST_ID = /^[A-Za-z0-9._:+=/-]{1,128}$/;

/** The id a request came with, if it is a sane one, otherwise a new one. */
export function requestId(request: Pick<IncomingMessage, 'headers'>): string {
  const given = request.headers[REQUEST_ID_HEADER];
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
}

/**
 * Headers of every answer. What is meant for a browser (the documentation, the dashboard) replaces the policy and
 * the caching by its own.
 */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cache-control': 'no-store',
};

/** The requests that bring sessions in. All others only read, and would bury these. */
const TRACED_ROUTES: ReadonlySet<string> = new Set(['/v1/sessions', '/webhooks/voicemail']);

interface Followed {
  readonly span: RequestSpan;
  /** Of the problem that it is answered with. */
  code?: string;
}

/** Follows the requests that bring sessions in, so that the work on a session belongs to the trace it came with. */
export function traceRequests(app: ZodServer, tracer: RequestTracer): void {
  const requests = new WeakMap<object, Followed>();
  app.addHook('onRequest', (request, reply, done) => {
    const { method, headers } = request;
    const route = request.routeOptions.url;
    if (method === 'POST' && route !== undefined && TRACED_ROUTES.has(route)) {
      const followed: Followed = { span: tracer.start({ method, route, headers }) };
      requests.set(request, followed);
      const { raw } = reply;
      raw.once('close', () =>
        followed.span.end(raw.writableFinished ? raw.statusCode : undefined, followed.code),
      );
    }
    done();
  });
  // Not earlier: what comes after the body has been read no longer belongs to what was active before.
  app.addHook('preHandler', (request, _reply, done) => {
    const followed = requests.get(request);
    if (followed) followed.span.run(done);
    else done();
  });
  app.addHook('onError', (request, _reply, error, done) => {
    const followed = requests.get(request);
    if (followed) followed.code = asApiError(error).code;
    done();
  });
}
/** The routes of a server, to distinguish a wrong method on a known path from an unknown path. */
export class RouteTable {
  readonly #routes: { readonly pattern: RegExp; readonly methods: readonly string[] }[] = [];

  /** @param url as Fastify has it: `/v1/sessions/:id`, `/docs/*`. */
  add(url: string, methods: string | readonly string[]): void {
    this.#routes.push({ pattern: patternOf(url), methods: [methods].flat() });
  }

  /** The methods that a path takes, in alphabetical order; none if there is no such path. */
  methodsOf(path: string): string[] {
    const found = this.#routes.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => methods);
    return [...new Set(found)].sort();
  }
}

function patternOf(url: string): RegExp {
  const source = url
    .split('/')
    .map((part) => {
      if (part.startsWith(':')) return '[^/]+';
      return part === '*' ? '.*' : part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    })
    .join('/');
  return new RegExp(`^${source}$`);
}
