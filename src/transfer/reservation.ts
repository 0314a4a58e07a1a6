import type { MemoryBudget, MemoryRequest, Release } from './memory.ts';

/** One transfer's share of the memory budget. */
export interface Reservation {
  /** Holds so many bytes if that is possible at once; tells whether it does. */
  tryHold(bytes: number, request: MemoryRequest): boolean;
  /**
   * Waits until it holds so many bytes. What it held is given back first: who waits holds nothing, so
   * transfers never wait for each other.
   */
  hold(bytes: number, request: MemoryRequest, signal: AbortSignal): Promise<void>;
  /** Gives everything back. */
  release(): void;
}

/** Starts with nothing held. */
export function createReservation(budget: MemoryBudget): Reservation {
  let heldBytes = 0;
  let giveBack: Release | undefined;

  function release(): void {
    giveBack?.();
    giveBack = undefined;
    heldBytes = 0;
  }

  function take(bytes: number, granted: Release): void {
    giveBack = granted;
    heldBytes = bytes;
  }

  return {
    tryHold(bytes, request) {
      if (heldBytes >= bytes) return true;
      release();
      const granted = budget.tryAcquire(bytes, request);
      if (granted !== undefined) take(bytes, granted);
      return granted !== undefined;
    },
    async hold(bytes, request, signal) {
      release();
      take(bytes, await budget.acquire(bytes, request, signal));
    },
    release,
  };
}
