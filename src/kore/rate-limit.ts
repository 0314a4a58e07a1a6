import { header, type KoreAnswer } from './answer.ts';

const SECOND_MS = 1000;
const DEFAULT_WAIT_MS = 60 * SECOND_MS;
const HOURLY_WAIT_MS = 15 * 60 * SECOND_MS;
/** A `Retry-After` of 0 would make the whole fleet spin. */
const MIN_WAIT_MS = SECOND_MS;
/** A `Retry-After` beyond this is a mistake: Kore's longest limit is by the hour. */
const MAX_WAIT_MS = 24 * 60 * 60 * SECOND_MS;

/**
 * Kore's texts, as its documentation quotes them: "You've exceeded the per-minute rate limit. ...", "You've
 * exceeded the hourly rate limit. ...", "Rate limit for this API has been reached. ...".
 */
const LIMIT_TEXT = /\brate limit\b|\btoo many requests\b/i;
const HOURLY_TEXT = /\bhourly\b/i;

/** Whether an error text tells that too many calls were made. Only for texts that Kore wrote, never callers. */
export function tellsLimit(text: string): boolean {
  return LIMIT_TEXT.test(text);
}

/**
 * How long to leave Kore alone after it said that a limit is reached, in milliseconds: what `Retry-After`
 * says, else a minute, and longer where the text speaks of the hourly limit.
 */
export function limitWaitMs(answer: KoreAnswer, text: string, now: number): number {
  return retryAfterMs(answer, now) ?? (HOURLY_TEXT.test(text) ? HOURLY_WAIT_MS : DEFAULT_WAIT_MS);
}

/**
 * `Retry-After` in milliseconds from now, whether it came as seconds or as a date; between a second and a
 * day. `undefined` when there is none, or nothing that can be read.
 */
export function retryAfterMs(answer: KoreAnswer, now: number): number | undefined {
  const text = header(answer, 'retry-after')?.trim();
  if (text === undefined || text === '') return undefined;
  if (/^\d+(\.\d+)?$/.test(text)) return clamp(Number(text) * SECOND_MS);
  // A date has letters; Date.parse would take almost any number for one.
  const date = /^[A-Za-z]/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(date)) return undefined;
  // Measured against the server's own clock where it tells it, as ours may be off.
  const serverNow = Date.parse(header(answer, 'date') ?? '');
  return clamp(date - (Number.isNaN(serverNow) ? now : serverNow));
}

function clamp(milliseconds: number): number {
  return Math.min(Math.max(Math.ceil(milliseconds), MIN_WAIT_MS), MAX_WAIT_MS);
}
