import {
  context,
  propagation,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import {
  ATTR_ERROR_TYPE,
  ATTR_HTTP_REQUEST_METHOD,
  ATTR_HTTP_RESPONSE_STATUS_CODE,
  ATTR_HTTP_ROUTE,
} from '@opentelemetry/semantic-conventions';
import type { RequestTracer } from './tracing.ts';

/** Follows requests, each in a server span. */
export function createRequestTracer(tracer: Tracer): RequestTracer {
  return {
    start({ method, route, headers }) {
      const caller = propagation.extract(ROOT_CONTEXT, headers);
      const attributes = { [ATTR_HTTP_REQUEST_METHOD]: method, [ATTR_HTTP_ROUTE]: route };
      const span = tracer.startSpan(`${method} ${route}`, { kind: SpanKind.SERVER, attributes }, caller);
      const own = trace.setSpan(caller, span);
      return {
        run: (work) => context.with(own, work),
        end(status, code) {
          if (status !== undefined) span.setAttribute(ATTR_HTTP_RESPONSE_STATUS_CODE, status);
          const problem = code ?? (status === undefined ? 'aborted' : undefined);
          if (problem !== undefined) span.setAttribute(ATTR_ERROR_TYPE, problem);
          // A refused request is the sender's fault, not this program's.
          if (status === undefined || status >= 500) {
            span.setStatus({
              code: SpanStatusCode.ERROR,
              ...(problem !== undefined && { message: problem }),
            });
          }
          span.end();
        },
      };
    },
  };
}
