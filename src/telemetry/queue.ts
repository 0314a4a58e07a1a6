import { type Context, ROOT_CONTEXT, SpanKind } from '@opentelemetry/api';
import { TelemetryAttributes } from 'bullmq';
import { type BullMQOTelSpan, BullMQOtel } from 'bullmq-otel';
import type { QueueTelemetry } from '../jobs/backend.ts';
import { sessionOfJob } from '../jobs/session-job.ts';
import { redact } from '../redact.ts';
import { ATTR, failSpan } from './spans.ts';

type QueueSpan = ReturnType<QueueTelemetry<Context>['tracer']['startSpan']>;
type QueueAttributes = Parameters<QueueSpan['setAttributes']>[0];

/** A name for each of 10,000 jobs, all the same, and a whole manifest: too much for a span, and of no use in it. */
const LEFT_OUT: ReadonlySet<string> = new Set([TelemetryAttributes.BulkNames, TelemetryAttributes.JobResult]);

/**
 * bullmq-otel, which keeps the trace of whoever adds a job with the job's options, with its output tidied:
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

/** What it stands for does not show, and what it does belongs to whatever was active. */
const NO_SPAN: QueueSpan = {
  setSpanOnContext: (context: Context) => context,
  setAttribute() {},
  setAttributes() {},
  addEvent() {},
  recordException() {},
  end() {},
};
