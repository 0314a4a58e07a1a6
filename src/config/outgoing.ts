import { isNotificationEvent, NOTIFICATION_EVENTS, type NotificationEvent } from '../domain/notifications.ts';
import type { ProxySettings } from '../util/http-proxy.ts';
import { registerSecret } from '../util/redact.ts';
import type { NotifyConfig, TracesConfig } from './config.ts';
import { between, oneOf, parseBoolean, parseSecret } from './parsers.ts';
import { InvalidValue, quote, type Settings } from './settings.ts';

/**
 * The proxies, by the variables that curl reads, in lower case or upper case, of which lower case wins. curl takes
 * `HTTP_PROXY` in lower case alone, as a client can set a variable of that name for a CGI program; this is none.
 * https://everything.curl.dev/usingcurl/proxies/env.html
 */
export function loadProxy(settings: Settings): ProxySettings | undefined {
  const read = <Value>(
    variable: 'HTTP_PROXY' | 'HTTPS_PROXY' | 'NO_PROXY',
    parse: (text: string) => Value,
  ) => {
    const lower = settings.optionalInLowerCase(variable, parse);
    const upper = settings.optional(variable, parse);
    return lower ?? upper;
  };
  const http = read('HTTP_PROXY', parseProxy);
  const https = read('HTTPS_PROXY', parseProxy);
  const noProxy = read('NO_PROXY', parseNoProxy);
  return http === undefined && https === undefined ? undefined : { http, https, noProxy };
}

/**
 * The URL of a proxy, http without a scheme. Nothing of it is quoted, as it may hold a password, which is registered.
 */
function parseProxy(text: string): string {
  const written = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  const url = URL.canParse(written) ? new URL(written) : undefined;
  if (url === undefined || url.hostname === '') throw new InvalidValue('is no URL of a proxy');
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new InvalidValue(
      'begins neither with http:// nor with https://; other kinds of proxies are not supported',
    );
  }
  if (!/^\/*$/.test(url.pathname) || url.search !== '' || url.hash !== '') {
    throw new InvalidValue(
      'holds more than a host and a port; percent-encode special characters in a password',
    );
  }
  for (const part of [url.username, url.password]) {
    try {
      decodeURIComponent(part);
    } catch {
      throw new InvalidValue('has a "%" that is not followed by two hex digits; write it as %25');
    }
  }
  if (url.password !== '') registerSecret(decodeURIComponent(url.password));
  return url.href.replace(/\/$/, '');
}

function parseNoProxy(text: string): string {
  if (/^[\x21-\x7e\s,]+$/.test(text)) return text;
  throw new InvalidValue('is no list of hosts, separated by commas');
}

/** Where notifications go; `undefined` where none are sent. */
export function loadNotify(settings: Settings, proxy: ProxySettings | undefined): NotifyConfig | undefined {
  const allowPrivate = settings.withDefault('NOTIFY_ALLOW_PRIVATE', parseBoolean);
  const url = settings.optional('NOTIFY_URL', parseNotifyUrl);
  const secret = settings.required('NOTIFY_SECRET', parseSecret, url !== undefined);
  const events = settings.withDefault('NOTIFY_EVENTS', parseEvents);
  // Both hold credentials to send notifications: receivers put keys into paths as well.
  for (const one of [url, secret]) if (one !== undefined) registerSecret(one);
  if (url?.startsWith('http:') && !allowPrivate && !settings.isFaulty('NOTIFY_ALLOW_PRIVATE')) {
    settings.addFault(
      'NOTIFY_URL',
      'is not https, so anybody on the way could read and change the notifications',
      {
        hint: 'give an https URL, or set NOTIFY_ALLOW_PRIVATE=true for a receiver on a network of yours',
      },
    );
  }
  return url !== undefined && secret !== undefined ? { url, secret, events, allowPrivate, proxy } : undefined;
}

/** Nothing of it is quoted, as it may hold a secret. */
function parseNotifyUrl(text: string): string {
  const written = text.trim();
  const url = URL.canParse(written) ? new URL(written) : undefined;
  if (url === undefined || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new InvalidValue('is no https URL');
  }
  if (url.username !== '' || url.password !== '') {
    throw new InvalidValue('holds a user name or password, which would not be sent');
  }
  url.hash = '';
  return url.href;
}

function parseEvents(text: string): NotificationEvent[] {
  const names = text.split(',').map((name) => name.trim());
  return [...new Set(names)].map((name) => {
    if (isNotificationEvent(name)) return name;
    throw new InvalidValue(`${quote(name)} is none of ${NOTIFICATION_EVENTS.join(', ')}`);
  });
}

const PROTOCOL = 'OTEL_EXPORTER_OTLP_PROTOCOL';
const TRACES_PROTOCOL = 'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL';
const ENDPOINTS = ['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', 'OTEL_EXPORTER_OTLP_ENDPOINT'] as const;
const DEFAULT_ENDPOINT = 'http://localhost:4318';
const HEADERS = ['OTEL_EXPORTER_OTLP_TRACES_HEADERS', 'OTEL_EXPORTER_OTLP_HEADERS'] as const;

const parseProtocol = oneOf('http/protobuf', 'http/json');
const parseSampler = oneOf(
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
);

/**
 * Whether and how traces are sent, by OpenTelemetry's own variables; `undefined` where no endpoint is named or they
 * are switched off. Then none of them is checked, because they may be meant for other programs.
 *
 * https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
 */
export function loadTraces(settings: Settings, proxy: ProxySettings | undefined): TracesConfig | undefined {
  const isDisabled = settings.withDefault('OTEL_SDK_DISABLED', isTrue);
  const exporter = settings.withDefault('OTEL_TRACES_EXPORTER', (text) => text);
  if (isDisabled || exporter === 'none') return undefined;
  const endpoints = ENDPOINTS.map((name) => settings.optional(name, parseEndpoint));
  const isNamed =
    endpoints.some((url) => url !== undefined) || ENDPOINTS.some((name) => settings.isFaulty(name));
  if (!isNamed) return undefined;
  for (const name of HEADERS) {
    const credentials = settings.optional(name, parseCredentials) ?? [];
    for (const credential of credentials) registerSecret(credential);
  }
  return {
    endpoint: endpoints.find((url) => url !== undefined) ?? DEFAULT_ENDPOINT,
    proxy,
    protocol:
      settings.optional(TRACES_PROTOCOL, parseProtocol) ?? settings.withDefault(PROTOCOL, parseProtocol),
    sampler: settings.withDefault('OTEL_TRACES_SAMPLER', parseSampler),
    samplerRatio: settings.withDefault('OTEL_TRACES_SAMPLER_ARG', between(parseRatio, '0', '1')),
  };
}

/** Anything else means false, by the specification. */
function isTrue(text: string): boolean {
  return text.toLowerCase() === 'true';
}

/** Nothing of it is quoted, as it may hold a password, which is registered. */
function parseEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') {
    throw new InvalidValue('is no http or https URL of a collector');
  }
  for (const part of [decode(url.password), url.search.slice(1)]) registerSecret(part);
  return text;
}

/** Names of headers that hold credentials; a long value under another name may be one too, a tenant's name is not. */
const CREDENTIAL_NAME = /auth|key|token|secret|password|cookie/i;
const MIN_CREDENTIAL_CHARACTERS = 16;

/** The credentials in `key=value,key=value`, as they stand there and as they are sent. */
function parseCredentials(text: string): string[] {
  return text.split(',').flatMap((pair) => {
    const [, name = '', value] = /^([^=]+)=(.*)$/s.exec(pair.trim()) ?? [];
    if (value === undefined) throw new InvalidValue('is no list of headers like key=value,key=value');
    if (!CREDENTIAL_NAME.test(name) && value.length < MIN_CREDENTIAL_CHARACTERS) return [];
    const sent = decode(value);
    // A scheme before the credential ("Bearer ...") is no part of it.
    return [value, sent, sent.replace(/^\w+ +/, '')];
  });
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new InvalidValue('has a "%" that is not followed by two hex digits; write it as %25');
  }
}

function parseRatio(text: string): number {
  const number = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isNaN(number)) return number;
  throw new InvalidValue('is no number');
}
