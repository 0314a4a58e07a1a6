import { Counter, Histogram, type Registry } from 'prom-client';
import { ERROR_CODES } from '../errors.ts';
import type { WorkerObserver } from '../workers/observer.ts';
import { NO_CODE } from './labels.ts';

/** While these last, sessions wait between tries and nothing is archived: an alert looks at them. */
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
    help: 'Attempts that failed, by work (session, or transcript awaited), error code, and what follows (wait: looked at again without using up an attempt; retry; fail: given up).',
    labelNames: ['work', 'code', 'verdict'],
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

  // Prometheus sees no increase in a series that begins at 1: what alerts look at begins at 0.
  for (const outcome of ['archived', 'already-archived']) sessions.inc({ outcome, code: NO_CODE }, 0);
  for (const work of ['session', 'transcript']) {
    failedAttempts.inc({ work, code: 'KORE_UNAUTHORIZED', verdict: 'wait' }, 0);
  }
  for (const code of OUTAGES) failedAttempts.inc({ work: 'session', code, verdict: 'retry' }, 0);
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
    onTranscriptSettled(state) {
      transcripts.inc({ state });
    },
  };
}
