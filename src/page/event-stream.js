import { useEffect, useState } from 'preact/hooks';
import { onLogInEnded } from './log-in.js';

/** The event stream, one for the page, while the page is visible. */

/** @import { SessionChange, SessionEventName } from '../domain/views.ts' */

/**
 * `open`: events come; `connecting`: not yet, or not again yet; `lost`: it was there, and is tried again.
 *
 * @typedef {'open' | 'connecting' | 'lost'} Connection
 */

/** @type {readonly SessionEventName[]} */
const NAMES = ['queued', 'active', 'progress', 'waiting', 'archived', 'failed'];
/** After how long a stream is opened again that the server has refused (milliseconds). */
const REOPEN_MS = 3_000;

/** @type {Set<(session: SessionChange) => void>} */
const listeners = new Set();
/** @type {Set<(connection: Connection) => void>} */
const watchers = new Set();
/** @type {EventSource | undefined} */
let source;
/** @type {Connection} */
let connection = 'connecting';
let lastEventId = '';
let reopening = 0;
let hasEnded = false;

/** @param {Connection} now */
function setConnection(now) {
  if (now === connection) return;
  connection = now;
  for (const watcher of watchers) watcher(now);
}

function open() {
  clearTimeout(reopening);
  source?.close();
  const query = lastEventId === '' ? '' : `?lastEventId=${encodeURIComponent(lastEventId)}`;
  const stream = new EventSource(`/v1/events${query}`);
  source = stream;
  stream.onopen = () => setConnection('open');
  stream.onerror = () => {
    setConnection('lost');
    // Browsers try again by themselves unless they were refused.
    if (stream.readyState === EventSource.CLOSED) {
      // The refusal may concern the last event id. The shown data are requested again anyway.
      lastEventId = '';
      reopening = setTimeout(open, REOPEN_MS);
    }
  };
  for (const name of NAMES) {
    stream.addEventListener(name, (event) => {
      lastEventId = event.lastEventId;
      const session = /** @type {SessionChange} */ (JSON.parse(event.data));
      for (const listener of listeners) listener(session);
    });
  }
}

function close() {
  clearTimeout(reopening);
  source?.close();
  source = undefined;
  // So that the changes until the next opening are requested then.
  setConnection('connecting');
}

/** Opens the stream. A hidden page closes it: browsers allow few connections to one server, for all tabs together. */
export function startEvents() {
  open();
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) close();
    else if (!hasEnded) open();
  });
  onLogInEnded(() => {
    hasEnded = true;
    close();
  });
  // The browser notices this sooner than the stream does.
  addEventListener('offline', () => setConnection('lost'));
  addEventListener('online', () => hasEnded || open());
}

/** The state of the connection to the event stream. */
export function useConnection() {
  const [shown, setShown] = useState(connection);
  useEffect(() => {
    setShown(connection);
    watchers.add(setShown);
    return () => void watchers.delete(setShown);
  }, []);
  return shown;
}

/**
 * Calls back for each event.
 *
 * @param {(session: SessionChange) => void} listener
 * @returns {() => void} ends it.
 */
export function onEvent(listener) {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/**
 * Calls back when the connection is lost, and when it is there again.
 *
 * @param {() => void} listener
 * @returns {() => void} ends it.
 */
export function onConnectionChange(listener) {
  watchers.add(listener);
  return () => void watchers.delete(listener);
}
