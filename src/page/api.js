/** The public API, as any program uses it; the browser adds the cookie of the log-in. */

import { announceLogInEnded } from './log-in.js';

/** A refusal or a failure, in words. */
export class Refusal extends Error {
  /**
   * @param {number} status of the answer; 0 where there was none.
   * @param {string} code of the problem document, or `UNREACHABLE`.
   * @param {string} message
   * @param {string} [hint] what to do about it.
   */
  constructor(status, code, message, hint) {
    super(message);
    this.name = 'Refusal';
    this.status = status;
    this.code = code;
    this.hint = hint;
  }
}

/** Longer than any answer takes that is still useful to a person. */
const TIMEOUT_MS = 60_000;

/**
 * Asks the API.
 *
 * @param {string} path with its query: `/v1/stats`.
 * @param {{ method?: string, json?: unknown, signal?: AbortSignal | undefined }} [options]
 * @returns {Promise<unknown>} the body of the answer; `undefined` where it has none.
 * @throws {Refusal}
 */
export async function ask(path, { method = 'GET', json, signal } = {}) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const response = await send(path, {
    method,
    signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    credentials: 'same-origin',
    cache: 'no-store',
    ...(json !== undefined && {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(json),
    }),
  });
  const text = await response.text();
  const body = parse(text);
  if (response.ok) return body;
  if (response.status === 401) announceLogInEnded();
  const problem = /** @type {{ code?: unknown, detail?: unknown, hint?: unknown }} */ (body ?? {});
  throw new Refusal(
    response.status,
    typeof problem.code === 'string' ? problem.code : `HTTP_${response.status}`,
    typeof problem.detail === 'string' ? problem.detail : `the server answered ${response.status}`,
    typeof problem.hint === 'string' ? problem.hint : undefined,
  );
}

/**
 * @param {string} path
 * @param {RequestInit} init
 */
async function send(path, init) {
  try {
    return await fetch(path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new Refusal(0, 'UNREACHABLE', 'the archiver cannot be reached');
  }
}

/** @param {string} text */
function parse(text) {
  try {
    return /** @type {unknown} */ (JSON.parse(text));
  } catch {
    // An empty answer, or the page of a proxy: the status says what happened.
    return undefined;
  }
}

/**
 * The path of a session, or of something of it.
 *
 * @param {{ sessionId: string, botId?: string | undefined }} session
 * @param {string} [rest] `/transcript`
 */
export function sessionPath({ sessionId, botId }, rest = '') {
  return `/v1/sessions/${encodeURIComponent(sessionId)}${rest}${query({ botId })}`;
}

/**
 * A query of what is given, with its question mark; empty where nothing is.
 *
 * @param {Readonly<Record<string, string | number | undefined>>} values
 */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== '');
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text === '' ? '' : `?${text}`;
}
