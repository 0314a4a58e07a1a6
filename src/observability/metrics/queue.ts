import { Gauge, type Registry } from 'prom-client';
import type { QueueStats } from '../../domain/requests.ts';
import { SESSION_STATES } from '../../domain/views.ts';
import type { Logger } from '../../util/log.ts';

/** The queue, as far as it is measured. */
export type MeasuredQueue = QueueStats & {
  /** Where notifications are wanted. */
  readonly notificationsPending?: number;
  /** Those that are alive, on any machine. */
  readonly workers?: readonly object[];
};

/** What the queue said when it was asked. */
type QueueSnapshot =
  | { readonly kind: 'reached'; readonly stats: MeasuredQueue }
  | { readonly kind: 'unreachable'; readonly error: unknown };

/** Times of asking the queue, in milliseconds. */
export interface SnapshotTimes {
  /** The queue has to answer within this time. */
  readonly timeoutMs: number;
  /** How long a snapshot is reused. */
  readonly freshMs: number;
}

/**
 * A function that asks the queue and never rejects. Callers during a request share its result, and a
 * queue that does not answer is not asked again before it has: so however often metrics are read, the queue is
 * asked one thing at a time.
 */
export function createQueueSnapshot(
  stats: () => Promise<MeasuredQueue>,
  { timeoutMs, freshMs }: SnapshotTimes,
): () => Promise<QueueSnapshot> {
  let running: Promise<QueueSnapshot> | undefined;
  let latest: { readonly snapshot: QueueSnapshot; readonly staleAt: number } | undefined;

  async function take(): Promise<QueueSnapshot> {
    const found = await reach(stats);
    latest = { snapshot: found, staleAt: performance.now() + freshMs };
    running = undefined;
    return found;
  }

  return async () => {
    if (latest && performance.now() < latest.staleAt) return latest.snapshot;
    running ??= take();
    return await withinTime(running, timeoutMs);
  };
}

async function reach(stats: () => Promise<MeasuredQueue>): Promise<QueueSnapshot> {
  try {
    return { kind: 'reached', stats: await stats() };
  } catch (error) {
    return { kind: 'unreachable', error };
  }
}

async function withinTime(snapshot: Promise<QueueSnapshot>, timeoutMs: number): Promise<QueueSnapshot> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<QueueSnapshot>((resolve) => {
    timer = setTimeout(() => {
      resolve({ kind: 'unreachable', error: new Error(`the queue did not answer within ${timeoutMs} ms`) });
    }, timeoutMs);
  });
  try {
    return await Promise.race([snapshot, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/** Every process of a queue sees the same queue, so its gauges must never be added up. */
const SHARED = 'The same from every process of a queue: aggregate with max.';

/**
 * Gauges of the queue, brought up to date by the function returned. When the queue can't be reached, that is
 * what they say; the numbers of an unreachable queue are left out, not repeated.
 */
export function createQueueMetrics(registry: Registry, log: Logger): (snapshot: QueueSnapshot) => void {
  const registers = [registry];
  const up = new Gauge({
    name: 'voicemail_queue_up',
    help: 'Whether this process can reach the queue (1) or not (0, and then the other gauges of the queue are missing).',
    registers,
  });
  const sessions = new Gauge({
    name: 'voicemail_queue_sessions',
    help: `Sessions in the queue by state; those archived leave it after some days. ${SHARED}`,
    labelNames: ['state'],
    registers,
  });
  const oldestAge = new Gauge({
    name: 'voicemail_queue_oldest_age_seconds',
    help: `Time since the session that has waited longest was queued; 0 when none waits to be taken. ${SHARED}`,
    registers,
  });
  const transcriptsPending = new Gauge({
    name: 'voicemail_queue_transcripts_pending',
    help: `Archived sessions that are checked again: for a transcript awaited, or once after SETTLE_WAIT. ${SHARED}`,
    registers,
  });
  const paused = new Gauge({
    name: 'voicemail_queue_paused',
    help: `Whether the queue is paused (1), so that no session is taken until it is resumed. ${SHARED}`,
    registers,
  });
  const notificationsPending = new Gauge({
    name: 'voicemail_notifications_pending',
    help: `Notifications (NOTIFY_URL) that have not arrived yet. ${SHARED}`,
    registers,
  });
  const workers = new Gauge({
    name: 'voicemail_workers',
    help: `Workers on this queue with a heartbeat within the last minute. ${SHARED}`,
    registers,
  });
  // A gauge without labels begins as 0, which was never measured.
  forget();

  let wasUp = true;

  function forget(): void {
    sessions.reset();
    oldestAge.remove();
    transcriptsPending.remove();
    paused.remove();
    notificationsPending.remove();
    workers.remove();
  }

  /** At every change only: metrics are read every few seconds. */
  function logChange(snapshot: QueueSnapshot): void {
    const isUp = snapshot.kind === 'reached';
    if (snapshot.kind === 'unreachable' && wasUp) {
      log.warn({ err: snapshot.error }, 'metrics: the queue cannot be reached, so its numbers are left out');
    } else if (isUp && !wasUp) {
      log.info('metrics: the queue can be reached again');
    }
    wasUp = isUp;
  }

  return (snapshot) => {
    logChange(snapshot);
    up.set(snapshot.kind === 'reached' ? 1 : 0);
    if (snapshot.kind === 'unreachable') {
      forget();
      return;
    }
    for (const state of SESSION_STATES) sessions.set({ state }, snapshot.stats.states[state]);
    oldestAge.set(oldestAgeSeconds(snapshot.stats));
    transcriptsPending.set(snapshot.stats.transcriptsPending);
    paused.set(snapshot.stats.paused ? 1 : 0);
    const { notificationsPending: pending, workers: alive } = snapshot.stats;
    if (alive !== undefined) workers.set(alive.length);
    if (pending !== undefined) notificationsPending.set(pending);
  };
}

/** Clocks of different machines may differ a little: nothing is younger than now. */
function oldestAgeSeconds({ oldestQueuedAt }: QueueStats): number {
  if (oldestQueuedAt === undefined) return 0;
  return Math.max(0, (Date.now() - Date.parse(oldestQueuedAt)) / 1000);
}
