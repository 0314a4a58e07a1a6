import { Queue, QueueEvents } from 'bullmq';
import type { SessionRef } from '../src/domain/session.ts';
import { openBackend } from '../src/jobs/backends/open.ts';
import { SessionQueue } from '../src/jobs/session-queue.ts';
import { createLogger } from '../src/util/log.ts';
import type { Program } from './program.ts';

/** How sessions come to a worker. */
export interface Feed {
  /** Resolves when the worker has archived them all; throws when it fails at one. */
  archive(sessions: readonly SessionRef[]): Promise<void>;
  close(): Promise<void>;
}

/** Where the queue is. */
export interface QueueAddress {
  readonly redisUrl: string;
  readonly name: string;
}

/** Without a queue: sends the ids to the program. */
export function feedDirectly(program: Program): Feed {
  return {
    async archive(sessions) {
      program.send({ kind: 'archive', sessionIds: sessions.map(({ sessionId }) => sessionId) });
      await program.receive('archived');
    },
    close: async () => undefined,
  };
}

/** As the product queues sessions. */
export async function feedArchiver(address: QueueAddress): Promise<Feed> {
  const log = createLogger('warn');
  const target = { kind: 'redis', url: address.redisUrl, cluster: false } as const;
  const backend = await openBackend({ target, name: address.name, prefix: undefined }, log);
  const queue = new SessionQueue(backend, address.name, log);
  const ends = await watchEnds(address);
  return {
    archive: (sessions) => ends.after(sessions.length, () => queue.enqueue(sessions)),
    async close() {
      await ends.close();
      await queue.close();
      await backend.close();
    },
  };
}

/** As BullMQ's documentation queues jobs. */
export async function feedBullmq(address: QueueAddress): Promise<Feed> {
  const queue = new Queue(address.name, { connection: connectionTo(address) });
  const ends = await watchEnds(address);
  return {
    archive: (sessions) =>
      ends.after(sessions.length, () => queue.addBulk(sessions.map((data) => ({ name: 'session', data })))),
    async close() {
      await ends.close();
      await queue.close();
    },
  };
}

interface Ends {
  /** Starts something and resolves once so many more jobs have been completed. */
  after(count: number, start: () => Promise<unknown>): Promise<void>;
  close(): Promise<void>;
}

async function watchEnds(address: QueueAddress): Promise<Ends> {
  // From the beginning, as events between the connection and the first read would be missed otherwise.
  const events = new QueueEvents(address.name, { connection: connectionTo(address), lastEventId: '0' });
  await events.waitUntilReady();
  return {
    async after(count, start) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      let left = count;
      const onCompleted = () => {
        left -= 1;
        if (left === 0) resolve();
      };
      const onFailed = ({ failedReason }: { failedReason: string }) => reject(new Error(failedReason));
      events.on('completed', onCompleted).on('failed', onFailed);
      try {
        await Promise.all([promise, start()]);
      } finally {
        events.off('completed', onCompleted).off('failed', onFailed);
      }
    },
    close: () => events.close(),
  };
}

function connectionTo({ redisUrl }: QueueAddress) {
  return { url: redisUrl, maxRetriesPerRequest: null };
}
