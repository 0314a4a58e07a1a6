/** Loads OpenTelemetry: imported only where traces are wanted. */

import { context, type DiagLogger, DiagLogLevel, diag, propagation, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { type ExportResult, ExportResultCode, W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtobufExporter } from '@opentelemetry/exporter-trace-otlp-proto';
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
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import { ATTR_SERVICE_NAME, ATTR_SERVICE_VERSION } from '@opentelemetry/semantic-conventions';
import type { TracesConfig } from '../../config/config.ts';
import { withinTime } from '../../util/async.ts';
import { createProxyAgents, proxyFor } from '../../util/http-proxy.ts';
import type { Logger } from '../../util/log.ts';
import { VERSION } from '../../util/process.ts';
import { traceObservers, traceParts } from './observers.ts';
import { createQueueTelemetry, createRequestTracer } from './spans.ts';
import type { Tracing } from './tracing.ts';

const NAME = 'voicemail-archiver';
/** Spans that wait to be sent; while the collector is unavailable, what comes beyond them is dropped. */
const MAX_WAITING_SPANS = 4_096;
/** Longer than any text of this program; longer texts from outside are cut. */
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

/** Sends spans, and logs whether that works. */
interface WatchedExporter {
  readonly exporter: SpanExporter;
  /** Logs that spans can't be sent, unless that was logged already. */
  fail(reason: string | undefined): void;
}

/**
 * Sends spans where the environment says. A failure is logged once, and so is its end. Archiving goes on without
 * traces.
 */
function createExporter({ protocol, endpoint, proxy }: TracesConfig, log: Logger): WatchedExporter {
  const via = proxyFor(endpoint, proxy);
  const agents = via === undefined ? undefined : createProxyAgents(via, { keepAlive: true });
  const options = agents && {
    httpAgentOptions: (scheme: string) => (scheme === 'http:' ? agents.httpAgent : agents.httpsAgent),
  };
  const exporter: SpanExporter =
    protocol === 'http/json' ? new JsonExporter(options) : new ProtobufExporter(options);
  let isFailing = false;
  const fail = (reason: string | undefined) => {
    if (isFailing) return;
    isFailing = true;
    log.warn({ reason }, 'traces cannot be sent; archiving goes on, without further warnings about them');
  };
  const report = ({ code, error }: ExportResult) => {
    // Without the error itself, which carries the collector's answer.
    if (code !== ExportResultCode.SUCCESS) return fail(error?.message || error?.name);
    if (isFailing) log.info('traces are being sent again');
    isFailing = false;
  };
  return {
    fail,
    exporter: {
      export: (spans, done) =>
        exporter.export(spans, (result) => {
          report(result);
          done(result);
        }),
      shutdown: () => exporter.shutdown(),
      forceFlush: async () => exporter.forceFlush?.(),
    },
  };
}

/**
 * Writes OpenTelemetry's own warnings into the log, each once, whatever numbers are in it. Its errors are failed
 * exports, which {@link createExporter} logs.
 */
function createDiagLogger(log: Logger): DiagLogger {
  const logged = new Set<string>();
  const debug = (...parts: unknown[]) => log.debug({ from: 'OpenTelemetry' }, parts.map(String).join(' '));
  return {
    error: debug,
    warn(...parts: unknown[]) {
      const text = parts.map(String).join(' ');
      const kind = text.replace(/\d+/g, '#');
      if (logged.has(kind)) return debug(text);
      logged.add(kind);
      log.warn({ from: 'OpenTelemetry' }, text);
    },
    info: debug,
    debug,
    verbose: debug,
  };
}
