import { hash } from 'node:crypto';
import type {
  ArchivedOutcome,
  FailedOutcome,
  Notification,
  NotificationEvent,
  NotifiedCompleteness,
  NotifiedSession,
  Notifier,
  SessionOutcome,
} from '../domain/notifications.ts';
import type { NotificationQueue } from '../jobs/notification-queue.ts';

/**
 * The notifications of an outcome. Their ids are derived from their content: the same content gets the same id, and
 * anything new (a late recording, a session archived again, another failure) gets another one.
 *
 * @param at ISO 8601.
 * @example
 * noticesOf(outcome, ['archived', 'failed'], new Date().toISOString());
 */
export function noticesOf(
  outcome: SessionOutcome,
  events: readonly NotificationEvent[],
  at: string,
): Notification[] {
  const notices =
    outcome.kind === 'archived' ? archivedNotices(outcome, at) : [failedNotice(outcome, events, at)];
  return notices.filter(({ event }) => events.includes(event));
}

/** The notification of a report of completeness: once for each bot, day and set of counts. */
export function completenessNotice(completeness: NotifiedCompleteness, at: string): Notification {
  const { botId, date, counts } = completeness;
  const sorted = Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1));
  return { id: idOf('completeness', botId, date, sorted), event: 'completeness', at, completeness };
}

function archivedNotices(outcome: ArchivedOutcome, at: string): Notification[] {
  const { botId, sessionId, archivedAt, transcript, transcriptSha256 } = outcome;
  const session: NotifiedSession = {
    sessionId,
    botId,
    state: 'archived',
    transcript,
    archivedAt,
    revision: outcome.revision,
    recordings: outcome.recordings,
    manifestKey: outcome.manifestKey,
  };
  const contents = outcome.recordings.map(({ key, sha256 }) => [key, sha256]);
  const archived = idOf('archived', botId, sessionId, archivedAt, contents);
  const notices: Notification[] = [{ id: archived, event: 'archived', at, session }];
  if (transcript !== 'pending') {
    const id = idOf('transcript', botId, sessionId, archivedAt, transcript, transcriptSha256 ?? null);
    notices.push({ id, event: 'transcript', at, session });
  }
  return notices;
}

/** A receiver of `failed` gets partial failures as well, whether it named them or not. */
function failedNotice(
  outcome: FailedOutcome,
  events: readonly NotificationEvent[],
  at: string,
): Notification {
  const { kind: _, ...facts } = outcome;
  const isPartial = outcome.recordings !== undefined && events.includes('partial');
  const event = isPartial ? 'partial' : 'failed';
  const { botId, sessionId, error } = outcome;
  return { id: idOf(event, botId, sessionId, error.at), event, at, session: { ...facts, state: 'failed' } };
}

/** Fit for BullMQ, a header and a file name. */
function idOf(event: NotificationEvent, ...facts: readonly unknown[]): string {
  return `${event}-${hash('sha256', JSON.stringify(facts)).slice(0, 32)}`;
}

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
