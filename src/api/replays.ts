import { createHash } from 'node:crypto';

/** So many bodies are remembered, each for so long; 10,000 take about 1 MB. */
const MAX_REMEMBERED = 10_000;
const REMEMBERED_MS = 60 * 60 * 1000;

/**
 * The signed bodies that were taken in during the last hour. Whoever catches one on its way can send it again, but
 * not change it: this is how it is recognised.
 */
export class SignedBodies {
  /** By their hashes, the oldest first: until when, in the milliseconds of `performance.now()`. */
  readonly #until = new Map<string, number>();

  /** Remembers a body that was taken in. */
  add(body: Uint8Array): void {
    const key = keyOf(body);
    this.#until.delete(key);
    this.#until.set(key, performance.now() + REMEMBERED_MS);
    const [oldest] = this.#until.keys();
    if (this.#until.size > MAX_REMEMBERED && oldest !== undefined) this.#until.delete(oldest);
  }

  /** Whether the body was taken in before. */
  has(body: Uint8Array): boolean {
    return (this.#until.get(keyOf(body)) ?? 0) > performance.now();
  }
}

function keyOf(body: Uint8Array): string {
  return createHash('sha256').update(body).digest('base64');
}
