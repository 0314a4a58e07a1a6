import type { WorkConfig } from '../config/config.ts';
import { type ErrorCode, VoicemailError } from '../domain/errors.ts';
import type { TranscriptState, TransferProgress } from '../domain/views.ts';
import type { Backend, QueueTelemetry } from '../jobs/backends/backend.ts';
import { Consumer, type JobDecision, type TakenJob } from '../jobs/consumer.ts';
import { isMaybe, type SessionJobProgress } from '../jobs/session-job.ts';
import { type SessionQueue, transcriptQueueName } from '../jobs/session-queue.ts';
import type { Logger } from '../util/log.ts';
import { type ArchiveDeps, archiveSession } from './archive-session.ts';
import {
  decideOutcome,
  type FailedAttempt,
  growingPause,
  nextPoll,
  type Outcome,
  withJitter,
} from './failure-policy.ts';
import type { WorkerActivity } from './liveness.ts';
import { firstLookIn, type SettleLook, settleSession } from './settle.ts';

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
  /** A session of which nobody knew whether it has a voicemail has none. */
  onWithoutVoicemail?(): void;
  /** A transcript awaited has come, or has been given up. */
  onTranscriptSettled?(state: Exclude<TranscriptState, 'pending'>): void;
}

/** What a worker works with. */
export interface WorkerDeps extends Pick<ArchiveDeps, 'fetchVoicemail' | 'store' | 'transfer' | 'now'> {
  readonly backend: Backend;
  readonly queue: SessionQueue;
  /** `QUEUE_NAME` */
  readonly queueName: string;
  /** The bot of the configuration (`KORE_BOT_ID`): if Kore refuses even that one, nothing can be archived. */
  readonly defaultBotId: string;
  readonly work: WorkConfig;
  /** Told of how the work goes, for metrics. */
  readonly observe?: WorkerObserver;
  /** Follows sessions through the queue, for traces. */
  readonly telemetry?: QueueTelemetry | undefined;
  readonly log: Logger;
}

/** A running worker. */
export interface SessionWorker {
  /** What it is doing, for telling whether it is alive. */
  activity(): WorkerActivity;
  /** Resolves when sessions are being taken. */
  ready(): Promise<void>;
  /** Takes nothing new, lets running transfers finish for `SHUTDOWN_GRACE`, gives the rest back, and ends. */
  stop(): Promise<void>;
}

/** Transcripts awaited are looked for a few at a time: they may take long, live sessions may not. */
const TRANSCRIPT_CONCURRENCY = 4;
/** A session's progress is written to the queue this often at most. */
const PROGRESS_INTERVAL_MS = 1_000;

/** What a job is about. */
type Work = 'session' | 'transcript';

/** Starts taking sessions from the queue, and looking for transcripts awaited. */
export function startSessionWorker(deps: WorkerDeps): SessionWorker {
  const { backend, queueName, work, log, observe, telemetry } = deps;
  const consumers: Consumer[] = [];
  const refusedBots = new RefusedBots();
  const onFailure = async (
    about: Work,
    job: TakenJob,
    thrown: unknown,
    signal: AbortSignal,
  ): Promise<JobDecision> => {
    // Cancelled by us: whatever the attempt died of, it is no fault of the session's.
    if (signal.aborted) return { kind: 'give-back' };
    const { attemptsMade, progress, data } = job;
    const attempt = { error: thrown, attemptsMade, progress, now: Date.now() };
    const decided = decideOutcome(attempt, work);
    const outcome = about === 'transcript' ? keepLooking(decided, attempt, work.pollDelayMs) : decided;
    const { error, verdict, holdMs } = outcome;
    if (isMaybe(data) && isWithoutVoicemail(outcome)) {
      observe?.onWithoutVoicemail?.();
      log.info({ session: data.sessionId, bot: data.botId, code: error.code }, 'no voicemail');
      return { kind: 'forget' };
    }
    // Kore answers 401 for a bot it does not know as well. A session may name any bot, so a wrong one among them
    // must not keep the others waiting.
    const isOneBotsFault = error.code === 'KORE_UNAUTHORIZED' && data.botId !== deps.defaultBotId;
    report(log, data, outcome, isOneBotsFault);
    if (verdict.kind === 'wait' || verdict.kind === 'retry' || verdict.kind === 'fail') {
      observe?.onAttemptFailed?.({ work: about, code: error.code, verdict: verdict.kind });
    }
    if (holdMs !== undefined && isOneBotsFault) refusedBots.add(data.botId, holdMs);
    else if (holdMs !== undefined) await Promise.all(consumers.map((consumer) => consumer.hold(holdMs)));
    await job.saveProgress(outcome.progress);
    return verdict;
  };
  const guarded =
    (about: Work, handle: (job: TakenJob, signal: AbortSignal) => Promise<JobDecision>) =>
    async (job: TakenJob, signal: AbortSignal): Promise<JobDecision> => {
      try {
        refusedBots.check(job.data.botId);
        return await handle(job, signal);
      } catch (thrown) {
        return onFailure(about, job, thrown, signal);
      }
    };

  const sessions = new Consumer(backend, queueName, {
    concurrency: work.concurrency,
    handle: guarded('session', (job, signal) => handleSession(job, deps, signal)),
    log,
    telemetry,
  });
  const transcripts = new Consumer(backend, transcriptQueueName(queueName), {
    concurrency: TRANSCRIPT_CONCURRENCY,
    handle: guarded('transcript', (job, signal) => handleTranscript(job, deps, signal)),
    log,
    telemetry,
  });
  consumers.push(sessions, transcripts);

  return {
    activity: () => ({
      lastTakenAt: sessions.lastTakenAt,
      inHand: sessions.inHand,
      concurrency: work.concurrency,
      heldUntil: sessions.heldUntil,
    }),
    async ready() {
      await Promise.all(consumers.map((consumer) => consumer.ready()));
    },
    async stop() {
      await Promise.all(consumers.map((consumer) => consumer.stop(work.shutdownGraceMs)));
    },
  };
}

async function handleSession(job: TakenJob, deps: WorkerDeps, signal: AbortSignal): Promise<JobDecision> {
  const { data } = job;
  const began = performance.now();
  const progress = new ProgressWriter(job, deps.log);
  const result = await archiveSession(
    {
      ...data,
      force: data.force === true,
      callClass: data.backfill ? 'background' : 'live',
      isMaybe: isMaybe(data),
    },
    { ...deps, onProgress: (transfer) => progress.update(transfer) },
    signal,
  ).finally(() => progress.end());
  const { alreadyArchived, archivedAt, ...stored } = result;
  const lookIn = firstLookIn({ ...data, archivedAt, transcript: stored.transcript }, deps.work, deps.now());
  // Before the job is done: if this fails, the session is looked at again and finds its manifest.
  if (lookIn !== undefined) await deps.queue.awaitTranscript(data, lookIn);
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
  return { kind: 'done', result: stored };
}

async function handleTranscript(job: TakenJob, deps: WorkerDeps, signal: AbortSignal): Promise<JobDecision> {
  const { data, progress } = job;
  const { transcriptWaitMs, settleWaitMs, retryWaitMs, pollDelayMs } = deps.work;
  const waits = { transcriptWaitMs, settleWaitMs, extraMs: retryWaitMs };
  const look = await settleSession(data, waits, deps, signal);
  await noteLook(job, look, deps);
  if (look.isSettled) return { kind: 'done', result: null };
  const now = deps.now().getTime();
  const next = nextTranscriptPoll({ progress, now }, pollDelayMs);
  const latest = look.nextLookAt?.getTime() ?? Number.POSITIVE_INFINITY;
  const until = look.isAwaiting || !look.nextLookAt ? Math.min(next.until, latest) : latest;
  await job.saveProgress({
    polls: next.polls,
    nextAttemptAt: new Date(until).toISOString(),
  });
  return { kind: 'wait', until };
}

/** Tells the session's view, metrics and the log what a look has found. */
async function noteLook({ data }: TakenJob, look: SettleLook, deps: WorkerDeps): Promise<void> {
  const { transcript, added, failed, isSettled, result } = look;
  const about = { session: data.sessionId, bot: data.botId };
  if (transcript !== 'pending' || added.recordings > 0) {
    await deps.queue.noteTranscript(data, transcript, added.recordings > 0 ? result?.recordings : undefined);
  }
  if (look.hasSettledTranscript && transcript !== 'pending') {
    deps.observe?.onTranscriptSettled?.(transcript);
    deps.log.info({ ...about, transcript }, 'transcript settled');
  }
  if (added.recordings > 0 || added.messages > 0) deps.log.info({ ...about, added }, 'late parts archived');
  for (const { fileName, error } of failed) {
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
  const { until, polls } = nextTranscriptPoll(attempt, pollDelayMs);
  return {
    error,
    verdict: { kind: 'wait', until },
    progress: {
      ...outcome.progress,
      polls: { ...outcome.progress.polls, ...polls },
      nextAttemptAt: new Date(until).toISOString(),
    },
  };
}

/** When to look for a transcript again, with pauses that grow each time. */
function nextTranscriptPoll(attempt: Pick<FailedAttempt, 'progress' | 'now'>, pollDelayMs: number) {
  const polls = nextPoll(attempt, 'RECORDING_NOT_READY');
  const until = attempt.now + withJitter(growingPause(pollDelayMs, polls.count));
  return { until, polls: { RECORDING_NOT_READY: polls } };
}

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
      // Progress is for onlookers: the transfer goes on without it.
      .catch((error: unknown) => this.#log.warn({ err: error }, 'could not write the progress of a session'));
  }

  /** Waits until nothing is being written, so that what is written next stays. */
  async end(): Promise<void> {
    await this.#writing;
  }
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

/** Codes that say of a session that it has no voicemail, when it is given up for one of them. */
const NO_VOICEMAIL: ReadonlySet<ErrorCode> = new Set([
  'RECORDING_UNAVAILABLE',
  'RECORDING_NOT_READY',
  'SESSION_NOT_FOUND',
]);

function isWithoutVoicemail({ error, verdict }: Outcome): boolean {
  return verdict.kind === 'fail' && NO_VOICEMAIL.has(error.code);
}

function report(
  log: Logger,
  data: TakenJob['data'],
  { error, verdict, holdMs }: Outcome,
  isOneBotsFault: boolean,
): void {
  const about = { session: data.sessionId, bot: data.botId, code: error.code, err: error };
  if (error.code === 'KORE_UNAUTHORIZED') {
    log.error(
      { ...about, pauseSeconds: Math.ceil((holdMs ?? 0) / 1000) },
      isOneBotsFault
        ? 'Kore refuses the credentials for this bot: NONE OF ITS SESSIONS IS BEING ARCHIVED until that is fixed; trying again after a pause'
        : 'Kore refuses the credentials: NO SESSION IS BEING ARCHIVED until that is fixed; trying again after a pause',
    );
  } else if (verdict.kind === 'fail') {
    log.error(about, 'session failed');
  } else if (verdict.kind === 'retry') {
    log.warn(
      { ...about, pauseSeconds: Math.round(verdict.delayMs / 1000) },
      'attempt failed, will try again',
    );
  } else {
    log.info({ session: data.sessionId, bot: data.botId, code: error.code }, 'session waits');
  }
}
