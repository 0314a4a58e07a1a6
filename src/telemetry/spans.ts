import { type Attributes, type Span, type SpanKind, SpanStatusCode, type Tracer } from '@opentelemetry/api';
import { ATTR_ERROR_TYPE } from '@opentelemetry/semantic-conventions';
import { failureReason } from '../jobs/view.ts';
import { redact } from '../redact.ts';
import { asArchiverError } from '../workers/outcome.ts';

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

/** Does a piece of work within a span, which tells how it failed. */
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

/** Marks a span as failed, by the error's code and what may be told of it anywhere. */
export function failSpan(span: Span, thrown: unknown): void {
  const { code, message } = asArchiverError(thrown);
  span.setAttribute(ATTR_ERROR_TYPE, code);
  span.setStatus({ code: SpanStatusCode.ERROR, message: redact(failureReason(code, message)) });
}
