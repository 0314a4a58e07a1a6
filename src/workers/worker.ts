import type { Rate, WorkConfig } from '../config/config.ts';
import { type ErrorCode, isVoicemailError, VoicemailError } from '../domain/errors.ts';
import type { SessionOutcome } from '../domain/notifications.ts';
import { beganAt, type SessionRef } from '../domain/session.ts';
import type { BreakerView, TranscriptState, TransferProgress } from '../domain/views.ts';
import { type Backend, type QueueTelemetry, QueueUnavailableError } from '../jobs/backends/backend.ts';
import { asQueueError } from '../jobs/backends/connection-errors.ts';
import { Consumer, type JobDecision, type LockTimes, type TakenJob } from '../jobs/consumer.ts';
import { LockLostError } from '../jobs/job-lock.ts';
import { isMaybe, type SessionJobProgress } from '../jobs/session-job.ts';
import { type SessionQueue, transcriptQueueName } from '../jobs/session-queue.ts';
import { isErased } from '../storage/companions.ts';
import { withoutVoicemailKey } from '../storage/completeness-keys.ts';
import { revisionOf } from '../storage/documents.ts';
import { isTombstoneName, sessionPrefix } from '../storage/layout.ts';
import { settleAll, settleInOrder } from '../util/async.ts';
import type { Logger } from '../util/log.ts';
import { type ArchiveDeps, archiveSession } from './archive-session.ts';
import type { BreakerTimes } from './breaker.ts';
import { Complaints } from './complaints.ts';
import { unlessErased } from './custody.ts';
import { Dependencies, type OutsideParts } from './dependencies.ts';
import {
  decideOutcome,
  FAILURE_RULES,
  type FailedAttempt,
  type Outcome,
  settlesDoubt,
  withJitter,
} from './failure-policy.ts';
import { startHeartbeat } from './heartbeat.ts';
import type { WorkerActivity } from './liveness.ts';
import { nextLook } from './look-times.ts';
import { OutageTeller } from './outage-teller.ts';
import { isInDoubt } from './recheck-recordings.ts';
import { archivedOutcome, asFirstTold, failedOutcome, withHistory } from './session-outcome.ts';
import { firstLookIn, type SettleLook, settleSession } from './settle.ts';

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
        // The job is broken off for that.
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

/** A session that has been dealt with: its manifest is there. */
export interface ArchivedWork {
  /** From taking the job to its end. */
  readonly seconds: number;
  /** The archive had it before, so nothing was transferred. */
  readonly alreadyArchived: boolean;
  /** Recordings its manifest names. */
  readonly recordings: number;
  /** Their sizes added up. */
  readonly bytes: number;
  readonly transcript: TranscriptState;
}

/** An attempt that failed, and what becomes of the job. */
export interface FailedWork {
  /** Whether a session was to be archived, or a transcript awaited was looked for. */
  readonly work: 'session' | 'transcript';
  readonly code: ErrorCode;
  /** `wait`: looked at again, no attempt used up; `retry`: tried again; `fail`: given up for good. */
  readonly verdict: 'wait' | 'retry' | 'fail';
}

/** Told of how the work goes, for metrics. */
export interface WorkerObserver {
  /** A session is archived. */
  onArchived?(session: ArchivedWork): void;
  /** An attempt failed; jobs given back at a shutdown are no failures. */
  onAttemptFailed?(failed: FailedWork): void;
  /** A session failed of which some recordings are archived, and others are missing. */
  onPartial?(): void;
  /** A session of which nobody knew whether it has a voicemail has none: the queue forgets it. */
  onWithoutVoicemail?(): void;
  /** A transcript awaited has come, or has been given up. */
  onTranscriptSettled?(state: Exclude<TranscriptState, 'pending'>): void;
}

/** What a worker works with. */
export interface WorkerDeps
  extends Pick<ArchiveDeps, 'fetchVoicemail' | 'hasVoicemail' | 'store' | 'transfer' | 'now'> {
  readonly backend: Backend;
  readonly queue: SessionQueue;
  /** `QUEUE_NAME` */
  readonly queueName: string;
  /** The bot of the configuration (`KORE_BOT_ID`): if Kore refuses even that one, nothing can be archived. */
  readonly defaultBotId: string;
  /** `KORE_RATE_LIMIT`, told to those who ask how it goes. */
  readonly rateLimit?: Rate | undefined;
  readonly work: WorkConfig;
  /** Told of how the work goes, for metrics. */
  readonly observe?: WorkerObserver;
  /**
   * Told what became of a session, before its job ends: if it rejects, the job is worked on again. Told the same again
   * after a crash, and after looks that found nothing new.
   */
  readonly onSettled?: ((outcome: SessionOutcome) => Promise<void>) | undefined;
  /** Follows sessions through the queue, for traces. */
  readonly telemetry?: QueueTelemetry | undefined;
  readonly log: Logger;
  readonly tuning?: WorkerTuning | undefined;
}

/** What tests set otherwise. */
export interface WorkerTuning {
  readonly locks?: LockTimes;
  readonly breakers?: Partial<BreakerTimes>;
}

/** A running worker. */
export interface SessionWorker {
  /** What it is doing, for telling whether it is alive. */
  activity(): WorkerActivity;
  /** How those stand that it depends on. */
  breakers(): readonly BreakerView[];
  /** Resolves when sessions are being taken. */
  ready(): Promise<void>;
  /** Takes nothing new, lets running transfers finish for `SHUTDOWN_GRACE`, gives the rest back, and ends. */
  stop(): Promise<void>;
}

/** Transcripts awaited are looked for a few at a time: they may take long, live sessions may not. */
export const TRANSCRIPT_CONCURRENCY = 4;
/** What a job is about. */
type Work = 'session' | 'transcript';

/** Starts taking sessions from the queue, and looking for transcripts awaited. */
export function startSessionWorker(deps: WorkerDeps): SessionWorker {
  const { backend, queueName, work, log, observe, telemetry, tuning } = deps;
  const consumers: Consumer[] = [];
  const refusedBots = new RefusedBots();
  /** Why sessions were last held for a time. */
  let heldFor: ErrorCode | undefined;
  const complaints = new Complaints(log);
  const dependencies = new Dependencies({
    parts: deps,
    queue: deps.queue,
    consumers: () => consumers,
    log,
    times: tuning?.breakers,
  });
  const onFailure = async (
    about: Work,
    job: TakenJob,
    failure: { readonly thrown: unknown; readonly settledDoubt: boolean },
    signal: AbortSignal,
  ): Promise<JobDecision> => {
    // Cancelled by us, or no longer ours: whatever the attempt died of, it is no fault of the session's.
    if (signal.aborted) return { kind: 'give-back' };
    const { attemptsMade, progress, data } = job;
    const attempt: FailedAttempt = {
      error: failure.thrown,
      attemptsMade,
      progress,
      now: Date.now(),
      settledDoubt: failure.settledDoubt,
      ...(isMaybe(data) && { maybe: { beganAt: beganAt(data) } }),
    };
    const decided = decideOutcome(attempt, work);
    const outcome =
      about === 'transcript'
        ? keepLooking(decided, attempt, work.pollDelayMs)
        : asFirstTold(decided, progress);
    const { error, verdict, holdMs } = outcome;
    if (verdict.kind === 'forget') {
      log.info({ session: data.sessionId, bot: data.botId, code: error.code }, 'no voicemail');
      observe?.onWithoutVoicemail?.();
      await noteWithoutVoicemail(data, deps, signal);
      return verdict;
    }
    // Kore answers 401 for a bot it does not know as well. A session may name any bot, so a wrong one among them
    // must not keep the others waiting.
    const isOneBotsFault = error.code === 'KORE_UNAUTHORIZED' && data.botId !== deps.defaultBotId;
    report(log, complaints, data, outcome, isOneBotsFault);
    if (verdict.kind === 'wait' || verdict.kind === 'retry' || verdict.kind === 'fail') {
      observe?.onAttemptFailed?.({ work: about, code: error.code, verdict: verdict.kind });
    }
    if (holdMs !== undefined && isOneBotsFault) refusedBots.add(data.botId, holdMs);
    else if (holdMs !== undefined) {
      heldFor = error.code;
      await Promise.all(consumers.map((consumer) => consumer.hold(holdMs)));
    }
    if (verdict.kind === 'give-back') return verdict;
    if (about === 'session') dependencies.failed(data, error);
    if (about === 'transcript') return remember(job, outcome, signal);
    const settled =
      verdict.kind === 'fail'
        ? await unlessBroken(failedOutcome(job, outcome, deps, signal), signal)
        : undefined;
    const decision = await remember(job, withHistory(outcome, job, settled), signal);
    if (decision.kind === 'fail') {
      if (settled?.recordings) observe?.onPartial?.();
      if (settled) await deps.onSettled?.(settled);
    }
    return decision;
  };
  const attempt = async (about: Work, handle: Handle, job: TakenJob, signal: AbortSignal) => {
    const settleDoubt = settlesDoubt({ progress: job.progress, now: Date.now() }, work);
    try {
      refusedBots.check(job.data.botId);
      return await dependencies.run(job, signal, (parts, inner) =>
        handle(job, { ...deps, ...parts }, inner, settleDoubt),
      );
    } catch (thrown) {
      if (queueFault(thrown)) throw thrown;
      return onFailure(about, job, { thrown, settledDoubt: settleDoubt }, signal);
    }
  };
  const guarded =
    (about: Work, handle: Handle) =>
    async (job: TakenJob, signal: AbortSignal): Promise<JobDecision> => {
      try {
        return await attempt(about, handle, job, signal);
      } catch (error) {
        const fault = queueFault(error);
        if (!fault) throw error;
        // Neither the session's fault nor this program's: it is taken again once the queue has heard of this.
        dependencies.queueFailed(fault);
        const { sessionId: session, botId: bot } = job.data;
        log.info({ session, bot, err: fault }, 'session waits: the queue could not be reached for it');
        return { kind: 'wait', until: Date.now() + withJitter(work.retryDelayMs) };
      }
    };
  const consumer = (about: Work, name: string, concurrency: number, handle: Handle) =>
    new Consumer(backend, name, {
      concurrency,
      handle: guarded(about, handle),
      onQueueError: (error) => dependencies.queueFailed(error),
      log,
      telemetry,
      gathersWakes: about === 'transcript',
      locks: tuning?.locks,
    });

  const sessions = consumer('session', queueName, work.concurrency, handleSession);
  const transcripts = consumer(
    'transcript',
    transcriptQueueName(queueName),
    TRANSCRIPT_CONCURRENCY,
    handleTranscript,
  );
  consumers.push(sessions, transcripts);
  const teller = new OutageTeller(() => dependencies.views(), deps.queue, log);
  const heartbeat = startHeartbeat({
    board: deps.queue.board,
    tidy: () => deps.queue.tidy(),
    rateLimit: deps.rateLimit,
    state: () => ({
      concurrency: work.concurrency,
      active: sessions.inHand,
      // Infinite while a breaker holds them, which tells why by itself.
      heldFor: Number.isFinite(sessions.heldUntil) ? heldFor : undefined,
      breakers: dependencies.views(),
    }),
    log,
  });

  return {
    activity: () => ({
      lastTakenAt: sessions.lastTakenAt,
      inHand: sessions.inHand,
      concurrency: work.concurrency,
      heldUntil: sessions.heldUntil,
    }),
    breakers: () => dependencies.views(),
    async ready() {
      await Promise.all(consumers.map((one) => one.ready()));
    },
    async stop() {
      // In this order, as what is held for the bucket may still find it working again.
      await settleInOrder([
        () => settleAll(consumers.map((one) => () => one.stop(work.shutdownGraceMs))),
        () => dependencies.stop(),
        () => Promise.all([teller.stop(), heartbeat.stop()]),
      ]);
    },
  };
}

/** Works on a job of one kind. */
type Handle = (
  job: TakenJob,
  deps: WorkerDeps & OutsideParts,
  signal: AbortSignal,
  settleDoubt: boolean,
) => Promise<JobDecision>;

const NOTE_INFO = { contentType: 'application/json' } as const;

/**
 * Notes that a session has no voicemail, as the queue forgets it: so completeness reports know, and nobody asks Kore for
 * it again. Without the note it would be asked for once more.
 */
async function noteWithoutVoicemail(
  session: SessionRef,
  { store, now, log }: WorkerDeps,
  signal: AbortSignal,
) {
  const note = Buffer.from(`${JSON.stringify({ lookedAt: now().toISOString() })}\n`);
  try {
    await store.write(withoutVoicemailKey(session), note, NOTE_INFO, 'replace', signal);
  } catch (error) {
    log.warn({ session: session.sessionId, err: error }, 'could not note that a session has no voicemail');
  }
}

/** What comes of some work; nothing where that broke off as the job is to be given back. */
async function unlessBroken<T>(work: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

/** Keeps what is to be remembered of a failure, unless the job is no longer this worker's. */
async function remember(
  job: TakenJob,
  { progress, verdict }: Outcome,
  signal: AbortSignal,
): Promise<JobDecision> {
  if (signal.aborted) return { kind: 'give-back' };
  try {
    await job.saveProgress(progress);
    return verdict;
  } catch (error) {
    if (signal.aborted) return { kind: 'give-back' };
    throw error;
  }
}

async function handleSession(
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
  // In the manifest now, or not wanted any more: the queue is to hold nobody's number for longer than it has to.
  const { call, ...rest } = data;
  if (call) await job.replaceData(rest);
  const { alreadyArchived, archivedAt, manifest, ...stored } = result;
  const isDoubtful = manifest.recordings.some(isInDoubt);
  const at = { ...data, archivedAt, transcript: stored.transcript, isInDoubt: isDoubtful };
  const lookIn = firstLookIn(at, deps.work, deps.now());
  // Before the job is done: if this fails, the session is looked at again and finds its manifest.
  if (lookIn !== undefined) await deps.queue.awaitTranscript(data, lookIn);
  await deps.onSettled?.(archivedOutcome(data, manifest, deps.store));
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

async function handleTranscript(job: TakenJob, deps: WorkerDeps, signal: AbortSignal): Promise<JobDecision> {
  const { data, progress } = job;
  const { transcriptWaitMs, settleWaitMs, retryWaitMs, pollDelayMs } = deps.work;
  const waits = { transcriptWaitMs, settleWaitMs, extraMs: retryWaitMs };
  const wasErased = await isErased(data, deps.store, signal);
  const look = await unlessErased(data, wasErased, deps, signal, (store) =>
    settleSession(data, waits, { ...deps, store }, signal),
  );
  if (look === 'erased') return { kind: 'forget' };
  await noteLook(job, look, deps);
  if (look.isSettled) return { kind: 'done', result: null };
  const now = deps.now().getTime();
  const dueAt = look.nextLookAt?.getTime();
  const next = nextLook(progress.polls?.RECORDING_NOT_READY, now, {
    pollDelayMs,
    ...(dueAt !== undefined && { dueAt }),
  });
  const until = look.isAwaiting ? next.at : (dueAt ?? next.at);
  await job.saveProgress({
    polls: { RECORDING_NOT_READY: next.polls },
    nextAttemptAt: new Date(until).toISOString(),
  });
  return { kind: 'wait', until };
}

/** Tells the session's view, metrics and the log what a look has found. */
async function noteLook({ data }: TakenJob, look: SettleLook, deps: WorkerDeps): Promise<void> {
  const { transcript, added, failed, isSettled, result, manifest } = look;
  const about = { session: data.sessionId, bot: data.botId };
  const hasNewRecordings = added.recordings > 0 || added.better > 0;
  if (transcript !== 'pending' || hasNewRecordings) {
    await deps.queue.noteTranscript(data, transcript, {
      ...(hasNewRecordings && result && { recordings: result.recordings }),
      ...(manifest && { revision: revisionOf(manifest) }),
    });
  }
  const isNews = isSettled || transcript !== 'pending' || hasNewRecordings;
  if (manifest && isNews) await deps.onSettled?.(archivedOutcome(data, manifest, deps.store));
  if (look.hasSettledTranscript && transcript !== 'pending') {
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

/**
 * A look for a transcript that failed is made again, however often: nobody would see a failed one, and
 * {@link settleSession} ends the looking in time. What a person has to fix in the archive fails.
 */
function keepLooking(
  outcome: Outcome,
  attempt: Pick<FailedAttempt, 'progress' | 'now'>,
  pollDelayMs: number,
): Outcome {
  const { verdict, error } = outcome;
  const goesOn = verdict.kind === 'retry' || (verdict.kind === 'fail' && error.code !== 'ARCHIVE_CONFLICT');
  if (!goesOn) return outcome;
  const { at, polls } = nextLook(attempt.progress.polls?.RECORDING_NOT_READY, attempt.now, { pollDelayMs });
  return {
    error,
    verdict: { kind: 'wait', until: at },
    progress: {
      ...outcome.progress,
      polls: { ...outcome.progress.polls, RECORDING_NOT_READY: polls },
      nextAttemptAt: new Date(at).toISOString(),
    },
  };
}

/** Bots whose sessions Kore refused a moment ago, so that it is not asked again for each of the others. */
class RefusedBots {
  readonly #refusedUntil = new Map<string, number>();

  add(botId: string, milliseconds: number): void {
    this.#refusedUntil.set(botId, Date.now() + milliseconds);
  }

  /** @throws VoicemailError `KORE_UNAUTHORIZED` while sessions of that bot are to wait. */
  check(botId: string): void {
    const left = (this.#refusedUntil.get(botId) ?? 0) - Date.now();
    if (left > 0) {
      throw new VoicemailError(
        'KORE_UNAUTHORIZED',
        'Kore refused the credentials for another session of this bot',
        {
          retryAfterMs: left,
          hint: 'check the bot id, and that the Kore app belongs to that bot',
        },
      );
    }
    this.#refusedUntil.delete(botId);
  }
}

/** Why the queue could not be reached, be it while one of several recordings was saved; `undefined` if that is not it. */
function queueFault(thrown: unknown): QueueUnavailableError | undefined {
  const cause = isVoicemailError(thrown, 'INTERNAL') ? thrown.cause : thrown;
  if (cause instanceof VoicemailError) return undefined;
  const error = asQueueError(cause);
  return error instanceof QueueUnavailableError ? error : undefined;
}

function report(
  log: Logger,
  complaints: Complaints,
  data: TakenJob['data'],
  { error, verdict, holdMs }: Outcome,
  isOneBotsFault: boolean,
): void {
  const about = { session: data.sessionId, bot: data.botId, code: error.code, err: error };
  const waiting = { session: data.sessionId, bot: data.botId, code: error.code };
  if (error.code === 'KORE_UNAUTHORIZED') {
    complaints.say(
      error,
      { ...waiting, pauseSeconds: Math.ceil((holdMs ?? 0) / 1000) },
      isOneBotsFault
        ? 'Kore refuses the credentials for this bot: NONE OF ITS SESSIONS IS BEING ARCHIVED until that is fixed; trying again after a pause'
        : 'Kore refuses the credentials: NO SESSION IS BEING ARCHIVED until that is fixed; trying again after a pause',
      isOneBotsFault ? data.botId : '',
    );
  } else if (verdict.kind === 'fail') {
    log.error(about, 'session failed');
  } else if (verdict.kind === 'retry') {
    log.warn(
      { ...about, pauseSeconds: Math.round(verdict.delayMs / 1000) },
      'attempt failed, will try again',
    );
  } else if (verdict.kind === 'wait' && FAILURE_RULES[error.code].dependency !== undefined) {
    const pauseSeconds = Math.round((verdict.until - Date.now()) / 1000);
    if (error.code === 'ARCHIVE_DENIED') {
      complaints.say(
        error,
        { ...waiting, pauseSeconds },
        'the archive refuses sessions: they wait until that is fixed',
      );
    } else {
      log.warn({ ...about, pauseSeconds }, 'session waits for what is away');
    }
  } else {
    if (error.code === 'RECORDING_HOST_NOT_ALLOWED') {
      complaints.say(
        error,
        waiting,
        'recordings lie on a host that is not allowed: their sessions wait until it is',
      );
    }
    log.info(waiting, 'session waits');
  }
}
