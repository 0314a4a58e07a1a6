import type { WorkConfig } from '../config/config.ts';
import { ArchiverError } from '../errors.ts';
import type { Backend } from '../jobs/backend.ts';
import { Consumer, type TakenJob, type Verdict } from '../jobs/consumer.ts';
import type { SessionJobProgress, TransferProgress } from '../jobs/session-job.ts';
import { type SessionQueue, transcriptQueueName } from '../jobs/session-queue.ts';
import type { Logger } from '../log.ts';
import { type ArchiveDeps, archiveSession } from './archive-session.ts';
import { awaitTranscript } from './await-transcript.ts';
import { decideOutcome, growingPause, nextLook, type Outcome, withJitter } from './outcome.ts';

/** What a worker works with. */
export interface WorkerDeps extends Pick<ArchiveDeps, 'fetchVoicemail' | 'store' | 'transfer' | 'now'> {
  readonly backend: Backend;
  readonly queue: SessionQueue;
  /** `QUEUE_NAME` */
  readonly queueName: string;
  /** The bot of the configuration (`KORE_BOT_ID`): if Kore refuses even that one, nothing can be archived. */
  readonly defaultBotId: string;
  readonly work: WorkConfig;
  readonly log: Logger;
}

/** A running worker. */
export interface SessionWorker {
  /** Resolves when sessions are being taken. */
  ready(): Promise<void>;
  /** Takes nothing new, lets running transfers finish for `SHUTDOWN_GRACE`, gives the rest back, and ends. */
  stop(): Promise<void>;
}

/** Transcripts awaited are looked for a few at a time: they may take long, live sessions may not. */
const TRANSCRIPT_CONCURRENCY = 4;
/** A session's progress is written to the queue this often at most. */
const PROGRESS_INTERVAL_MS = 1_000;

/** Starts taking sessions from the queue, and looking for transcripts awaited. */
export function startSessionWorker(deps: WorkerDeps): SessionWorker {
  const { backend, queueName, work, log } = deps;
  const consumers: Consumer[] = [];
  const refusedBots = new RefusedBots();
  const onFailure = async (job: TakenJob, thrown: unknown, signal: AbortSignal): Promise<Verdict> => {
    // Cancelled by us: whatever the attempt died of, it is no fault of the session's.
    if (signal.aborted) return { kind: 'give-back' };
    const { attemptsMade, progress, data } = job;
    const outcome = decideOutcome({ error: thrown, attemptsMade, progress, now: Date.now() }, work);
    const { holdMs } = outcome;
    // Kore answers 401 for a bot it does not know as well. A session may name any bot, so a wrong one among them
    // must not keep the others waiting.
    const isOneBotsFault = outcome.error.code === 'KORE_UNAUTHORIZED' && data.botId !== deps.defaultBotId;
    report(log, data, outcome, isOneBotsFault);
    if (holdMs !== undefined && isOneBotsFault) refusedBots.add(data.botId, holdMs);
    else if (holdMs !== undefined) await Promise.all(consumers.map((consumer) => consumer.hold(holdMs)));
    await job.saveProgress(outcome.progress);
    return outcome.verdict;
  };
  const guarded =
    (handle: (job: TakenJob, signal: AbortSignal) => Promise<Verdict>) =>
    async (job: TakenJob, signal: AbortSignal): Promise<Verdict> => {
      try {
        refusedBots.check(job.data.botId);
        return await handle(job, signal);
      } catch (thrown) {
        return onFailure(job, thrown, signal);
      }
    };

  consumers.push(
    new Consumer(backend, queueName, {
      concurrency: work.concurrency,
      handle: guarded((job, signal) => handleSession(job, deps, signal)),
      log,
    }),
    new Consumer(backend, transcriptQueueName(queueName), {
      concurrency: TRANSCRIPT_CONCURRENCY,
      handle: guarded((job, signal) => handleTranscript(job, deps, signal)),
      log,
    }),
  );

  return {
    async ready() {
      await Promise.all(consumers.map((consumer) => consumer.ready()));
    },
    async stop() {
      await Promise.all(consumers.map((consumer) => consumer.stop(work.shutdownGraceMs)));
    },
  };
}

async function handleSession(job: TakenJob, deps: WorkerDeps, signal: AbortSignal): Promise<Verdict> {
  const { data } = job;
  const progress = new ProgressWriter(job, deps.log);
  const result = await archiveSession(
    { ...data, force: data.force === true, callClass: data.backfill ? 'background' : 'live' },
    { ...deps, onProgress: (transfer) => progress.update(transfer) },
    signal,
  ).finally(() => progress.end());
  if (result.transcript === 'pending') {
    // Before the job is done: if this fails, the session is looked at again and finds its manifest.
    await deps.queue.awaitTranscript(data, deps.work.pollDelayMs);
  }
  await job.saveProgress(progress.last ? { transfer: progress.last } : {});
  deps.log.info(
    {
      session: data.sessionId,
      bot: data.botId,
      recordings: result.recordings.length,
      transcript: result.transcript,
    },
    'archived',
  );
  return { kind: 'done', result };
}

async function handleTranscript(job: TakenJob, deps: WorkerDeps, signal: AbortSignal): Promise<Verdict> {
  const { data, progress } = job;
  const { state, deadline } = await awaitTranscript(data, deps.work.transcriptWaitMs, deps, signal);
  if (state !== 'pending') {
    await deps.queue.noteTranscript(data, state);
    deps.log.info({ session: data.sessionId, bot: data.botId, transcript: state }, 'transcript settled');
    return { kind: 'done', result: null };
  }
  const now = deps.now().getTime();
  const looks = nextLook({ progress, now }, 'RECORDING_NOT_READY');
  const until = Math.min(
    now + withJitter(growingPause(deps.work.pollDelayMs, looks.count)),
    deadline.getTime(),
  );
  await job.saveProgress({
    looks: { RECORDING_NOT_READY: looks },
    nextAttemptAt: new Date(until).toISOString(),
  });
  return { kind: 'wait', until };
}

/** Writes a session's progress to its job, not more often than makes sense. */
class ProgressWriter {
  readonly #job: TakenJob;
  readonly #log: Logger;
  #writing = Promise.resolve();
  #wroteAt = 0;
  last: TransferProgress | undefined;

  constructor(job: TakenJob, log: Logger) {
    this.#job = job;
    this.#log = log;
  }

  update(transfer: TransferProgress): void {
    this.last = transfer;
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

  /** @throws ArchiverError `KORE_UNAUTHORIZED` while sessions of that bot are to wait. */
  check(botId: string): void {
    const left = (this.#refusedUntil.get(botId) ?? 0) - Date.now();
    if (left > 0) {
      throw new ArchiverError(
        'KORE_UNAUTHORIZED',
        'Kore refused the credentials for another session of this bot: check the bot id, and that the Kore app belongs to that bot',
        { retryAfterMs: left },
      );
    }
    this.#refusedUntil.delete(botId);
  }
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
        ? 'Kore refuses the credentials for this bot: NONE OF ITS SESSIONS IS BEING ARCHIVED until that is mended; trying again after a pause'
        : 'Kore refuses the credentials: NO SESSION IS BEING ARCHIVED until that is mended; trying again after a pause',
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
