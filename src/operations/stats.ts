import type { Rate } from '../config/config.ts';
import type { ArchiverStats, Backlog, QueueActivity, QueueStats, RateLimitView } from '../domain/requests.ts';
import type { BreakerView } from '../domain/views.ts';
import type { SessionQueue } from '../jobs/session-queue.ts';
import type { SeenWorker } from '../jobs/status-board.ts';
import { healthOf } from './health.ts';

/** What this process knows beside the queue. */
export interface ProcessFacts {
  /** How those stand that this process's worker depends on, where it has one. */
  readonly breakers?: (() => readonly BreakerView[] | undefined) | undefined;
  /** `KORE_RATE_LIMIT`, used while no live worker reports its own. */
  readonly rateLimit?: Rate | undefined;
}

/** When sessions wait for longer than this, the pace of these minutes is taken as the highest possible. */
const PACE_MINUTES = 5;
const MINUTE_MS = 60_000;

/** All of `stats`. */
export async function readStats(queue: SessionQueue, own: ProcessFacts): Promise<ArchiverStats> {
  const [stats, activity, workers] = await Promise.all([
    queue.stats(),
    queue.activity(),
    queue.board.workers(),
  ]);
  const rateLimit = await readRateLimit(queue, rateOf(workers, own));
  const ownBreakers = own.breakers?.();
  const elsewhere = await openElsewhere(queue, workers);
  const breakers = ownBreakers ?? (elsewhere.length > 0 ? elsewhere : undefined);
  const now = Date.now();
  const facts = {
    ...stats,
    ...activity,
    backlog: backlogOf(stats, activity, rateLimit, now),
    ...(rateLimit && { rateLimit }),
    workers: workers.map(({ away: _away, heldFor: _held, rateLimit: _rate, ...worker }) => worker),
  };
  const heldFor = workers.find((worker) => worker.heldFor !== undefined)?.heldFor;
  const openBreakers = (ownBreakers ?? []).concat(elsewhere).filter(({ state }) => state === 'open');
  return {
    ...facts,
    ...(breakers && { breakers }),
    health: healthOf({ ...facts, openBreakers, ...(heldFor && { heldFor }) }, now),
  };
}

/** The limit that the latest worker keeps; they should all have the same. */
function rateOf(workers: readonly SeenWorker[], own: ProcessFacts): Rate | undefined {
  return workers.findLast(({ rateLimit }) => rateLimit !== undefined)?.rateLimit ?? own.rateLimit;
}

async function readRateLimit(
  queue: SessionQueue,
  rate: Rate | undefined,
): Promise<RateLimitView | undefined> {
  if (!rate) return undefined;
  const { used, pausedUntil } = await queue.callUsage(rate.windowMs);
  return {
    limit: rate.calls,
    windowSeconds: rate.windowMs / 1000,
    used,
    ...(pausedUntil !== undefined && { limitedUntil: new Date(pausedUntil).toISOString() }),
  };
}

/**
 * The work left. Where sessions have waited for minutes, the number archived in these minutes is the pace; otherwise one
 * call for each session is assumed.
 */
function backlogOf(
  { states, paused, oldestQueuedAt }: QueueStats,
  { throughput }: QueueActivity,
  rateLimit: RateLimitView | undefined,
  now: number,
): Backlog {
  const sessions = states.queued + states.active + states.waiting;
  if (paused || sessions === 0) return { sessions };
  // The last minute is not over yet.
  const ended = throughput
    .slice(-1 - PACE_MINUTES, -1)
    .reduce((total, { archived, failed }) => total + archived + failed, 0);
  const isBusy = oldestQueuedAt !== undefined && now - Date.parse(oldestQueuedAt) > PACE_MINUTES * MINUTE_MS;
  const perSecond = isBusy
    ? ended / (PACE_MINUTES * 60)
    : (rateLimit?.limit ?? 0) / (rateLimit?.windowSeconds ?? 1);
  return { sessions, ...(perSecond > 0 && { secondsUntilDone: Math.ceil(sessions / perSecond) }) };
}

/**
 * The open breakers of workers in other processes: from their heartbeats with the reason, else from reported outages.
 */
async function openElsewhere(queue: SessionQueue, workers: readonly SeenWorker[]): Promise<BreakerView[]> {
  const known = workers.flatMap(({ away }) => away).map((breaker) => [breaker.dependency, breaker] as const);
  const open = new Map<string, BreakerView>(known);
  for (const dependency of await queue.reportedOutages()) {
    if (!open.has(dependency)) {
      open.set(dependency, { dependency, state: 'open', reason: 'a worker says so, and why in its log' });
    }
  }
  return [...open.values()];
}
