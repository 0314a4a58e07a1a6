import type { DiagLogger } from '@opentelemetry/api';
import { type ExportResult, ExportResultCode } from '@opentelemetry/core';
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtobufExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import type { SpanExporter } from '@opentelemetry/sdk-trace';
import type { TracesConfig } from '../config/config.ts';
import type { Logger } from '../log.ts';

/** What sends spans, and tells how that goes. */
export interface WatchedExporter {
  readonly exporter: SpanExporter;
  /** Tells that spans can't be sent, unless that is known. */
  fail(reason: string | undefined): void;
}

/**
 * Sends spans where the environment says. That they can't be sent is told once, and once more when they can be
 * again: traces are for onlookers, and archiving goes on without them.
 */
export function createExporter({ protocol }: TracesConfig, log: Logger): WatchedExporter {
  const exporter: SpanExporter = protocol === 'http/json' ? new JsonExporter() : new ProtobufExporter();
  let isFailing = false;
  const fail = (reason: string | undefined) => {
    if (isFailing) return;
    isFailing = true;
    log.warn({ reason }, 'traces cannot be sent; archiving goes on, without further warnings about them');
  };
  const tell = ({ code, error }: ExportResult) => {
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
          tell(result);
          done(result);
        }),
      shutdown: () => exporter.shutdown(),
      forceFlush: async () => exporter.forceFlush?.(),
    },
  };
}

/**
 * What OpenTelemetry says of itself, in our log: each warning once, whatever numbers are in it. Its errors are failed
 * exports, which {@link createExporter} tells.
 */
export function createDiagLogger(log: Logger): DiagLogger {
  const said = new Set<string>();
  const debug = (...parts: unknown[]) => log.debug({ from: 'OpenTelemetry' }, parts.map(String).join(' '));
  return {
    error: debug,
    warn(...parts: unknown[]) {
      const text = parts.map(String).join(' ');
      const kind = text.replace(/\d+/g, '#');
      if (said.has(kind)) return debug(text);
      said.add(kind);
      log.warn({ from: 'OpenTelemetry' }, text);
    },
    info: debug,
    debug,
    verbose: debug,
  };
}
