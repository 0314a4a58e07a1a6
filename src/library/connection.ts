import { EventFeed } from '../jobs/event-feed.ts';
import { openBackend } from '../jobs/open-backend.ts';
import { SessionQueue } from '../jobs/session-queue.ts';
import type { Logger } from '../log.ts';
import { createOperations, type Operations } from '../operations/operations.ts';
import type { ArchiverSettings } from './options.ts';

/** The queue, and the archive where there is one, as this process has them open. */
export interface Connection {
  readonly operations: Operations;
  readonly feed: EventFeed;
  /** The id of the newest event, or one before all others. */
  lastEventId(): Promise<string>;
  /** Proves that queue and archive can be reached. */
  check(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens queue and archive.
 * @throws QueueUnavailableError, QueueHeldError
 */
export async function openConnection(
  { queue: config, archive }: ArchiverSettings,
  log: Logger,
): Promise<Connection> {
  const { name } = config;
  const backend = await openBackend(config, log);
  // Who reads no archive need not load the AWS SDK.
  const store = archive && (await import('../storage/open.ts')).openStore(archive, { logger: log });
  const queue = new SessionQueue(backend, name, log);
  const feed = new EventFeed(backend, name, log);
  return {
    operations: createOperations(queue, store, log),
    feed,
    lastEventId: () => backend.lastEventId(name),
    async check() {
      await Promise.all([queue.check(), store?.check(new AbortController().signal)]);
    },
    async close() {
      await feed.close();
      await queue.close();
      await backend.close();
      await store?.close();
    },
  };
}
