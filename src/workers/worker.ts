import { type ErrorCode, isVoicemailError, VoicemailError } from '../domain/errors.ts';
import { beganAt, type SessionRef } from '../domain/session.ts';
import type { BreakerView } from '../domain/views.ts';
import { QueueUnavailableError } from '../jobs/backends/backend.ts';
import { asQueueError } from '../jobs/backends/connection-errors.ts';
import { Consumer, type JobDecision, type TakenJob } from '../jobs/consumer.ts';
import { isMaybe } from '../jobs/session-job.ts';
import { transcriptQueueName } from '../jobs/session-queue.ts';
import { withoutVoicemailKey } from '../storage/layout.ts';
import { settleAll, settleInOrder } from '../util/async.ts';
import { Dependencies } from './dependencies.ts';
import {
  archivesUncertain,
  decideOutcome,
  type FailedAttempt,
  type Outcome,
  withJitter,
} from './failure-policy.ts';
import { OutageReporter, startHeartbeat } from './heartbeat.ts';
import { type Handle, handleSession, handleTranscript } from './job-handlers.ts';
import type { WorkerActivity } from './liveness.ts';
import { RepeatedErrors, reportFailure } from './repeated-errors.ts';
import { outcomeOfFailed, withFirstFailure, withHistory } from './session-outcome.ts';
import { nextSettleCheck } from './settle.ts';
import type { WorkerDeps } from './worker-deps.ts';

/** A running worker. */
export interface SessionWorker {
  /** Its activity, for the liveness check. */
  activity(): WorkerActivity;
  /** The breakers of its dependencies. */
  breakers(): readonly BreakerView[];
  /** Resolves when sessions are being taken. */
  ready(): Promise<void>;
  /** Takes nothing new, lets running transfers finish for `SHUTDOWN_GRACE`, gives the rest back, and ends. */
  stop(): Promise<void>;
}

/** Awaited transcripts are polled a few at a time: they may take long, live sessions may not. */
export const TRANSCRIPT_CONCURRENCY = 4;
/** What a job is about. */
type Work = 'session' | 'transcript';

/** Starts taking sessions from the queue, and polling for awaited transcripts. */
export function startSessionWorker(deps: WorkerDeps): SessionWorker {
  const { backend, queueName, work, log, observe, telemetry, tuning } = deps;
  const consumers: Consumer[] = [];
  const refusedBots = new RefusedBots();
  /** Why sessions were last held for a time. */
  let heldFor: ErrorCode | undefined;
  const complaints = new RepeatedErrors(log);
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
    // Cancelled by this worker, or the lock is lost: whatever ended the attempt, it is no fault of the session.
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
        ? keepPolling(decided, attempt, work.pollDelayMs)
        : withFirstFailure(decided, progress);
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
    reportFailure(log, complaints, data, outcome, isOneBotsFault);
    if (verdict.kind === 'wait' || verdict.kind === 'retry' || verdict.kind === 'fail') {
      observe?.onAttemptFailed?.({ work: about, code: error.code, verdict: verdict.kind });
    }
    if (holdMs !== undefined && isOneBotsFault) refusedBots.add(data.botId, holdMs);
    else if (holdMs !== undefined) {
      heldFor = error.code;
      await Promise.all(consumers.map((consumer) => consumer.hold(holdMs)));
    }
    if (about === 'session') dependencies.failed(data, error);
    if (about === 'transcript') return remember(job, outcome, signal);
    const settled =
      verdict.kind === 'fail'
        ? await unlessBroken(outcomeOfFailed(job, outcome, deps, signal), signal)
        : undefined;
    const decision = await remember(job, withHistory(outcome, job, settled), signal);
    if (decision.kind === 'fail') {
      if (settled?.recordings) observe?.onPartial?.();
      if (settled) await deps.onSettled?.(settled);
    }
    return decision;
  };
  const attempt = async (about: Work, handle: Handle, job: TakenJob, signal: AbortSignal) => {
    const settleDoubt = archivesUncertain({ progress: job.progress, now: Date.now() }, work);
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
        // Neither the session's fault nor this program's: it is taken again once the queue works.
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
  const outages = new OutageReporter(() => dependencies.views(), deps.queue, log);
  const heartbeat = startHeartbeat({
    board: deps.queue.board,
    tidy: () => deps.queue.tidy(),
    rateLimit: deps.rateLimit,
    state: () => ({
      concurrency: work.concurrency,
      active: sessions.activeJobs,
      // Infinite while a breaker holds them; the breaker itself says why.
      heldFor: Number.isFinite(sessions.heldUntil) ? heldFor : undefined,
      breakers: dependencies.views(),
    }),
    log,
  });

  return {
    activity: () => ({
      lastTakenAt: sessions.lastTakenAt,
      activeSessions: sessions.activeJobs,
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
        () => Promise.all([outages.stop(), heartbeat.stop()]),
      ]);
    },
  };
}

const NOTE_INFO = { contentType: 'application/json' } as const;

/**
 * Notes that a session has no voicemail, as the queue forgets it: so completeness reports know, and no process asks
 * Kore for it again. Without the note it would be requested again.
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

/**
 * A check for a transcript that failed is made again, however often: a failed one would be invisible, and
 * {@link settleSession} ends the polling in time. What a person has to fix in the archive fails.
 */
function keepPolling(
  outcome: Outcome,
  attempt: Pick<FailedAttempt, 'progress' | 'now'>,
  pollDelayMs: number,
): Outcome {
  const { verdict, error } = outcome;
  const goesOn = verdict.kind === 'retry' || (verdict.kind === 'fail' && error.code !== 'ARCHIVE_CONFLICT');
  if (!goesOn) return outcome;
  const { at, polls } = nextSettleCheck(attempt.progress.polls?.RECORDING_NOT_READY, attempt.now, {
    pollDelayMs,
  });
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

/**
 * Why the queue could not be reached, be it while one of several recordings was saved; `undefined` if that is not it.
 */
function queueFault(thrown: unknown): QueueUnavailableError | undefined {
  const cause = isVoicemailError(thrown, 'INTERNAL') ? thrown.cause : thrown;
  if (cause instanceof VoicemailError) return undefined;
  const error = asQueueError(cause);
  return error instanceof QueueUnavailableError ? error : undefined;
}
