import { leastTransferMemory } from '../domain/transfer-memory.ts';
import type { ProxySettings } from '../util/http-proxy.ts';
import { registerSecret } from '../util/redact.ts';
import type {
  ArchiveTarget,
  CompletenessConfig,
  Config,
  HttpConfig,
  JwtConfig,
  KoreApp,
  KoreConfig,
  MediaConfig,
  QueueConfig,
  QueueTarget,
  Rate,
  S3Config,
  WebhookConfig,
  WorkConfig,
} from './config.ts';
import { findUnknownVariables } from './environment.ts';
import { loadNotify, loadProxy, loadTraces } from './outgoing.ts';
import {
  between,
  isLoopback,
  loadManifestKey,
  oneOf,
  parseApiTokens,
  parseAwsAccount,
  parseBindHost,
  parseBoolean,
  parseCallMetadata,
  parseDuration,
  parseHosts,
  parseId,
  parseInteger,
  parseLogLevel,
  parseMetaPointers,
  parseObjectLock,
  parseOnOff,
  parsePointers,
  parseQueueName,
  parseRate,
  parseSecret,
  parseSize,
  parseSse,
  parseStorageClass,
  parseTags,
  parseTokens,
  visible,
} from './parsers.ts';
import { parseSchedules } from './schedules.ts';
import { type Environment, Settings } from './settings.ts';
import { parseArchiveUrl, parseJwksUrl, parseKoreHost, parseQueueUrl, passwordsIn } from './urls.ts';
import { type VariableName, variableOf } from './variables.ts';

/**
 * What a command can't do without:
 * - `kore`: call Kore's API (`KORE_HOST`, `KORE_BOT_ID`, `KORE_CLIENT_ID`, `KORE_CLIENT_SECRET`)
 * - `bot`: know which bot ids belong to (`KORE_BOT_ID`)
 * - `api`: serve the HTTP API, to other machines only if they need credentials for it
 * - `shared-queue`: share the queue with other processes (a `QUEUE_URL` that is not embedded)
 */
export type Need = 'kore' | 'bot' | 'api' | 'shared-queue';

export interface LoadOptions {
  readonly needs: readonly Need[];
}

/**
 * The configuration, deeply frozen, with `kore` present exactly if it is needed. Every variable that is set is
 * checked, whether or not the command needs it; secrets are registered for redaction.
 *
 * @throws ConfigError that names all faults at once.
 * @example
 * const config = loadConfig(readEnvironment(process.cwd(), process.env), { needs: ['kore'] });
 */
export function loadConfig(environment: Environment, options: LoadOptions): Config {
  const settings = new Settings(environment);
  const needs = new Set(options.needs);
  const unknown = findUnknownVariables(environment);
  for (const { variable, message } of unknown.faults) settings.addFault(variable, message);
  checkStorage(settings);
  const defaultBotId = settings.required('KORE_BOT_ID', parseId, needs.has('kore') || needs.has('bot'));
  const proxy = loadProxy(settings);
  const { app, kore, rateLimit } = loadKore(settings, defaultBotId, needs.has('kore'), proxy);
  const archive = loadArchive(settings, proxy);
  const config: Config = {
    kore: needs.has('kore') ? kore : undefined,
    defaultBotId,
    rateLimit,
    media: loadMedia(settings, proxy),
    queue: loadQueue(settings, needs.has('shared-queue')),
    archive,
    manifestKey: loadManifestKey(settings),
    work: loadWork(settings, archive),
    http: loadHttp(settings, app, needs.has('api')),
    schedules: settings.optional('SCHEDULES', parseSchedules) ?? [],
    notify: loadNotify(settings, proxy),
    auditLog: settings.withDefault('AUDIT_LOG', parseOnOff),
    callMetadata: settings.withDefault('CALL_METADATA', parseCallMetadata),
    completeness: loadCompleteness(settings),
    traces: loadTraces(settings, proxy),
    proxy,
    logLevel: settings.withDefault('LOG_LEVEL', parseLogLevel),
    warnings: unknown.warnings,
  };
  for (const secret of [environment.AWS_SECRET_ACCESS_KEY, environment.AWS_SESSION_TOKEN]) {
    if (secret !== undefined) registerSecret(secret);
  }
  settings.throwFaults();
  return deepFreeze(config);
}

/** In a container the default directories would end with it, and what is in them. */
function checkStorage(settings: Settings): void {
  if (!settings.withDefault('REQUIRE_STORAGE', parseBoolean)) return;
  const examples = [
    ['QUEUE_URL', 'redis://redis:6379, or embedded:DIR with a DIR on a volume'],
    ['ARCHIVE_URL', 's3://my-bucket/voicemails, or file:DIR with a DIR on a volume'],
  ] as const;
  for (const [variable, example] of examples) {
    if (settings.isSet(variable)) continue;
    settings.addFault(variable, 'is required here (REQUIRE_STORAGE), as in a container', { example });
  }
}

/** The app may be known without the rest: to check webhooks takes no more than that. */
function loadKore(
  settings: Settings,
  botId: string | undefined,
  isNeeded: boolean,
  proxy: ProxySettings | undefined,
): { app: KoreApp | undefined; kore: KoreConfig | undefined; rateLimit: Rate | undefined } {
  const baseUrl = settings.required('KORE_HOST', parseKoreHost, isNeeded);
  const clientId = settings.required('KORE_CLIENT_ID', visible('client id', 256), isNeeded);
  const clientSecret = settings.required('KORE_CLIENT_SECRET', parseSecret, isNeeded);
  const isPlainAllowed = settings.withDefault('KORE_ALLOW_PLAIN_HTTP', parseBoolean);
  if (
    baseUrl !== undefined &&
    isPlain(baseUrl) &&
    !isPlainAllowed &&
    !settings.isFaulty('KORE_ALLOW_PLAIN_HTTP')
  ) {
    settings.addFault(
      'KORE_HOST',
      'is plain http to another machine, where tokens and answers would travel in clear',
      { hint: 'write https:// (or set KORE_ALLOW_PLAIN_HTTP=true)' },
    );
  }
  const accountId = settings.optional('KORE_ACCOUNT_ID', parseId);
  const rateLimit = settings.withDefault('KORE_RATE_LIMIT', parseRate);
  const maxAnswerBytes = settings.withDefault('KORE_MAX_ANSWER_BYTES', between(parseSize, '64KiB', '1GiB'));
  const retentionMs = settings.optional('KORE_RETENTION', between(parseDuration, '1h', '10y'));
  if (clientSecret !== undefined) registerSecret(clientSecret);
  if (clientId === undefined || clientSecret === undefined)
    return { app: undefined, kore: undefined, rateLimit };
  const app = { clientId, clientSecret };
  if (baseUrl === undefined || botId === undefined) return { app, kore: undefined, rateLimit };
  const kore = { baseUrl, botId, ...app, accountId, rateLimit, maxAnswerBytes, retentionMs, proxy };
  return { app, kore, rateLimit };
}

/** Whether a URL is plain http to another machine. */
/** On by default where call details can be listed, because they say which sessions have a voicemail. */
function loadCompleteness(settings: Settings): CompletenessConfig | undefined {
  const mode =
    settings.optional('COMPLETENESS', oneOf('on', 'off', 'report-only')) ??
    (settings.isSet('KORE_ACCOUNT_ID') ? 'on' : 'off');
  return mode === 'off' ? undefined : { reportOnly: mode === 'report-only' };
}

function isPlain(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === 'http:' && !isLoopback(hostname.replace(/^\[(.*)\]$/, '$1'));
}

function loadMedia(settings: Settings, proxy: ProxySettings | undefined): MediaConfig {
  const allowPrivate = settings.withDefault('KORE_ALLOW_PRIVATE_MEDIA', parseBoolean);
  // Who tries things out on this machine should not have to name it twice; a list of one's own counts alone.
  const standard = allowPrivate
    ? `${variableOf('KORE_MEDIA_HOSTS').standard},127.0.0.1,localhost`
    : undefined;
  return {
    hosts: settings.withDefault('KORE_MEDIA_HOSTS', parseHosts, standard),
    allowPrivate,
    privateHosts: settings.optional('KORE_PRIVATE_MEDIA_HOSTS', parseHosts) ?? [],
    proxy,
  };
}

function loadQueue(settings: Settings, mustBeShared: boolean): QueueConfig {
  const target = settings.withDefault('QUEUE_URL', parseQueueUrl);
  const prefix = settings.optional('QUEUE_PREFIX', visible('prefix', 100));
  if (mustBeShared && target.kind === 'embedded' && !settings.isFaulty('QUEUE_URL')) {
    settings.addFault(
      'QUEUE_URL',
      'an embedded queue belongs to one process, and this command shares it with others',
      { example: 'redis://localhost:6379' },
    );
  }
  if (isCluster(target) && prefix !== undefined && !/\{[^{}]+\}/.test(prefix)) {
    settings.addFault(
      'QUEUE_PREFIX',
      'needs braces on a Redis cluster, which keep all keys of the queue on one node',
      { example: '{archive}' },
    );
  }
  for (const password of passwordsIn(target)) registerSecret(password);
  return { target, name: settings.withDefault('QUEUE_NAME', parseQueueName), prefix };
}

function isCluster(target: QueueTarget): boolean {
  return target.kind === 'redis' && target.cluster;
}

function loadArchive(settings: Settings, proxy: ProxySettings | undefined): ArchiveTarget {
  const s3 = loadS3(settings, proxy);
  return settings.withDefault('ARCHIVE_URL', (text) => parseArchiveUrl(text, s3));
}

function loadS3(settings: Settings, proxy: ProxySettings | undefined): S3Config {
  const sse = settings.optional('S3_SSE', parseSse);
  const kmsKeyId = settings.optional('S3_KMS_KEY_ID', visible('key id', 2048));
  if (kmsKeyId !== undefined && !sse?.startsWith('aws:kms') && !settings.isFaulty('S3_SSE')) {
    settings.addFault('S3_KMS_KEY_ID', 'is of no use without encryption by KMS', {
      hint: 'set S3_SSE=aws:kms too',
    });
  }
  return {
    forcePathStyle: settings.withDefault('S3_FORCE_PATH_STYLE', parseBoolean),
    sse,
    kmsKeyId,
    storageClass: settings.optional('S3_STORAGE_CLASS', parseStorageClass),
    tags: settings.optional('S3_TAGS', parseTags),
    objectLock: settings.optional('S3_OBJECT_LOCK', parseObjectLock),
    expectedBucketOwner: settings.optional('S3_EXPECTED_BUCKET_OWNER', parseAwsAccount),
    proxy,
  };
}

function loadWork(settings: Settings, archive: ArchiveTarget): WorkConfig {
  const duration = (variable: VariableName, min: string, max: string) =>
    settings.withDefault(variable, between(parseDuration, min, max));
  const size = (variable: VariableName, min: string, max: string) =>
    settings.withDefault(variable, between(parseSize, min, max));
  const transferMemoryBytes = size('TRANSFER_MEMORY', '1MiB', '1TiB');
  const maxRecordingBytes = size('MAX_RECORDING_BYTES', '1B', '5TiB');
  const leastBytes = leastTransferMemory(archive.kind, maxRecordingBytes);
  const isUnclear = ['TRANSFER_MEMORY', 'MAX_RECORDING_BYTES', 'ARCHIVE_URL'].some((name) =>
    settings.isFaulty(name),
  );
  if (transferMemoryBytes < leastBytes && !isUnclear) {
    const leastMiB = Math.ceil(leastBytes / 2 ** 20);
    settings.addFault(
      'TRANSFER_MEMORY',
      'is less than one recording of MAX_RECORDING_BYTES takes on its way',
      { hint: `give at least ${leastMiB}MiB` },
    );
  }
  return {
    concurrency: settings.withDefault('WORKER_CONCURRENCY', between(parseInteger, '1', '1000')),
    transferMemoryBytes,
    maxRecordingBytes,
    recordingWaitMs: duration('RECORDING_WAIT', '0', '1y'),
    sessionWaitMs: duration('SESSION_WAIT', '0', '1y'),
    settleWaitMs: duration('SETTLE_WAIT', '0', '1y'),
    transcriptWaitMs: duration('TRANSCRIPT_WAIT', '0', '1y'),
    pollDelayMs: duration('POLL_DELAY', '1ms', '1h'),
    retryDelayMs: duration('RETRY_DELAY', '1ms', '1h'),
    retryWaitMs: duration('RETRY_WAIT', '0', '1y'),
    unauthorizedPauseMs: duration('UNAUTHORIZED_PAUSE', '1ms', '1d'),
    downloadIdleTimeoutMs: duration('DOWNLOAD_IDLE_TIMEOUT', '1ms', '1h'),
    downloadMinBytesPerSecond: size('DOWNLOAD_MIN_RATE', '1B', '1GiB'),
    shutdownGraceMs: duration('SHUTDOWN_GRACE', '0', '1h'),
  };
}

/** The shortest token that can't be guessed over a network. */
const MIN_TOKEN_CHARACTERS = 16;

function loadHttp(settings: Settings, app: KoreApp | undefined, isServed: boolean): HttpConfig {
  const host = settings.withDefault('HTTP_HOST', parseBindHost);
  const port = settings.withDefault('HTTP_PORT', between(parseInteger, '0', '65535'));
  const tokens = settings.optional('API_TOKEN', parseApiTokens) ?? [];
  for (const { token } of tokens) registerSecret(token);
  const jwt = loadJwt(settings);
  const hasCredentials = tokens.length > 0 || jwt !== undefined;
  const isUnclear = ['API_TOKEN', ...JWT_VARIABLES].some((name) => settings.isFaulty(name));
  if (isServed && !hasCredentials && !isUnclear && !isLoopback(host)) {
    settings.addFault('HTTP_HOST', `"${host}" would let other machines use the API without any credentials`, {
      hint: 'set API_TOKEN (or API_JWKS_URL), or keep to 127.0.0.1',
    });
  }
  const isAnyShort = tokens.some(({ token }) => token.length < MIN_TOKEN_CHARACTERS);
  if (isServed && isAnyShort && !isLoopback(host)) {
    settings.addFault(
      'API_TOKEN',
      `has a token under ${MIN_TOKEN_CHARACTERS} characters, which can be guessed from other machines`,
      { hint: 'take a longer one, such as "openssl rand -hex 24" writes, or keep HTTP_HOST to 127.0.0.1' },
    );
  }
  const isPortDefault = !settings.isSet('HTTP_PORT') || undefined;
  return { host, port, isPortDefault, tokens, jwt, webhook: loadWebhook(settings, app) };
}

const JWT_VARIABLES = ['API_JWKS_URL', 'API_JWT_ISSUER', 'API_JWT_AUDIENCE'] as const;

/** All three or none: keys alone would let in tokens that were issued for other services. */
function loadJwt(settings: Settings): JwtConfig | undefined {
  const jwksUrl = settings.optional('API_JWKS_URL', parseJwksUrl);
  const issuer = settings.optional('API_JWT_ISSUER', visible('issuer', 2048));
  const audience = settings.optional('API_JWT_AUDIENCE', visible('audience', 2048));
  const roleClaim = settings.withDefault('API_JWT_ROLE_CLAIM', visible('name of a claim', 256));
  if (jwksUrl !== undefined && issuer !== undefined && audience !== undefined) {
    return { jwksUrl, issuer, audience, roleClaim };
  }
  const values = [jwksUrl, issuer, audience];
  const isAnySet = values.some((value) => value !== undefined);
  for (const [index, variable] of JWT_VARIABLES.entries()) {
    if (isAnySet && values[index] === undefined && !settings.isFaulty(variable)) {
      const others = JWT_VARIABLES.filter((name) => name !== variable);
      settings.addFault(variable, `is required together with ${others.join(' and ')}`);
    }
  }
  return undefined;
}

function loadWebhook(settings: Settings, app: KoreApp | undefined): WebhookConfig | undefined {
  const secrets = settings.optional('WEBHOOK_SECRET', parseTokens);
  const sessionIdPaths = settings.withDefault('WEBHOOK_SESSION_ID_PATH', parsePointers);
  const metaPaths = settings.optional('WEBHOOK_META', parseMetaPointers);
  if (secrets === undefined) return undefined;
  for (const secret of secrets) registerSecret(secret);
  const callMetadata = settings.withDefault('CALL_METADATA', parseCallMetadata);
  if (callMetadata === 'hashed' && metaPaths && !app && !settings.isFaulty('WEBHOOK_META')) {
    settings.addFault(
      'WEBHOOK_META',
      'needs KORE_CLIENT_SECRET with CALL_METADATA=hashed: it is the key of the hashes',
    );
  }
  return { secrets, sessionIdPaths, app, ...(metaPaths && { metaPaths, callMetadata }) };
}

function deepFreeze<Value>(value: Value): Value {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const part of Object.values(value)) deepFreeze(part);
  }
  return value;
}
