import { fileURLToPath } from 'node:url';
import type { ArchiveTarget, QueueTarget, S3Config, ServerAddress } from './config.ts';
import { isLoopback } from './parsers.ts';
import { InvalidValue, quote } from './settings.ts';

/** Parsers of the variables that say where things are. Each throws InvalidValue. */

const SENTINEL_PORT = 26379;

/** `KORE_HOST` as an origin: https unless it says http, without a trailing slash. */
export function parseKoreHost(text: string): string {
  const url = toUrl(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `https://${text}`);
  if (url === undefined || url.hostname === '') throw new InvalidValue(`${quote(text)} is no host`);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw new InvalidValue(`${quote(text)} is neither https nor http`);
  }
  if (url.username !== '' || url.password !== '') {
    throw new InvalidValue('holds a user name or password, which Kore does not use');
  }
  if (!/^\/*$/.test(url.pathname) || url.search !== '' || url.hash !== '') {
    throw new InvalidValue(`${quote(text)} holds more than a host; leave out path and query`);
  }
  return url.origin;
}

/** `API_JWKS_URL`. An attacker who can change its answer can log in, hence https. */
export function parseJwksUrl(text: string): string {
  const url = toUrl(text);
  if (url === undefined || url.hostname === '') throw new InvalidValue(`${quote(text)} is no URL`);
  if (url.username !== '' || url.password !== '') {
    throw new InvalidValue('holds a user name or password, which would not be sent');
  }
  const isHere = isLoopback(url.hostname.replace(/^\[(.*)\]$/, '$1'));
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && isHere)) {
    throw new InvalidValue(
      `${quote(text)} is not https, without which only a server on this machine will do`,
    );
  }
  return url.href;
}

/** `QUEUE_URL`. Nothing of it is ever quoted, as it may hold a password. */
export function parseQueueUrl(value: string): QueueTarget {
  const text = value.trim();
  const scheme = /^([a-z0-9+.-]+):/i.exec(text)?.[1]?.toLowerCase();
  switch (scheme) {
    case 'embedded':
      return { kind: 'embedded', directory: parseDirectory(text, 'embedded') };
    case 'redis':
    case 'rediss':
      return parseRedis(text);
    case 'redis+sentinel':
    case 'rediss+sentinel':
      return parseSentinel(text);
    case 'postgres':
    case 'postgresql':
      return parsePostgres(text);
    default:
      throw new InvalidValue(
        'begins with none of embedded:, redis://, rediss://, redis+sentinel://, postgres://',
      );
  }
}

const REDIS_PORT = 6379;

function parseRedis(text: string): QueueTarget {
  const [, scheme, userinfo = '', hosts, rest = ''] =
    /^(rediss?:\/\/)(.*@)?([^/@?#]*,[^/@?#]*)(.*)$/i.exec(text) ?? [];
  if (hosts === undefined) return parseSingleRedis(text);
  const seeds = hosts.split(',').map((host) => parseServer(host, REDIS_PORT));
  const [first] = hosts.split(',');
  const target = parseSingleRedis(`${scheme}${userinfo}${first}${rest}`);
  if (target.cluster) return { ...target, seeds };
  throw new InvalidValue('names several servers, which only a cluster has: add ?cluster=true');
}

function parseSingleRedis(text: string): Extract<QueueTarget, { kind: 'redis' }> {
  const url = toUrl(text);
  if (url === undefined || url.hostname === '' || isMisread(url) || !/^rediss?:\/\//i.test(text)) {
    throw new InvalidValue('is no Redis URL; special characters in a password must be percent-encoded');
  }
  const database = /^\/?(\d*)$/.exec(url.pathname)?.[1];
  if (database === undefined) throw new InvalidValue("the path must be a database's number, or nothing");
  checkUserinfo(url);
  const cluster = url.searchParams.get('cluster') ?? 'false';
  if (cluster !== 'true' && cluster !== 'false') throw new InvalidValue('cluster must be true or false');
  if (cluster === 'true' && Number(database) !== 0)
    throw new InvalidValue('a Redis cluster has only database 0');
  // The parameter is for this program: the client would take it for an option of its own.
  url.searchParams.delete('cluster');
  return { kind: 'redis', url: url.href, cluster: cluster === 'true' };
}

function parsePostgres(text: string): QueueTarget {
  const url = toUrl(text);
  const isWhole = url !== undefined && !isMisread(url) && /^postgres(ql)?:\/\//i.test(text);
  if (!isWhole || (url.hostname === '' && !url.searchParams.has('host'))) {
    throw new InvalidValue('is no PostgreSQL URL; special characters in a password must be percent-encoded');
  }
  checkUserinfo(url);
  return { kind: 'postgres', url: text };
}

/** Parameters of a Sentinel URL, by which servers and Sentinels may differ. */
const SENTINEL_PARAMETERS = ['sentinelUsername', 'sentinelPassword', 'tls', 'sentinelTls'];

/** By hand: a list of hosts is more than a URL can hold. */
function parseSentinel(text: string): QueueTarget {
  const [, isTls, userinfo, hosts, name, database, query] =
    /^redis(s?)\+sentinel:\/\/(?:(.*)@)?([^/@?#]+)\/([^/@?#]+)(?:\/(\d+))?\/?(?:\?([^#]*))?$/i.exec(text) ??
    [];
  if (hosts === undefined || name === undefined) {
    throw new InvalidValue("is no Sentinel URL: hosts, separated by commas, a slash and the master's name");
  }
  const parameters = new URLSearchParams((query ?? '').replaceAll('+', '%2B'));
  const unknown = [...parameters.keys()].find((key) => !SENTINEL_PARAMETERS.includes(key));
  if (unknown !== undefined) {
    throw new InvalidValue(`has a parameter that is none of ${SENTINEL_PARAMETERS.join(', ')}`);
  }
  const flag = (key: string) => {
    const value = parameters.get(key) ?? (isTls === '' ? 'false' : 'true');
    if (value !== 'true' && value !== 'false') throw new InvalidValue(`${key} must be true or false`);
    return value === 'true';
  };
  const [, username, password] = /^([^:]*)(?::(.*))?$/s.exec(userinfo ?? '') ?? [];
  return {
    kind: 'sentinel',
    hosts: hosts.split(',').map((host) => parseServer(host, SENTINEL_PORT)),
    name: decode(name),
    username: decode(username ?? '') || undefined,
    password: decode(password ?? '') || undefined,
    db: Number(database ?? 0),
    sentinelUsername: parameters.get('sentinelUsername') || undefined,
    sentinelPassword: parameters.get('sentinelPassword') || undefined,
    tls: flag('tls'),
    sentinelTls: flag('sentinelTls'),
  };
}

function parseServer(text: string, standardPort: number): ServerAddress {
  const [, host, port] = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?$/i.exec(text.trim()) ?? [];
  const number = Number(port ?? standardPort);
  if (host === undefined || number < 1 || number > 65_535) {
    throw new InvalidValue('names a server that is no host, or a port that is none');
  }
  return { host: host.replace(/^\[(.*)\]$/, '$1'), port: number };
}

/** `ARCHIVE_URL`: `s3://bucket/prefix` or `file:DIR`. */
export function parseArchiveUrl(text: string, s3: S3Config): ArchiveTarget {
  if (/^file:/i.test(text)) return { kind: 'file', directory: parseDirectory(text, 'file') };
  const [, bucket, path = ''] = /^s3:\/\/([^/]*)(?:\/(.*))?$/is.exec(text) ?? [];
  if (bucket === undefined) throw new InvalidValue(`${quote(text)} begins neither with s3:// nor with file:`);
  if (!/^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$/i.test(bucket)) {
    throw new InvalidValue(`${quote(bucket)} is no bucket name: 3 to 63 letters, digits, "." and "-"`);
  }
  return { kind: 's3', bucket, prefix: parsePrefix(path), s3 };
}

/** Leaves room for the rest of a key, of which S3 takes 1024 bytes. */
const MAX_PREFIX_BYTES = 400;

/** By hand: a regular expression for the end would start over at each slash in the middle. */
function withoutOuterSlashes(path: string): string {
  let start = 0;
  let end = path.length;
  while (path[start] === '/') start += 1;
  while (end > start && path[end - 1] === '/') end -= 1;
  return path.slice(start, end);
}

function parsePrefix(path: string): string {
  const prefix = withoutOuterSlashes(path);
  const segments = prefix === '' ? [] : prefix.split('/');
  const isPlain = segments.every((segment) => segment !== '' && segment !== '.' && segment !== '..');
  if (!isPlain || /[\p{Cc}?#\\]/u.test(prefix) || Buffer.byteLength(prefix) > MAX_PREFIX_BYTES) {
    throw new InvalidValue(
      `${quote(path)} is no prefix: at most ${MAX_PREFIX_BYTES} bytes, without "//", ".", "..", "?", "#" and "\\"`,
    );
  }
  return prefix;
}

/** The directory of `file:./x`, `file:x`, `file:/x` and `file:///x`; relative ones stay so. */
function parseDirectory(text: string, scheme: string): string {
  const path = text.slice(scheme.length + 1);
  if (path === '') throw new InvalidValue('names no directory');
  if (!path.startsWith('//')) return path;
  // With two slashes it is a URL: a host comes next, and the path is percent-encoded.
  try {
    return fileURLToPath(`file:${path}`);
  } catch {
    throw new InvalidValue(
      `must be ${scheme}:DIR; after two slashes comes a host, and there is none to name`,
    );
  }
}

/** The passwords in a queue's URL, decoded. */
export function passwordsIn(target: QueueTarget): string[] {
  if (target.kind === 'embedded') return [];
  if (target.kind === 'sentinel') {
    return [target.password, target.sentinelPassword].filter((password) => password !== undefined);
  }
  const url = new URL(target.url);
  const password = decode(url.password) || url.searchParams.get('password');
  return password ? [password] : [];
}

/** Whether a "/", "?" or "#" in a password ended the host too early, which leaves the "@" behind it. */
function isMisread(url: URL): boolean {
  return /[#@]/.test(url.pathname + url.search + url.hash);
}

/** @throws InvalidValue */
function checkUserinfo(url: URL): void {
  decode(url.username);
  decode(url.password);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new InvalidValue('a "%" that is not followed by two hex digits must be written %25');
  }
}

/** By trying: of some texts `URL.canParse` says yes, and the constructor refuses them (Node.js 24.21). */
function toUrl(text: string): URL | undefined {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}
