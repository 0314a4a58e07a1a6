/** The work of a job: archive its session, or check the archived session again. */

import type { TransferProgress } from '../domain/views.ts';
import type { JobDecision, TakenJob } from '../jobs/consumer.ts';
import { LockLostError } from '../jobs/job-lock.ts';
import { isMaybe, type SessionJobProgress } from '../jobs/session-job.ts';
import { isErased } from '../storage/custody-records.ts';
import { revisionOf } from '../storage/documents.ts';
import { isTombstoneName, sessionPrefix } from '../storage/layout.ts';
import type { Logger } from '../util/log.ts';
import { archiveSession } from './archive-session.ts';
import { unlessErased } from './custody.ts';
import type { DependentParts } from './dependencies.ts';
import { isUncertain } from './recheck-recordings.ts';
import { outcomeOfArchived } from './session-outcome.ts';
import { firstSettleDelay, nextSettleCheck, type SettleResult, settleSession } from './settle.ts';
import type { WorkerDeps } from './worker-deps.ts';

/** A session's progress is written to the queue this often at most. */
const PROGRESS_INTERVAL_MS = 1_000;

/** Writes a session's progress to its job, not more often than makes sense: most are done before the first time. */
class ProgressWriter {
  readonly #job: TakenJob;
  readonly #log: Logger;
  #writing = Promise.resolve();
  #wroteAt = Date.now();

  constructor(job: TakenJob, log: Logger) {
    this.#job = job;
    this.#log = log;
  }

  update(transfer: TransferProgress): void {
    if (Date.now() - this.#wroteAt < PROGRESS_INTERVAL_MS) return;
    this.#wroteAt = Date.now();
    const progress: SessionJobProgress = { ...this.#job.progress, transfer };
    this.#writing = this.#writing
      .then(() => this.#job.saveProgress(progress))
      .catch((error: unknown) => {
        // The job is aborted then.
        if (error instanceof LockLostError) return;
        // Progress is for onlookers: the transfer goes on without it.
        this.#log.warn({ err: error }, 'could not write the progress of a session');
      });
  }

  /** Waits until nothing is being written, so that what is written next stays. */
  async end(): Promise<void> {
    await this.#writing;
  }
}

/** Works on a job of one kind. */
export type Handle = (
  job: TakenJob,
  deps: WorkerDeps & DependentParts,
  signal: AbortSignal,
  settleDoubt: boolean,
) => Promise<JobDecision>;

/** Archives a session, and schedules a later check where something may still come. */
export async function handleSession(
  job: TakenJob,
  deps: WorkerDeps,
  signal: AbortSignal,
  settleDoubt: boolean,
): Promise<JobDecision> {
  const { data } = job;
  const began = performance.now();
  const progress = new ProgressWriter(job, deps.log);
  const names = await deps.store.names(sessionPrefix(data), signal);
  const task = {
    ...data,
    names,
    force: data.force === true,
    callClass: data.backfill ? ('background' as const) : ('live' as const),
    isMaybe: isMaybe(data),
    settleDoubt,
  };
  const wasErased = [...names].some(isTombstoneName);
  const result = await unlessErased(data, wasErased, deps, signal, (store) =>
    archiveSession(task, { ...deps, store, onProgress: (transfer) => progress.update(transfer) }, signal),
  ).finally(() => progress.end());
  if (result === 'erased') return { kind: 'forget' };
  // In the manifest now, or not wanted any more: the queue must not hold telephone numbers for longer than necessary.
  const { call, ...rest } = data;
  if (call) await job.replaceData(rest);
  const { alreadyArchived, archivedAt, manifest, ...stored } = result;
  const isDoubtful = manifest.recordings.some(isUncertain);
  const at = { ...data, archivedAt, transcript: stored.transcript, isInDoubt: isDoubtful };
  const checkIn = firstSettleDelay(at, deps.work, deps.now());
  // Before the job is done: if this fails, the session is checked again and finds its manifest.
  if (checkIn !== undefined) await deps.queue.awaitTranscript(data, checkIn);
  await deps.onSettled?.(outcomeOfArchived(data, manifest, deps.store));
  deps.observe?.onArchived?.({
    seconds: (performance.now() - began) / 1000,
    alreadyArchived,
    recordings: stored.recordings.length,
    bytes: stored.recordings.reduce((total, { bytes }) => total + bytes, 0),
    transcript: stored.transcript,
  });
  deps.log.info(
    {
      session: data.sessionId,
      bot: data.botId,
      recordings: stored.recordings.length,
      transcript: stored.transcript,
    },
    alreadyArchived ? 'already archived' : 'archived',
  );
  return { kind: 'done', result: { ...stored, revision: revisionOf(manifest) } };
}

/** Checks an archived session again, for its transcript and for recordings and messages that came late. */
export async function handleTranscript(
  job: TakenJob,
  deps: WorkerDeps,
  signal: AbortSignal,
): Promise<JobDecision> {
  const { data, progress } = job;
  const { transcriptWaitMs, settleWaitMs, retryWaitMs, pollDelayMs } = deps.work;
  const waits = { transcriptWaitMs, settleWaitMs, extraMs: retryWaitMs };
  const wasErased = await isErased(data, deps.store, signal);
  const settled = await unlessErased(data, wasErased, deps, signal, (store) =>
    settleSession(data, waits, { ...deps, store }, signal),
  );
  if (settled === 'erased') return { kind: 'forget' };
  await noteResult(job, settled, deps);
  if (settled.isSettled) return { kind: 'done', result: null };
  const now = deps.now().getTime();
  const dueAt = settled.nextCheckAt?.getTime();
  const next = nextSettleCheck(progress.polls?.RECORDING_NOT_READY, now, {
    pollDelayMs,
    ...(dueAt !== undefined && { dueAt }),
  });
  const until = settled.isAwaiting ? next.at : (dueAt ?? next.at);
  await job.saveProgress({
    polls: { RECORDING_NOT_READY: next.polls },
    nextAttemptAt: new Date(until).toISOString(),
  });
  return { kind: 'wait', until };
}

/** Reports the result of a check to the session's view, the metrics and the log. */
async function noteResult({ data }: TakenJob, settled: SettleResult, deps: WorkerDeps): Promise<void> {
  const { transcript, added, failed, isSettled, result, manifest } = settled;
  const about = { session: data.sessionId, bot: data.botId };
  const hasNewRecordings = added.recordings > 0 || added.better > 0;
  if (transcript !== 'pending' || hasNewRecordings) {
    await deps.queue.noteTranscript(data, transcript, {
      ...(hasNewRecordings && result && { recordings: result.recordings }),
      ...(manifest && { revision: revisionOf(manifest) }),
    });
  }
  const isReported = isSettled || transcript !== 'pending' || hasNewRecordings;
  if (manifest && isReported) await deps.onSettled?.(outcomeOfArchived(data, manifest, deps.store));
  if (settled.hasSettledTranscript && transcript !== 'pending') {
    deps.observe?.onTranscriptSettled?.(transcript);
    deps.log.info({ ...about, transcript }, 'transcript settled');
  }
  if (hasNewRecordings || added.messages > 0) deps.log.info({ ...about, added }, 'late parts archived');
  for (const { fileName, error, isArchived } of failed) {
    if (isArchived) {
      const fault = { ...about, fileName, code: error.code, err: error };
      deps.log.info(fault, 'a recording in doubt could not be downloaded again');
      continue;
    }
    const level = isSettled ? 'error' : 'warn';
    const message = isSettled
      ? 'a late recording could not be saved'
      : 'a late recording will be tried again';
    deps.log[level]({ ...about, fileName, code: error.code, err: error }, message);
  }
}
