/** Lets what is about the same things happen one after the other, and everything else at the same time. */
export class Turns {
  /** By key: the last of those under way that are about it. */
  readonly #last = new Map<string, Promise<unknown>>();

  /**
   * Works once all that was begun before about any of the keys is done. Whoever waits for work that fails fails as
   * well: with a server away, each of many would otherwise find that out by itself, one after the other.
   */
  async take<T>(keys: readonly string[], work: () => Promise<T>): Promise<T> {
    const earlier = new Set(keys.map((key) => this.#last.get(key)));
    const own = Promise.all(earlier).then(work);
    for (const key of keys) this.#last.set(key, own);
    try {
      return await own;
    } finally {
      for (const key of keys) if (this.#last.get(key) === own) this.#last.delete(key);
    }
  }
}
