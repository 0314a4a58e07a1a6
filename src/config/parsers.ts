import { createPrivateKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { BlockList, isIP, isIPv6 } from 'node:net';
import { CALL_METADATA_MODES, type CallMetadataMode, isSecretName } from '../domain/call.ts';
import { DAY_MS } from '../domain/completeness.ts';
import { DEFAULT_ROLE, isRole, ROLES } from '../domain/requests.ts';
import { isValidId } from '../domain/session.ts';
import type { LogLevel } from '../util/log.ts';
import type { ApiToken, ObjectLock, Rate, S3Config } from './config.ts';
import { errorCodeOf, InvalidValue, quote, type Settings } from './settings.ts';

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

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

/** Parsers of single values that are neither a number with a unit nor a URL. Each throws InvalidValue. */

/** A parser whose result must lie between two bounds, which are named in the message as they are written. */
export function between(parse: (text: string) => number, min: string, max: string): (text: string) => number {
  const lowest = parse(min);
  const highest = parse(max);
  return (text) => {
    const value = parse(text);
    if (value >= lowest && value <= highest) return value;
    throw new InvalidValue(`${quote(text)} is not between ${min} and ${max}`);
  };
}

export function parseInteger(text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(number)) return number;
  throw new InvalidValue(`${quote(text)} is no whole number`);
}

export function parseBoolean(text: string): boolean {
  if (text === 'true' || text === '1') return true;
  if (text === 'false' || text === '0') return false;
  throw new InvalidValue(`${quote(text)} is neither true nor false`);
}

/** `on` and `off`, or as {@link parseBoolean} has it. */
export function parseOnOff(text: string): boolean {
  if (text === 'on' || text === 'off') return text === 'on';
  return parseBoolean(text);
}

/** A parser that accepts one of a few texts. */
export function oneOf<const Choice extends string>(...choices: Choice[]): (text: string) => Choice {
  return (text) => {
    const choice = choices.find((candidate) => candidate === text);
    if (choice !== undefined) return choice;
    throw new InvalidValue(`${quote(text)} is none of ${choices.join(', ')}`);
  };
}

export const parseLogLevel: (text: string) => LogLevel = oneOf(
  'fatal',
  'error',
  'warn',
  'info',
  'debug',
  'trace',
  'silent',
);

/** A bot or account id. */
export function parseId(text: string): string {
  if (isValidId(text)) return text;
  throw new InvalidValue(`${quote(text)} is no id: 1 to 128 letters, digits, "-" and "_"`);
}

/** A name made of visible ASCII characters. `what` says what it names. */
export function visible(what: string, maxCharacters: number): (text: string) => string {
  const pattern = new RegExp(`^[\\x21-\\x7e]{1,${maxCharacters}}$`);
  return (text) => {
    if (pattern.test(text)) return text;
    throw new InvalidValue(`is no ${what}: 1 to ${maxCharacters} visible ASCII characters without spaces`);
  };
}

/** BullMQ builds its keys with colons, so a queue's name can't have any. */
export function parseQueueName(text: string): string {
  if (/^[A-Za-z0-9._-]{1,100}$/.test(text)) return text;
  throw new InvalidValue(`${quote(text)} is no queue name: 1 to 100 letters, digits, ".", "-" and "_"`);
}

/** A secret as it is; control characters in it mean that something else was pasted or mounted. */
export function parseSecret(text: string): string {
  if (!/\p{Cc}/u.test(text)) return text;
  throw new InvalidValue('holds line breaks or other control characters');
}

/** Bearer tokens, comma-separated. They travel in a header, hence visible ASCII. */
export function parseTokens(text: string): string[] {
  const tokens = text.split(',').map((token) => token.trim());
  if (tokens.every((token) => /^[\x21-\x7e]+$/.test(token))) return tokens;
  throw new InvalidValue('has an empty token, or one with spaces or characters that are not ASCII');
}

/** Tokens of the API, comma-separated: each by itself, which may operate, or as `name:role:token`. */
export function parseApiTokens(text: string): ApiToken[] {
  return parseTokens(text).map((entry, index) => {
    const [, name, role, token] = /^([A-Za-z0-9._-]{1,64}):([^:]*):(.+)$/.exec(entry) ?? [];
    if (name === undefined || token === undefined) {
      return { name: `token-${index + 1}`, role: DEFAULT_ROLE, token: entry };
    }
    // The role is not quoted: it may be a part of a secret.
    if (!isRole(role)) {
      throw new InvalidValue(`has a token as name:role:token whose role is none of ${ROLES.join(', ')}`);
    }
    return { name, role, token };
  });
}

/** Host names and addresses, comma-separated: lowercase, without trailing dots. */
export function parseHosts(text: string): string[] {
  return text.split(',').map((entry) => parseHost(entry.trim()));
}

/** The longest name in the DNS; the patterns for names are quick up to there. */
const MAX_HOST_CHARACTERS = 253;

function parseHost(entry: string): string {
  if (entry.length > MAX_HOST_CHARACTERS + 1) throw new InvalidValue(`${quote(entry)} is no host name`);
  const host = entry.replace(/\.$/, '');
  if (/[*/:@?#]/.test(host) && !/^\[[0-9a-f:.]+\]$/i.test(host)) {
    const fix = 'name hosts only, without scheme, port, path or "*" (subdomains are included anyway)';
    throw new InvalidValue(`${quote(entry)} is no host name; ${fix}`);
  }
  // URL knows how to write a host: punycode, lowercase, plain addresses.
  const name = URL.canParse(`https://${host}/`) ? new URL(`https://${host}/`).hostname : '';
  if (/^\[.*\]$|^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$/.test(name))
    return name;
  throw new InvalidValue(`${quote(entry)} is no host name`);
}

/** The address or name a server binds to, an IPv6 address without brackets. */
export function parseBindHost(text: string): string {
  const host = text.replace(/^\[(.*)\]$/, '$1');
  if (host.length > MAX_HOST_CHARACTERS) throw new InvalidValue(`${quote(text)} is no host name`);
  if (isIP(host) !== 0 || /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/i.test(host))
    return host;
  throw new InvalidValue(`${quote(text)} is neither an address nor a host name`);
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** Whether an address or name, an IPv6 address without brackets, is this machine's own. */
export function isLoopback(host: string): boolean {
  if (isIP(host) === 0) return host.toLowerCase() === 'localhost';
  return loopback.check(host, isIPv6(host) ? 'ipv6' : 'ipv4');
}

/** JSON pointers (RFC 6901), comma-separated. */
export function parsePointers(text: string): string[] {
  const pointers = text.split(',').map((pointer) => pointer.trim());
  for (const pointer of pointers) {
    if (!/^(\/([^~/]|~[01])*)+$/.test(pointer)) {
      throw new InvalidValue(`${quote(pointer)} is no JSON pointer, which begins with "/"`);
    }
  }
  return pointers;
}

export const parseCallMetadata: (text: string) => CallMetadataMode = oneOf(...CALL_METADATA_MODES);

/** JSON pointers to what is kept of notifications: never to what is a secret by its name. */
export function parseMetaPointers(text: string): string[] {
  const pointers = parsePointers(text);
  const secret = pointers.find((pointer) => pointer.split('/').some(isSecretName));
  if (secret === undefined) return pointers;
  throw new InvalidValue(`${quote(secret)} names a secret, which no manifest may hold`);
}

export const parseSse: (text: string) => NonNullable<S3Config['sse']> = oneOf(
  'AES256',
  'aws:kms',
  'aws:kms:dsse',
);

/** S3-compatible servers have storage classes of their own, so any name goes. */
export function parseStorageClass(text: string): string {
  if (/^[A-Za-z0-9_-]{1,64}$/.test(text)) return text;
  throw new InvalidValue(`${quote(text)} is no storage class`);
}

export function parseAwsAccount(text: string): string {
  if (/^\d{12}$/.test(text)) return text;
  throw new InvalidValue(`${quote(text)} is no AWS account id, which has 12 digits`);
}

/** S3's own bounds. https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html */
const MAX_TAGS = 10;
const MAX_TAG_KEY_CHARACTERS = 128;
const MAX_TAG_VALUE_CHARACTERS = 256;
const TAG_TEXT = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u;

/** Tags as `k=v&k=v`, URL-encoded again, which is how S3 wants them in its tagging header. */
export function parseTags(text: string): string {
  if (text.split('&').some((pair) => !/^[^=]+=/.test(pair))) {
    throw new InvalidValue(`${quote(text)} is no list of tags like k=v&k=v`);
  }
  const tags = [...new URLSearchParams(text)];
  if (tags.length > MAX_TAGS) throw new InvalidValue(`has ${tags.length} tags; S3 takes at most ${MAX_TAGS}`);
  const keys = new Set<string>();
  for (const [key, value] of tags) {
    if (keys.has(key)) throw new InvalidValue(`names the tag ${quote(key)} twice`);
    keys.add(key);
    if (key.length > MAX_TAG_KEY_CHARACTERS || value.length > MAX_TAG_VALUE_CHARACTERS) {
      throw new InvalidValue(
        `the tag ${quote(key)} is too long; S3 takes 128 characters and 256 for its value`,
      );
    }
    if (!TAG_TEXT.test(key) || !TAG_TEXT.test(value) || /^aws:/i.test(key)) {
      throw new InvalidValue(
        `S3 does not take the tag ${quote(key)}: letters, digits, spaces and + - = . _ : / @ are allowed, a key may not begin with aws:`,
      );
    }
  }
  return tags.map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(value)}`).join('&');
}

const MAX_RETENTION_MS = 100 * 365 * DAY_MS;

/** `GOVERNANCE:365d` or `COMPLIANCE:7y`. */
export function parseObjectLock(text: string): ObjectLock {
  const [, mode, duration] = /^(GOVERNANCE|COMPLIANCE):(.+)$/.exec(text) ?? [];
  if ((mode !== 'GOVERNANCE' && mode !== 'COMPLIANCE') || duration === undefined) {
    throw new InvalidValue(`${quote(text)} is not GOVERNANCE or COMPLIANCE, a colon and a duration`);
  }
  const retainMs = parseDuration(duration);
  if (retainMs < DAY_MS || retainMs > MAX_RETENTION_MS) {
    throw new InvalidValue(`${quote(text)} retains for less than 1d or more than 100y`);
  }
  return { mode, retainMs };
}

const HOW_TO_MAKE_ONE = 'make one: openssl genpkey -algorithm ed25519 -out key.pem';

/** The key that `MANIFEST_KEY_FILE` names; `undefined` where it is unset or wrong. */
export function loadManifestKey(settings: Settings): KeyObject | undefined {
  const variable = 'MANIFEST_KEY_FILE';
  const path = settings.optional(variable, (text) => text);
  if (path === undefined) return undefined;
  let pem: string;
  try {
    pem = readFileSync(path, 'utf8');
  } catch (error) {
    // The path is not shown: people paste keys there by mistake.
    settings.addFault(variable, `the file can't be read (${errorCodeOf(error)})`, {
      hint: 'give the path of a readable file',
    });
    return undefined;
  }
  const key = privateKeyOf(pem);
  if (key?.asymmetricKeyType === 'ed25519') return key;
  const found = key
    ? `holds a key of type ${key.asymmetricKeyType}`
    : 'holds no private key in PEM without a passphrase';
  settings.addFault(variable, `the file ${found}, where an Ed25519 private key is needed`, {
    hint: HOW_TO_MAKE_ONE,
  });
  return undefined;
}

function privateKeyOf(pem: string): KeyObject | undefined {
  try {
    return createPrivateKey(pem);
  } catch {
    return undefined; // OpenSSL's reasons do not help, and may quote the text
  }
}
