/** Loads OpenTelemetry: imported only where traces are wanted. */

import { context, DiagLogLevel, diag, propagation, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
  serviceInstanceIdDetector,
} from '@opentelemetry/resources';
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import { ATTR_SERVICE_NAME, ATTR_SERVICE_VERSION } from '@opentelemetry/semantic-conventions';
import type { TracesConfig } from '../config/config.ts';
import type { Logger } from '../log.ts';
import { VERSION } from '../version.ts';
import { withinTime } from '../within-time.ts';
import { createDiagLogger, createExporter, type WatchedExporter } from './exporter.ts';
import { traceObservers } from './observers.ts';
import { traceParts } from './parts.ts';
import { createQueueTelemetry } from './queue.ts';
import { createRequestTracer } from './requests.ts';
import type { Tracing } from './tracing.ts';

const NAME = 'voicemail-archiver';
/** Spans that wait to be sent; while the collector is away, what comes beyond them is dropped. */
const MAX_WAITING_SPANS = 4_096;
/** No text of ours is longer; what comes from outside is cut. */
const MAX_ATTRIBUTE_CHARACTERS = 1_024;
/** How long the end of the program may wait for the collector. */
const CLOSE_WAIT_MS = 3_000;

/**
 * Starts tracing, once per process, as bullmq-otel finds OpenTelemetry by what is registered for the whole process.
 *
 * Where to send to, headers, timeouts, compression and certificates come from the environment, which the SDK reads
 * itself: https://opentelemetry.io/docs/specs/otel/protocol/exporter/
 */
export function startTracing(config: TracesConfig, log: Logger): Tracing {
  diag.setLogger(createDiagLogger(log), { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  // Without baggage, which is text of strangers and would be kept in the queue.
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  const { exporter, fail } = createExporter(config, log);
  const provider = new TracerProvider({
    resource: defaultResource()
      .merge(resourceFromAttributes({ [ATTR_SERVICE_NAME]: NAME, [ATTR_SERVICE_VERSION]: VERSION }))
      .merge(detectResources({ detectors: [serviceInstanceIdDetector, envDetector] })),
    sampler: createSampler(config),
    spanLimits: { attributeValueLengthLimit: MAX_ATTRIBUTE_CHARACTERS },
    spanProcessors: [new BatchSpanProcessor({ exporter, maxQueueSize: MAX_WAITING_SPANS })],
  });
  trace.setGlobalTracerProvider(provider);
  const tracer = provider.getTracer(NAME, VERSION);
  return {
    queue: createQueueTelemetry(NAME, VERSION),
    requests: createRequestTracer(tracer),
    traceParts: (parts) => traceParts(tracer, parts),
    observers: traceObservers,
    async close() {
      await shutDown(provider, fail);
      trace.disable();
      propagation.disable();
      context.disable();
      diag.disable();
    },
  };
}

async function shutDown(provider: TracerProvider, fail: WatchedExporter['fail']): Promise<void> {
  const ending = provider
    .shutdown()
    .catch((error: unknown) => fail(error instanceof Error ? error.message : String(error)));
  if (!(await withinTime(ending, CLOSE_WAIT_MS))) fail('the collector takes too long');
}

function createSampler({ sampler, samplerRatio }: TracesConfig): Sampler {
  switch (sampler) {
    case 'always_on':
      return new AlwaysOnSampler();
    case 'always_off':
      return new AlwaysOffSampler();
    case 'traceidratio':
      return new TraceIdRatioBasedSampler(samplerRatio);
    case 'parentbased_always_on':
      return new ParentBasedSampler({ root: new AlwaysOnSampler() });
    case 'parentbased_always_off':
      return new ParentBasedSampler({ root: new AlwaysOffSampler() });
    case 'parentbased_traceidratio':
      return new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(samplerRatio) });
  }
}
