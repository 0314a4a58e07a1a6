import type { Repeated } from './spec.ts';

/** Faults in the order in which they happen, each as often as it says. */
export class FaultSequence<Fault extends Repeated> {
  readonly #left: { readonly fault: Fault; times: number }[] = [];

  constructor(faults: readonly Fault[] = []) {
    this.add(...faults);
  }

  /** Puts more faults behind those that are still to come. */
  add(...faults: readonly Fault[]): void {
    for (const fault of faults) {
      const times = fault.times ?? 1;
      if (times > 0) this.#left.push({ fault, times });
    }
  }

  /** Takes away all that are still to come. */
  clear(): void {
    this.#left.length = 0;
  }

  /** Uses up the next one; `undefined` when all is well. */
  next(): Fault | undefined {
    const first = this.#left[0];
    if (first === undefined) return undefined;
    first.times -= 1;
    if (first.times <= 0) this.#left.shift();
    return first.fault;
  }
}
