/** Times, durations, numbers and bytes in words. */

const DATE_AND_TIME = new Intl.DateTimeFormat('en-GB', {
  day: 'numeric',
  month: 'short',
  year: 'numeric',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  timeZoneName: 'short',
});
const DAY = new Intl.DateTimeFormat('en-GB', {
  weekday: 'long',
  day: 'numeric',
  month: 'long',
  year: 'numeric',
  timeZone: 'UTC',
});
const MONTH = new Intl.DateTimeFormat('en-GB', { month: 'long', year: 'numeric', timeZone: 'UTC' });
const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', timeZoneName: 'short' });
const NUMBER = new Intl.NumberFormat('en-GB');
const RELATIVE = new Intl.RelativeTimeFormat('en-GB', { numeric: 'auto' });

/** @type {readonly (readonly [Intl.RelativeTimeFormatUnit, number])[]} */
const UNITS = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
  ['second', 1],
];

/**
 * `25 Nov 2026, 10:34:12 GMT+1`, in the zone of the browser.
 *
 * @param {string} at ISO 8601
 */
export function dateAndTime(at) {
  const time = Date.parse(at);
  return Number.isNaN(time) ? at : DATE_AND_TIME.format(time);
}

/**
 * `10:34 GMT+1`
 *
 * @param {string} at ISO 8601
 */
export function clock(at) {
  const time = Date.parse(at);
  return Number.isNaN(time) ? at : CLOCK.format(time);
}

/**
 * `3 minutes ago`, `in 2 hours`
 *
 * @param {string} at ISO 8601
 */
export function relative(at, now = Date.now()) {
  const seconds = Math.round((Date.parse(at) - now) / 1_000);
  const [unit, length] = UNITS.find(([, one]) => Math.abs(seconds) >= one) ?? ['second', 1];
  return Number.isNaN(seconds) ? at : RELATIVE.format(Math.trunc(seconds / length), unit);
}

/**
 * `Wednesday 25 November 2026`
 *
 * @param {string} date `YYYY-MM-DD`, a day in UTC.
 */
export function day(date) {
  return DAY.format(Date.parse(date));
}

/**
 * `November 2026`
 *
 * @param {string} date `YYYY-MM-DD`
 */
export function month(date) {
  return MONTH.format(Date.parse(date));
}

/**
 * `2 hours 5 minutes`: the two largest units.
 *
 * @param {number} seconds
 */
export function duration(seconds) {
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [unit, length] of UNITS) {
    const count = Math.floor(left / length);
    left -= count * length;
    if (count > 0) parts.push(plural(count, unit));
  }
  return parts.length === 0 ? 'less than a second' : parts.slice(0, 2).join(' ');
}

/**
 * `0:30`, `1:02:05`
 *
 * @param {number} seconds
 */
export function playingTime(seconds) {
  const whole = Math.round(seconds);
  const hours = Math.floor(whole / 3_600);
  const minutes = Math.floor((whole % 3_600) / 60);
  const two = (/** @type {number} */ count) => String(count).padStart(2, '0');
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/**
 * `214,000`
 *
 * @param {number} count
 */
export function number(count) {
  return NUMBER.format(count);
}

/**
 * `1 session`, `12 sessions`
 *
 * @param {number} count
 * @param {string} noun
 */
export function plural(count, noun) {
  return `${number(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/**
 * `480 kB`
 *
 * @param {number} count
 */
export function bytes(count) {
  if (count < 1_000) return plural(count, 'byte');
  const units = ['kB', 'MB', 'GB', 'TB'];
  let value = count / 1_000;
  let index = 0;
  for (; value >= 999.5 && index < units.length - 1; index += 1) value /= 1_000;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[index]}`;
}
