import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { BreakerView } from '../../domain/views.ts';
import type { NotificationObserver } from '../../notifications/worker.ts';
import type { Logger } from '../../util/log.ts';
import type { WorkerObserver } from '../../workers/worker-deps.ts';
import { createCompletenessMetrics, createDigestMetrics, type MeasuredCompleteness } from './completeness.ts';
import { createQueueMetrics, createQueueSnapshot, type MeasuredQueue } from './queue.ts';
import {
  type ArchiveMetrics,
  createArchiveMetrics,
  createKoreMetrics,
  createNotificationMetrics,
  createSessionMetrics,
  createTransferMetrics,
  createWebhookMetrics,
  type KoreMetrics,
  type TransferMetrics,
  type WebhookMetrics,
} from './work.ts';

/** What metrics are made of. */
export interface MetricsOptions {
  /** Reads the queue's state when metrics are read. */
  readonly stats: () => Promise<MeasuredQueue>;
  /** How those stand that the worker depends on; asked when metrics are read. */
  readonly breakers?: () => readonly BreakerView[];
  /** What the latest completeness reports say; without it there are no such metrics. */
  readonly completeness?: (() => Promise<MeasuredCompleteness>) | undefined;
  /** How many days should have a signed digest and have none; without it there is no such metric. */
  readonly digestsDue?: (() => Promise<number>) | undefined;
  /** This program's version. */
  readonly version: string;
  /** Gets a line when the queue can't be reached, and when it can be again. */
  readonly log: Logger;
  /** How long a snapshot of the queue may take (milliseconds, default 3,000). */
  readonly queueTimeoutMs?: number;
  /** How long a snapshot of the queue counts (milliseconds, default 2,000). */
  readonly queueFreshMs?: number;
}

/** The metrics of one process: what reports to them, and what Prometheus reads. */
export interface Metrics {
  /** For the worker: sessions archived and failed, transcripts. */
  readonly worker: Required<WorkerObserver>;
  /** For the transfers. */
  readonly transfer: TransferMetrics;
  /** For the Kore client (`onCall`) and the limit on its calls (`onWait`). */
  readonly kore: KoreMetrics;
  /** For the archive's bucket (`onFallback`). */
  readonly archive: ArchiveMetrics;
  /** For the webhook: the notifications that came. */
  readonly webhook: WebhookMetrics;
  /** For the notifications that are sent. */
  readonly notifications: NotificationObserver;
  /** The `Content-Type` of what {@link Metrics.render} returns. */
  readonly contentType: string;
  /**
   * All metrics in Prometheus' text format. Reads the queue's state first; that the queue can't be reached is one of
   * the metrics, so this does not reject for it.
   */
  render(): Promise<string>;
}

/** Well within the ten seconds that Prometheus gives a scrape by default. */
const QUEUE_TIMEOUT_MS = 3_000;
/** Several Prometheus servers that scrape at about the same time share one snapshot of the queue. */
const QUEUE_FRESH_MS = 2_000;

/**
 * Creates the metrics of this process, in a registry of their own. Call it once per process: Node's own metrics
 * are watched for as long as the process lives.
 *
 * @example
 * const metrics = createMetrics({ stats: () => operations.stats(), version: VERSION, log });
 * createKoreClient({ config, limit, log, onCall: metrics.kore.onCall });
 * reply.header('content-type', metrics.contentType).send(await metrics.render());
 */
export function createMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry();
  const snapshot = createQueueSnapshot(options.stats, {
    timeoutMs: options.queueTimeoutMs ?? QUEUE_TIMEOUT_MS,
    freshMs: options.queueFreshMs ?? QUEUE_FRESH_MS,
  });
  const showQueue = createQueueMetrics(registry, options.log);
  const showBreakers = createBreakerMetrics(registry);
  const showCompleteness = createCompletenessMetrics(registry, options.completeness, options.log);
  const showDigests = createDigestMetrics(registry, options.digestsDue, options.log);
  const metrics: Metrics = {
    worker: createSessionMetrics(registry),
    transfer: createTransferMetrics(registry),
    kore: createKoreMetrics(registry),
    archive: createArchiveMetrics(registry),
    webhook: createWebhookMetrics(registry),
    notifications: createNotificationMetrics(registry),
    contentType: registry.contentType,
    async render() {
      showQueue(await snapshot());
      showBreakers(options.breakers?.() ?? []);
      await Promise.all([showCompleteness(), showDigests()]);
      return registry.metrics();
    },
  };
  addBuildInfo(registry, options.version);
  collectDefaultMetrics({ register: registry });
  return metrics;
}

/** Breakers, brought up to date by the function returned. Media hosts are shown only while they are unavailable. */
function createBreakerMetrics(registry: Registry): (breakers: readonly BreakerView[]) => void {
  const open = new Gauge({
    name: 'voicemail_breaker_open',
    help: 'Whether this process begins nothing that needs the dependency (kore, bucket, queue, media:host), as it is unavailable (1), or it works (0).',
    labelNames: ['dependency'],
    registers: [registry],
  });
  return (breakers) => {
    open.reset();
    for (const { dependency, state } of breakers) open.set({ dependency }, state === 'open' ? 1 : 0);
  };
}

function addBuildInfo(registry: Registry, version: string): void {
  new Gauge({
    name: 'voicemail_build_info',
    help: 'Always 1; the version of the archiver is its label.',
    labelNames: ['version'],
    registers: [registry],
  }).set({ version }, 1);
}
