/** How work grows with its input, on a machine that does other things as well. */

/** Larger input is four times as long: linear work grows about as much, quadratic work 16 times. */
export const TIMES_LARGER = 4;
const MAX_GROWTH = 11;
/** What is too short to be measured counts as this long. */
const MEASURABLE_MS = 2;
const LEAST_ROUNDS = 5;
const MOST_ROUNDS = 50;

/**
 * How many times more processor time the larger work takes. What else the machine does only ever adds to a time, so the
 * least of each counts, and work that seems to grow too fast is measured again. Work that does grow so seems so each time.
 */
function growth(small: () => unknown, large: () => unknown): number {
  const least = { small: Number.POSITIVE_INFINITY, large: Number.POSITIVE_INFINITY };
  let times = Number.POSITIVE_INFINITY;
  for (let round = 0; round < MOST_ROUNDS && (round < LEAST_ROUNDS || times >= MAX_GROWTH); round += 1) {
    least.small = Math.min(least.small, cpuMs(small));
    least.large = Math.min(least.large, cpuMs(large));
    times = least.large / Math.max(least.small, MEASURABLE_MS);
  }
  return times;
}

/** The processor time (milliseconds) of this thread alone: other threads collect garbage and compile. */
function cpuMs(work: () => unknown): number {
  const before = process.threadCpuUsage();
  work();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1000;
}

/** @throws an error if the work on input that is {@link TIMES_LARGER} grows as if the length were squared. */
export function assertLinear(small: () => unknown, large: () => unknown): void {
  const times = growth(small, large);
  if (times >= MAX_GROWTH)
    throw new Error(`${TIMES_LARGER} times the input is ${times.toFixed(1)} times the work`);
}
