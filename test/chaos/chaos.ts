import { setTimeout as delay } from 'node:timers/promises';
import { ArchiverError } from '../../src/library/errors.ts';
import { createRandom, type Random } from '../support/random.ts';
import { checkWorld } from './check-outcome.ts';
import { type ChaosQueue, openWorld, type World } from './environment.ts';
import { causeFaults } from './faults.ts';

/** What to run. */
export interface ChaosOptions {
  readonly seed: string;
  readonly queue: ChaosQueue;
  readonly sessions: number;
  /** How long faults happen (milliseconds). */
  readonly faultsMs: number;
  /** How long everything may take to settle afterwards (milliseconds). */
  readonly settleMs: number;
  /** Some sessions have no transcript: each run waits until that is given up. */
  readonly mayBeSilent: boolean;
}

/** What it came to. */
export interface ChaosResult {
  /** What went wrong on purpose, by name. */
  readonly caused: Readonly<Record<string, number>>;
  /** From the last fault to the last session (milliseconds). */
  readonly settledMs: number;
  /** What is wrong with the outcome; empty when nothing is. */
  readonly faults: readonly string[];
  /** All that the workers logged. */
  readonly logs: string;
}

/**
 * Three workers, a queue, a bucket and Kore, with faults everywhere while sessions come in. When the faults end, every
 * session has to be archived, once and whole, and everything else has to agree with that.
 */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const random = createRandom(options.seed);
  const world = await openWorld(random, { ...options, workers: 3 });
  try {
    const ends = new AbortController();
    const faulting = causeFaults(world, createRandom(`${options.seed}/faults`), ends.signal);
    await Promise.all([enqueueAll(world, random, options.faultsMs), delay(options.faultsMs)]);
    ends.abort();
    const caused = await faulting;
    const began = performance.now();
    const unsettled = await waitUntilSettled(world, began + options.settleMs);
    const settledMs = Math.round(performance.now() - began);
    const faults = [...unsettled, ...(await checkWorld(world))];
    const logs = world.workers.map((worker) => worker.logs).join('\n');
    return { caused: counted(caused), settledMs, faults, logs };
  } finally {
    await world.close();
  }
}

/** Hands the sessions in over the time, some of them twice, as webhooks do; each until the queue has it. */
async function enqueueAll({ archiver, truths }: World, random: Random, overMs: number): Promise<void> {
  const ids = [...truths.keys()];
  const pause = overMs / ids.length;
  await Promise.all(
    ids.map(async (sessionId, index) => {
      await delay(index * pause * 0.9);
      const times = random.chance(0.3) ? 2 : 1;
      for (let sent = 0; sent < times; sent += 1) await enqueueSurely(archiver, sessionId);
    }),
  );
}

async function enqueueSurely(archiver: World['archiver'], sessionId: string): Promise<void> {
  for (;;) {
    try {
      await archiver.enqueue(sessionId);
      return;
    } catch (error) {
      unlessPassing(error);
      await delay(100);
    }
  }
}

/** Waits until nothing is left to do. @returns what was left when the time was up. */
async function waitUntilSettled({ archiver, truths }: World, deadline: number): Promise<string[]> {
  for (;;) {
    const stats = await archiver.stats().catch(unlessPassing);
    if (stats) {
      const { states, transcriptsPending } = stats;
      const open = states.queued + states.active + states.waiting + transcriptsPending;
      if (open === 0 && states.archived + states.failed >= truths.size) return [];
    }
    if (performance.now() > deadline) return [`not settled: ${JSON.stringify(stats)}`];
    await delay(200);
  }
}

/** On a machine that is busy with other things, answers take their time. */
function unlessPassing(error: unknown): undefined {
  if (!(error instanceof ArchiverError && error.retryable)) throw error;
}

function counted(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
