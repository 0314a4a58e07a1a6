import { BlockList, isIP, isIPv6 } from 'node:net';
import { registerSecret } from '../redact.ts';
import type {
  ArchiveTarget,
  Config,
  HttpConfig,
  KoreConfig,
  MediaConfig,
  QueueConfig,
  QueueTarget,
  S3Config,
  WorkConfig,
} from './config.ts';
import { type Environment, Settings } from './settings.ts';
import { parseDuration, parseRate, parseSize } from './units.ts';
import { parseArchiveUrl, parseKoreHost, parseQueueUrl, passwordIn } from './urls.ts';
import {
  between,
  parseAwsAccount,
  parseBindHost,
  parseBoolean,
  parseHosts,
  parseId,
  parseInteger,
  parseLogLevel,
  parseObjectLock,
  parseQueueName,
  parseSecret,
  parseSse,
  parseStorageClass,
  parseTags,
  parseTokens,
  visible,
} from './values.ts';

/**
 * What a command can't do without:
 * - `kore`: call Kore's API (`KORE_HOST`, `KORE_BOT_ID`, `KORE_CLIENT_ID`, `KORE_CLIENT_SECRET`)
 * - `bot`: know which bot ids belong to (`KORE_BOT_ID`)
 * - `shared-queue`: share the queue with other processes (a `QUEUE_URL` that is not embedded)
 */
export type Need = 'kore' | 'bot' | 'shared-queue';

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
  const kore = loadKore(settings, defaultBotId, needs.has('kore'));
  const config: Config = {
    kore: needs.has('kore') ? kore : undefined,
    defaultBotId,
    media: loadMedia(settings),
    queue: loadQueue(settings, needs.has('shared-queue')),
    archive: loadArchive(settings),
    work: loadWork(settings),
    http: loadHttp(settings),
    logLevel: settings.withDefault('LOG_LEVEL', parseLogLevel, 'info'),
  };
  for (const secret of [environment.AWS_SECRET_ACCESS_KEY, environment.AWS_SESSION_TOKEN]) {
    if (secret !== undefined) registerSecret(secret);
  }
  settings.throwFaults();
  return deepFreeze(config);
}

const EXAMPLE_BOT = 'st-2b1ff1c6-5b5c-5a2c-9d3e-0f4a5b6c7d8e';

function loadKore(settings: Settings, botId: string | undefined, isNeeded: boolean): KoreConfig | undefined {
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
  if (clientSecret !== undefined) registerSecret(clientSecret);
  if (baseUrl === undefined || botId === undefined || clientId === undefined || clientSecret === undefined) {
    return undefined;
  }
  return { baseUrl, botId, clientId, clientSecret, accountId, rateLimit };
}

const PUBLIC_MEDIA_HOSTS = 'kore.ai,korebots.com,amazonaws.com';

function loadMedia(settings: Settings): MediaConfig {
  const allowPrivate = settings.withDefault('KORE_ALLOW_PRIVATE_MEDIA', parseBoolean, 'false');
  // Who tries things out on this machine should not have to name it twice; a list of one's own counts alone.
  const standard = allowPrivate ? `${PUBLIC_MEDIA_HOSTS},127.0.0.1,localhost` : PUBLIC_MEDIA_HOSTS;
  return { hosts: settings.withDefault('KORE_MEDIA_HOSTS', parseHosts, standard), allowPrivate };
}

function loadQueue(settings: Settings, mustBeShared: boolean): QueueConfig {
  const target = settings.withDefault('QUEUE_URL', parseQueueUrl, 'embedded:./data/queue');
  const prefix = settings.optional('QUEUE_PREFIX', visible('prefix', 100), 'archive');
  if (mustBeShared && target.kind === 'embedded' && !settings.isFaulty('QUEUE_URL')) {
    settings.addFault(
      'QUEUE_URL',
      'an embedded queue belongs to one process, and this command shares it with others; for example redis://localhost:6379',
    );
  }
  if (isCluster(target) && prefix !== undefined && !/\{[^{}]+\}/.test(prefix)) {
    settings.addFault(
      'QUEUE_PREFIX',
      'needs braces on a Redis cluster, which keep all keys of the queue on one node; for example {archive}',
    );
  }
  const password = passwordIn(target);
  if (password !== undefined) registerSecret(password);
  return { target, name: settings.withDefault('QUEUE_NAME', parseQueueName, 'voicemail-archive'), prefix };
}

function isCluster(target: QueueTarget): boolean {
  return target.kind === 'redis' && target.cluster;
}

function loadArchive(settings: Settings): ArchiveTarget {
  const s3 = loadS3(settings);
  return settings.withDefault('ARCHIVE_URL', (text) => parseArchiveUrl(text, s3), 'file:./data/archive');
}

function loadS3(settings: Settings): S3Config {
  const sse = settings.optional('S3_SSE', parseSse, 'aws:kms');
  const kmsKeyId = settings.optional('S3_KMS_KEY_ID', visible('key id', 2048), 'alias/voicemail');
  if (kmsKeyId !== undefined && !sse?.startsWith('aws:kms') && !settings.isFaulty('S3_SSE')) {
    settings.addFault('S3_KMS_KEY_ID', 'is of no use without encryption by KMS; set S3_SSE=aws:kms too');
  }
  return {
    forcePathStyle: settings.withDefault('S3_FORCE_PATH_STYLE', parseBoolean, 'false'),
    sse,
    kmsKeyId,
    storageClass: settings.optional('S3_STORAGE_CLASS', parseStorageClass, 'STANDARD_IA'),
    tags: settings.optional('S3_TAGS', parseTags, 'team=voice&kind=voicemail'),
    objectLock: settings.optional('S3_OBJECT_LOCK', parseObjectLock, 'GOVERNANCE:365d'),
    expectedBucketOwner: settings.optional('S3_EXPECTED_BUCKET_OWNER', parseAwsAccount, '123456789012'),
  };
}

function loadWork(settings: Settings): WorkConfig {
  const duration = (variable: string, standard: string, min: string, max: string) =>
    settings.withDefault(variable, between(parseDuration, min, max), standard);
  const size = (variable: string, standard: string, min: string, max: string) =>
    settings.withDefault(variable, between(parseSize, min, max), standard);
  return {
    concurrency: settings.withDefault('WORKER_CONCURRENCY', between(parseInteger, '1', '1000'), '16'),
    transferMemoryBytes: size('TRANSFER_MEMORY', '256MiB', '1MiB', '1TiB'),
    maxRecordingBytes: size('MAX_RECORDING_BYTES', '1GiB', '1B', '5TiB'),
    recordingWaitMs: duration('RECORDING_WAIT', '24h', '0', '1y'),
    transcriptWaitMs: duration('TRANSCRIPT_WAIT', '24h', '0', '1y'),
    pollDelayMs: duration('POLL_DELAY', '30s', '1ms', '1h'),
    retryDelayMs: duration('RETRY_DELAY', '2s', '1ms', '1h'),
    retryWaitMs: duration('RETRY_WAIT', '24h', '0', '1y'),
    unauthorizedPauseMs: duration('UNAUTHORIZED_PAUSE', '60s', '1ms', '1d'),
    downloadIdleTimeoutMs: duration('DOWNLOAD_IDLE_TIMEOUT', '30s', '1ms', '1h'),
    shutdownGraceMs: duration('SHUTDOWN_GRACE', '30s', '0', '1h'),
  };
}

function loadHttp(settings: Settings): HttpConfig {
  const host = settings.withDefault('HTTP_HOST', parseBindHost, '127.0.0.1');
  const port = settings.withDefault('HTTP_PORT', between(parseInteger, '0', '65535'), '8080');
  const tokens = settings.optional('API_TOKEN', parseTokens, 'a long random text') ?? [];
  for (const token of tokens) registerSecret(token);
  if (tokens.length === 0 && !isLoopback(host) && !settings.isFaulty('API_TOKEN')) {
    settings.addFault(
      'HTTP_HOST',
      `"${host}" would let other machines use the API without any credentials; set API_TOKEN, or keep to 127.0.0.1`,
    );
  }
  return { host, port, tokens };
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

function isLoopback(host: string): boolean {
  if (isIP(host) === 0) return host.toLowerCase() === 'localhost';
  return loopback.check(host, isIPv6(host) ? 'ipv6' : 'ipv4');
}

function deepFreeze<Value>(value: Value): Value {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const part of Object.values(value)) deepFreeze(part);
  }
  return value;
}
