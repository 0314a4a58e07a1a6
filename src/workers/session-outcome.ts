/** The outcome of a session, as it is sent to receivers outside. */

import type { ArchivedOutcome, FailedOutcome } from '../domain/notifications.ts';
import type { SessionRef } from '../domain/session.ts';
import type { TakenJob } from '../jobs/consumer.ts';
import { failureEvent, noteEvent } from '../jobs/session-history.ts';
import type { SessionJobProgress } from '../jobs/session-job.ts';
import {
  type Manifest,
  type PartialManifest,
  readPartialManifest,
  resultOf,
  revisionOf,
  viewOfMissing,
  viewOfRecording,
} from '../storage/documents.ts';
import type { ArchiveStore } from '../storage/store.ts';
import type { Logger } from '../util/log.ts';
import type { Outcome } from './failure-policy.ts';

/** An archived session, by its manifest. */
export function outcomeOfArchived(
  { botId, sessionId }: SessionRef,
  manifest: Manifest,
  store: ArchiveStore,
): ArchivedOutcome {
  const { sha256 } = manifest.transcript;
  return {
    kind: 'archived',
    botId,
    sessionId,
    archivedAt: manifest.archivedAt,
    revision: revisionOf(manifest),
    ...resultOf(manifest, { botId, sessionId }, store),
    ...(sha256 !== undefined && { transcriptSha256: sha256 }),
  };
}

/**
 * The outcome of a failed attempt. Where a worker gave the session up before, and ended before it could report that to
 * the queue, it has the earlier time: it is the same failure. A job that goes on always has a time of its next attempt,
 * and one that is retried by hand begins without any error.
 */
export function withFirstFailure(outcome: Outcome, before: SessionJobProgress): Outcome {
  const { error } = outcome.progress;
  if (outcome.verdict.kind !== 'fail' || !error || !before.error || before.nextAttemptAt) return outcome;
  return { ...outcome, progress: { ...outcome.progress, error: { ...error, at: before.error.at } } };
}

/** A session that is given up, with what could be saved of it; `undefined` where nothing is known of its failure. */
export async function outcomeOfFailed(
  { data, attemptsMade }: TakenJob,
  { progress: { error } }: Outcome,
  { store, log }: { readonly store: ArchiveStore; readonly log: Logger },
  signal: AbortSignal,
): Promise<FailedOutcome | undefined> {
  if (!error) return undefined;
  const { botId, sessionId } = data;
  const partial = await readSaved({ botId, sessionId }, store, log, signal);
  return {
    kind: 'failed',
    botId,
    sessionId,
    attempts: attemptsMade + 1,
    error,
    ...(partial && {
      recordings: partial.recordings.map(viewOfRecording),
      missing: partial.missing.map(viewOfMissing),
    }),
  };
}

/** The outcome of a failed attempt, with what the session's history says of it. */
export function withHistory(
  outcome: Outcome,
  { progress: { history = [] } }: TakenJob,
  settled: FailedOutcome | undefined,
): Outcome {
  const { error, nextAttemptAt } = outcome.progress;
  if (!error) return outcome;
  const { recordings, missing = [] } = settled ?? {};
  const saved = recordings && { saved: recordings.length, missing: missing.length };
  const end = nextAttemptAt === undefined ? saved : { until: nextAttemptAt };
  return {
    ...outcome,
    progress: {
      ...outcome.progress,
      ...(recordings && { partial: true }),
      history: noteEvent(history, failureEvent(error, end)),
    },
  };
}

/** An archive that can't be read is no reason to keep a failure back, and is often the reason of it. */
async function readSaved(
  session: SessionRef,
  store: ArchiveStore,
  log: Logger,
  signal: AbortSignal,
): Promise<PartialManifest | undefined> {
  try {
    return await readPartialManifest(session, store, signal);
  } catch (error) {
    signal.throwIfAborted();
    log.warn({ session: session.sessionId, err: error }, 'could not look what was saved of a failed session');
    return undefined;
  }
}
