import type { NotifyConfig } from '../config/config.ts';
import { isVoicemailError } from '../domain/errors.ts';
import type { Notification, NotificationEvent } from '../domain/notifications.ts';
import type { SessionRef } from '../domain/session.ts';
import type { Backend } from '../jobs/backends/backend.ts';
import { Consumer, type JobDecision, type TakenJob } from '../jobs/consumer.ts';
import { type NotificationProgress, notificationQueueName } from '../jobs/notification-queue.ts';
import { settleInOrder } from '../util/async.ts';
import type { Logger } from '../util/log.ts';
import { redact } from '../util/redact.ts';
import { createSender, type SendOutcome } from './send.ts';

/** Observes the delivery of notifications, for metrics. */
export interface NotificationObserver {
  /** `failed`: an attempt failed and is made again; `given-up`: it was the last one. */
  onNotification(event: NotificationEvent, outcome: 'delivered' | 'failed' | 'given-up'): void;
}

/** Times of notifications, in milliseconds. */
export interface NotificationTimes {
  /** For the receiver's whole answer. */
  readonly timeoutMs: number;
  /** The pause after the first failure; it doubles each time. */
  readonly firstMs: number;
  /** No pause is longer. */
  readonly longestMs: number;
  /** The time after which a failing notification is given up. */
  readonly giveUpAfterMs: number;
}

/** What a worker on notifications works with. */
export interface NotificationWorkerDeps {
  readonly backend: Backend;
  /** `QUEUE_NAME` */
  readonly queueName: string;
  readonly notify: NotifyConfig;
  /** Whether a session was erased: no notifications of it are sent any more. */
  readonly isErased: (session: SessionRef, signal: AbortSignal) => Promise<boolean>;
  /** How long a stop waits for what is being sent. */
  readonly shutdownGraceMs: number;
  /** For tests. */
  readonly times?: Partial<NotificationTimes> | undefined;
  readonly observe?: NotificationObserver | undefined;
  readonly log: Logger;
}

/** A running worker on notifications. */
export interface NotificationWorker {
  /** Resolves when notifications are being sent. */
  ready(): Promise<void>;
  /** Gives what it does back to the queue after a while, and ends. */
  stop(): Promise<void>;
}

/** A receiver that hangs takes this many at a time, each for as long as it may take to answer. */
const CONCURRENCY = 8;
const HOUR_MS = 60 * 60 * 1000;
const DEFAULT_TIMES: NotificationTimes = {
  timeoutMs: 10_000,
  firstMs: 2_000,
  longestMs: HOUR_MS,
  giveUpAfterMs: 24 * HOUR_MS,
};
/** A pause is up to so much longer than planned, so that what failed together does not return together. */
const JITTER = 0.25;

/**
 * Starts sending notifications: each until it arrives, or has failed for a day.
 * @throws ConfigError when the receiver's URL can't be allowed.
 */
export function startNotificationWorker(deps: NotificationWorkerDeps): NotificationWorker {
  const { observe, log } = deps;
  const times: NotificationTimes = { ...DEFAULT_TIMES, ...deps.times };
  const sender = createSender({ notify: deps.notify, timeoutMs: times.timeoutMs });
  const consumer = new Consumer<Notification, NotificationProgress, null>(
    deps.backend,
    notificationQueueName(deps.queueName),
    {
      concurrency: CONCURRENCY,
      log: deps.log,
      handle: async (job, signal) => {
        let outcome: SendOutcome;
        try {
          if (job.data.event !== 'completeness' && (await deps.isErased(job.data.session, signal))) {
            log.info({ notification: job.data.id }, 'not sent: the session was erased');
            return { kind: 'done', result: null };
          }
          outcome = await sender.send(job.data, signal);
        } catch (error) {
          if (signal.aborted) return { kind: 'give-back' };
          // An archive that is unavailable says nothing of erasures: the notification waits as for a receiver that is
          // unavailable.
          if (!isVoicemailError(error)) throw error;
          outcome = { kind: 'failed', reason: redact(error.message) };
        }
        return decide(job, outcome, times, { observe, log });
      },
    },
  );
  return {
    ready: () => consumer.ready(),
    stop: () => settleInOrder([() => consumer.stop(deps.shutdownGraceMs), () => sender.close()]),
  };
}

/** What follows from an attempt. */
async function decide(
  job: TakenJob<Notification, NotificationProgress>,
  outcome: SendOutcome,
  times: NotificationTimes,
  { observe, log }: Pick<NotificationWorkerDeps, 'observe' | 'log'>,
): Promise<JobDecision<null>> {
  const { id, event } = job.data;
  if (outcome.kind === 'delivered') {
    observe?.onNotification(event, 'delivered');
    log.debug({ notification: id }, 'notification delivered');
    return { kind: 'done', result: null };
  }
  const now = Date.now();
  const { failingSince = now, failures = 0 } = job.progress;
  const { reason } = outcome;
  if (now - failingSince >= times.giveUpAfterMs) {
    observe?.onNotification(event, 'given-up');
    log.error({ notification: id, failures: failures + 1, reason }, 'notification given up');
    return { kind: 'fail', reason };
  }
  observe?.onNotification(event, 'failed');
  const pauseMs = nextPause(failures, outcome.retryAfterMs ?? 0, times);
  // The first failure, and then each time the number of failures doubles: a receiver may be unavailable for a day.
  const level = (failures & (failures + 1)) === 0 ? 'warn' : 'debug';
  log[level](
    { notification: id, failures: failures + 1, reason, pauseSeconds: Math.round(pauseMs / 1000) },
    'notification not delivered, will try again',
  );
  await job.saveProgress({ failingSince, failures: failures + 1, reason });
  // The last attempt is at the end of the time.
  return { kind: 'wait', until: Math.min(now + pauseMs, failingSince + times.giveUpAfterMs) };
}

/** Milliseconds until the next attempt. @param failures before this one. */
function nextPause(failures: number, askedForMs: number, { firstMs, longestMs }: NotificationTimes): number {
  const planned = Math.min(firstMs * 2 ** Math.min(failures, 40), longestMs);
  return Math.max(planned * (1 + JITTER * Math.random()), askedForMs);
}
