import { useEffect, useState } from 'preact/hooks';

/** Whether somebody is still logged in, told to all tabs of a browser. */

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

/** The server knows the log-in no more, or is about to be told so. */
export function tellLogInEnded() {
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

/** Whether the log-in has ended: then nothing of what was loaded with it is shown any more. */
export function useLogInEnded() {
  const [isOver, setOver] = useState(hasEnded);
  useEffect(() => onLogInEnded(() => setOver(true)), []);
  return isOver;
}
