import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Notification, NotificationEvent } from '../../src/domain/notifications.ts';
import type { SessionRef } from '../../src/domain/session.ts';
import type { Backend } from '../../src/jobs/backends/backend.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { NotificationQueue } from '../../src/jobs/notification-queue.ts';
import { createNotifier } from '../../src/notifications/notices.ts';
import {
  type NotificationTimes,
  type NotificationWorker,
  startNotificationWorker,
} from '../../src/notifications/worker.ts';
import { createLogger } from '../../src/util/log.ts';
import {
  isSigned,
  notifyConfig,
  type Receiver,
  SECRET,
  startReceiver,
} from '../support/notification-receiver.ts';
import { createTestQueue, describeOnEachQueue, silent, type TestQueue } from '../support/queues.ts';

const TIMEOUT_MS = 120_000;
const NOTIFICATIONS = 30;
/** An hour of absence is a few of these. */
const SHORT: NotificationTimes = { timeoutMs: 300, firstMs: 5, longestMs: 40, giveUpAfterMs: 3_600_000 };

function sessionOf(index: number): SessionRef {
  return { botId: 'st-1', sessionId: `s-${index}` };
}

function notification(index: number): Notification {
  return {
    id: `archived-${index}`,
    event: 'archived',
    at: '2026-01-05T09:30:00.000Z',
    session: { ...sessionOf(index), state: 'archived' },
  };
}

describeOnEachQueue('notifications', (kind) => {
  let server: TestQueue;
  let backend: Backend;
  let queue: NotificationQueue;
  let receiver: Receiver;
  let worker: NotificationWorker | undefined;
  let name = 0;
  const queueName = () => `notify-${name}`;

  beforeAll(async () => {
    server = await createTestQueue(kind);
    backend = await openBackend(server.config, silent);
  }, TIMEOUT_MS);

  afterAll(async () => {
    await backend.close();
    await server.remove();
  });

  beforeEach(async () => {
    name += 1;
    queue = new NotificationQueue(backend, queueName(), silent);
    receiver = await startReceiver();
  });

  afterEach(async () => {
    await worker?.stop();
    worker = undefined;
    await queue.close();
    await receiver.close();
  });

  /** Ids of sessions that count as erased. */
  const erased = new Set<string>();

  /** Starts sending. @returns what was observed so far, by outcome. */
  async function start(times: Partial<NotificationTimes> = {}, log = silent) {
    const outcomes = { delivered: 0, failed: 0, 'given-up': 0 };
    const events = new Set<NotificationEvent>();
    worker = startNotificationWorker({
      backend,
      queueName: queueName(),
      notify: notifyConfig(receiver),
      isErased: async (session) => erased.has(session.sessionId),
      shutdownGraceMs: 5_000,
      times: { ...SHORT, ...times },
      observe: {
        onNotification(event, outcome) {
          events.add(event);
          outcomes[outcome] += 1;
        },
      },
      log,
    });
    await worker.ready();
    return outcomes;
  }

  const settled = (expected: Awaited<ReturnType<NotificationQueue['counts']>>) =>
    vi.waitFor(async () => expect(await queue.counts()).toEqual(expected), { timeout: 60_000, interval: 20 });

  it('all notifications arrive, signed, at a receiver that answers 500, hangs, drops connections and is unavailable', {
    timeout: TIMEOUT_MS,
  }, async () => {
    receiver.behave((_request, index) => (index < 20 ? 500 : index < 35 ? 'hang' : 'drop'));
    const outcomes = await start();
    await queue.add(Array.from({ length: NOTIFICATIONS }, (_, index) => notification(index)));
    await receiver.until(({ received }) => received.length >= 45);
    await receiver.goAway();
    const before = outcomes.failed;
    await vi.waitUntil(() => outcomes.failed >= before + NOTIFICATIONS, { timeout: 60_000 });
    receiver.behave(() => 204);
    await receiver.comeBack();
    await receiver.until((now) => now.taken().size === NOTIFICATIONS);

    await settled({ pending: 0, failed: 0 });
    for (const one of receiver.received) {
      expect(isSigned(one)).toBe(true);
      expect(one.headers['x-notification-id']).toBe(one.body.id);
      expect(one.body).toEqual(notification(Number(one.body.id.slice('archived-'.length))));
    }
    expect(outcomes).toMatchObject({ delivered: NOTIFICATIONS, 'given-up': 0 });
  });

  it('notifications of completeness carry the counts of a day, where they are enabled', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const report = {
      botId: 'st-1',
      date: '2026-01-05',
      counts: { archived: 3, missing: 1 },
      reportKey: 'a/b.json',
    };
    const now = () => new Date('2026-01-06T02:00:00.000Z');
    await createNotifier({ queue, events: ['archived'], now }).reported(report);
    expect(await queue.counts()).toEqual({ pending: 0, failed: 0 });
    const notifier = createNotifier({ queue, events: ['completeness'], now });
    await notifier.reported(report);
    await notifier.reported(report);
    await start();
    await receiver.until((seen) => seen.taken().size === 1);
    await settled({ pending: 0, failed: 0 });
    expect(receiver.received.map(({ body }) => body)).toEqual([
      {
        id: expect.stringMatching(/^completeness-/),
        event: 'completeness',
        at: '2026-01-06T02:00:00.000Z',
        completeness: report,
      },
    ]);
  });

  it('notifications queued while no worker sends are sent when one starts', {
    timeout: TIMEOUT_MS,
  }, async () => {
    await queue.add([notification(1), notification(2)]);
    expect(await queue.counts()).toEqual({ pending: 2, failed: 0 });
    await start();
    await receiver.until((now) => now.taken().size === 2);
    await settled({ pending: 0, failed: 0 });
  });

  it('notifications of the same id are sent once, also when they have arrived before', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const outcomes = await start();
    await queue.add([notification(1)]);
    await queue.add([notification(1)]);
    await receiver.until((now) => now.taken().size === 1);
    await settled({ pending: 0, failed: 0 });
    await queue.add([notification(1), notification(2)]);
    await receiver.until((now) => now.taken().size === 2);
    await settled({ pending: 0, failed: 0 });
    expect(outcomes.delivered).toBe(2);
  });

  it('notifications are given up after their time, which is logged, and delay no others', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const lines: string[] = [];
    const log = createLogger('trace', (line) => lines.push(line));
    receiver.behave(({ id }) => (id === 'archived-1' ? 503 : 204));
    const outcomes = await start({ giveUpAfterMs: 150 }, log);
    await queue.add([notification(1), notification(2)]);
    await settled({ pending: 0, failed: 1 });
    expect(outcomes['given-up']).toBe(1);
    expect(outcomes.failed).toBeGreaterThan(0);
    expect([...receiver.taken().keys()]).toEqual(['archived-2']);

    const givenUp = lines.find((line) => line.includes('notification given up'));
    expect(givenUp).toMatch(/answered 503/);
    expect(lines.join('')).not.toContain(SECRET);
    expect(lines.join('')).not.toContain('hook-key');
  });

  it('notifications of an erased session are neither sent nor kept, whatever state they are in', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const [gone, other] = [notification(1), notification(2)];
    const session = sessionOf(1);
    await queue.add([gone, other, { ...gone, id: 'failed-again' }]);
    await queue.forget(session);
    expect(await queue.counts()).toEqual({ pending: 1, failed: 0 });
    // One that comes after that, as from a worker that ran the session.
    erased.add(session.sessionId);
    await queue.add([gone]);
    await start();
    await receiver.until((now) => now.taken().size === 1);
    await vi.waitUntil(async () => (await queue.counts()).pending === 0, { timeout: TIMEOUT_MS });
    expect([...receiver.taken().keys()]).toEqual([other.id]);
    await queue.forget(session);
    await queue.forget(sessionOf(2));
    erased.clear();
    await queue.add([gone, other]);
    await receiver.until((now) => now.received.length === 3);
  });

  it('notifications that are being sent are given back when the worker stops, and sent by the next', {
    timeout: TIMEOUT_MS,
  }, async () => {
    receiver.behave(() => 'hang');
    const own = startNotificationWorker({
      backend,
      queueName: queueName(),
      notify: notifyConfig(receiver),
      isErased: async (session) => erased.has(session.sessionId),
      shutdownGraceMs: 0,
      times: { ...SHORT, timeoutMs: 60_000 },
      log: silent,
    });
    await own.ready();
    await queue.add([notification(1)]);
    await receiver.until(({ received }) => received.length === 1);
    await own.stop();
    expect(await queue.counts()).toEqual({ pending: 1, failed: 0 });
    receiver.behave(() => 200);
    await start();
    await receiver.until((now) => now.taken().size === 1);
  });
});

describe('a receiver that is not allowed', () => {
  it('a receiver that is not allowed keeps the worker from being started', async () => {
    const server = await createTestQueue('redis');
    const backend = await openBackend(server.config, silent);
    try {
      expect(() =>
        startNotificationWorker({
          backend,
          queueName: 'refused',
          notify: notifyConfig({ url: 'https://10.0.0.1/' }, { allowPrivate: false }),
          isErased: async () => false,
          shutdownGraceMs: 0,
          log: silent,
        }),
      ).toThrow(/NOTIFY_URL/);
    } finally {
      await backend.close();
      await server.remove();
    }
  });
});
