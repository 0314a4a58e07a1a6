import type { RequestSpan, RequestTracer } from '../telemetry/tracing.ts';
import { asApiError } from './problem.ts';
import type { ZodServer } from './validation.ts';

/** The requests that bring sessions in. All others look at what is there, and would only bury these. */
const TRACED_ROUTES: ReadonlySet<string> = new Set(['/v1/sessions', '/webhooks/voicemail']);

interface Followed {
  readonly span: RequestSpan;
  /** Of the problem that it is answered with. */
  code?: string;
}

/** Follows the requests that bring sessions in, so that what becomes of a session belongs to the trace it came with. */
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
