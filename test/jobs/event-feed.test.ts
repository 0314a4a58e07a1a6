import type { EventEmitter } from 'node:events';
import { Redis } from 'ioredis';
import { Client } from 'pg';
import { afterEach, describe, expect, it } from 'vitest';
import type { SessionEvent } from '../../src/domain/views.ts';
import type { Backend } from '../../src/jobs/backends/backend.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { EventFeed, type EventSubscription, InvalidEventIdError } from '../../src/jobs/event-feed.ts';
import { isAfter } from '../../src/jobs/job-events.ts';
import { failureReason } from '../../src/jobs/session-job.ts';
import { SessionQueue } from '../../src/jobs/session-queue.ts';
import {
  createTestQueue,
  describeOnEachQueue,
  silent,
  type TestQueue,
  useSessionQueue,
} from '../support/queues.ts';
import { ARCHIVED, workOff } from '../support/work-off.ts';

/** Longer than an event takes on any machine. */
const TIMEOUT_MS = 60_000;
const BOT = 'st-feed';

describeOnEachQueue('the feed of events', (kind) => {
  let testQueue: TestQueue;
  let backend: Backend;
  let queue: SessionQueue;
  let feed: EventFeed;
  let name: string;

  useSessionQueue(kind, (opened) => {
    ({ server: testQueue, backend, name, queue } = opened);
    feed = new EventFeed(backend, name, silent);
  });
  afterEach(() => feed.close());

  const enqueue = (...sessionIds: string[]) =>
    queue.enqueue(sessionIds.map((sessionId) => ({ sessionId, botId: BOT })));

  it.runIf(kind === 'postgres')(
    'the event feed misses nothing of a transaction that ends after a later one',
    async () => {
      const { target } = testQueue.config;
      if (target.kind !== 'postgres') throw new Error('not on PostgreSQL');
      const client = new Client(target.url);
      await client.connect();
      try {
        const subscription = await feed.subscribe();
        await client.query('begin');
        await client.query(
          `insert into bullmq.event (queue, event, data, created_at_ms)
        values ($1, 'waiting', jsonb_build_object('jobId', $2::text), extract(epoch from now()) * 1000)`,
          [name, `${BOT}.slow`],
        );
        await enqueue('quick');

        expect(await subscription.next(500)).toEqual([]);
        expect(await backend.eventsAfter(name, '0', 10)).toEqual([]);
        await client.query('commit');

        const events = await take(subscription, 2);
        expect(events.map(({ session }) => session.sessionId)).toEqual(['slow', 'quick']);
      } finally {
        await client.end();
      }
    },
  );

  it('the event feed reports each step of a session that is archived', async () => {
    const subscription = await feed.subscribe();

    await enqueue('good');
    await workOff(backend, name, 1, async (job) => {
      await job.saveProgress({ transfer: { recordings: 2, recordingsDone: 1, bytes: 10 } });
      return ARCHIVED;
    });
    await queue.noteTranscript({ sessionId: 'good', botId: BOT }, 'archived');

    const of = { sessionId: 'good', botId: BOT };
    const events = await take(subscription, 5);
    expect(events.map(({ name, session }) => ({ name, session }))).toEqual([
      { name: 'queued', session: { ...of, state: 'queued' } },
      { name: 'active', session: { ...of, state: 'active' } },
      {
        name: 'progress',
        session: { ...of, state: 'active', progress: { recordings: 2, recordingsDone: 1, bytes: 10 } },
      },
      {
        name: 'archived',
        session: {
          ...of,
          state: 'archived',
          transcript: 'pending',
          recordings: [
            { key: 'a/b.wav', bytes: 3, sha256: '00', contentType: 'audio/wav', durationSeconds: 1 },
          ],
          manifestKey: 'a/manifest.json',
          progress: { recordings: 1, recordingsDone: 1, bytes: 3 },
        },
      },
      { name: 'progress', session: { ...of, state: 'archived', transcript: 'archived' } },
    ]);
    for (const [index, { id }] of events.entries()) {
      expect(isAfter(id, events[index - 1]?.id ?? '0')).toBe(true);
    }
  });

  it('the event feed reports why and until when a session waits, and why it failed', async () => {
    const error = {
      code: 'KORE_UNAVAILABLE',
      message: 'Kore answered 503',
      retryable: true,
      at: '2026-01-02T03:04:05.000Z',
    } as const;
    const until = Date.parse('2030-01-01T00:00:00.000Z');
    const subscription = await feed.subscribe();

    await enqueue('waits', 'fails', 'fails-bare');
    await workOff(backend, name, 3, async (job) => {
      if (job.data.sessionId === 'fails-bare') {
        return { kind: 'fail', reason: failureReason('RECORDING_EMPTY', 'no bytes: none at all') };
      }
      await job.saveProgress({ error });
      if (job.data.sessionId === 'waits') return { kind: 'wait', until };
      return { kind: 'fail', reason: failureReason(error.code, error.message) };
    });

    const events = await take(subscription, 9);
    const last = (sessionId: string) => events.findLast(({ session }) => session.sessionId === sessionId);
    expect(last('waits')).toMatchObject({
      name: 'waiting',
      session: { state: 'waiting', nextAttemptAt: '2030-01-01T00:00:00.000Z', error },
    });
    expect(last('fails')).toMatchObject({ name: 'failed', session: { state: 'failed', error } });
    expect(last('fails-bare')?.session.error).toEqual({
      code: 'RECORDING_EMPTY',
      message: 'no bytes: none at all',
    });
  });

  it('the event feed reports sessions of a backfill and those retried', async () => {
    const subscription = await feed.subscribe();

    await queue.enqueue([{ sessionId: 'later', botId: BOT, priority: 'backfill' }]);
    await workOff(backend, name, 1, () => ({ kind: 'fail', reason: failureReason('INTERNAL', 'x') }));
    await queue.retry({ sessionId: 'later', botId: BOT });

    expect((await take(subscription, 4)).map((event) => event.name)).toEqual([
      'queued',
      'active',
      'failed',
      'queued',
    ]);
  });

  it('the event feed continues after a known event, in another process as well', async () => {
    const subscription = await feed.subscribe();
    await enqueue(...sessionIds(5));
    const seen = await take(subscription, 5);
    await feed.close();
    await enqueue('missed');
    const other = new EventFeed(backend, name, silent);

    const resumed = await other.subscribe(seen[2]?.id);
    const before = await take(resumed, 3);
    await enqueue('new');
    const after = await take(resumed, 1);
    await other.close();

    expect(before.map(({ session }) => session.sessionId)).toEqual(['session-3', 'session-4', 'missed']);
    expect(before.slice(0, 2)).toEqual(seen.slice(3));
    expect(after.map(({ session }) => session.sessionId)).toEqual(['new']);
  });

  it('the event feed skips and repeats nothing while it catches up with new events', async () => {
    const start = await feed.subscribe();
    await enqueue('first');
    const [first] = await take(start, 1);
    const ids = sessionIds(450);
    await enqueue(...ids.slice(0, 225));

    const resumed = await feed.subscribe(first?.id);
    const enqueuing = enqueue(...ids.slice(225));
    const events = await take(resumed, ids.length);
    await enqueuing;

    expect(events.map(({ session }) => session.sessionId).toSorted()).toEqual(ids.toSorted());
  });

  it('the event feed reports an event id that this queue does not know', async () => {
    await expect(feed.subscribe('yesterday')).rejects.toThrow(InvalidEventIdError);
    expect(feed.subscribers).toBe(0);
    expect(feed.isReading).toBe(false);
  });

  // The embedded queue has no connection that could.
  it.skipIf(kind === 'embedded')('the event feed continues when its connection breaks', async () => {
    const subscription = await feed.subscribe();
    await enqueue('before');
    await take(subscription, 1);

    expect(await breakListeners(testQueue)).toBe(1);
    await enqueue('after');

    expect(await take(subscription, 1)).toMatchObject([{ session: { sessionId: 'after' } }]);
  });

  it('the event feed leaves no listener on the connection that it shares', async () => {
    const connection = backend.options('producer').connection as EventEmitter;
    const listeners = () => connection.eventNames().map((event) => [event, connection.listenerCount(event)]);
    const before = listeners();
    for (let round = 0; round < 5; round += 1) {
      const other = new EventFeed(backend, name, silent);
      await other.subscribe();
      await other.close();
    }
    expect(listeners()).toEqual(before);
  });

  it('the event feed reads the queue only while somebody is subscribed', async () => {
    const quick = new EventFeed(backend, name, silent, { lingerMs: 0 });
    expect(quick.isReading).toBe(false);
    const [one, two] = await Promise.all([quick.subscribe(), quick.subscribe()]);
    expect(quick.isReading).toBe(true);
    one.close();
    two.close();
    await expect.poll(() => quick.isReading).toBe(false);

    const again = await quick.subscribe();
    await enqueue('after a pause');
    expect(await take(again, 1)).toMatchObject([{ session: { sessionId: 'after a pause' } }]);
    await quick.close();
    expect(await again.next(0)).toBeUndefined();
  });
});

describe('a subscriber who reads nothing', () => {
  it('a subscriber who reads nothing is dropped, and the others are not', async () => {
    const testQueue = await createTestQueue('redis');
    const backend = await openBackend(testQueue.config, silent);
    const queue = new SessionQueue(backend, 'slow', silent);
    const feed = new EventFeed(backend, 'slow', silent);
    const [slow, quick] = await Promise.all([feed.subscribe(), feed.subscribe()]);
    const ids = sessionIds(1_500);

    for (let start = 0; start < ids.length; start += 500) {
      const some = ids.slice(start, start + 500);
      await queue.enqueue(some.map((sessionId) => ({ sessionId, botId: BOT })));
      expect(await take(quick, some.length)).toHaveLength(some.length);
    }

    expect(feed.subscribers).toBe(1);
    expect(await slow.next(0)).toBeUndefined();
    await feed.close();
    await queue.close();
    await backend.close();
    await testQueue.remove();
  });
});

/** Cuts the connections by which the queue's server tells of events. @returns how many. */
async function breakListeners({ config: { target, prefix } }: TestQueue): Promise<number> {
  if (target.kind === 'redis') {
    const redis = new Redis(target.url);
    const clients = String(await redis.client('LIST')).split('\n');
    const ids = clients
      .filter((line) => line.includes(`name=${prefix}:`) && line.includes(':qe '))
      .map((line) => /^id=(\d+)/.exec(line)?.[1] ?? '');
    for (const id of ids) await redis.client('KILL', 'ID', id);
    await redis.quit();
    return ids.length;
  }
  if (target.kind !== 'postgres') return 0;
  const client = new Client({ connectionString: target.url });
  await client.connect();
  const { rowCount } = await client.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where datname = current_database() and application_name like '%:qe'`,
  );
  await client.end();
  return rowCount ?? 0;
}

function sessionIds(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `session-${index}`);
}

/** The next events, exactly so many. */
async function take(subscription: EventSubscription, count: number): Promise<SessionEvent[]> {
  const events: SessionEvent[] = [];
  while (events.length < count) {
    const next = await subscription.next(TIMEOUT_MS);
    if (!next || next.length === 0) throw new Error(`only ${events.length} of ${count} events came`);
    events.push(...next);
  }
  expect(events).toHaveLength(count);
  return events;
}
