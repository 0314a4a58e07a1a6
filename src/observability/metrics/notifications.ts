import { Counter, type Registry } from 'prom-client';
import { NOTIFICATION_EVENTS } from '../../domain/notifications.ts';
import type { NotificationObserver } from '../../notifications/worker.ts';

const OUTCOMES = ['delivered', 'failed', 'given-up'] as const;

/** Metrics of the notifications that are sent (NOTIFY_URL). */
export function createNotificationMetrics(registry: Registry): NotificationObserver {
  const attempts = new Counter({
    name: 'voicemail_notification_attempts_total',
    help: 'Attempts to deliver a notification (NOTIFY_URL), by event and outcome: delivered; failed, and made again; given-up, as it has failed for a day.',
    labelNames: ['event', 'outcome'],
    registers: [registry],
  });
  for (const event of NOTIFICATION_EVENTS) {
    for (const outcome of OUTCOMES) attempts.inc({ event, outcome }, 0);
  }
  return { onNotification: (event, outcome) => attempts.inc({ event, outcome }) };
}
