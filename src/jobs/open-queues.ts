import { settleAll } from '../util/async.ts';
import type { Logger } from '../util/log.ts';
import { type Backend, type QueueTelemetry, QueueUnavailableError } from './backends/backend.ts';
import { BackfillQueue } from './backfill-queue.ts';
import { NotificationQueue } from './notification-queue.ts';
import { SessionQueue } from './session-queue.ts';

/** The queues of a process. */
export interface Queues {
  readonly sessions: SessionQueue;
  readonly backfills: BackfillQueue;
  /** Where they are wanted. */
  readonly notifications: NotificationQueue | undefined;
}

/** What the queues are opened with. */
export interface QueuesOptions {
  readonly backend: Backend;
  /** `QUEUE_NAME` */
  readonly name: string;
  readonly log: Logger;
  readonly telemetry?: QueueTelemetry | undefined;
  /** Whether there are notifications; by default there are none. */
  readonly withNotifications?: boolean;
}

/** How often the queues are opened before the process fails. */
const MAX_TRIES = 3;

/**
 * Opens the queues and waits until they answer. BullMQ keeps the failure of a queue's first command for ever, as when
 * the process or its Redis was suspended in that moment: such a queue is closed and opened again.
 *
 * @throws QueueUnavailableError when they do not answer after several tries.
 */
export async function openQueues(options: QueuesOptions): Promise<Queues> {
  const { backend, name, log, telemetry } = options;
  for (let tries = 1; ; tries += 1) {
    const sessions = new SessionQueue(backend, name, log, telemetry);
    const backfills = new BackfillQueue(backend, name, log);
    const notifications = options.withNotifications ? new NotificationQueue(backend, name, log) : undefined;
    try {
      await Promise.all([sessions.ready(), backfills.ready(), notifications?.ready()]);
      return { sessions, backfills, notifications };
    } catch (error) {
      log.warn({ queue: backend.location, err: error, tries }, 'the queue did not answer at the start');
      await settleAll([() => sessions.close(), () => backfills.close(), async () => notifications?.close()]);
      if (tries < MAX_TRIES) continue;
      throw new QueueUnavailableError(
        `the queue at ${backend.location} does not answer: ${(error as Error).message || String(error)}`,
        { cause: error },
      );
    }
  }
}
