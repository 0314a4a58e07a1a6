import { ask } from '../api.js';

const PAUSE_MS = 500;

/**
 * Polls a run of a worker until it is done.
 *
 * @template T
 * @param {string} path
 * @param {(answer: T) => boolean} isDone
 * @returns {Promise<T>}
 */
export async function followUntil(path, isDone) {
  for (;;) {
    const answer = /** @type {T} */ (await ask(path));
    if (isDone(answer)) return answer;
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
