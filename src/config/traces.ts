import type { ProxySettings } from '../util/http-proxy.ts';
import { registerSecret } from '../util/redact.ts';
import type { TracesConfig } from './config.ts';
import { between, oneOf } from './parsers.ts';
import { InvalidValue, type Settings } from './settings.ts';

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
 * are switched off. Then none of them is looked at, as they may be meant for other programs.
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
