/** When V8 collects garbage. Audio lies outside of its heap, and is freed only when the small objects that hold it are collected. */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** How much V8's heap may grow from one collection to the next (percent); V8 itself lets it double and more. */
const GROWTH_PERCENT = 75;

/**
 * Lets V8 collect garbage sooner, for the whole process. Unlike the size of the young generation, this can be set while
 * Node runs: https://nodejs.org/api/v8.html#v8setflagsfromstringflags
 */
export function collectSooner(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
}

/** V8's own function: https://github.com/v8/v8/blob/main/src/extensions/gc-extension.cc */
type CollectGarbage = (options: { readonly type: 'minor' }) => void;

/** Collects the young generation whenever so many bytes have come in buffers that are soon garbage. */
export class BufferCollector {
  readonly #everyBytes: number;
  #collect: CollectGarbage | undefined;
  #bytes = 0;

  constructor(everyBytes: number) {
    this.#everyBytes = everyBytes;
  }

  /** Counts bytes that came in a buffer of their own. */
  count(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < this.#everyBytes) return;
    this.#bytes = 0;
    this.#collect ??= garbageCollector();
    this.#collect({ type: 'minor' });
  }
}

function garbageCollector(): CollectGarbage {
  setFlagsFromString('--expose-gc');
  try {
    return runInNewContext('gc') as CollectGarbage;
  } finally {
    setFlagsFromString('--no-expose-gc');
  }
}
