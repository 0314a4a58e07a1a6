/** A session worker put together by hand, so that a test can hold it at any point, in this process or in one of its own. */

import type { Config, KoreConfig } from '../../src/config/config.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { createCallLimit } from '../../src/jobs/call-limit.ts';
import { SessionQueue } from '../../src/jobs/session-queue.ts';
import { createKoreClient } from '../../src/kore/client.ts';
import { openStore } from '../../src/storage/open.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import { createMediaClient } from '../../src/transfer/media-http.ts';
import { createMemoryBudget } from '../../src/transfer/memory.ts';
import { createTransfer } from '../../src/transfer/transfer.ts';
import type { Logger } from '../../src/util/log.ts';
import { guardStore } from '../../src/workers/custody.ts';
import { startSessionWorker } from '../../src/workers/worker.ts';
import type { WorkerTuning } from '../../src/workers/worker-deps.ts';

/**
 * Where a worker can be held: Kore has answered (or refused), a recording is stored, the transcript is stored, or the
 * manifest is about to be written and the lock has just been looked at; or the manifest has been written.
 */
const HOLD_POINTS = ['answered', 'recording', 'transcript', 'manifest', 'named'] as const;
export type HoldPoint = (typeof HOLD_POINTS)[number];

/** What a worker is made of. */
export interface WorkerParts {
  readonly config: Config;
  readonly kore: KoreConfig;
  readonly log: Logger;
  readonly tuning: WorkerTuning;
  /** Called when a session gets to a point; the worker continues when it resolves. */
  readonly reached: (point: HoldPoint) => Promise<void>;
}

/** A queue and an archive, with or without a worker on them. */
export interface HandMadeWorker {
  readonly queue: SessionQueue;
  readonly store: ArchiveStore;
  stop(): Promise<void>;
}

/** Opens queue and archive, and takes nothing. */
export async function openObserver(config: Config, log: Logger): Promise<HandMadeWorker> {
  const backend = await openBackend(config.queue, log);
  const store = await openStore(config.archive, {
    maxObjectBytes: config.work.maxRecordingBytes,
    logger: log,
  });
  const queue = new SessionQueue(backend, config.queue.name, log);
  return {
    queue,
    store,
    async stop() {
      await queue.close();
      await Promise.all([backend.close(), store.close()]);
    },
  };
}

/** Locks that run out while a test waits for it, and are long enough for a busy machine. */
export const SHORT_LOCKS: WorkerTuning = { locks: { durationMs: 5_000, stalledIntervalMs: 500 } };

/** Starts one. */
export async function startHandMadeWorker(parts: WorkerParts): Promise<HandMadeWorker> {
  const { config, kore, log, tuning, reached } = parts;
  const backend = await openBackend(config.queue, log);
  const store = await openStore(config.archive, {
    maxObjectBytes: config.work.maxRecordingBytes,
    logger: log,
  });
  const queue = new SessionQueue(backend, config.queue.name, log);
  const limit = createCallLimit(backend, config.queue.name, kore.rateLimit);
  const client = createKoreClient({ config: kore, limit, log });
  const media = createMediaClient({ media: config.media, idleTimeoutMs: config.work.downloadIdleTimeoutMs });
  const transfer = createTransfer({
    store,
    media,
    memory: createMemoryBudget(config.work.transferMemoryBytes),
    limits: { maxRecordingBytes: config.work.maxRecordingBytes },
    log,
  });
  const guarded = guardStore(
    store,
    async () => undefined,
    (request, signal) => request(signal),
  );
  const held: ArchiveStore = {
    ...guarded,
    async write(key, ...rest) {
      if (key.endsWith('/manifest.json')) await reached('manifest');
      const outcome = await store.write(key, ...rest);
      if (key.endsWith('/transcript.json')) await reached('transcript');
      if (key.endsWith('/manifest.json')) await reached('named');
      return outcome;
    },
  };
  const worker = startSessionWorker({
    backend,
    queue,
    queueName: config.queue.name,
    defaultBotId: kore.botId,
    work: config.work,
    store: held,
    async fetchVoicemail(session, callClass, signal) {
      try {
        return await client.fetchVoicemail(session, callClass, signal);
      } finally {
        await reached('answered');
      }
    },
    async transfer(request, signal) {
      const transferred = await transfer(request, signal);
      await reached('recording');
      return transferred;
    },
    now: () => new Date(),
    log,
    tuning,
  });
  await worker.ready();
  return {
    queue,
    store,
    async stop() {
      await worker.stop();
      await Promise.all([client.close(), media.close(), queue.close()]);
      await Promise.all([backend.close(), store.close()]);
    },
  };
}
