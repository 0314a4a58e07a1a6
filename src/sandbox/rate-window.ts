/** Counts calls in a sliding window. */
export class RateWindow {
  #calls: number[] = [];

  /**
   * Takes a call if fewer than `limit` were taken in the last `windowMs`.
   *
   * @param now milliseconds.
   * @returns 0 if it was taken, else the milliseconds until one would be.
   */
  take(limit: number, windowMs: number, now: number): number {
    this.#calls = this.#calls.filter((at) => at > now - windowMs);
    const blocking = this.#calls[this.#calls.length - limit];
    if (this.#calls.length >= limit) return blocking === undefined ? windowMs : blocking + windowMs - now;
    this.#calls.push(now);
    return 0;
  }
}
