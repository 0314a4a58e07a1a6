import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { ask, Refusal } from './api.js';
import { onConnectionChange, onEvent } from './event-stream.js';

/** @import { SessionChange } from '../domain/views.ts' */

/**
 * What was asked of the API. After a failure, `data` is what it said last.
 *
 * @template T
 * @typedef {{ data: T | undefined, error: Refusal | undefined, isLoading: boolean, reload: () => void }} Loaded
 */

/**
 * @typedef {object} Refreshing
 * @property {number} [everyMs] the interval of repeated requests, in milliseconds.
 * @property {(session: SessionChange) => boolean} [on] asks again soon after an event for which this holds.
 * @property {number} [pauseMs] the shortest pause after an answer, in milliseconds.
 */

/**
 * Asks the API for what a view shows, and again when something has happened.
 *
 * @template T
 * @param {string | undefined} path without one there is no request.
 * @param {Refreshing} [refreshing]
 * @returns {Loaded<T>}
 */
export function useData(path, { everyMs, on, pauseMs = 1_000 } = {}) {
  const [state, setState] = useState(
    /** @returns {{ path: string | undefined, data?: T, error?: Refusal }} */ () => ({ path: undefined }),
  );
  const loadNow = useRef(() => {});
  const reload = useCallback(() => loadNow.current(), []);
  const isWanted = useRef(on);
  isWanted.current = on;

  useEffect(() => {
    if (path === undefined) return undefined;
    const gone = new AbortController();
    let isRunning = false;
    let isWantedAgain = false;
    const load = async () => {
      // One question at a time, so that a slow answer is not overtaken again and again.
      isWantedAgain = isRunning;
      if (isRunning) return;
      isRunning = true;
      try {
        const data = /** @type {T} */ (await ask(path, { signal: gone.signal }));
        setState({ path, data });
      } catch (error) {
        if (gone.signal.aborted) return;
        const refusal =
          error instanceof Refusal ? error : new Refusal(0, 'INTERNAL', `this page failed: ${error}`);
        setState((before) => ({ ...(before.path === path ? before : { path }), error: refusal }));
      } finally {
        isRunning = false;
      }
      if (isWantedAgain && !gone.signal.aborted) void load();
    };
    loadNow.current = () => void load();
    void load();

    let waiting = 0;
    const forget = onEvent((session) => {
      if (waiting !== 0 || !isWanted.current?.(session)) return;
      waiting = setTimeout(() => {
        waiting = 0;
        void load();
      }, pauseMs);
    });
    const forgetConnection = onConnectionChange(() => void load());
    const timer = everyMs === undefined ? 0 : setInterval(() => void load(), everyMs);
    return () => {
      gone.abort();
      forget();
      forgetConnection();
      clearTimeout(waiting);
      clearInterval(timer);
    };
  }, [path, everyMs, pauseMs]);

  const isCurrent = state.path === path;
  return {
    data: isCurrent ? state.data : undefined,
    error: isCurrent ? state.error : undefined,
    isLoading: path !== undefined && !isCurrent,
    reload,
  };
}
