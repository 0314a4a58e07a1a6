/** The simulation of a fleet, by itself and beside real workers. */

import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { planSessions } from '../../bench/simulate/arrivals.ts';
import { simulateFleet } from '../../bench/simulate/fleet.ts';
import { parseSimulation, type Simulation, UsageError } from '../../bench/simulate/options.ts';
import type { FleetPlan, PlannedSession } from '../../bench/simulate/plan.ts';
import { randomOf, simulate } from '../../bench/simulate/simulate.ts';
import { windowFor } from '../../src/jobs/call-limit.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { startOnFastClock } from '../support/fast-clock.ts';
import { openSetup, type Setup } from '../support/pipeline.ts';
import { createTestQueue, type TestQueue } from '../support/queues.ts';

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

function planned(...args: string[]): Simulation {
  const simulation = parseSimulation(args);
  if (simulation === 'help') throw new Error('no help was asked for');
  return simulation;
}
const run = (...args: string[]) => simulate(planned(...args)).result;

/** The most calls in any window of that length. */
function mostIn(times: readonly number[], windowMs: number): number {
  let first = 0;
  let most = 0;
  for (const [index, at] of times.entries()) {
    while ((times[first] ?? 0) <= at - windowMs) first += 1;
    most = Math.max(most, index - first + 1);
  }
  return most;
}

describe('a simulated fleet', () => {
  it('a simulated fleet gives the same result for the same seed', () => {
    const args = ['--sessions', '500', '--maybe', '0.2', '--outage', 'kore@9h+10m'];
    const first = run(...args, '--seed', 'a');
    expect(run(...args, '--seed', 'a')).toEqual(first);
    expect(run(...args, '--seed', 'b')).not.toEqual(first);
  });

  it('a simulated fleet never makes more calls in a window than the limit allows, and every session ends', () => {
    const { fleet } = planned('--rate', '10/60s');
    const result = run('--sessions', '6000', '--hours', '4', '--profile', 'flat', '--rate', '10/60s');
    const { windowMs } = windowFor(fleet.rate);
    expect(
      mostIn(
        result.calls.map(({ at }) => at),
        windowMs,
      ),
    ).toBe(10);
    expect(result.archived).toBeGreaterThan(900);
    expect(result.failed + result.lost + result.withoutVoicemail + result.open).toBe(0);
  });

  it('a simulated fleet archives nothing while Kore is unavailable, and everything within seconds after it', () => {
    const { outages } = planned('--outage', 'kore@1h+30m').fleet;
    const [away] = outages;
    const session = (queuedAt: number): PlannedSession => ({
      beganAt: queuedAt - MINUTE_MS,
      queuedAt,
      callClass: 'live',
      isMaybe: false,
      recordingAt: queuedAt,
      transcriptAt: queuedAt,
      bytes: 1_000,
    });
    const sessions = Array.from({ length: 30 }, (_, index) => session(HOUR_MS + index * MINUTE_MS));
    const result = simulateFleet({ ...planned().fleet, outages, sessions }, randomOf('a'));
    expect(result.archived).toBe(30);
    const longest = (away?.to ?? 0) - HOUR_MS;
    expect(Math.max(...result.waits)).toBeGreaterThan(longest - SECOND_MS);
    expect(Math.max(...result.waits)).toBeLessThan(longest + 10 * SECOND_MS);
    expect(result.calls.filter(({ purpose }) => purpose === 'probe').length).toBeGreaterThan(100);
  });

  it('a simulated fleet loses what Kore deletes before it can be asked for', () => {
    const args = ['--sessions', '4000', '--profile', 'flat', '--hours', '3', '--rate', '1/60s'];
    const forgetful = run(...args, '--retention', '2h');
    expect(forgetful.lost).toBeGreaterThan(50);
    expect(forgetful.wereAtRisk).toBeGreaterThanOrEqual(forgetful.lost);
    expect(run(...args).lost).toBe(0);
  });

  it('a simulated fleet asks for a fresh URL where one has expired before its download could begin', () => {
    // One download at a time, which takes longer than it takes until the next session comes.
    const args = ['--sessions', '20000', '--hours', '0.2', '--profile', 'flat', '--bytes', '20MB'];
    const slow = [...args, '--set', 'WORKER_CONCURRENCY=64', '--set', 'TRANSFER_MEMORY=11MiB'];
    const result = run(...slow, '--url-lifetime', '20s');
    expect(result.expiredUrls).toBeGreaterThan(0);
    expect(result.calls.filter(({ purpose }) => purpose === 'fresh-url')).toHaveLength(result.expiredUrls);
    expect(run(...slow, '--url-lifetime', '24h').expiredUrls).toBe(0);
  });

  it.each([
    [['--sessions', 'many'], '--sessions: "many" is no number'],
    [['--workers', '1.5'], '--workers: "1.5" is no whole number'],
    [['--maybe', '2'], '--maybe: "2" is no number from 0 to 1'],
    [['--profile', 'night'], '--profile: "night" is none of flat, office'],
    [['--rate', '60'], '--rate: "60" is no rate'],
    [['--retention', '1'], '--retention: "1" has no unit'],
    [['--outage', 'mars@1h+2h'], 'is not as in kore@2h+30m, with one of kore, media, bucket, workers'],
    [['--outage', 'kore@1h+2'], '--outage: "2" has no unit'],
    [['--set', 'WORKER_CONCURRENCY'], 'is not as in WORKER_CONCURRENCY=64'],
    [['--set', 'WORKER_CONCURENCY=1'], 'did you mean WORKER_CONCURRENCY'],
    [['--set', 'POLL_DELAY=x'], 'POLL_DELAY'],
    [['--late-transcripts', '0.6', '--no-transcript', '0.6'], 'more than 1 together'],
    [['--nope'], "Unknown option '--nope'"],
  ])('a simulated fleet reports what is wrong with %j', (args, message) => {
    expect(() => parseSimulation(args)).toThrow(UsageError);
    expect(() => parseSimulation(args)).toThrow(message);
  });
});

describe('a simulation and a real worker', () => {
  let queue: TestQueue;
  let setup: Setup;
  beforeAll(async () => {
    queue = await createTestQueue('redis');
    setup = await openSetup('redis', 'file');
  });
  afterAll(async () => {
    await setup.close();
    await queue.remove();
  });

  /** By default, calls cost no time: the real worker's clock stands still while it works. */
  const fleetOf = (overrides: Partial<FleetPlan>): FleetPlan => ({
    ...planned().fleet,
    sessions: [],
    answerMs: 0,
    endsAt: 40 * HOUR_MS,
    ...overrides,
  });

  it('a simulation of a day makes as many calls as a real worker within 5%, and archives in the same order', async () => {
    const { arrivals } = planned('--sessions', '240', '--profile', 'flat', '--no-transcript', '0.2');
    const sessions = planSessions({ ...arrivals, hours: 6, maybe: 0.2 }, randomOf('sessions'));
    const result = simulateFleet(
      fleetOf({ sessions, rate: { calls: 1_000_000, windowMs: 1_000 } }),
      randomOf('a'),
    );

    const start = Date.UTC(2026, 0, 5);
    if (queue.config.target.kind !== 'redis') throw new Error('the queue is on Redis');
    const time = await startOnFastClock(start, {
      redisUrl: queue.config.target.url,
      queueName: `simulated-${randomUUID()}`,
    });
    try {
      const ids = sessions.map((session) => {
        const sessionId = makeSessionId(new Date(start + session.beganAt));
        time.at(start + session.queuedAt, async () => {
          time.sandbox.addSession({
            sessionId,
            recordings: [{ seconds: 0.1 }],
            transcription: 'Please call me back.',
            answer: (built) => ({
              ...built,
              ...(Date.now() < start + session.recordingAt && { 'voicemail recording': [] }),
              ...(Date.now() < start + session.transcriptAt && { transcriptions: [] }),
            }),
          });
          await time.request([{ sessionId, maybe: session.isMaybe }]);
        });
        return sessionId;
      });
      await time.runUntil(start + 40 * HOUR_MS);

      const calls = time.sandbox.calls.filter(({ route }) => route === 'voicemail');
      expect(Math.abs(calls.length - result.calls.length) / calls.length).toBeLessThan(0.05);
      const { states } = await time.runtime.operations.stats();
      expect(states).toMatchObject({ archived: result.archived, failed: 0, waiting: 0, queued: 0 });
      // Of those that are there when they are queued, no random pause decides the order.
      const isReady = ({ recordingAt, queuedAt }: PlannedSession) => recordingAt <= queuedAt;
      const firstCalls = (of: readonly string[]) =>
        [...new Set(of)].filter((id) => isReady(sessions[ids.indexOf(id)] ?? NEVER_READY));
      const real = firstCalls(
        time.sandbox.calls.flatMap(({ route, sessionId }) =>
          route === 'media' && sessionId !== undefined ? [sessionId] : [],
        ),
      );
      const simulated = firstCalls(result.calls.map(({ session }) => ids[session] ?? ''));
      expect(real).toEqual(simulated);
      expect(real.length).toBeGreaterThan(30);
    } finally {
      await time.stop();
    }
  });

  it('a simulation under a small rate limit makes the same calls as a real worker, live ones first, within the limit', async () => {
    const rate = { calls: 6, windowMs: 400 };
    const live = 12;
    const behind = 18;
    const plan = (callClass: 'live' | 'background'): PlannedSession => ({
      beganAt: -2 * HOUR_MS,
      queuedAt: 0,
      callClass,
      isMaybe: false,
      recordingAt: -HOUR_MS,
      transcriptAt: -HOUR_MS,
      bytes: 1_000,
    });
    const sessions = [
      ...Array.from({ length: live }, () => plan('live')),
      ...Array.from({ length: behind }, () => plan('background')),
    ];
    const work = { ...planned().fleet.work, concurrency: 4, settleWaitMs: 0, retryDelayMs: 20 };
    const result = simulateFleet(fleetOf({ sessions, rate, work, endsAt: HOUR_MS }), randomOf('a'));
    expect([result.archived, result.calls.length]).toEqual([live + behind, live + behind]);

    const pipeline = await setup.start({
      kore: { rateLimit: rate },
      work: { concurrency: 4 },
      startWorker: false,
    });
    const old = () => makeSessionId(new Date(Date.now() - 2 * HOUR_MS));
    const add = () => pipeline.sandbox.addSession({ sessionId: old(), transcription: 'Call me.' });
    const ids = sessions.map(add);
    await pipeline.request(
      ...ids.map((sessionId, index) => ({
        sessionId,
        priority: index < live ? ('live' as const) : ('backfill' as const),
      })),
    );
    await pipeline.startWorker();
    for (const id of ids) await pipeline.ends(id);
    const calls = pipeline.sandbox.calls.filter(({ route }) => route === 'voicemail');
    await pipeline.stop();

    expect(calls).toHaveLength(result.calls.length);
    // A slow machine takes longer, and no machine is faster than the limit; calls may be a window late on their way.
    const spanOf = (times: readonly number[]) => (times.at(-1) ?? 0) - (times[0] ?? 0);
    const leastSpan = (Math.ceil(calls.length / rate.calls) - 1) * rate.windowMs;
    expect(spanOf(result.calls.map(({ at }) => at))).toBeGreaterThanOrEqual(leastSpan);
    expect(spanOf(calls.map(({ at }) => at))).toBeGreaterThanOrEqual(leastSpan - rate.windowMs);
    // Live ones have a quarter of the limit to themselves: in both, most of them come before those behind them.
    const isLive = (sessionId: string | undefined) => ids.indexOf(sessionId ?? '') < live;
    const liveFirst = (order: readonly boolean[]) => order.slice(0, live).filter(Boolean).length;
    const simulatedFirst = liveFirst(result.calls.map(({ session }) => session < live));
    const realFirst = liveFirst(calls.map(({ sessionId }) => isLive(sessionId)));
    expect(simulatedFirst).toBeGreaterThanOrEqual(live * 0.75);
    expect(Math.abs(realFirst - simulatedFirst)).toBeLessThanOrEqual(live * 0.25);
  });
});

const NEVER_READY: PlannedSession = {
  beganAt: 0,
  queuedAt: 0,
  callClass: 'live',
  isMaybe: false,
  recordingAt: Number.POSITIVE_INFINITY,
  transcriptAt: Number.POSITIVE_INFINITY,
  bytes: 0,
};
