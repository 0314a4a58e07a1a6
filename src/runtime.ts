import { type ArchiveAuditLog, createAuditLog } from './audit-log/archive-audit-log.ts';
import { type BackfillOperations, createBackfillOperations } from './backfills/operations.ts';
import { startBackfillWorker } from './backfills/worker.ts';
import { type CompletenessOperations, createCompletenessOperations } from './completeness/operations.ts';
import { createCompletenessWorker } from './completeness/worker.ts';
import type { Config, KoreConfig } from './config/config.ts';
import type { AuditLog } from './domain/audit-log.ts';
import { createCallFilter } from './domain/call.ts';
import type { Notifier } from './domain/notifications.ts';
import { type OpenOptions, openBackend } from './jobs/backends/open.ts';
import { createCallLimit } from './jobs/call-limit.ts';
import { EventFeed } from './jobs/event-feed.ts';
import type { NotificationCounts } from './jobs/notification-queue.ts';
import { openQueues } from './jobs/open-queues.ts';
import type { SessionQueue } from './jobs/session-queue.ts';
import { createKoreClient } from './kore/client.ts';
import { callsListing } from './kore/listings/calls.ts';
import { createVoicemailFlags } from './kore/listings/voicemail-flags.ts';
import { createNotifier } from './notifications/notices.ts';
import { type NotificationTimes, startNotificationWorker } from './notifications/worker.ts';
import type { RequestTracer, TracedParts, WorkObservers } from './observability/tracing/tracing.ts';
import { type ArchivedObjects, createArchivedObjects } from './operations/archived-objects.ts';
import { type CustodyOperations, createCustodyOperations } from './operations/custody.ts';
import { createOperations, type Operations } from './operations/operations.ts';
import { createDigestLook } from './signing/digest-look.ts';
import { signingKey } from './signing/signatures.ts';
import { signingStore } from './signing/signing-store.ts';
import { writeDigests } from './signing/write-digests.ts';
import { openStore } from './storage/open.ts';
import { createMediaClient } from './transfer/media-http.ts';
import { createMemoryBudget } from './transfer/memory.ts';
import { createTransfer, type TransferLimits } from './transfer/transfer.ts';
import { settleAll, settleInOrder } from './util/async.ts';
import type { Logger } from './util/log.ts';
import { type SessionWorker, startSessionWorker, type WorkerTuning } from './workers/worker.ts';

/** The parts of the program, put together as the configuration says. */
export interface Runtime {
  readonly operations: Operations;
  /** What is archived, for reading. */
  readonly objects: ArchivedObjects;
  /** Erasing and holding what is archived. */
  readonly custody: CustodyOperations;
  /** What happens to sessions. */
  readonly events: EventFeed;
  /** The queue itself, for the dashboard. */
  readonly queue: SessionQueue;
  readonly backfills: BackfillOperations;
  readonly completeness: CompletenessOperations;
  /** Tells others what happens, where that is wanted (`NOTIFY_URL`). */
  readonly notifier: Notifier | undefined;
  /** Notes who did what, unless that is turned off (`AUDIT_LOG`). */
  readonly auditLog: AuditLog | undefined;
  /** How many days should have a signed digest and have none; left out where nothing is signed. */
  readonly digestsDue?: () => Promise<number>;
  /** How many notifications are on their way; `undefined` where there are none. */
  notificationCounts(): Promise<NotificationCounts | undefined>;
  /** Where the queue and the archive are, for people and logs. */
  readonly locations: { readonly queue: string; readonly archive: string };
  /** Whether other processes can work on the same queue. */
  readonly isQueueShared: boolean;
  /** For the API, where traces are wanted. */
  readonly requestTracer: RequestTracer | undefined;
  /** Starts archiving, and working on backfills and schedules. */
  startWorker(kore: KoreConfig, observers?: WorkObservers, tuning?: RuntimeTuning): SessionWorker;
  /** Proves that queue and archive can be reached. */
  check(signal: AbortSignal): Promise<void>;
  /** Closes everything; workers have to be stopped before. */
  close(): Promise<void>;
}

/** What tests set otherwise. */
export interface RuntimeTuning extends WorkerTuning {
  readonly notifications?: Partial<NotificationTimes>;
  readonly transfers?: Pick<TransferLimits, 'retryPauseMs' | 'slowCheckMs'>;
}

/**
 * Opens queue and archive.
 * @param options of the queue: how long its server is waited for.
 * @throws QueueUnavailableError, QueueHeldError
 */
export async function openRuntime(config: Config, log: Logger, options: OpenOptions = {}): Promise<Runtime> {
  const backend = await openBackend(config.queue, log, options);
  let archiveMetrics: WorkObservers['archive'];
  const key = config.manifestKey && signingKey(config.manifestKey);
  const opened = openStore(config.archive, {
    maxObjectBytes: config.work.maxRecordingBytes,
    logger: log,
    onFallback: () => archiveMetrics?.onFallback(),
  });
  const store = key ? signingStore(opened, key) : opened;
  // Loaded only where it is wanted: it takes time and memory.
  const tracing =
    config.traces && (await import('./observability/tracing/start.ts')).startTracing(config.traces, log);
  const {
    sessions: queue,
    backfills,
    notifications,
  } = await openQueues({
    backend,
    name: config.queue.name,
    log,
    telemetry: tracing?.queue,
    withNotifications: config.notify !== undefined,
  }).catch(async (error: unknown) => {
    await settleInOrder([() => backend.close(), () => store.close(), async () => tracing?.close()]);
    throw error;
  });
  const notifier =
    config.notify && notifications
      ? createNotifier({ queue: notifications, events: config.notify.events, now: () => new Date() })
      : undefined;
  const auditLog: ArchiveAuditLog | undefined =
    config.auditLog === false ? undefined : createAuditLog({ store, log });
  let worker: SessionWorker | undefined;
  const events = new EventFeed(backend, config.queue.name, log);
  const closers: (() => Promise<void>)[] = [];
  return {
    operations: createOperations(queue, store, log, {
      breakers: () => worker?.breakers(),
      rateLimit: config.rateLimit,
    }),
    objects: createArchivedObjects(store),
    custody: createCustodyOperations({ queue, store, log }),
    events,
    queue,
    backfills: createBackfillOperations(backfills, queue, store),
    completeness: createCompletenessOperations(backfills, store, Date.now),
    notifier,
    auditLog,
    ...(key && { digestsDue: createDigestLook(store, Date.now) }),
    notificationCounts: async () => notifications?.counts(),
    locations: { queue: backend.location, archive: store.location },
    isQueueShared: backend.shared,
    requestTracer: tracing?.requests,
    startWorker(kore, metrics, tuning) {
      archiveMetrics = metrics?.archive;
      const observers = tracing ? tracing.observers(metrics) : metrics;
      // First, as it refuses a receiver that is not allowed.
      const notificationWorker =
        config.notify &&
        startNotificationWorker({
          backend,
          queueName: config.queue.name,
          notify: config.notify,
          shutdownGraceMs: config.work.shutdownGraceMs,
          times: tuning?.notifications,
          observe: metrics?.notifications,
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
      closers.push(
        () => client.close(),
        () => media.close(),
      );
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
            await writeDigests({ store, key, now: () => new Date(), log }, signal);
          }),
        work: config.work,
        log,
      });
      worker = {
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
      return worker;
    },
    async check(signal) {
      await Promise.all([queue.check(), store.check(signal)]);
    },
    async close() {
      // Whatever one of them does, the rest is closed.
      await settleInOrder([
        () => settleAll(closers),
        () => events.close(),
        () => settleAll([() => queue.close(), () => backfills.close(), async () => notifications?.close()]),
        () => backend.close(),
        async () => auditLog?.close(),
        () => store.close(),
        async () => tracing?.close(),
      ]);
    },
  };
}
