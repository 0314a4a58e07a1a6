import { type ArchiveAuditLog, createAuditLog } from './audit-log/archive-audit-log.ts';
import { type BackfillOperations, createBackfillOperations } from './backfills/operations.ts';
import { type CompletenessOperations, createCompletenessOperations } from './completeness/operations.ts';
import type { Config, KoreConfig } from './config/config.ts';
import type { AuditLog } from './domain/audit-log.ts';
import type { Notifier } from './domain/notifications.ts';
import type { Backend } from './jobs/backends/backend.ts';
import { type OpenOptions, openBackend } from './jobs/backends/open.ts';
import { EventFeed } from './jobs/event-feed.ts';
import { forgetNotifications, type NotificationCounts } from './jobs/notification-queue.ts';
import { openQueues } from './jobs/open-queues.ts';
import type { SessionQueue } from './jobs/session-queue.ts';
import { createNotifier } from './notifications/notices.ts';
import type { ArchiveMetrics } from './observability/metrics/work.ts';
import type { RequestTracer, WorkObservers } from './observability/tracing/tracing.ts';
import { type ArchivedObjects, createArchivedObjects } from './operations/archived-objects.ts';
import { type CustodyOperations, createCustodyOperations } from './operations/custody.ts';
import { createOperations, type Operations } from './operations/operations.ts';
import { openStore } from './storage/open.ts';
import type { S3StoreOptions } from './storage/s3/store.ts';
import { settleAll, settleInOrder } from './util/async.ts';
import type { Logger } from './util/log.ts';
import type { RuntimeTuning } from './worker-runtime.ts';
import type { SessionWorker } from './workers/worker.ts';

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
  /** Sends notifications, where they are configured (`NOTIFY_URL`). */
  readonly notifier: Notifier | undefined;
  /** Records who did what, unless that is turned off (`AUDIT_LOG`). */
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
  /**
   * Starts archiving, and working on backfills and schedules. What that takes is loaded only now, as most commands
   * only look.
   */
  startWorker(kore: KoreConfig, observers?: WorkObservers, tuning?: RuntimeTuning): Promise<SessionWorker>;
  /** Reports to these metrics from now on what becomes of requests to the archive's bucket. */
  observeArchive(metrics: ArchiveMetrics): void;
  /** Proves that queue and archive can be reached. */
  check(signal: AbortSignal): Promise<void>;
  /** Closes everything; workers have to be stopped before. */
  close(): Promise<void>;
}

/** How to open queue and archive. */
export interface RuntimeOptions extends OpenOptions {
  /** A queue that is open already; its opener closes it. */
  readonly backend?: Backend | undefined;
  /** Of a bucket: where it is, if the standard chain of the AWS SDK does not say, and how long it is waited for. */
  readonly s3?: Pick<S3StoreOptions, 'connection' | 'timeLimits'>;
}

/**
 * Opens queue and archive.
 * @param options of the queue: how long its server is waited for.
 * @throws QueueUnavailableError, QueueHeldError
 */
export async function openRuntime(
  config: Config,
  log: Logger,
  options: RuntimeOptions = {},
): Promise<Runtime> {
  const backend = options.backend ?? (await openBackend(config.queue, log, options));
  const closeBackend = async () => {
    if (!options.backend) await backend.close();
  };
  let archiveMetrics: ArchiveMetrics | undefined;
  const signing = config.manifestKey && (await import('./signing/signatures.ts'));
  const key = config.manifestKey && signing?.toSigningKey(config.manifestKey);
  const opened = await openStore(config.archive, {
    ...options.s3,
    maxObjectBytes: config.work.maxRecordingBytes,
    logger: log,
    onFallback: () => archiveMetrics?.onFallback(),
  });
  const store = key ? (await import('./signing/signatures.ts')).signingStore(opened, key) : opened;
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
    await settleInOrder([closeBackend, () => store.close(), async () => tracing?.close()]);
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
    custody: createCustodyOperations({
      queue,
      store,
      log,
      forgetNotifications: (session) =>
        notifications?.forget(session) ?? forgetNotifications(session, backend, config.queue.name, log),
    }),
    events,
    queue,
    backfills: createBackfillOperations(backfills, queue, store),
    completeness: createCompletenessOperations(backfills, store, Date.now),
    notifier,
    auditLog,
    ...(key && {
      digestsDue: (await import('./signing/write-digests.ts')).createOverdueDigestCount(store, Date.now),
    }),
    notificationCounts: async () => notifications?.counts(),
    locations: { queue: backend.location, archive: store.location },
    isQueueShared: backend.shared,
    requestTracer: tracing?.requests,
    observeArchive(metrics) {
      archiveMetrics = metrics;
    },
    async startWorker(kore, observers, tuning) {
      const { startWorkers } = await import('./worker-runtime.ts');
      const started = startWorkers({
        config,
        kore,
        backend,
        queue,
        backfills,
        store,
        key,
        tracing,
        notifier,
        observers,
        tuning,
        log,
      });
      worker = started.worker;
      closers.push(started.close);
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
        closeBackend,
        async () => auditLog?.close(),
        () => store.close(),
        async () => tracing?.close(),
      ]);
    },
  };
}
