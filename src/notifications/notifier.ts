import type { NotificationEvent, Notifier } from '../domain/notifications.ts';
import type { NotificationQueue } from '../jobs/notification-queue.ts';
import { completenessNotice, noticesOf } from './notices.ts';

/** What a notifier works with. */
export interface NotifierDeps {
  readonly queue: Pick<NotificationQueue, 'add'>;
  /** `NOTIFY_EVENTS` */
  readonly events: readonly NotificationEvent[];
  readonly now: () => Date;
}

/**
 * A notifier that queues notifications, for a worker to send.
 *
 * @example
 * const notifier = createNotifier({ queue, events: config.notify.events, now: () => new Date() });
 * await notifier.settled(outcome);
 */
export function createNotifier({ queue, events, now }: NotifierDeps): Notifier {
  return {
    settled: (outcome) => queue.add(noticesOf(outcome, events, now().toISOString())),
    async reported(completeness) {
      if (!events.includes('completeness')) return;
      await queue.add([completenessNotice(completeness, now().toISOString())]);
    },
  };
}
