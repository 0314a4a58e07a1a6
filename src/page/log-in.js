import { useEffect, useState } from 'preact/hooks';

/** Whether the log-in still holds, shared by all tabs of a browser. */

const channel = new BroadcastChannel('voicemail-archiver');
const ENDED = 'log-in ended';
/** @type {Set<() => void>} */
const listeners = new Set();
let hasEnded = false;

function end() {
  hasEnded = true;
  for (const listener of listeners) listener();
}
channel.onmessage = ({ data }) => data === ENDED && end();

/** Ends the log-in in all tabs: the server has ended it, or is about to. */
export function announceLogInEnded() {
  if (hasEnded) return;
  end();
  channel.postMessage(ENDED);
}

/**
 * Calls back when the log-in has ended.
 *
 * @param {() => void} listener
 * @returns {() => void} ends it.
 */
export function onLogInEnded(listener) {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** Whether the log-in has ended. If so, the page hides everything that was loaded with it. */
export function useLogInEnded() {
  const [isOver, setOver] = useState(hasEnded);
  useEffect(() => onLogInEnded(() => setOver(true)), []);
  return isOver;
}
