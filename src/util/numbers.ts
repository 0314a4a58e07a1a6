/** Numbers that other parties name (headers, URLs, listings), bounded before anything is done with them. */

/** The longest pause that another server may ask for (milliseconds). */
export const MAX_PAUSE_MS = 60 * 60 * 1000;

/** The last moment of the year 9999 (unix milliseconds): what lies behind it is no date. */
const MAX_UNIX_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

/** The requested pause, between nothing and an hour; `undefined` for what is no number. */
export function clampMs(milliseconds: number, maxMs = MAX_PAUSE_MS): number | undefined {
  return Number.isNaN(milliseconds) ? undefined : Math.min(Math.max(0, milliseconds), maxMs);
}

/**
 * A whole number written in decimal digits and nothing else, from 0 to `max` (by default the largest that can be
 * counted); `undefined` for any other text.
 */
export function boundedNumber(text: string | undefined, max = Number.MAX_SAFE_INTEGER): number | undefined {
  // Longer texts are not converted at all: the length of a header decides what that costs.
  if (text === undefined || text.length > 20 || !/^\d+$/.test(text)) return undefined;
  const number = Number(text);
  return number <= max ? number : undefined;
}

/** A moment in unix milliseconds, if it lies within the calendar. */
export function boundedTime(unixMs: number): number | undefined {
  return unixMs >= 0 && unixMs <= MAX_UNIX_MS ? unixMs : undefined;
}

/**
 * How long `Retry-After` asks to wait, in milliseconds from `now`: seconds or a date, at most an hour. What is neither
 * asks for nothing.
 *
 * @see https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
 */
export function parseRetryAfter(header: string | undefined, now: number): number | undefined {
  const text = header?.trim();
  if (text === undefined || text === '' || text.length > 64) return undefined;
  return clampMs(/^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now);
}
