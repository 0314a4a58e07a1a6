import { type CronExpression, CronExpressionParser } from 'cron-parser';
import { DAY_MS } from '../domain/completeness.ts';
import type { ScheduleSpec } from './config.ts';
import { parseDuration } from './parsers.ts';
import { InvalidValue, quote } from './settings.ts';

const MAX_LOOKBACK_MS = 365 * DAY_MS;

/**
 * A cron expression as the queue reads it: minute, hour, day of the month, month, day of the week, with the second
 * before them if there are 6 fields. It is due at most once a minute, and at some time at all.
 *
 * @returns the expression with single spaces.
 * @throws InvalidValue
 */
export function parseCron(text: string): string {
  const fields = text.trim().split(/\s+/);
  const cron = fields.join(' ');
  // The parser would make up a value for an "H", another one each time.
  const expression =
    (fields.length === 5 || fields.length === 6) && !/(^|[ ,])H/.test(cron) ? read(cron) : undefined;
  if (expression === undefined) {
    throw new InvalidValue(`${quote(text)} is no cron expression of 5 fields (or 6, with seconds first)`);
  }
  if (expression.fields.second.values.length > 1) {
    throw new InvalidValue(`${quote(text)} is due more often than once a minute`);
  }
  try {
    expression.next();
  } catch {
    throw new InvalidValue(`${quote(text)} names a day that none of its months has`);
  }
  return cron;
}

/** By the parser that the queue uses; `undefined` for what it refuses. */
function read(cron: string): CronExpression | undefined {
  try {
    return CronExpressionParser.parse(cron, { tz: 'UTC' });
  } catch {
    return undefined;
  }
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
