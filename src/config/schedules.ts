import type { ScheduleSpec } from './config.ts';
import { DAY_MS, parseDuration } from './parsers.ts';
import { InvalidValue, quote } from './settings.ts';

const MAX_LOOKBACK_MS = 365 * DAY_MS;

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];

/** What each field of a cron expression may hold; months and days also by name. */
interface Field {
  readonly min: number;
  readonly max: number;
  readonly names?: readonly string[];
}

/** The longest that each month can be. */
const MONTH_DAYS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

const SECOND: Field = { min: 0, max: 59 };
const MONTH: Field = { min: 1, max: 12, names: MONTHS };
const FIELDS: readonly Field[] = [
  { min: 0, max: 59 },
  { min: 0, max: 23 },
  { min: 1, max: 31 },
  MONTH,
  { min: 0, max: 7, names: DAYS },
];

/**
 * A cron expression: minute, hour, day of the month, month, day of the week, with seconds before them if there are 6
 * fields. Each is `*`, a number, a name, a range, a step (`*` + `/5`), or a list of these.
 *
 * @returns the expression with single spaces.
 * @throws InvalidValue
 */
export function parseCron(text: string): string {
  const parts = text.trim().split(/\s+/);
  const fields = parts.length === FIELDS.length + 1 ? [SECOND, ...FIELDS] : FIELDS;
  const isValid =
    parts.length === fields.length &&
    fields.every((field, index) => (parts[index] ?? '').split(',').every((item) => isItem(item, field)));
  const [days = '', months = ''] = parts.slice(-3);
  if (isValid && !isEverDue(days, months)) {
    throw new InvalidValue(`${quote(text)} names a day that none of its months has`);
  }
  if (isValid) return parts.join(' ');
  throw new InvalidValue(`${quote(text)} is no cron expression of 5 fields (or 6, with seconds first)`);
}

/** Whether one of the months has a day so early. */
function isEverDue(days: string, months: string): boolean {
  const firstDays = days.split(',').map((item) => Number.parseInt(item, 10) || 1);
  const earliest = Math.min(...firstDays);
  return MONTH_DAYS.some((length, index) => earliest <= length && hasMonth(months, index + 1));
}

/** Whether a month lies in one of the ranges; steps are left out of account. */
function hasMonth(months: string, month: number): boolean {
  return months.split(',').some((item) => {
    const [range = ''] = item.split('/');
    if (range === '*') return true;
    const [first = 0, last = first] = range.split('-').map((bound) => numberOf(bound, MONTH));
    return month >= first && month <= last;
  });
}

function isItem(item: string, field: Field): boolean {
  const [, range = '', step] = /^([^/]+)(?:\/(\d{1,2}))?$/.exec(item) ?? [];
  if (step !== undefined && Number(step) < 1) return false;
  if (range === '*') return true;
  const bounds = range.split('-').map((bound) => numberOf(bound, field));
  const [first = -1, last = first] = bounds;
  return bounds.length <= 2 && first >= field.min && last <= field.max && first <= last;
}

function numberOf(text: string, { min, names = [] }: Field): number {
  const index = names.indexOf(text.toLowerCase());
  if (index >= 0) return index + min;
  return /^\d{1,2}$/.test(text) ? Number(text) : -1;
}

/** The name of a schedule. */
export function parseScheduleName(text: string): string {
  if (/^[A-Za-z][A-Za-z0-9_-]{0,63}$/.test(text)) return text;
  throw new InvalidValue(`${quote(text)} is no name: a letter, then up to 63 letters, digits, "-" and "_"`);
}

/** How far back a schedule looks: a minute to a year, in milliseconds. */
export function parseLookback(text: string): number {
  const lookbackMs = parseDuration(text);
  if (lookbackMs >= 60_000 && lookbackMs <= MAX_LOOKBACK_MS) return lookbackMs;
  throw new InvalidValue(`${quote(text)} is not between 1m and 365d`);
}

/** Schedules as `nightly=0 3 * * *|48h; weekly=0 4 * * sun|14d`. */
export function parseSchedules(text: string): ScheduleSpec[] {
  const schedules = text
    .split(';')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '')
    .map(parseEntry);
  const names = schedules.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new InvalidValue(`names ${quote(twice)} twice`);
  return schedules;
}

function parseEntry(entry: string): ScheduleSpec {
  const [, name, cron, lookback] = /^([^=]*)=([^|]*)\|([^|]*)$/.exec(entry) ?? [];
  if (name === undefined || cron === undefined || lookback === undefined) {
    throw new InvalidValue(`${quote(entry)} is not a name, "=", a cron expression, "|" and a duration`);
  }
  return {
    name: parseScheduleName(name.trim()),
    cron: parseCron(cron),
    lookbackMs: parseLookback(lookback.trim()),
  };
}
