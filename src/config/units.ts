import { InvalidValue, quote } from './faults.ts';

/** How often something may happen: `KORE_RATE_LIMIT=60/60s` is `{ calls: 60, windowMs: 60_000 }`. */
export interface Rate {
  readonly calls: number;
  readonly windowMs: number;
}

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;

/** Milliseconds of each unit of time. A year has 365 days, as with S3's retention periods. */
const TIME_UNITS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', SECOND_MS],
  ['m', MINUTE_MS],
  ['h', HOUR_MS],
  ['d', DAY_MS],
  ['w', 7 * DAY_MS],
  ['y', 365 * DAY_MS],
]);

/** Bytes of each unit of size, in lowercase. */
const SIZE_UNITS: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ['b', 1],
  ['kb', 1e3],
  ['mb', 1e6],
  ['gb', 1e9],
  ['tb', 1e12],
  ['kib', 2 ** 10],
  ['mib', 2 ** 20],
  ['gib', 2 ** 30],
  ['tib', 2 ** 40],
]);

/** Windows of a rate that are named without a number: `60/min`. */
const RATE_WINDOWS: ReadonlyMap<string, string> = new Map([
  ['s', '1s'],
  ['sec', '1s'],
  ['second', '1s'],
  ['m', '1m'],
  ['min', '1m'],
  ['minute', '1m'],
  ['h', '1h'],
  ['hour', '1h'],
  ['d', '1d'],
  ['day', '1d'],
]);

/**
 * Milliseconds of a text like `250ms`, `30s`, `1.5h`, `7d` or `7y`; a number without a unit only if it is 0.
 * @throws InvalidValue
 */
export function parseDuration(text: string): number {
  if (text === '0') return 0;
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?)([a-z]+)$/.exec(text) ?? [];
  const factor = TIME_UNITS.get(unit);
  if (factor === undefined) {
    const what = /^\d+(?:\.\d+)?$/.test(text) ? 'has no unit' : 'is no duration';
    throw new InvalidValue(`${quote(text)} ${what}; the units are ${[...TIME_UNITS.keys()].join(', ')}`);
  }
  return whole(text, Number(number) * factor, 'milliseconds');
}

/**
 * Bytes of a text like `1048576`, `64KB` (1000 each), `256MiB` or `1.5GiB` (1024 each), in any case.
 * @throws InvalidValue
 */
export function parseSize(text: string): number {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)([a-z]*)$/i.exec(text) ?? [];
  const factor = SIZE_UNITS.get(unit.toLowerCase());
  if (number === undefined || factor === undefined) {
    throw new InvalidValue(`${quote(text)} is no size; the units are KB, MB, GB, TB, KiB, MiB, GiB, TiB`);
  }
  return whole(text, Number(number) * factor, 'bytes');
}

/**
 * Calls and window of a text like `60/60s`, `60/min` or `1800/h`.
 * @throws InvalidValue
 */
export function parseRate(text: string): Rate {
  const [, calls, window] = /^(\d+)\/(\S+)$/.exec(text) ?? [];
  if (calls === undefined || window === undefined) {
    throw new InvalidValue(`${quote(text)} is no rate; write calls, a slash and a duration`);
  }
  const rate = { calls: Number(calls), windowMs: parseDuration(RATE_WINDOWS.get(window) ?? window) };
  if (rate.calls < 1 || rate.windowMs < 1 || !Number.isSafeInteger(rate.calls)) {
    throw new InvalidValue(`${quote(text)} must allow at least one call in a window longer than nothing`);
  }
  return rate;
}

/** Fractions of a millisecond or byte, and numbers that JavaScript can't count, are mistakes. */
function whole(text: string, number: number, unit: string): number {
  if (Number.isSafeInteger(number)) return number;
  // 1.1h is not a whole number of milliseconds in floating point, but is meant to be.
  const rounded = Math.round(number);
  if (Number.isSafeInteger(rounded) && Math.abs(number - rounded) < 1e-3) return rounded;
  throw new InvalidValue(`${quote(text)} is no whole number of ${unit}, or too large to count`);
}
