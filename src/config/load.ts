import { leastTransferMemory } from '../domain/transfer-memory.ts';
import type { ProxySettings } from '../util/http-proxy.ts';
import { registerSecret } from '../util/redact.ts';
import type {
  ArchiveTarget,
  Config,
  HttpConfig,
  JwtConfig,
  KoreApp,
  KoreConfig,
  MediaConfig,
  QueueConfig,
  QueueTarget,
  S3Config,
  WebhookConfig,
  WorkConfig,
} from './config.ts';
import {
  between,
  isLoopback,
  parseApiTokens,
  parseAwsAccount,
  parseBindHost,
  parseBoolean,
  parseDuration,
  parseHosts,
  parseId,
  parseInteger,
  parseLogLevel,
  parseObjectLock,
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
import { loadProxy } from './proxy.ts';
import { parseSchedules } from './schedules.ts';
import { type Environment, Settings } from './settings.ts';
import { loadTraces } from './traces.ts';
import { parseArchiveUrl, parseJwksUrl, parseKoreHost, parseQueueUrl, passwordIn } from './urls.ts';

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
  const defaultBotId = settings.required(
    'KORE_BOT_ID',
    parseId,
    EXAMPLE_BOT,
    needs.has('kore') || needs.has('bot'),
  );
  const proxy = loadProxy(settings);
  const { app, kore } = loadKore(settings, defaultBotId, needs.has('kore'), proxy);
  const archive = loadArchive(settings, proxy);
  const config: Config = {
    kore: needs.has('kore') ? kore : undefined,
    defaultBotId,
    media: loadMedia(settings, proxy),
    queue: loadQueue(settings, needs.has('shared-queue')),
    archive,
    work: loadWork(settings, archive),
    http: loadHttp(settings, app, needs.has('api')),
    schedules: settings.optional('SCHEDULES', parseSchedules, 'nightly=0 3 * * *|48h') ?? [],
    traces: loadTraces(settings, proxy),
    proxy,
    logLevel: settings.withDefault('LOG_LEVEL', parseLogLevel, 'info'),
  };
  for (const secret of [environment.AWS_SECRET_ACCESS_KEY, environment.AWS_SESSION_TOKEN]) {
    if (secret !== undefined) registerSecret(secret);
  }
  settings.throwFaults();
  return deepFreeze(config);
}

const EXAMPLE_BOT = 'st-2b1ff1c6-5b5c-5a2c-9d3e-0f4a5b6c7d8e';

/** The app may be known without the rest: to check webhooks takes no more than that. */
function loadKore(
  settings: Settings,
  botId: string | undefined,
  isNeeded: boolean,
  proxy: ProxySettings | undefined,
): { app: KoreApp | undefined; kore: KoreConfig | undefined } {
  const baseUrl = settings.required('KORE_HOST', parseKoreHost, 'https://platform.kore.ai', isNeeded);
  const clientId = settings.required(
    'KORE_CLIENT_ID',
    visible('client id', 256),
    'cs-1d2e3f40-1a2b-5c3d-8e4f-5a6b7c8d9e0f',
    isNeeded,
  );
  const clientSecret = settings.required(
    'KORE_CLIENT_SECRET',
    parseSecret,
    "the secret shown with the app's client id",
    isNeeded,
  );
  const accountId = settings.optional('KORE_ACCOUNT_ID', parseId, '6530e7c8f1a2b3c4d5e6f708');
  const rateLimit = settings.withDefault('KORE_RATE_LIMIT', parseRate, '60/60s');
  const maxAnswerBytes = settings.withDefault(
    'KORE_MAX_ANSWER_BYTES',
    between(parseSize, '64KiB', '1GiB'),
    '64MiB',
  );
  const retentionMs = settings.optional('KORE_RETENTION', between(parseDuration, '1h', '10y'), '24h');
  if (clientSecret !== undefined) registerSecret(clientSecret);
  if (clientId === undefined || clientSecret === undefined) return { app: undefined, kore: undefined };
  const app = { clientId, clientSecret };
  if (baseUrl === undefined || botId === undefined) return { app, kore: undefined };
  return { app, kore: { baseUrl, botId, ...app, accountId, rateLimit, maxAnswerBytes, retentionMs, proxy } };
}

const PUBLIC_MEDIA_HOSTS = 'kore.ai,korebots.com,amazonaws.com';

function loadMedia(settings: Settings, proxy: ProxySettings | undefined): MediaConfig {
  const allowPrivate = settings.withDefault('KORE_ALLOW_PRIVATE_MEDIA', parseBoolean, 'false');
  // Who tries things out on this machine should not have to name it twice; a list of one's own counts alone.
  const standard = allowPrivate ? `${PUBLIC_MEDIA_HOSTS},127.0.0.1,localhost` : PUBLIC_MEDIA_HOSTS;
  return {
    hosts: settings.withDefault('KORE_MEDIA_HOSTS', parseHosts, standard),
    allowPrivate,
    privateHosts: settings.optional('KORE_PRIVATE_MEDIA_HOSTS', parseHosts, 'media.internal.example') ?? [],
    proxy,
  };
}

function loadQueue(settings: Settings, mustBeShared: boolean): QueueConfig {
  const target = settings.withDefault('QUEUE_URL', parseQueueUrl, 'embedded:./data/queue');
  const prefix = settings.optional('QUEUE_PREFIX', visible('prefix', 100), 'archive');
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
  const password = passwordIn(target);
  if (password !== undefined) registerSecret(password);
  return { target, name: settings.withDefault('QUEUE_NAME', parseQueueName, 'voicemail-archive'), prefix };
}

function isCluster(target: QueueTarget): boolean {
  return target.kind === 'redis' && target.cluster;
}

function loadArchive(settings: Settings, proxy: ProxySettings | undefined): ArchiveTarget {
  const s3 = loadS3(settings, proxy);
  return settings.withDefault('ARCHIVE_URL', (text) => parseArchiveUrl(text, s3), 'file:./data/archive');
}

function loadS3(settings: Settings, proxy: ProxySettings | undefined): S3Config {
  const sse = settings.optional('S3_SSE', parseSse, 'aws:kms');
  const kmsKeyId = settings.optional('S3_KMS_KEY_ID', visible('key id', 2048), 'alias/voicemail');
  if (kmsKeyId !== undefined && !sse?.startsWith('aws:kms') && !settings.isFaulty('S3_SSE')) {
    settings.addFault('S3_KMS_KEY_ID', 'is of no use without encryption by KMS', {
      hint: 'set S3_SSE=aws:kms too',
    });
  }
  return {
    forcePathStyle: settings.withDefault('S3_FORCE_PATH_STYLE', parseBoolean, 'false'),
    sse,
    kmsKeyId,
    storageClass: settings.optional('S3_STORAGE_CLASS', parseStorageClass, 'STANDARD_IA'),
    tags: settings.optional('S3_TAGS', parseTags, 'team=voice&kind=voicemail'),
    objectLock: settings.optional('S3_OBJECT_LOCK', parseObjectLock, 'GOVERNANCE:365d'),
    expectedBucketOwner: settings.optional('S3_EXPECTED_BUCKET_OWNER', parseAwsAccount, '123456789012'),
    proxy,
  };
}

function loadWork(settings: Settings, archive: ArchiveTarget): WorkConfig {
  const duration = (variable: string, standard: string, min: string, max: string) =>
    settings.withDefault(variable, between(parseDuration, min, max), standard);
  const size = (variable: string, standard: string, min: string, max: string) =>
    settings.withDefault(variable, between(parseSize, min, max), standard);
  const transferMemoryBytes = size('TRANSFER_MEMORY', '256MiB', '1MiB', '1TiB');
  const maxRecordingBytes = size('MAX_RECORDING_BYTES', '1GiB', '1B', '5TiB');
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
    concurrency: settings.withDefault('WORKER_CONCURRENCY', between(parseInteger, '1', '1000'), '16'),
    transferMemoryBytes,
    maxRecordingBytes,
    recordingWaitMs: duration('RECORDING_WAIT', '24h', '0', '1y'),
    sessionWaitMs: duration('SESSION_WAIT', '1h', '0', '1y'),
    settleWaitMs: duration('SETTLE_WAIT', '1h', '0', '1y'),
    transcriptWaitMs: duration('TRANSCRIPT_WAIT', '24h', '0', '1y'),
    pollDelayMs: duration('POLL_DELAY', '30s', '1ms', '1h'),
    retryDelayMs: duration('RETRY_DELAY', '2s', '1ms', '1h'),
    retryWaitMs: duration('RETRY_WAIT', '24h', '0', '1y'),
    unauthorizedPauseMs: duration('UNAUTHORIZED_PAUSE', '60s', '1ms', '1d'),
    downloadIdleTimeoutMs: duration('DOWNLOAD_IDLE_TIMEOUT', '30s', '1ms', '1h'),
    downloadMinBytesPerSecond: size('DOWNLOAD_MIN_RATE', '1KiB', '1B', '1GiB'),
    shutdownGraceMs: duration('SHUTDOWN_GRACE', '30s', '0', '1h'),
  };
}

const DEFAULT_PORT = '8080';

function loadHttp(settings: Settings, app: KoreApp | undefined, isServed: boolean): HttpConfig {
  const host = settings.withDefault('HTTP_HOST', parseBindHost, '127.0.0.1');
  const ownPort = settings.optional('HTTP_PORT', between(parseInteger, '0', '65535'), DEFAULT_PORT);
  const port = ownPort ?? Number(DEFAULT_PORT);
  const tokens = settings.optional('API_TOKEN', parseApiTokens, 'ci:enqueue:a-long-random-text') ?? [];
  for (const { token } of tokens) registerSecret(token);
  const jwt = loadJwt(settings);
  const hasCredentials = tokens.length > 0 || jwt !== undefined;
  const isUnclear = ['API_TOKEN', ...JWT_VARIABLES].some((name) => settings.isFaulty(name));
  if (isServed && !hasCredentials && !isUnclear && !isLoopback(host)) {
    settings.addFault('HTTP_HOST', `"${host}" would let other machines use the API without any credentials`, {
      hint: 'set API_TOKEN (or API_JWKS_URL), or keep to 127.0.0.1',
    });
  }
  const isPortDefault = ownPort === undefined || undefined;
  return { host, port, isPortDefault, tokens, jwt, webhook: loadWebhook(settings, app) };
}

const JWT_VARIABLES = ['API_JWKS_URL', 'API_JWT_ISSUER', 'API_JWT_AUDIENCE'] as const;

/** All three or none: keys alone would let in tokens that were issued for other services. */
function loadJwt(settings: Settings): JwtConfig | undefined {
  const jwksUrl = settings.optional('API_JWKS_URL', parseJwksUrl, EXAMPLE_JWKS_URL);
  const issuer = settings.optional('API_JWT_ISSUER', visible('issuer', 2048), EXAMPLE_ISSUER);
  const audience = settings.optional('API_JWT_AUDIENCE', visible('audience', 2048), EXAMPLE_AUDIENCE);
  const roleClaim = settings.withDefault('API_JWT_ROLE_CLAIM', visible('name of a claim', 256), 'role');
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

const EXAMPLE_JWKS_URL = 'https://login.example.com/.well-known/jwks.json';
const EXAMPLE_ISSUER = 'https://login.example.com/';
const EXAMPLE_AUDIENCE = 'voicemail-archiver';

/** Where notifications are known to carry the id, as nobody documents what they look like. */
const SESSION_ID_PATHS = '/sessionId,/metaInfo/sessionId,/data/sessionId,/session/id';

function loadWebhook(settings: Settings, app: KoreApp | undefined): WebhookConfig | undefined {
  const secrets = settings.optional('WEBHOOK_SECRET', parseTokens, 'a long random text');
  const sessionIdPaths = settings.withDefault('WEBHOOK_SESSION_ID_PATH', parsePointers, SESSION_ID_PATHS);
  if (secrets === undefined) return undefined;
  for (const secret of secrets) registerSecret(secret);
  return { secrets, sessionIdPaths, app };
}

function deepFreeze<Value>(value: Value): Value {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const part of Object.values(value)) deepFreeze(part);
  }
  return value;
}
