import { Counter, Histogram, type Registry } from 'prom-client';
import { ERROR_CODES } from '../../domain/errors.ts';
import { NOTIFICATION_EVENTS } from '../../domain/notifications.ts';
import type { CallOutcome } from '../../kore/client.ts';
import type { NotificationObserver } from '../../notifications/worker.ts';
import type { TransferObserver } from '../../transfer/transfer.ts';
import type { WorkerObserver } from '../../workers/worker-deps.ts';

/** The `code` of what is no failure. A label without a value would be the same as no label. */
const NO_CODE = 'none';

/** While these last, sessions wait between tries and nothing is archived: an alert uses them. */
const OUTAGES = ['KORE_UNAVAILABLE', 'ARCHIVE_UNAVAILABLE', 'ARCHIVE_DENIED'] as const;
const DURATION_BUCKETS_S = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600];

/** Metrics of sessions and their transcripts, fed by the worker. */
export function createSessionMetrics(registry: Registry): Required<WorkerObserver> {
  const registers = [registry];
  const sessions = new Counter({
    name: 'voicemail_sessions_total',
    help: 'Sessions that ended, by outcome (archived, already-archived, failed) and error code (none where there is none).',
    labelNames: ['outcome', 'code'],
    registers,
  });
  const failedAttempts = new Counter({
    name: 'voicemail_attempts_failed_total',
    help: 'Attempts that failed, by work (session, or transcript awaited), error code, and what follows (wait: checked again without using up an attempt; retry; fail: given up).',
    labelNames: ['work', 'code', 'verdict'],
    registers,
  });
  const partial = new Counter({
    name: 'voicemail_sessions_partial_total',
    help: 'Sessions that failed with some recordings archived and others missing; they are also counted as failed.',
    registers,
  });
  const withoutVoicemail = new Counter({
    name: 'voicemail_sessions_without_voicemail_total',
    help: 'Sessions queued as a maybe (an event, --maybe, a listing without a voicemail flag) that have no voicemail.',
    registers,
  });
  const duration = new Histogram({
    name: 'voicemail_session_archive_duration_seconds',
    help: 'Time from taking a session to having it archived, in the attempt that succeeded; sessions that were archived before are left out.',
    buckets: DURATION_BUCKETS_S,
    registers,
  });
  const recordings = new Counter({
    name: 'voicemail_recordings_archived_total',
    help: 'Recordings of the sessions archived.',
    registers,
  });
  const bytes = new Counter({
    name: 'voicemail_recordings_archived_bytes_total',
    help: 'Bytes of the recordings of the sessions archived.',
    registers,
  });
  const transcripts = new Counter({
    name: 'voicemail_transcripts_total',
    help: 'Transcripts that were settled, by state: archived, or absent when none came in time (TRANSCRIPT_WAIT).',
    labelNames: ['state'],
    registers,
  });

  // Prometheus sees no increase in a series that begins at 1: series that alerts use begin at 0.
  for (const outcome of ['archived', 'already-archived']) sessions.inc({ outcome, code: NO_CODE }, 0);
  for (const work of ['session', 'transcript']) {
    failedAttempts.inc({ work, code: 'KORE_UNAUTHORIZED', verdict: 'wait' }, 0);
  }
  for (const code of OUTAGES) failedAttempts.inc({ work: 'session', code, verdict: 'wait' }, 0);
  for (const code of ERROR_CODES) {
    sessions.inc({ outcome: 'failed', code }, 0);
    failedAttempts.inc({ work: 'transcript', code, verdict: 'fail' }, 0);
  }
  for (const state of ['archived', 'absent']) transcripts.inc({ state }, 0);

  return {
    onArchived(session) {
      if (session.alreadyArchived) {
        sessions.inc({ outcome: 'already-archived', code: NO_CODE });
        return;
      }
      sessions.inc({ outcome: 'archived', code: NO_CODE });
      duration.observe(session.seconds);
      recordings.inc(session.recordings);
      bytes.inc(session.bytes);
      // One that is pending is counted when it is settled.
      if (session.transcript !== 'pending') transcripts.inc({ state: session.transcript });
    },
    onAttemptFailed({ work, code, verdict }) {
      failedAttempts.inc({ work, code, verdict });
      if (work === 'session' && verdict === 'fail') sessions.inc({ outcome: 'failed', code });
    },
    onPartial: () => partial.inc(),
    onWithoutVoicemail: () => withoutVoicemail.inc(),
    onTranscriptSettled(state) {
      transcripts.inc({ state });
    },
  };
}

/** What transfers report to. */
export type TransferMetrics = Required<TransferObserver>;

/** The first bucket holds downloads whose URL had expired already. */
const EXPIRY_BUCKETS_S = [0, 5, 15, 60, 300, 900, 3_600, 21_600, 86_400, 172_800];
const TRANSFER_BUCKETS_S = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600];

/** Metrics of downloads and uploads, fed by the transfers. */
export function createTransferMetrics(registry: Registry): TransferMetrics {
  const registers = [registry];
  const started = new Counter({
    name: 'voicemail_downloads_started_total',
    help: 'Downloads begun, by whether the expiry of the URL is known or unknown. A restarted download counts again.',
    labelNames: ['expiry'],
    registers,
  });
  const timeToExpiry = new Histogram({
    name: 'voicemail_download_time_to_expiry_seconds',
    help: "Time left until the URL's expiry when a download began, where it is known; negative when it had passed, so the sum is no counter.",
    buckets: EXPIRY_BUCKETS_S,
    registers,
  });
  const bytes = new Counter({
    name: 'voicemail_download_bytes_total',
    help: 'Bytes received from media servers, those of broken and repeated downloads included.',
    registers,
  });
  const resumes = new Counter({
    name: 'voicemail_download_resumes_total',
    help: 'Broken downloads that went on where they had stopped.',
    registers,
  });
  const refreshes = new Counter({
    name: 'voicemail_download_url_refreshes_total',
    help: 'Times that fresh metadata was fetched because a URL had expired, was refused, or led to something unusable.',
    registers,
  });
  const downloadTime = new Histogram({
    name: 'voicemail_recording_download_seconds',
    help: 'Time that the transfer of a stored recording waited for its source.',
    buckets: TRANSFER_BUCKETS_S,
    registers,
  });
  const uploadTime = new Histogram({
    name: 'voicemail_recording_upload_seconds',
    help: 'Time that the transfer of a stored recording waited for the archive.',
    buckets: TRANSFER_BUCKETS_S,
    registers,
  });
  for (const expiry of ['known', 'unknown']) started.inc({ expiry }, 0);

  return {
    onStart(secondsToExpiry) {
      started.inc({ expiry: secondsToExpiry === undefined ? 'unknown' : 'known' });
      if (secondsToExpiry !== undefined) timeToExpiry.observe(secondsToExpiry);
    },
    onBytes: (count) => bytes.inc(count),
    onResume: () => resumes.inc(),
    onUrlRefresh: () => refreshes.inc(),
    onDone({ downloadSeconds, uploadSeconds }) {
      downloadTime.observe(downloadSeconds);
      uploadTime.observe(uploadSeconds);
    },
  };
}

/** What the Kore client and the limit on its calls report to. */
export interface KoreMetrics {
  /** A call ended. */
  onCall(outcome: CallOutcome): void;
  /** A call waited for the rate limit, for that time. */
  onWait(seconds: number): void;
}

/** The `status` of a call that got no answer. */
const NO_STATUS = 'none';
const CALL_DURATION_BUCKETS_S = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
/** A call that would wait longer goes back into the queue with its session. */
const WAIT_BUCKETS_S = [0.05, 0.1, 0.25, 0.5, 1, 2, 3];

/** Metrics of the calls to Kore. */
export function createKoreMetrics(registry: Registry): KoreMetrics {
  const registers = [registry];
  const calls = new Counter({
    name: 'voicemail_kore_calls_total',
    help: 'Calls of the Kore API, by HTTP status (none when no answer came) and error code (none when the call succeeded, or was cancelled).',
    labelNames: ['status', 'code'],
    registers,
  });
  const duration = new Histogram({
    name: 'voicemail_kore_call_duration_seconds',
    help: 'Time from sending a call of the Kore API to its end, without the wait for the rate limit.',
    buckets: CALL_DURATION_BUCKETS_S,
    registers,
  });
  const waits = new Histogram({
    name: 'voicemail_kore_call_limit_wait_seconds',
    help: 'Time that calls of the Kore API waited for the rate limit (KORE_RATE_LIMIT); those that did not wait are left out.',
    buckets: WAIT_BUCKETS_S,
    registers,
  });

  return {
    onCall({ status, code, milliseconds }) {
      calls.inc({ status: status ?? NO_STATUS, code: code ?? NO_CODE });
      duration.observe(milliseconds / 1000);
    },
    onWait: (seconds) => waits.observe(seconds),
  };
}

/** What the archive's bucket reports to. */
export interface ArchiveMetrics {
  /** A small request that was sent without the SDK was not fulfilled and is sent again by it. */
  onFallback(): void;
}

/** Metrics of an archive in a bucket. */
export function createArchiveMetrics(registry: Registry): ArchiveMetrics {
  const fallbacks = new Counter({
    name: 'voicemail_s3_fallbacks_total',
    help: 'Small requests to the bucket that were answered in another way than expected, or not at all, and were sent again by the AWS SDK.',
    registers: [registry],
  });
  return { onFallback: () => fallbacks.inc() };
}

/** What a notification to the webhook was. */
const NOTIFICATIONS = ['voicemail', 'maybe', 'replayed', 'other-event', 'no-session'] as const;

/** What the webhook reports to. */
export interface WebhookMetrics {
  /** An authentic notification came. */
  onNotification(outcome: (typeof NOTIFICATIONS)[number]): void;
}

/** Metrics of the notifications that came to the webhook. */
export function createWebhookMetrics(registry: Registry): WebhookMetrics {
  const notifications = new Counter({
    name: 'voicemail_webhook_notifications_total',
    help: 'Authentic notifications, by outcome: voicemail; maybe (the end of a conversation); replayed (a signed body that came before); other-event (of a conversation that goes on: nothing to do); no-session (refused, as it names none).',
    labelNames: ['outcome'],
    registers: [registry],
  });
  for (const outcome of NOTIFICATIONS) notifications.inc({ outcome }, 0);
  return { onNotification: (outcome) => notifications.inc({ outcome }) };
}

const OUTCOMES = ['delivered', 'failed', 'given-up'] as const;

/** Metrics of the notifications that are sent (NOTIFY_URL). */
export function createNotificationMetrics(registry: Registry): NotificationObserver {
  const attempts = new Counter({
    name: 'voicemail_notification_attempts_total',
    help: 'Attempts to deliver a notification (NOTIFY_URL), by event and outcome: delivered; failed, and made again; given-up, as it has failed for a day.',
    labelNames: ['event', 'outcome'],
    registers: [registry],
  });
  for (const event of NOTIFICATION_EVENTS) {
    for (const outcome of OUTCOMES) attempts.inc({ event, outcome }, 0);
  }
  return { onNotification: (event, outcome) => attempts.inc({ event, outcome }) };
}
