/** How work grows with its input, on a machine that does other things as well. */

/** Larger input is so many times as long. */
export const TIMES_LARGER = 16;
/**
 * How much dearer a part of the larger input may be than one of the smaller. Linear work takes one to three times as much, as
 * more of it misses the processor's caches; quadratic work 16 times.
 */
const MAX_GROWTH = 8;
/** What is too short to be measured counts as this long. */
const MEASURABLE_MS = 2;
const LEAST_ROUNDS = 5;
const MOST_ROUNDS = 50;

/**
 * How many times more processor time the larger work takes than the smaller one done {@link TIMES_LARGER} times over: garbage is
 * collected as often in both. What else the machine does only ever adds to a time, so the least of each counts, and work
 * that seems to grow too fast is measured again. Work that does grow so seems so each time.
 */
function growth(small: () => unknown, large: () => unknown): number {
  const smallOften = () => {
    for (let time = 0; time < TIMES_LARGER; time += 1) small();
  };
  const least = { small: Number.POSITIVE_INFINITY, large: Number.POSITIVE_INFINITY };
  let times = Number.POSITIVE_INFINITY;
  for (let round = 0; round < MOST_ROUNDS && (round < LEAST_ROUNDS || times >= MAX_GROWTH); round += 1) {
    least.small = Math.min(least.small, cpuMs(smallOften));
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

/** @throws an error if each part of the input that is {@link TIMES_LARGER} takes more work, as if the length were squared. */
export function assertLinear(small: () => unknown, large: () => unknown): void {
  const times = growth(small, large);
  if (times >= MAX_GROWTH)
    throw new Error(`${TIMES_LARGER} times the input is ${(TIMES_LARGER * times).toFixed(0)} times the work`);
}
