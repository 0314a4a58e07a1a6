import { SpanKind, SpanStatusCode, type Tracer, trace } from '@opentelemetry/api';
import {
  ATTR_ERROR_TYPE,
  ATTR_HTTP_RESPONSE_STATUS_CODE,
  ATTR_SERVER_ADDRESS,
} from '@opentelemetry/semantic-conventions';
import type { TransferredRecording } from '../../domain/recording.ts';
import type { SessionRef } from '../../domain/session.ts';
import type { ArchiveStore } from '../../storage/store.ts';
import type { Transfer } from '../../transfer/transfer.ts';
import { FAILURE_RULES } from '../../workers/failure-policy.ts';
import { ATTR, inSpan } from './spans.ts';
import type { TracedParts, WorkObservers } from './tracing.ts';

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
        // To wait is what sessions are meant to do where something is not there yet; an outage is a fault.
        if (verdict !== 'wait' || FAILURE_RULES[code].dependency !== undefined) {
          span?.setAttribute(ATTR_ERROR_TYPE, code);
          span?.setStatus({ code: SpanStatusCode.ERROR, message: code });
        }
        worker?.onAttemptFailed?.(failed);
      },
      onWithoutVoicemail() {
        active()?.setAttributes({ [ATTR.outcome]: 'without-voicemail' });
        worker?.onWithoutVoicemail?.();
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

/** Wraps the parts that archiving works with, so that what they do shows as spans; the parts know nothing of it. */
export function traceParts(tracer: Tracer, { fetchVoicemail, transfer, store }: TracedParts): TracedParts {
  return {
    fetchVoicemail: (session, callClass, signal) =>
      inSpan(
        tracer,
        { name: 'kore voicemail', kind: SpanKind.CLIENT, attributes: about(session), signal },
        async (span) => {
          const voicemail = await fetchVoicemail(session, callClass, signal);
          span.setAttributes({
            'voicemail.readiness': voicemail.readiness,
            'voicemail.recordings': voicemail.recordings.length,
            'voicemail.transcript.messages': voicemail.transcriptions.length,
          });
          return voicemail;
        },
      ),
    transfer: traceTransfer(tracer, transfer, store),
    store: traceStore(tracer, store),
  };
}

function traceTransfer(tracer: Tracer, transfer: Transfer, store: ArchiveStore): Transfer {
  return (request, signal) => {
    const attributes = {
      [ATTR.key]: store.fullKey(request.key),
      [ATTR_SERVER_ADDRESS]: hostOf(request.recording.fileUrl),
    };
    return inSpan(
      tracer,
      { name: 'transfer recording', kind: SpanKind.INTERNAL, attributes, signal },
      async (span) => {
        const transferred = await transfer(request, signal);
        span.setAttributes(recordingAttributes(transferred));
        return transferred;
      },
    );
  };
}

function recordingAttributes(recording: TransferredRecording) {
  return {
    // A refresh may have led elsewhere.
    [ATTR_SERVER_ADDRESS]: recording.source.host,
    'voicemail.recording.bytes': recording.bytes,
    'voicemail.recording.content_type': recording.contentType,
    'voicemail.recording.container': recording.audio?.container,
    'voicemail.recording.duration_seconds': recording.audio?.durationSeconds,
    'voicemail.download.seconds_to_expiry': recording.secondsToExpiry,
    'voicemail.download.resumes': recording.resumes,
    'voicemail.download.url_refreshes': recording.urlRefreshes,
  };
}

/** Documents alone: recordings are written by transfers, which have their own spans. */
function traceStore(tracer: Tracer, store: ArchiveStore): ArchiveStore {
  const span = (verb: string, key: string, signal: AbortSignal) => ({
    name: `${verb} ${documentName(key)}`,
    kind: SpanKind.CLIENT,
    attributes: { [ATTR.key]: store.fullKey(key) },
    signal,
  });
  return {
    ...store,
    read: (key, signal, maxBytes) =>
      inSpan(tracer, span('read', key, signal), async (active) => {
        const bytes = await store.read(key, signal, maxBytes);
        active.setAttribute('voicemail.document.found', bytes !== undefined);
        return bytes;
      }),
    write: (key, body, info, mode, signal) =>
      inSpan(tracer, span('write', key, signal), async (active) => {
        active.setAttribute('voicemail.document.bytes', body.length);
        return store.write(key, body, info, mode, signal);
      }),
  };
}

/** `manifest`, `transcript`. */
function documentName(key: string): string {
  return key.slice(key.lastIndexOf('/') + 1).replace(/\.json$/, '');
}

/** Nothing but the host: the rest of a signed URL is a secret. */
function hostOf(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).host : undefined;
}

function about({ sessionId, botId }: SessionRef) {
  return { [ATTR.sessionId]: sessionId, [ATTR.botId]: botId };
}
