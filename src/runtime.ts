import type { Config, KoreConfig } from './config/config.ts';
import { createCallLimit } from './jobs/call-limit.ts';
import { openBackend } from './jobs/open-backend.ts';
import { SessionQueue } from './jobs/session-queue.ts';
import { createKoreClient } from './kore/client.ts';
import type { Logger } from './log.ts';
import { createOperations, type Operations } from './operations/operations.ts';
import { openStore } from './storage/open.ts';
import { createMediaClient } from './transfer/media-client.ts';
import { createMemoryBudget } from './transfer/memory.ts';
import { createTransfer } from './transfer/transfer.ts';
import { type SessionWorker, startSessionWorker } from './workers/session-worker.ts';

/** The parts of the program, put together as the configuration says. */
export interface Runtime {
  readonly operations: Operations;
  /** Where the queue and the archive are, for people and logs. */
  readonly locations: { readonly queue: string; readonly archive: string };
  /** Whether other processes can work on the same queue. */
  readonly isQueueShared: boolean;
  /** Starts archiving. */
  startWorker(kore: KoreConfig): SessionWorker;
  /** Proves that queue and archive can be reached. */
  check(signal: AbortSignal): Promise<void>;
  /** Closes everything; workers have to be stopped before. */
  close(): Promise<void>;
}

/**
 * Opens queue and archive.
 * @throws QueueUnavailableError, QueueHeldError
 */
export async function openRuntime(config: Config, log: Logger): Promise<Runtime> {
  const backend = await openBackend(config.queue, log);
  const store = openStore(config.archive, { maxObjectBytes: config.work.maxRecordingBytes, logger: log });
  const queue = new SessionQueue(backend, config.queue.name, log);
  const closers: (() => Promise<void>)[] = [];
  return {
    operations: createOperations(queue, store, log),
    locations: { queue: backend.location, archive: store.location },
    isQueueShared: backend.shared,
    startWorker(kore) {
      const limit = createCallLimit(backend, config.queue.name, kore.rateLimit);
      const client = createKoreClient({ config: kore, limit, log });
      const media = createMediaClient({
        media: config.media,
        idleTimeoutMs: config.work.downloadIdleTimeoutMs,
      });
      closers.push(
        () => client.close(),
        () => media.close(),
      );
      return startSessionWorker({
        backend,
        queue,
        queueName: config.queue.name,
        defaultBotId: kore.botId,
        work: config.work,
        fetchVoicemail: (session, callClass, signal) => client.fetchVoicemail(session, callClass, signal),
        store,
        transfer: createTransfer({
          store,
          media,
          memory: createMemoryBudget(config.work.transferMemoryBytes),
          limits: { maxRecordingBytes: config.work.maxRecordingBytes },
          log,
        }),
        now: () => new Date(),
        log,
      });
    },
    async check(signal) {
      await Promise.all([queue.check(), store.check(signal)]);
    },
    async close() {
      await Promise.all(closers.map((close) => close()));
      await queue.close();
      await backend.close();
      await store.close();
    },
  };
}
