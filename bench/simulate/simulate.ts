import { createHash } from 'node:crypto';
import { planSessions } from './arrivals.ts';
import { simulateFleet } from './fleet.ts';
import type { Simulation } from './options.ts';
import type { FleetResult } from './plan.ts';

/** Makes the sessions and runs the fleet, both by the seed. */
export function simulate({ seed, arrivals, fleet }: Simulation): {
  readonly result: FleetResult;
  readonly callsPerMs: number;
} {
  // Two streams, so that another fleet gets the same sessions.
  const sessions = planSessions(arrivals, randomOf(`${seed} sessions`));
  const result = simulateFleet({ ...fleet, sessions }, randomOf(`${seed} fleet`));
  return { result, callsPerMs: fleet.rate.calls / fleet.rate.windowMs };
}

/**
 * Numbers from 0 to 1 that a seed decides (xorshift128).
 * @see https://www.jstatsoft.org/article/view/v008i14
 */
export function randomOf(seed: string): () => number {
  const state = new Uint32Array(createHash('sha256').update(seed).digest().buffer.slice(0, 16));
  return () => {
    let [t = 0, b = 0, c = 0, d = 0] = state;
    t ^= t << 11;
    t ^= t >>> 8;
    state.set([b, c, d, (d ^ (d >>> 19) ^ t) >>> 0]);
    return (state[3] ?? 0) / 2 ** 32;
  };
}
