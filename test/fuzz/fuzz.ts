import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { createRandom } from '../support/random.ts';
import { FUZZ_TARGETS } from './targets.ts';

/** What came of feeding one target. */
export interface FuzzReport {
  readonly target: string;
  readonly inputs: number;
  /** The longest that the event loop did not turn (milliseconds); a busy machine adds to it. */
  readonly longestDelayMs: number;
  /** The most processor time that one input cost (milliseconds). */
  readonly mostCpuMs: number;
  /** What went wrong, each with the number of the input. */
  readonly faults: readonly string[];
}

/** More processor time than this for one input is a freeze, where nothing else is asked for. */
const FREEZE_MS = 200;
/** The first inputs are slow because the code is not compiled yet. */
const WARM_UP = 20;

/**
 * Feeds one target with broken input, for so long or so many times.
 * @param seed the same one makes the same inputs.
 */
export async function fuzz(
  name: string,
  seed: string,
  limit: { readonly milliseconds: number; readonly inputs: number; readonly freezeMs?: number },
): Promise<FuzzReport> {
  const open = FUZZ_TARGETS[name];
  if (!open)
    throw new Error(`there is no target "${name}": take one of ${Object.keys(FUZZ_TARGETS).join(', ')}`);
  const freezeMs = limit.freezeMs ?? FREEZE_MS;
  const random = createRandom(`${seed}/${name}`);
  const target = await open();
  const delays = monitorEventLoopDelay({ resolution: 10 });
  const faults: string[] = [];
  const endsAt = performance.now() + limit.milliseconds;
  let inputs = 0;
  let mostCpuMs = 0;
  try {
    while (inputs < limit.inputs && performance.now() < endsAt) {
      const before = process.threadCpuUsage();
      const fault = await target.feed(random);
      const { user, system } = process.threadCpuUsage(before);
      const cpuMs = (user + system) / 1000;
      await eventLoopTurn();
      inputs += 1;
      if (inputs === WARM_UP) delays.enable();
      if (fault !== undefined) faults.push(`input ${inputs}: ${fault}`);
      if (inputs <= WARM_UP) continue;
      mostCpuMs = Math.max(mostCpuMs, cpuMs);
      if (cpuMs > freezeMs) faults.push(`input ${inputs} took ${Math.round(cpuMs)} ms of processor time`);
    }
  } finally {
    delays.disable();
    await target.close();
  }
  return { target: name, inputs, longestDelayMs: delays.max / 1e6, mostCpuMs, faults };
}
