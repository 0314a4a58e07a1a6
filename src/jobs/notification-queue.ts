import { type IQueueBackend, Queue } from 'bullmq';
import type { Notification } from '../domain/notifications.ts';
import type { SessionRef } from '../domain/session.ts';
import type { Logger } from '../util/log.ts';
import type { Backend } from './backends/backend.ts';
import { errorListener } from './backends/connection-errors.ts';
import { WORKER_BACKOFF } from './session-job.ts';

/** What a notification remembers between attempts. */
export interface NotificationProgress {
  /** When its first attempt failed (unix milliseconds). */
  readonly failingSince?: number;
  /** Attempts that failed. */
  readonly failures?: number;
  /** Why the last one failed. */
  readonly reason?: string;
}

/** How many notifications are on their way, and how many were given up and are still listed. */
export interface NotificationCounts {
  readonly pending: number;
  readonly failed: number;
}

type NotificationBullQueue = Queue<
  Notification,
  null,
  string,
  Notification,
  null,
  string,
  IQueueBackend,
  unknown
>;

/** Attempts are bounded by time, in the worker. */
const UNBOUNDED_ATTEMPTS = 1_000_000;
/** How long the same notification is not sent a second time: longer than another run of the session takes. */
const KEEP_DELIVERED = { age: 2 * 24 * 60 * 60, count: 20_000 } as const;
/** Given up; they stay for inspection. */
const KEEP_FAILED = { age: 30 * 24 * 60 * 60, count: 20_000 } as const;

/** Where notifications may be that are not being sent. */
const STATES = ['waiting', 'prioritized', 'delayed', 'completed', 'failed'] as const;
/** How many are read at once. */
const BATCH = 1_000;

/** Notifications have a queue of their own: a receiver that is unavailable keeps no session waiting. */
export function notificationQueueName(name: string): string {
  return `${name}-notifications`;
}

/** The notifications that are to be sent. */
export class NotificationQueue {
  readonly #queue: NotificationBullQueue;

  /** @param name of the queue of sessions (`QUEUE_NAME`). */
  constructor(backend: Backend, name: string, log: Logger) {
    this.#queue = new Queue(
      backend.queueName(notificationQueueName(name)),
      backend.options('producer'),
      backend.factory,
    );
    this.#queue.on('error', errorListener(backend, log));
  }

  /** Resolves when the queue answers; rejects when its first command failed, after which it never does. */
  async ready(): Promise<void> {
    await this.#queue.waitUntilReady();
  }

  /** Queues notifications; when it returns, the queue holds them. One that it holds already is left as it is. */
  async add(notifications: readonly Notification[]): Promise<void> {
    if (notifications.length === 0) return;
    await this.#queue.addBulk(
      notifications.map((notification) => ({
        name: notification.event,
        data: notification,
        opts: {
          jobId: notification.id,
          attempts: UNBOUNDED_ATTEMPTS,
          backoff: WORKER_BACKOFF,
          removeOnComplete: KEEP_DELIVERED,
          removeOnFail: KEEP_FAILED,
          stackTraceLimit: 1,
        },
      })),
    );
  }

  /**
   * Removes all notifications of a session: queued, delivered and given up. One that is being sent now stays.
   * Reads every notification, so it is for rare use.
   */
  async forget({ botId, sessionId }: SessionRef): Promise<void> {
    for (const state of STATES) {
      // From the end, so that a removal does not shift those that are still to be read.
      const count = await this.#queue.getJobCountByTypes(state);
      for (let end = count - 1; end >= 0; end -= BATCH) {
        const jobs = await this.#queue.getJobs([state], Math.max(0, end - BATCH + 1), end, true);
        for (const { id, data } of jobs) {
          if (id === undefined || data.event === 'completeness') continue;
          const { session } = data;
          if (session.botId === botId && session.sessionId === sessionId) await this.#queue.remove(id);
        }
      }
    }
  }

  /** How many there are. */
  async counts(): Promise<NotificationCounts> {
    const counts = await this.#queue.getJobCounts('waiting', 'prioritized', 'active', 'delayed', 'failed');
    const { failed = 0, ...open } = counts;
    return { pending: Object.values(open).reduce((total, count) => total + count, 0), failed };
  }

  /** Releases the queue; the backend stays open. */
  async close(): Promise<void> {
    await this.#queue.close();
  }
}

/** {@link NotificationQueue.forget} for a process that sends no notifications itself. */
export async function forgetNotifications(
  session: SessionRef,
  backend: Backend,
  name: string,
  log: Logger,
): Promise<void> {
  const queue = new NotificationQueue(backend, name, log);
  try {
    await queue.forget(session);
  } finally {
    await queue.close();
  }
}
