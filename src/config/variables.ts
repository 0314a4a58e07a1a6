/**
 * Every environment variable that this program reads: the one place for names, defaults and meanings. `Settings` takes
 * defaults and examples from here, `docs/configuration.md` is generated from it (`npm run docs:config`), and what is
 * not here is not known (see `unknown-variables.ts`).
 */

/** One environment variable. */
export interface Variable {
  readonly name: string;
  /** What it means when unset, as it would be written. */
  readonly standard?: string;
  /** How it may look, for messages. */
  readonly example: string;
  /** May also be given as a file that holds the value: `NAME_FILE`. Its value is redacted wherever it may show. */
  readonly isSecret?: true;
  /** What it does, for the documentation: Markdown, without a full stop. */
  readonly meaning: string;
}

/** Variables that belong together, under a heading of the documentation. */
export interface VariableGroup {
  readonly title: string;
  readonly variables: readonly Variable[];
}

export const VARIABLE_GROUPS = [
  {
    title: 'Kore',
    variables: [
      {
        name: 'KORE_HOST',
        example: 'https://platform.kore.ai',
        meaning: "where Kore's API is; https unless it says http. Required",
      },
      {
        name: 'KORE_BOT_ID',
        example: 'st-2b1ff1c6-5b5c-5a2c-9d3e-0f4a5b6c7d8e',
        meaning: 'the bot that session ids belong to when no other is named. Required',
      },
      {
        name: 'KORE_CLIENT_ID',
        example: 'cs-1d2e3f40-1a2b-5c3d-8e4f-5a6b7c8d9e0f',
        meaning: 'the client id of the Kore app that signs. Required',
      },
      {
        name: 'KORE_CLIENT_SECRET',
        example: "the secret shown with the app's client id",
        isSecret: true,
        meaning: 'its secret. Required',
      },
      {
        name: 'KORE_ACCOUNT_ID',
        example: '6530e7c8f1a2b3c4d5e6f708',
        meaning:
          'lets backfills use call details (`--source calls`), which say which sessions have a voicemail',
      },
      {
        name: 'KORE_RATE_LIMIT',
        standard: '60/60s',
        example: '60/60s',
        meaning: 'calls of the voicemail API that all workers together may make',
      },
      {
        name: 'KORE_MEDIA_HOSTS',
        standard: 'kore.ai,korebots.com,amazonaws.com',
        example: 'kore.ai,korebots.com,amazonaws.com',
        meaning: 'hosts, with their subdomains, from which recordings may be fetched',
      },
      {
        name: 'KORE_PRIVATE_MEDIA_HOSTS',
        example: 'media.internal.example',
        meaning:
          "media hosts, by their full names, that may resolve to private addresses, such as a bucket's interface endpoint",
      },
      {
        name: 'KORE_ALLOW_PRIVATE_MEDIA',
        standard: 'false',
        example: 'true',
        meaning:
          'allows private addresses and plain http for recordings, and adds `127.0.0.1` and `localhost` to the default hosts; for the sandbox and tests',
      },
      {
        name: 'KORE_ALLOW_PLAIN_HTTP',
        standard: 'false',
        example: 'true',
        meaning:
          'allows a `KORE_HOST` on another machine to be reached by plain http; tokens and answers then travel in clear',
      },
      {
        name: 'KORE_RETENTION',
        example: '24h',
        meaning:
          'how long Kore keeps voicemails; with it, deadlines show in completeness reports, metrics and alerts',
      },
      {
        name: 'KORE_MAX_ANSWER_BYTES',
        standard: '64MiB',
        example: '64MiB',
        meaning: "the largest answer of Kore's that is read",
      },
    ],
  },
  {
    title: 'Queue',
    variables: [
      {
        name: 'QUEUE_URL',
        standard: 'embedded:./data/queue',
        example: 'redis://localhost:6379',
        isSecret: true,
        meaning:
          '`embedded:DIR`, `redis://`, `rediss://` (a cluster with `?cluster=true` and any number of seeds: `redis://a,b,c?cluster=true`), `redis+sentinel://host,host/name`, `postgres://`; see [Queues](#queues)',
      },
      {
        name: 'QUEUE_NAME',
        standard: 'voicemail-archive',
        example: 'voicemail-archive',
        meaning: 'the name of the queue',
      },
      {
        name: 'QUEUE_PREFIX',
        example: 'archive',
        meaning: "the prefix of the queue's keys; BullMQ's own when unset, and in braces on a Redis cluster",
      },
    ],
  },
  {
    title: 'Archive',
    variables: [
      {
        name: 'ARCHIVE_URL',
        standard: 'file:./data/archive',
        example: 's3://my-bucket/voicemails',
        meaning: 'where archives go: `s3://bucket/prefix` or `file:DIR`',
      },
      {
        name: 'REQUIRE_STORAGE',
        standard: 'false',
        example: 'true',
        meaning:
          'refuses to run without `QUEUE_URL` and `ARCHIVE_URL`, whose defaults are directories; the container image sets it, as such directories end with the container',
      },
      {
        name: 'S3_FORCE_PATH_STYLE',
        standard: 'false',
        example: 'true',
        meaning: 'bucket in the path instead of the host name: for MinIO, Ceph and the like',
      },
      {
        name: 'S3_SSE',
        example: 'aws:kms',
        meaning: 'server-side encryption: `AES256`, `aws:kms` or `aws:kms:dsse`',
      },
      { name: 'S3_KMS_KEY_ID', example: 'alias/voicemail', meaning: 'the KMS key' },
      { name: 'S3_STORAGE_CLASS', example: 'STANDARD_IA', meaning: 'the storage class of objects' },
      {
        name: 'S3_TAGS',
        example: 'team=voice&kind=voicemail',
        meaning: 'tags of objects, `k=v&k=v`, URL-encoded',
      },
      {
        name: 'S3_OBJECT_LOCK',
        example: 'GOVERNANCE:365d',
        meaning: 'retention by Object Lock: `GOVERNANCE:365d` or `COMPLIANCE:7y`',
      },
      {
        name: 'S3_EXPECTED_BUCKET_OWNER',
        example: '123456789012',
        meaning: 'the AWS account that must own the bucket',
      },
      {
        name: 'MANIFEST_KEY_FILE',
        example: '/run/secrets/manifest-key.pem',
        meaning:
          'the file of an Ed25519 private key (PEM) that signs manifests, and daily digests of all that was added, replaced and erased; see [Signatures](signatures.md)',
      },
    ],
  },
  {
    title: 'Work',
    variables: [
      {
        name: 'WORKER_CONCURRENCY',
        standard: '16',
        example: '16',
        meaning: 'sessions at a time in one worker',
      },
      {
        name: 'TRANSFER_MEMORY',
        standard: '256MiB',
        example: '256MiB',
        meaning: 'audio held in memory by all running transfers of a worker together',
      },
      {
        name: 'MAX_RECORDING_BYTES',
        standard: '1GiB',
        example: '1GiB',
        meaning: 'larger recordings fail with `RECORDING_TOO_LARGE`',
      },
      {
        name: 'RECORDING_WAIT',
        standard: '24h',
        example: '24h',
        meaning: 'how long a session is polled for a recording that is not there, or not usable, yet',
      },
      {
        name: 'TRANSCRIPT_WAIT',
        standard: '24h',
        example: '24h',
        meaning:
          'how long a transcript is polled for; of a session that began longer ago than that when it was archived, 10 minutes',
      },
      {
        name: 'SESSION_WAIT',
        standard: '1h',
        example: '1h',
        meaning:
          'how long a session that Kore does not know, or calls `media_unavailable` or `failed`, is checked again before that is believed',
      },
      {
        name: 'SETTLE_WAIT',
        standard: '1h',
        example: '1h',
        meaning:
          'an archived session is checked once after this time, for recordings and messages that came late; `0` turns it off',
      },
      {
        name: 'POLL_DELAY',
        standard: '30s',
        example: '30s',
        meaning: 'first pause between polls; it grows to an hour',
      },
      {
        name: 'RETRY_DELAY',
        standard: '2s',
        example: '2s',
        meaning: 'first pause after a passing failure; it grows to an hour',
      },
      {
        name: 'RETRY_WAIT',
        standard: '24h',
        example: '24h',
        meaning: 'how long passing failures are tried again',
      },
      {
        name: 'UNAUTHORIZED_PAUSE',
        standard: '60s',
        example: '60s',
        meaning: 'how long no session is taken after Kore refused the credentials',
      },
      {
        name: 'DOWNLOAD_IDLE_TIMEOUT',
        standard: '30s',
        example: '30s',
        meaning: 'a download that delivers nothing for this long is aborted and resumed',
      },
      {
        name: 'DOWNLOAD_MIN_RATE',
        standard: '1KiB',
        example: '1KiB',
        meaning: 'bytes a second that a download must reach over its whole time',
      },
      {
        name: 'SHUTDOWN_GRACE',
        standard: '30s',
        example: '30s',
        meaning: 'how long running transfers may finish after SIGTERM',
      },
      {
        name: 'SCHEDULES',
        example: 'nightly=0 3 * * *|48h',
        meaning:
          'backfills on a timetable, in UTC, each with how far back it looks: `nightly=0 3 * * *\\|48h; weekly=0 4 * * sun\\|14d`; at most once a minute, at most `365d`',
      },
      {
        name: 'CALL_METADATA',
        standard: 'on',
        example: 'hashed',
        meaning:
          'what manifests keep of calls (numbers, queue, direction, times, tags, `WEBHOOK_META`), as listings and webhooks give it: `on`, `off`, or `hashed`: numbers as HMAC-SHA256 under `KORE_CLIENT_SECRET`. Personal data',
      },
      {
        name: 'COMPLETENESS',
        example: 'report-only',
        meaning:
          '`on`: completeness is computed once a day (every three hours where `KORE_RETENTION` is under 4 days), and what is missing is queued; `report-only`: nothing is queued; `off`. By itself `on` where `KORE_ACCOUNT_ID` is set',
      },
    ],
  },
  {
    title: 'HTTP',
    variables: [
      {
        name: 'HTTP_HOST',
        standard: '127.0.0.1',
        example: '127.0.0.1',
        meaning: 'the address where API, probes and metrics are served',
      },
      {
        name: 'HTTP_PORT',
        standard: '8080',
        example: '8080',
        meaning:
          'the port; `0` for any free one. A `worker` whose `HTTP_PORT` is not set takes any free port if 8080 is taken, and names it in the log line `listening`',
      },
      {
        name: 'API_TOKEN',
        example: 'a long random text',
        isSecret: true,
        meaning:
          'bearer tokens of the API, separated by commas, each a text or `name:role:token` with a role of `read`, `listen`, `enqueue`, `operate` (the default) or `erase`; 16 characters or more unless the API is on loopback, where it stays without any',
      },
      {
        name: 'API_JWKS_URL',
        example: 'https://login.example.com/.well-known/jwks.json',
        meaning:
          'where the keys are that sign JWTs, which are accepted beside the tokens; all three `API_J*` or none',
      },
      {
        name: 'API_JWT_ISSUER',
        example: 'https://login.example.com/',
        meaning: 'who has to have issued them',
      },
      {
        name: 'API_JWT_AUDIENCE',
        example: 'voicemail-archiver',
        meaning: 'whom they have to be for',
      },
      {
        name: 'API_JWT_ROLE_CLAIM',
        standard: 'role',
        example: 'role',
        meaning: 'the claim of a JWT that names its roles; a JWT without it may operate',
      },
      {
        name: 'WEBHOOK_SECRET',
        example: 'a long random text',
        isSecret: true,
        meaning: 'secrets of the webhook, separated by commas for rotation; without one there is no webhook',
      },
      {
        name: 'WEBHOOK_SESSION_ID_PATH',
        // The known places of the id in notifications, whose format is not documented.
        standard: '/sessionId,/metaInfo/sessionId,/data/sessionId,/session/id',
        example: '/sessionId,/metaInfo/sessionId',
        meaning: 'JSON pointers to where a notification may have the session id, the likeliest first',
      },
      {
        name: 'WEBHOOK_META',
        example: '/metaInfo/customerId,/metaInfo/department',
        meaning:
          'JSON pointers to members of a notification that go into the manifest, under `call.meta`; names of secrets (auth, token, password and the like) are refused, and left out of what is below',
      },
    ],
  },
  {
    title: 'Notifications and audit log',
    variables: [
      {
        name: 'NOTIFY_URL',
        example: 'https://crm.example.com/hooks/voicemail',
        isSecret: true,
        meaning:
          'the receiver of notifications: a URL (https) that takes signed `POST`s; see [Notifications](notifications.md)',
      },
      {
        name: 'NOTIFY_SECRET',
        example: 'a long random text',
        isSecret: true,
        meaning:
          'the key of the signatures, HMAC-SHA256 of the body in `X-Signature`; required with `NOTIFY_URL`',
      },
      {
        name: 'NOTIFY_EVENTS',
        standard: 'archived,partial,failed,transcript,completeness',
        example: 'archived,failed',
        meaning: 'the events that are sent',
      },
      {
        name: 'NOTIFY_ALLOW_PRIVATE',
        standard: 'false',
        example: 'true',
        meaning: 'allows private addresses and plain http for `NOTIFY_URL`',
      },
      {
        name: 'AUDIT_LOG',
        standard: 'on',
        example: 'off',
        meaning:
          'writes who did what (archiving by force, retry, cancel, pause, hold, erase, downloads, log-ins, log-outs, backfills, schedules) below `audit/` in the archive; `off` turns it off',
      },
    ],
  },
  {
    title: 'Proxies, traces and logs',
    variables: [
      {
        name: 'HTTP_PROXY',
        example: 'http://proxy.example:3128',
        meaning: 'the proxy for plain http; `http_proxy` as well, which wins',
      },
      {
        name: 'HTTPS_PROXY',
        example: 'http://proxy.example:3128',
        meaning:
          'the proxy for https, through a tunnel: for Kore, recordings, the bucket and traces; `https_proxy` as well, which wins',
      },
      {
        name: 'NO_PROXY',
        example: 'localhost,.internal.example,10.0.0.0/8',
        meaning:
          'names (with their subdomains), addresses and networks that are reached directly, each optionally with a port, or `*`; `no_proxy` as well, which wins',
      },
      {
        name: 'OTEL_EXPORTER_OTLP_ENDPOINT',
        example: 'http://localhost:4318',
        meaning: 'sends traces to this OpenTelemetry collector (OTLP over HTTP)',
      },
      {
        name: 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT',
        example: 'http://localhost:4318/v1/traces',
        meaning: 'the same for traces alone; it wins',
      },
      {
        name: 'OTEL_EXPORTER_OTLP_HEADERS',
        example: 'api-key=secret,tenant=voice',
        meaning: 'headers for the collector',
      },
      {
        name: 'OTEL_EXPORTER_OTLP_TRACES_HEADERS',
        example: 'api-key=secret,tenant=voice',
        meaning: 'the same for traces alone',
      },
      {
        name: 'OTEL_EXPORTER_OTLP_PROTOCOL',
        standard: 'http/protobuf',
        example: 'http/protobuf',
        meaning: '`http/protobuf` or `http/json`',
      },
      {
        name: 'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL',
        example: 'http/protobuf',
        meaning: 'the same for traces alone; it wins',
      },
      {
        name: 'OTEL_TRACES_SAMPLER',
        standard: 'parentbased_always_on',
        example: 'parentbased_always_on',
        meaning: 'which traces are kept',
      },
      {
        name: 'OTEL_TRACES_SAMPLER_ARG',
        standard: '1',
        example: '0.25',
        meaning: 'the part of them that is kept, by the samplers with a ratio',
      },
      {
        name: 'OTEL_TRACES_EXPORTER',
        standard: 'otlp',
        example: 'otlp',
        meaning: '`none` turns traces off',
      },
      {
        name: 'OTEL_SDK_DISABLED',
        standard: 'false',
        example: 'true',
        meaning: '`true` turns traces off',
      },
      {
        name: 'LOG_LEVEL',
        standard: 'info',
        example: 'info',
        meaning: '`trace`, `debug`, `info`, `warn`, `error`, `fatal` or `silent`',
      },
    ],
  },
] as const satisfies readonly VariableGroup[];

/** The names of all variables. */
export type VariableName = (typeof VARIABLE_GROUPS)[number]['variables'][number]['name'];

const BY_NAME: ReadonlyMap<string, Variable> = new Map(
  VARIABLE_GROUPS.flatMap(({ variables }) => variables.map((variable) => [variable.name, variable])),
);

/** All variables. */
export const VARIABLES: readonly Variable[] = [...BY_NAME.values()];

/** What is known of a variable. */
export function variableOf(name: VariableName): Variable {
  const variable = BY_NAME.get(name);
  if (variable === undefined) throw new TypeError(`${name} is not in the table of variables`);
  return variable;
}
