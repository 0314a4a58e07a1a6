import { SpanStatusCode, trace } from '@opentelemetry/api';
import { ATTR_ERROR_TYPE, ATTR_HTTP_RESPONSE_STATUS_CODE } from '@opentelemetry/semantic-conventions';
import { ATTR } from './spans.ts';
import type { WorkObservers } from './tracing.ts';

/**
 * Observers that note what they hear with the span in which it happens, and hand it on to others. Bytes are only
 * handed on: they come far too often.
 */
export function traceObservers(others: WorkObservers | undefined): WorkObservers {
  const { worker, transfer, kore } = others ?? {};
  const active = () => trace.getActiveSpan();
  return {
    worker: {
      onArchived(session) {
        active()?.setAttributes({
          [ATTR.outcome]: session.alreadyArchived ? 'already-archived' : 'archived',
          'voicemail.recordings': session.recordings,
          'voicemail.bytes': session.bytes,
          'voicemail.transcript': session.transcript,
        });
        worker?.onArchived?.(session);
      },
      onAttemptFailed(failed) {
        const { code, verdict } = failed;
        const span = active();
        span?.setAttributes({ [ATTR.outcome]: verdict, [ATTR.code]: code });
        // To wait is what sessions are meant to do where something is not there yet.
        if (verdict !== 'wait') {
          span?.setAttribute(ATTR_ERROR_TYPE, code);
          span?.setStatus({ code: SpanStatusCode.ERROR, message: code });
        }
        worker?.onAttemptFailed?.(failed);
      },
      onTranscriptSettled(state) {
        active()?.setAttributes({ [ATTR.outcome]: 'settled', 'voicemail.transcript': state });
        worker?.onTranscriptSettled?.(state);
      },
    },
    transfer: {
      onStart(secondsToExpiry) {
        active()?.addEvent('download started', { 'voicemail.download.seconds_to_expiry': secondsToExpiry });
        transfer?.onStart?.(secondsToExpiry);
      },
      ...(transfer?.onBytes && { onBytes: transfer.onBytes }),
      onResume() {
        active()?.addEvent('download resumed');
        transfer?.onResume?.();
      },
      onUrlRefresh() {
        active()?.addEvent('url refreshed');
        transfer?.onUrlRefresh?.();
      },
      onDone(times) {
        active()?.setAttributes({
          'voicemail.download.seconds': times.downloadSeconds,
          'voicemail.upload.seconds': times.uploadSeconds,
        });
        transfer?.onDone?.(times);
      },
    },
    kore: {
      onCall(outcome) {
        const { status } = outcome;
        if (status !== undefined) active()?.setAttribute(ATTR_HTTP_RESPONSE_STATUS_CODE, status);
        kore?.onCall(outcome);
      },
      onWait(seconds) {
        active()?.setAttribute('voicemail.call_limit.wait_seconds', seconds);
        kore?.onWait(seconds);
      },
    },
  };
}
