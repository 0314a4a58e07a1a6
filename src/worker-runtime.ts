import { startBackfillWorker } from './backfills/worker.ts';
import { createCompletenessWorker } from './completeness/worker.ts';
import type { Config, KoreConfig } from './config/config.ts';
import { createCallFilter } from './domain/call.ts';
import type { Notifier } from './domain/notifications.ts';
import type { Backend } from './jobs/backends/backend.ts';
import type { BackfillQueue } from './jobs/backfill-queue.ts';
import { createCallLimit } from './jobs/call-limit.ts';
import type { SessionQueue } from './jobs/session-queue.ts';
import { createKoreClient } from './kore/client.ts';
import { callsListing } from './kore/listings/calls.ts';
import { createVoicemailFlags } from './kore/listings/voicemail-flags.ts';
import { type NotificationTimes, startNotificationWorker } from './notifications/worker.ts';
import type { TracedParts, Tracing, WorkObservers } from './observability/tracing/tracing.ts';
import type { SigningKey } from './signing/signatures.ts';
import { isErased } from './storage/custody-records.ts';
import type { ArchiveStore } from './storage/store.ts';
import { createMediaClient } from './transfer/media-http.ts';
import { createMemoryBudget } from './transfer/memory.ts';
import { createTransfer, type TransferLimits } from './transfer/transfer.ts';
import { settleAll } from './util/async.ts';
import type { Logger } from './util/log.ts';
import { type SessionWorker, startSessionWorker } from './workers/worker.ts';
import type { WorkerTuning } from './workers/worker-deps.ts';

/** What tests set otherwise. */
export interface RuntimeTuning extends WorkerTuning {
  readonly notifications?: Partial<NotificationTimes>;
  readonly transfers?: Pick<TransferLimits, 'retryPauseMs' | 'slowCheckMs'>;
}

/** What the workers work with: parts of an opened runtime, and the configuration. */
export interface WorkerParts {
  readonly config: Config;
  readonly kore: KoreConfig;
  readonly backend: Backend;
  readonly queue: SessionQueue;
  readonly backfills: BackfillQueue;
  readonly store: ArchiveStore;
  /** Signs the daily digests. */
  readonly key: SigningKey | undefined;
  readonly tracing: Tracing | undefined;
  readonly notifier: Notifier | undefined;
  /** Other observers of the work: metrics. */
  readonly observers: WorkObservers | undefined;
  readonly tuning: RuntimeTuning | undefined;
  readonly log: Logger;
}

/** Workers that run. */
export interface StartedWorkers {
  /** All of them, as one. */
  readonly worker: SessionWorker;
  /** Closes the connections that they had; they have to be stopped before. */
  close(): Promise<void>;
}

/** Starts the workers of sessions, of backfills and completeness, and of notifications. */
export function startWorkers({
  config,
  kore,
  backend,
  queue,
  backfills,
  store,
  key,
  tracing,
  notifier,
  observers: others,
  tuning,
  log,
}: WorkerParts): StartedWorkers {
  const observers = tracing ? tracing.observers(others) : others;
  // First, as it refuses a receiver that is not allowed.
  const notificationWorker =
    config.notify &&
    startNotificationWorker({
      backend,
      queueName: config.queue.name,
      notify: config.notify,
      isErased: (session, signal) => isErased(session, store, signal),
      shutdownGraceMs: config.work.shutdownGraceMs,
      times: tuning?.notifications,
      observe: others?.notifications,
      log,
    });
  const limit = createCallLimit(backend, config.queue.name, kore.rateLimit, observers?.kore.onWait);
  const client = createKoreClient({
    config: kore,
    limit,
    log,
    ...(observers && { onCall: observers.kore.onCall }),
  });
  const media = createMediaClient({
    media: config.media,
    idleTimeoutMs: config.work.downloadIdleTimeoutMs,
  });
  const parts: TracedParts = {
    fetchVoicemail: (session, callClass, signal) => client.fetchVoicemail(session, callClass, signal),
    store,
    transfer: createTransfer({
      store,
      media,
      memory: createMemoryBudget(config.work.transferMemoryBytes),
      limits: {
        maxRecordingBytes: config.work.maxRecordingBytes,
        minBytesPerSecond: config.work.downloadMinBytesPerSecond,
        minRateGraceMs: config.work.downloadIdleTimeoutMs,
        ...tuning?.transfers,
      },
      log,
      ...(observers && { observe: observers.transfer }),
    }),
  };
  const flags =
    kore.accountId === undefined
      ? undefined
      : createVoicemailFlags({
          listing: callsListing(kore.accountId),
          listPage: (listing, query, signal) => client.listPage(listing, query, signal),
          now: Date.now,
          log,
        });
  const sessionWorker = startSessionWorker({
    backend,
    queue,
    queueName: config.queue.name,
    defaultBotId: kore.botId,
    rateLimit: kore.rateLimit,
    work: config.work,
    ...(tracing ? tracing.traceParts(parts) : parts),
    hasVoicemail: flags && ((session, signal) => flags.of(session, signal)),
    now: () => new Date(),
    log,
    telemetry: tracing?.queue,
    ...(observers && { observe: observers.worker }),
    onSettled: notifier?.settled,
    tuning,
  });
  const keepCall = createCallFilter(config.callMetadata ?? 'on', kore.clientSecret);
  const backfillWorker = startBackfillWorker({
    backend,
    queueName: config.queue.name,
    backfills,
    sessions: queue,
    archive: store,
    listPage: (listing, query, signal) => client.listPage(listing, query, signal),
    accountId: kore.accountId,
    defaultBotId: kore.botId,
    schedules: config.schedules,
    keepCall,
    completeness: createCompletenessWorker({
      kore,
      keepCall,
      completeness: config.completeness,
      queue,
      archive: store,
      listPage: (listing, query, signal) => client.listPage(listing, query, signal),
      notifier,
      now: Date.now,
      log,
    }),
    writeDigests:
      key &&
      (async (signal) => {
        const { writeDigests } = await import('./signing/write-digests.ts');
        await writeDigests({ store, key, now: () => new Date(), log }, signal);
      }),
    work: config.work,
    log,
  });
  const worker: SessionWorker = {
    activity: () => sessionWorker.activity(),
    breakers: () => sessionWorker.breakers(),
    async ready() {
      await Promise.all([sessionWorker.ready(), backfillWorker.ready(), notificationWorker?.ready()]);
    },
    async stop() {
      await settleAll([
        () => sessionWorker.stop(),
        () => backfillWorker.stop(),
        async () => notificationWorker?.stop(),
      ]);
    },
  };
  return { worker, close: () => settleAll([() => client.close(), () => media.close()]) };
}
