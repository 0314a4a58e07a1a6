import { InvalidArgumentError, Option } from 'commander';
import { InvalidValue } from '../config/settings.ts';
import { ERROR_CODES } from '../domain/errors.ts';
import { isValidId, MIN_SEARCH_CHARACTERS } from '../domain/session.ts';

/** A bot or session id. */
export function parseIdArgument(text: string): string {
  if (isValidId(text)) return text;
  throw new InvalidArgumentError('An id has 1 to 128 letters, digits, "_" and "-".');
}

/** A part of an id. */
export function parseSearch(text: string): string {
  if (isValidId(text) && text.length >= MIN_SEARCH_CHARACTERS) return text;
  throw new InvalidArgumentError(`It is ${MIN_SEARCH_CHARACTERS} or more letters, digits, "_" and "-".`);
}

/** A collector of ids for an argument that may be given several times. */
export function parseIds(text: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), parseIdArgument(text)];
}

/** A time or a day; without a zone it is UTC. */
export function parseTime(text: string): Date {
  const isDay = /^\d{4}-\d{2}-\d{2}$/.test(text);
  const isTime = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?$/.test(text);
  const hasZone = isDay || /(Z|[+-]\d{2}:\d{2})$/.test(text);
  const time = new Date(hasZone ? text : `${text}Z`);
  if ((isDay || isTime) && !Number.isNaN(time.getTime()) && isRealDay(text.slice(0, 10))) return time;
  throw new InvalidArgumentError('It must be like 2026-01-31 or 2026-01-31T12:00:00Z.');
}

/** `2026-02-30` is understood as another day. */
function isRealDay(day: string): boolean {
  return new Date(day).toISOString().startsWith(day);
}

/** A whole number within limits. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (/^\d+$/.test(text) && number >= min && number <= max) return number;
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  };
}

/** A value written as in a configuration variable. */
export function asArgument<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      if (error instanceof InvalidValue) throw new InvalidArgumentError(error.message);
      throw error;
    }
  };
}

/** `--code CODE` */
export function codeOption(description: string): Option {
  return new Option('--code <code>', description).choices(ERROR_CODES);
}

/** `--bot ID` */
export function botOption(): Option {
  return new Option('--bot <id>', 'the bot that the ids belong to (default: KORE_BOT_ID)').argParser(
    parseIdArgument,
  );
}

/** `--json` */
export function jsonOption(): Option {
  return new Option('--json', 'write results as JSON');
}
