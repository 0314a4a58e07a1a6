declare global {
  /** In all Node versions that this project runs on, and not yet in TypeScript's own library. */
  interface JSON {
    parse(
      text: string,
      reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
    ): unknown;
    /** An object that `JSON.stringify` writes as this text of a number, string, boolean or null. */
    rawJSON(text: string): object;
    isRawJSON(value: unknown): boolean;
  }
}

/** A JSON object of which nothing more is known. */
export type JsonObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is JsonObject {
  // Only JavaScript represents numbers that it can't hold as objects.
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !JSON.isRawJSON(value);
}

/**
 * How many levels of arrays and objects are read. `JSON.stringify`, revivers and everything else that walks a value
 * by recursion needs far less than the stack for so many.
 */
export const MAX_JSON_DEPTH = 200;

/**
 * How many values a text may hold. Reading this number takes a tenth of a second, in which the process does nothing
 * else. Long strings (a recording in a `data:` URI) cost next to nothing, so the length of a text says little about it.
 */
export const MAX_JSON_VALUES = 200_000;
/** The factor by which there may be more values that become text because they are too deep: they are only scanned. */
const DEEP_VALUES = 10;

/**
 * What a JSON text holds; `undefined`, which no JSON text holds, where it is not JSON.
 *
 * - Numbers that JavaScript can't hold exactly become `JSON.rawJSON` objects, which `JSON.stringify` writes digit for
 *   digit.
 * - What is nested deeper than {@link MAX_JSON_DEPTH} levels becomes a string: the JSON text that it was.
 * - A text of more than `maxValues` values is not read, as if it were no JSON.
 */
export function parseJson(text: string, maxValues = MAX_JSON_VALUES): unknown {
  const { tooDeep, hasLongNumbers, isTooMuch } = scanJson(text, maxValues);
  if (isTooMuch) return undefined;
  try {
    const shallow = tooDeep.length === 0 ? text : asStrings(text, tooDeep);
    return hasLongNumbers ? JSON.parse(shallow, keepDigits) : JSON.parse(shallow);
  } catch {
    // JSON.parse's error quotes the text, which may hold signed URLs, so it goes no further.
    return undefined;
  }
}

/** What {@link parseJson} has to know of a text before it is parsed. */
export interface JsonScan {
  /** The deepest nesting. */
  readonly depth: number;
  /** Beginning and end of each value that begins below {@link MAX_JSON_DEPTH} levels. */
  readonly tooDeep: readonly (readonly [number, number])[];
  /** Whether there are numbers that a JavaScript number may not hold exactly. */
  readonly hasLongNumbers: boolean;
  /** Whether it has more values than are read. */
  readonly isTooMuch: boolean;
}

/** Integers of 15 digits are always exact. */
const MAX_SAFE_DIGITS = 15;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_ARRAY = 0x5b;
const OPEN_OBJECT = 0x7b;
const CLOSE_ARRAY = 0x5d;
const CLOSE_OBJECT = 0x7d;
const COMMA = 0x2c;

/** Looks through a JSON text once, without recursion: each character is read once or twice. */
export function scanJson(text: string, maxValues = MAX_JSON_VALUES): JsonScan {
  const tooDeep: (readonly [number, number])[] = [];
  let depth = 0;
  let deepest = 0;
  let cutFrom = -1;
  let hasLongNumbers = false;
  // Each but the first comes behind a bracket or a comma.
  let values = 1;
  let deepValues = 0;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (values > maxValues || deepValues > maxValues * DEEP_VALUES) break;
    if (code === QUOTE) {
      at = endOfString(text, at);
    } else if (code === COMMA) {
      if (depth > MAX_JSON_DEPTH) deepValues += 1;
      else values += 1;
    } else if (code === OPEN_ARRAY || code === OPEN_OBJECT) {
      depth += 1;
      if (depth > MAX_JSON_DEPTH) deepValues += 1;
      else values += 1;
      if (depth > deepest) deepest = depth;
      if (depth === MAX_JSON_DEPTH + 1) cutFrom = at;
    } else if (code === CLOSE_ARRAY || code === CLOSE_OBJECT) {
      if (depth === MAX_JSON_DEPTH + 1) tooDeep.push([cutFrom, at + 1]);
      depth -= 1;
    } else if (isDigit(code)) {
      const end = endOfNumber(text, at);
      if (end - at > MAX_SAFE_DIGITS || hasExponent(text, at, end)) hasLongNumbers = true;
      at = end - 1;
    }
  }
  const isTooMuch = values > maxValues || deepValues > maxValues * DEEP_VALUES;
  return { depth: deepest, tooDeep, hasLongNumbers, isTooMuch };
}

/** The index of the quote that ends the string, or the last index of the text where none does. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes += 1;
    if (backslashes % 2 === 0) return end;
  }
  return text.length - 1;
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

/** The index behind digits, points, signs and exponents. */
function endOfNumber(text: string, start: number): number {
  let end = start + 1;
  while (/[\d.eE+-]/.test(text.charAt(end))) end += 1;
  return end;
}

function hasExponent(text: string, start: number, end: number): boolean {
  return /[eE]/.test(text.slice(start, end));
}

function asStrings(text: string, pieces: JsonScan['tooDeep']): string {
  const parts: string[] = [];
  let done = 0;
  for (const [start, end] of pieces) {
    parts.push(text.slice(done, start), JSON.stringify(text.slice(start, end)));
    done = end;
  }
  parts.push(text.slice(done));
  return parts.join('');
}

function keepDigits(_key: string, value: unknown, { source }: { readonly source?: string }): unknown {
  if (typeof value !== 'number' || source === undefined) return value;
  if (String(value) === source) return value;
  // Beyond what a number can hold it becomes Infinity or 0.
  const isLost = !Number.isFinite(value) || (value === 0 && /^-?[0.]*[1-9]/.test(source));
  return isLost || source.length > MAX_SAFE_DIGITS ? JSON.rawJSON(source) : value;
}

/**
 * What a JSON pointer (RFC 6901) points to in a value that came out of JSON, or `undefined`.
 *
 * @param pointer a well-formed one: `/metaInfo/sessionId`, `/0/id`
 */
export function readPointer(value: unknown, pointer: string): unknown {
  let current = value;
  for (const token of pointer.split('/').slice(1)) {
    const key = token.replaceAll('~1', '/').replaceAll('~0', '~');
    // Own properties only: what every object inherits, and the length of a list, were not sent by anybody.
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, key)) return undefined;
    if (Array.isArray(current) && !/^(0|[1-9]\d*)$/.test(key)) return undefined;
    current = (current as Readonly<Record<string, unknown>>)[key];
  }
  return current;
}
