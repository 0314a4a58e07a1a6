import type { CallClass } from '../../src/domain/voicemail.ts';
import type { CallWindow } from '../../src/jobs/call-limit.ts';

/** The sliding window of the fleet's calls, as the queue's server keeps it. */
export class SimulatedCalls {
  readonly #window: CallWindow;
  /** When calls were sent, the oldest first. */
  #taken: number[] = [];

  constructor(window: CallWindow) {
    this.#window = window;
  }

  /** Takes a call. @returns 0 when it was taken, otherwise how long to wait (milliseconds). */
  take(callClass: CallClass, now: number): number {
    const { windowMs, allowed } = this.#window;
    const first = this.#taken.findIndex((at) => at > now - windowMs);
    this.#taken = first === -1 ? [] : this.#taken.slice(first);
    const blocking = this.#taken[this.#taken.length - allowed[callClass]];
    if (this.#taken.length < allowed[callClass]) {
      this.#taken.push(now);
      return 0;
    }
    return Math.max(1, (blocking ?? now) + windowMs - now);
  }
}
