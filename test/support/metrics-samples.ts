import { ERROR_CODES } from '../../src/domain/errors.ts';
import { NOTIFICATION_EVENTS } from '../../src/domain/notifications.ts';
import { createMetrics, type Metrics, type MetricsOptions } from '../../src/observability/metrics/metrics.ts';
import type { MeasuredQueue } from '../../src/observability/metrics/queue.ts';
import { createLogger } from '../../src/util/log.ts';
import { type MetricFamily, parseExposition } from './metrics-parser.ts';

/** A queue with something in every state. */
export const STATS: MeasuredQueue = {
  workers: [{}, {}],
  states: { queued: 7, active: 2, waiting: 3, archived: 40, failed: 5 },
  paused: false,
  transcriptsPending: 6,
  notificationsPending: 8,
  oldestQueuedAt: new Date(Date.now() - 90_000).toISOString(),
};

/** Metrics over a queue that holds {@link STATS}, with the lines they log. */
export function testMetrics(options: Partial<MetricsOptions> = {}): { metrics: Metrics; logged: string[] } {
  const logged: string[] = [];
  const log = createLogger('info', (line) => logged.push(line));
  const metrics = createMetrics({
    stats: async () => STATS,
    breakers: () => [{ dependency: 'kore', state: 'open' }],
    completeness: async () => ({ days: [{ date: '2026-05-03', missing: 2, atRisk: 1 }] }),
    digestsDue: async () => 1,
    version: '1.2.3',
    log,
    ...options,
  });
  return { metrics, logged };
}

/** Metrics as Prometheus reads them. */
export async function scrape(metrics: Metrics): Promise<MetricFamily[]> {
  return parseExposition(await metrics.render());
}

/** Everything that can be reported is reported, with every value that each label can have. */
export function reportEverything({ worker, transfer, kore, notifications }: Metrics): void {
  const session = { seconds: 2, alreadyArchived: false, recordings: 2, bytes: 960_088 };
  worker.onArchived({ ...session, transcript: 'archived' });
  worker.onArchived({ ...session, alreadyArchived: true, transcript: 'pending' });
  for (const state of ['archived', 'absent'] as const) worker.onTranscriptSettled(state);
  worker.onWithoutVoicemail();
  worker.onPartial();
  for (const code of ERROR_CODES) {
    for (const work of ['session', 'transcript'] as const) {
      for (const verdict of ['wait', 'retry', 'fail'] as const)
        worker.onAttemptFailed({ work, code, verdict });
    }
  }
  transfer.onStart(600);
  transfer.onStart(undefined);
  transfer.onBytes(480_044);
  transfer.onResume();
  transfer.onUrlRefresh();
  transfer.onDone({ downloadSeconds: 1, uploadSeconds: 0.2 });
  kore.onCall({ status: 200, milliseconds: 120 });
  kore.onCall({ status: 429, code: 'KORE_RATE_LIMITED', milliseconds: 80 });
  kore.onCall({ status: undefined, code: 'KORE_UNAVAILABLE', milliseconds: 30_000 });
  kore.onWait(1.5);
  for (const event of NOTIFICATION_EVENTS) {
    for (const outcome of ['delivered', 'failed', 'given-up'] as const)
      notifications.onNotification(event, outcome);
  }
}
