/** The configuration, parsed once into one frozen object. The field docs name the variables they come from. */

import type { KeyObject } from 'node:crypto';
import type { CallMetadataMode } from '../domain/call.ts';
import type { NotificationEvent } from '../domain/notifications.ts';
import type { Role } from '../domain/requests.ts';
import type { ProxySettings } from '../util/http-proxy.ts';
import type { LogLevel } from '../util/log.ts';
import type { Fault } from './settings.ts';

/** The Kore app: who signs our tokens, and those that Kore's BotKit sends. */
export interface KoreApp {
  /** `KORE_CLIENT_ID` */
  readonly clientId: string;
  /** `KORE_CLIENT_SECRET` */
  readonly clientSecret: string;
}

/** The Kore app and its API. */
export interface KoreConfig extends KoreApp {
  /** `KORE_HOST`, with scheme (https unless it says http) and without a trailing slash. */
  readonly baseUrl: string;
  /** `KORE_BOT_ID`, the default bot. */
  readonly botId: string;
  /** `KORE_ACCOUNT_ID` */
  readonly accountId: string | undefined;
  /** `KORE_RATE_LIMIT` */
  readonly rateLimit: Rate;
  /** `KORE_MAX_ANSWER_BYTES` */
  readonly maxAnswerBytes: number;
  /** `KORE_RETENTION` (milliseconds): how long Kore keeps voicemails, where that is known. */
  readonly retentionMs: number | undefined;
  /** As in {@link Config}; repeated here for code that gets only this part. */
  readonly proxy?: ProxySettings | undefined;
}

/** What a `fileUrl` may name. */
export interface MediaConfig {
  /** `KORE_MEDIA_HOSTS`, lowercase, without trailing dots. */
  readonly hosts: readonly string[];
  /** `KORE_ALLOW_PRIVATE_MEDIA` */
  readonly allowPrivate: boolean;
  /** `KORE_PRIVATE_MEDIA_HOSTS`: hosts, by their full names, that may resolve to private addresses. */
  readonly privateHosts: readonly string[];
  /** As in {@link Config}; repeated here for code that gets only this part. */
  readonly proxy?: ProxySettings | undefined;
}

/** Where the queue is (`QUEUE_URL`). `url` may hold a password and is a secret. */
export type QueueTarget =
  | { readonly kind: 'embedded'; readonly directory: string }
  | { readonly kind: 'postgres'; readonly url: string }
  | {
      readonly kind: 'redis';
      /** Of the first server, where several are named. */
      readonly url: string;
      readonly cluster: boolean;
      /** All nodes of a cluster that are named, where there are several: any of them is enough to find the others. */
      readonly seeds?: readonly ServerAddress[];
    }
  | {
      readonly kind: 'sentinel';
      readonly hosts: readonly ServerAddress[];
      readonly name: string;
      readonly username: string | undefined;
      readonly password: string | undefined;
      readonly db: number;
      /** Of the Sentinels themselves. */
      readonly sentinelUsername?: string | undefined;
      readonly sentinelPassword?: string | undefined;
      /** Whether the servers, and the Sentinels, speak TLS. */
      readonly tls?: boolean;
      readonly sentinelTls?: boolean;
    };

/** Where a server listens; an IPv6 address without brackets. */
export interface ServerAddress {
  readonly host: string;
  readonly port: number;
}

/** The queue. */
export interface QueueConfig {
  readonly target: QueueTarget;
  /** `QUEUE_NAME` */
  readonly name: string;
  /** `QUEUE_PREFIX`; `undefined` for BullMQ's own (in braces on a cluster). */
  readonly prefix: string | undefined;
}

/** Object Lock as in `S3_OBJECT_LOCK=GOVERNANCE:365d`. */
export interface ObjectLock {
  readonly mode: 'GOVERNANCE' | 'COMPLIANCE';
  readonly retainMs: number;
}

/** What concerns S3 alone; everything else comes by the AWS SDK's standard chain. */
export interface S3Config {
  /** `S3_FORCE_PATH_STYLE` */
  readonly forcePathStyle: boolean;
  /** `S3_SSE` */
  readonly sse: 'AES256' | 'aws:kms' | 'aws:kms:dsse' | undefined;
  /** `S3_KMS_KEY_ID` */
  readonly kmsKeyId: string | undefined;
  /** `S3_STORAGE_CLASS` */
  readonly storageClass: string | undefined;
  /** `S3_TAGS`, in the form of the tagging header: `k=v&k=v`, URL-encoded. */
  readonly tags: string | undefined;
  /** `S3_OBJECT_LOCK` */
  readonly objectLock: ObjectLock | undefined;
  /** `S3_EXPECTED_BUCKET_OWNER` */
  readonly expectedBucketOwner: string | undefined;
  /** As in {@link Config}; repeated here for code that gets only this part. */
  readonly proxy?: ProxySettings | undefined;
}

/** Where archives go (`ARCHIVE_URL`). `prefix` has no slash at either end and may be empty. */
export type ArchiveTarget =
  | { readonly kind: 's3'; readonly bucket: string; readonly prefix: string; readonly s3: S3Config }
  | { readonly kind: 'file'; readonly directory: string };

/** How sessions are worked on. Times in milliseconds, sizes in bytes. */
export interface WorkConfig {
  /** `WORKER_CONCURRENCY` */
  readonly concurrency: number;
  /** `TRANSFER_MEMORY` */
  readonly transferMemoryBytes: number;
  /** `MAX_RECORDING_BYTES` */
  readonly maxRecordingBytes: number;
  /** `RECORDING_WAIT` */
  readonly recordingWaitMs: number;
  /** `SESSION_WAIT` */
  readonly sessionWaitMs: number;
  /** `SETTLE_WAIT`; 0 for never. */
  readonly settleWaitMs: number;
  /** `TRANSCRIPT_WAIT` */
  readonly transcriptWaitMs: number;
  /** `POLL_DELAY` */
  readonly pollDelayMs: number;
  /** `RETRY_DELAY` */
  readonly retryDelayMs: number;
  /** `RETRY_WAIT`: how long passing failures are tried again. */
  readonly retryWaitMs: number;
  /** `UNAUTHORIZED_PAUSE`: how long no session is taken after Kore refused the credentials. */
  readonly unauthorizedPauseMs: number;
  /** `DOWNLOAD_IDLE_TIMEOUT` */
  readonly downloadIdleTimeoutMs: number;
  /** `DOWNLOAD_MIN_RATE` (bytes a second): the least average speed of a download over its whole time. */
  readonly downloadMinBytesPerSecond: number;
  /** `SHUTDOWN_GRACE` */
  readonly shutdownGraceMs: number;
}

/** A bearer token of the API. */
export interface ApiToken {
  /** For logs; no secret. */
  readonly name: string;
  readonly role: Role;
  readonly token: string;
}

/** Whose JSON web tokens the API accepts. */
export interface JwtConfig {
  /** `API_JWKS_URL`, where the keys are that sign them. */
  readonly jwksUrl: string;
  /** `API_JWT_ISSUER` */
  readonly issuer: string;
  /** `API_JWT_AUDIENCE` */
  readonly audience: string;
  /** `API_JWT_ROLE_CLAIM`: where a token names its roles; without that claim it may operate. */
  readonly roleClaim: string;
}

/** Notifications of new voicemails. */
export interface WebhookConfig {
  /** `WEBHOOK_SECRET`; several may be given, comma-separated, for rotation. */
  readonly secrets: readonly string[];
  /** `WEBHOOK_SESSION_ID_PATH`: JSON pointers (RFC 6901) to where the session id may be, the likeliest first. */
  readonly sessionIdPaths: readonly string[];
  /**
   * `WEBHOOK_META`: JSON pointers to what of a notification goes into the manifest, as far as `callMetadata` lets it.
   */
  readonly metaPaths?: readonly string[] | undefined;
  /** `CALL_METADATA`; `on` where it is left out. Hashed under the secret of `app`. */
  readonly callMetadata?: CallMetadataMode | undefined;
  /** Known where both of its variables are set; then webhooks may carry a token signed by it. */
  readonly app?: KoreApp | undefined;
}

/** Where to send notifications of sessions. */
export interface NotifyConfig {
  /** `NOTIFY_URL`. Its path and query may hold a secret. */
  readonly url: string;
  /** `NOTIFY_SECRET`, the key of the signatures. */
  readonly secret: string;
  /** `NOTIFY_EVENTS` */
  readonly events: readonly NotificationEvent[];
  /** `NOTIFY_ALLOW_PRIVATE` */
  readonly allowPrivate: boolean;
  /** As in {@link Config}; repeated here for code that gets only this part. */
  readonly proxy?: ProxySettings | undefined;
}

/** The HTTP API. */
export interface HttpConfig {
  /** `HTTP_HOST` */
  readonly host: string;
  /** `HTTP_PORT`, 0 for any free one. */
  readonly port: number;
  /** `HTTP_PORT` is not set: then a worker beside an API takes another port. */
  readonly isPortDefault?: true | undefined;
  /** `API_TOKEN`; several may be given, comma-separated. */
  readonly tokens: readonly ApiToken[];
  /** `API_JWKS_URL`, `API_JWT_ISSUER`, `API_JWT_AUDIENCE` */
  readonly jwt?: JwtConfig | undefined;
  /** Without it there is no webhook. */
  readonly webhook?: WebhookConfig | undefined;
}

/**
 * Traces are sent by OTLP. What is not here, such as where to and with which headers, the OpenTelemetry SDK reads from
 * the environment itself.
 */
export interface TracesConfig {
  /** `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT`: what decides which proxy is used. */
  readonly endpoint: string;
  /** `OTEL_EXPORTER_OTLP_PROTOCOL` */
  readonly protocol: 'http/protobuf' | 'http/json';
  /** `OTEL_TRACES_SAMPLER` */
  readonly sampler:
    | 'always_on'
    | 'always_off'
    | 'traceidratio'
    | 'parentbased_always_on'
    | 'parentbased_always_off'
    | 'parentbased_traceidratio';
  /** `OTEL_TRACES_SAMPLER_ARG`: the part of all traces that is kept, 0 to 1. */
  readonly samplerRatio: number;
  /** As in {@link Config}; repeated here for code that gets only this part. */
  readonly proxy?: ProxySettings | undefined;
}

/** Everything. `kore` is there only for the commands that call Kore. */
export interface Config {
  readonly kore: KoreConfig | undefined;
  /** `KORE_BOT_ID`, the bot that ids belong to when none is named; known without the rest of Kore's settings. */
  readonly defaultBotId: string | undefined;
  /** `KORE_RATE_LIMIT`, known without the rest of Kore's settings. */
  readonly rateLimit?: Rate | undefined;
  readonly media: MediaConfig;
  readonly queue: QueueConfig;
  readonly archive: ArchiveTarget;
  /** `MANIFEST_KEY_FILE`: the Ed25519 private key that signs manifests and digests; without it nothing is signed. */
  readonly manifestKey?: KeyObject | undefined;
  readonly work: WorkConfig;
  readonly http: HttpConfig;
  /** `SCHEDULES` */
  readonly schedules: readonly ScheduleSpec[];
  /** Without it no notifications are sent: see `NOTIFY_URL`. */
  readonly notify?: NotifyConfig | undefined;
  /** `AUDIT_LOG`; it is written unless this is `false`. */
  readonly auditLog?: boolean;
  /** `CALL_METADATA`: what is kept of calls; `on` where it is left out. */
  readonly callMetadata?: CallMetadataMode | undefined;
  /** `COMPLETENESS`: without it, completeness is computed only on request. */
  readonly completeness?: CompletenessConfig | undefined;
  /** Without it nothing is traced: see `OTEL_EXPORTER_OTLP_ENDPOINT`. */
  readonly traces?: TracesConfig | undefined;
  /** `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`; `undefined` where neither of the first two is set. */
  readonly proxy?: ProxySettings | undefined;
  readonly logLevel: LogLevel;
  /** Faults of variables that keep nothing from working: logged at the start. */
  readonly warnings: readonly Fault[];
}

/** The daily completeness run. */
export interface CompletenessConfig {
  /** Whether it queues nothing of what is missing. */
  readonly reportOnly: boolean;
}

/** A backfill on a timetable. */
export interface ScheduleSpec {
  readonly name: string;
  /** A cron expression of 5 fields, or 6 with seconds before them; in UTC. */
  readonly cron: string;
  /** How far back each run looks (milliseconds). */
  readonly lookbackMs: number;
}

/** How often something may happen: `KORE_RATE_LIMIT=60/60s` is `{ calls: 60, windowMs: 60_000 }`. */
export interface Rate {
  readonly calls: number;
  readonly windowMs: number;
}
