import {
  type Attributes,
  type Context,
  context,
  propagation,
  ROOT_CONTEXT,
  type Span,
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
import { TelemetryAttributes } from 'bullmq';
import { type BullMQOTelSpan, BullMQOtel } from 'bullmq-otel';
import type { QueueTelemetry } from '../../jobs/backends/backend.ts';
import { failureReason, sessionOfJob } from '../../jobs/session-job.ts';
import { redact } from '../../util/redact.ts';
import { asVoicemailError } from '../../workers/failure-policy.ts';
import type { RequestTracer } from './tracing.ts';

/** Names of our own attributes; those of others come from OpenTelemetry's conventions. */
export const ATTR = {
  sessionId: 'voicemail.session.id',
  botId: 'voicemail.bot.id',
  key: 'voicemail.archive.key',
  outcome: 'voicemail.outcome',
  code: 'voicemail.code',
  cancelled: 'voicemail.cancelled',
} as const;

/** What a span is about. */
export interface SpanAbout {
  readonly name: string;
  readonly kind: SpanKind;
  readonly attributes: Attributes;
  /** Aborted, it is not the work's fault that it ends. */
  readonly signal: AbortSignal;
}

/** Runs work within a span. A failure marks the span. */
export async function inSpan<T>(
  tracer: Tracer,
  { name, kind, attributes, signal }: SpanAbout,
  work: (span: Span) => Promise<T>,
): Promise<T> {
  return tracer.startActiveSpan(name, { kind, attributes }, async (span) => {
    try {
      return await work(span);
    } catch (error) {
      if (signal.aborted) span.setAttribute(ATTR.cancelled, true);
      else failSpan(span, error);
      throw error;
    } finally {
      span.end();
    }
  });
}

/** Marks a span as failed, with the error's code and its public message. */
function failSpan(span: Span, thrown: unknown): void {
  const { code, message } = asVoicemailError(thrown);
  span.setAttribute(ATTR_ERROR_TYPE, code);
  span.setStatus({ code: SpanStatusCode.ERROR, message: redact(failureReason(code, message)) });
}

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

type QueueSpan = ReturnType<QueueTelemetry<Context>['tracer']['startSpan']>;
type QueueAttributes = Parameters<QueueSpan['setAttributes']>[0];

/** A name for each of 10,000 jobs, all the same, and a whole manifest: too much for a span, and of no use in it. */
const LEFT_OUT: ReadonlySet<string> = new Set([TelemetryAttributes.BulkNames, TelemetryAttributes.JobResult]);

/**
 * bullmq-otel, which stores the trace of the process that adds a job in the job's options, with its output tidied:
 *
 * - BullMQ's inner workings are left out, since every idle worker would send a trace of its own every few seconds.
 * - A job that was added without a trace begins one, whatever the worker was doing when it took it.
 * - What jobs failed of passes through {@link redact}.
 */
export function createQueueTelemetry(name: string, version: string): QueueTelemetry<Context> {
  const { tracer, contextManager } = new BullMQOtel({ tracerName: name, version });
  return {
    contextManager: {
      with: (context, work) => contextManager.with(context, work),
      active: () => contextManager.active(),
      root: () => ROOT_CONTEXT,
      getMetadata: (context) => contextManager.getMetadata(context),
      fromMetadata: (context, metadata) => contextManager.fromMetadata(context, metadata),
    },
    tracer: {
      startSpan(name, options, parent) {
        if (options?.kind !== SpanKind.PRODUCER && options?.kind !== SpanKind.CONSUMER) return NO_SPAN;
        const isOrphan = options.kind === SpanKind.CONSUMER && parent === undefined;
        return tidied(tracer.startSpan(name, { ...options, root: isOrphan }, parent) as BullMQOTelSpan);
      },
    },
  };
}

function tidied(span: BullMQOTelSpan): QueueSpan {
  return {
    setSpanOnContext: (context: Context) => span.setSpanOnContext(context),
    setAttribute: (key, value) => span.setAttributes(tidy({ [key]: value })),
    setAttributes: (attributes) => span.setAttributes(tidy(attributes)),
    addEvent: (event, attributes = {}) => span.addEvent(event, tidy(attributes)),
    recordException: (exception) => failSpan(span.span, exception),
    end: () => span.end(),
  };
}

function tidy(attributes: QueueAttributes): QueueAttributes {
  const kept = Object.entries(attributes)
    .filter(([name]) => !LEFT_OUT.has(name))
    .map(([name, value]) => [name, typeof value === 'string' ? redact(value) : value]);
  const jobId = attributes[TelemetryAttributes.JobId];
  const session = typeof jobId === 'string' ? sessionOfJob(jobId) : undefined;
  return {
    ...Object.fromEntries(kept),
    ...(session && { [ATTR.sessionId]: session.sessionId, [ATTR.botId]: session.botId }),
  };
}

/** A span that is not exported; its children belong to the active span. */
const NO_SPAN: QueueSpan = {
  setSpanOnContext: (context: Context) => context,
  setAttribute() {},
  setAttributes() {},
  addEvent() {},
  recordException() {},
  end() {},
};
