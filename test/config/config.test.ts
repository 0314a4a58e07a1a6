import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Config, S3Config } from '../../src/config/config.ts';
import { passSdkSettings, readEnvironment } from '../../src/config/environment.ts';
import { loadConfig, type Need } from '../../src/config/load.ts';
import { ConfigError, type Environment, type Fault, faultText } from '../../src/config/settings.ts';
import { redact } from '../../src/util/redact.ts';

const directory = mkdtempSync(join(tmpdir(), 'config-test-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const KORE: Environment = {
  KORE_HOST: 'https://platform.kore.ai',
  KORE_BOT_ID: 'st-1',
  KORE_CLIENT_ID: 'cs-1',
  KORE_CLIENT_SECRET: 'a-secret-of-the-app',
};

const NO_S3: S3Config = {
  forcePathStyle: false,
  sse: undefined,
  kmsKeyId: undefined,
  storageClass: undefined,
  tags: undefined,
  objectLock: undefined,
  expectedBucketOwner: undefined,
};

function load(environment: Environment, ...needs: Need[]): Config {
  return loadConfig(environment, { needs });
}

function faults(environment: Environment, ...needs: Need[]): readonly Fault[] {
  try {
    load(environment, ...needs);
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
  return [];
}

function file(name: string, content: string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

test("the configuration with only Kore's variables is as the contract's table says", () => {
  expect(load(KORE, 'kore')).toEqual({
    kore: {
      baseUrl: 'https://platform.kore.ai',
      botId: 'st-1',
      clientId: 'cs-1',
      clientSecret: 'a-secret-of-the-app',
      accountId: undefined,
      rateLimit: { calls: 60, windowMs: 60_000 },
      maxAnswerBytes: 64 * 2 ** 20,
      retentionMs: undefined,
    },
    rateLimit: { calls: 60, windowMs: 60_000 },
    defaultBotId: 'st-1',
    media: { hosts: ['kore.ai', 'korebots.com', 'amazonaws.com'], allowPrivate: false, privateHosts: [] },
    queue: {
      target: { kind: 'embedded', directory: './data/queue' },
      name: 'voicemail-archive',
      prefix: undefined,
    },
    archive: { kind: 'file', directory: './data/archive' },
    work: {
      concurrency: 16,
      transferMemoryBytes: 268_435_456,
      maxRecordingBytes: 1_073_741_824,
      recordingWaitMs: 86_400_000,
      transcriptWaitMs: 86_400_000,
      pollDelayMs: 30_000,
      retryDelayMs: 2000,
      retryWaitMs: 86_400_000,
      unauthorizedPauseMs: 60_000,
      downloadIdleTimeoutMs: 30_000,
      sessionWaitMs: 3_600_000,
      settleWaitMs: 3_600_000,
      downloadMinBytesPerSecond: 1024,
      shutdownGraceMs: 30_000,
    },
    http: { host: '127.0.0.1', port: 8080, isPortDefault: true, tokens: [] },
    schedules: [],
    callMetadata: 'on',
    auditLog: true,
    logLevel: 'info',
    warnings: [],
  } satisfies Config);
});

test('every part of the configuration is frozen', () => {
  const open: string[] = [];
  const checkFrozen = (value: unknown, path: string) => {
    if (typeof value !== 'object' || value === null) return;
    if (!Object.isFrozen(value)) open.push(path);
    for (const [key, part] of Object.entries(value)) checkFrozen(part, `${path}.${key}`);
  };
  checkFrozen(
    load({ ...KORE, ARCHIVE_URL: 's3://voicemails', S3_OBJECT_LOCK: 'COMPLIANCE:7y' }, 'kore'),
    'config',
  );
  expect(open).toEqual([]);
});

describe('the needs of a command', () => {
  test('without needs nothing is required from the configuration', () => {
    expect(load({})).toMatchObject({ kore: undefined, defaultBotId: undefined });
    expect(load({ KORE_BOT_ID: 'st-1' })).toMatchObject({ kore: undefined, defaultBotId: 'st-1' });
  });

  test('Kore’s settings are there only for those who need them', () => {
    expect(load(KORE).kore).toBeUndefined();
  });

  test('the need kore asks for the host, the bot and the app of Kore', () => {
    expect(faults({}, 'kore').map(({ variable }) => variable)).toEqual([
      'KORE_BOT_ID',
      'KORE_HOST',
      'KORE_CLIENT_ID',
      'KORE_CLIENT_SECRET',
    ]);
  });

  test('the need bot asks for KORE_BOT_ID', () => {
    expect(faults({}, 'bot').map(({ variable }) => variable)).toEqual(['KORE_BOT_ID']);
  });

  test('the need shared-queue refuses an embedded queue, named or by default', () => {
    for (const environment of [{}, { QUEUE_URL: 'embedded:./q' }]) {
      expect(faults(environment, 'shared-queue')).toMatchObject([{ variable: 'QUEUE_URL' }]);
    }
    expect(load({ QUEUE_URL: 'redis://localhost' }, 'shared-queue').queue.target.kind).toBe('redis');
  });

  test('a wrong value is a fault whether or not it is needed', () => {
    expect(faults({ KORE_HOST: 'ftp://x' })).toMatchObject([{ variable: 'KORE_HOST' }]);
  });

  test('an empty or blank variable is unset', () => {
    expect(load({ KORE_ACCOUNT_ID: '', LOG_LEVEL: '  ', QUEUE_URL: '' })).toEqual(load({}));
    expect(faults({ KORE_HOST: '' }, 'kore')).toHaveLength(4);
  });
});

describe('good values of variables', () => {
  test.each([
    ['platform.kore.ai', 'https://platform.kore.ai'],
    ['platform.kore.ai/', 'https://platform.kore.ai'],
    ['https://Platform.Kore.ai//', 'https://platform.kore.ai'],
    ['http://localhost:3000/', 'http://localhost:3000'],
    ['localhost:3000', 'https://localhost:3000'],
    [' kore.example:8443 ', 'https://kore.example:8443'],
  ])('KORE_HOST=%s is accepted', (value, baseUrl) => {
    expect(load({ ...KORE, KORE_HOST: value }, 'kore').kore?.baseUrl).toBe(baseUrl);
  });

  test.each<[string, object]>([
    ['embedded:./data/queue', { kind: 'embedded', directory: './data/queue' }],
    ['embedded:/var/lib/queue', { kind: 'embedded', directory: '/var/lib/queue' }],
    ['embedded:///var/lib/my%20queue', { kind: 'embedded', directory: '/var/lib/my queue' }],
    ['redis://localhost', { kind: 'redis', url: 'redis://localhost', cluster: false }],
    [
      'rediss://u:p%40ss@r.example:6380/2',
      { kind: 'redis', url: 'rediss://u:p%40ss@r.example:6380/2', cluster: false },
    ],
    ['redis://r.example?cluster=true', { kind: 'redis', url: 'redis://r.example', cluster: true }],
    [
      'redis://r.example?cluster=false&family=6',
      { kind: 'redis', url: 'redis://r.example?family=6', cluster: false },
    ],
    [
      'postgres://u:p@db.example:5432/queue',
      { kind: 'postgres', url: 'postgres://u:p@db.example:5432/queue' },
    ],
    [
      'postgresql://db.example/q?sslmode=require',
      { kind: 'postgres', url: 'postgresql://db.example/q?sslmode=require' },
    ],
    [
      'postgres:///queue?host=/run/postgresql',
      { kind: 'postgres', url: 'postgres:///queue?host=/run/postgresql' },
    ],
    [
      'redis+sentinel://a.example,b.example:26380/mymaster',
      {
        kind: 'sentinel',
        hosts: [
          { host: 'a.example', port: 26379 },
          { host: 'b.example', port: 26380 },
        ],
        name: 'mymaster',
        username: undefined,
        password: undefined,
        db: 0,
        tls: false,
        sentinelTls: false,
      },
    ],
    [
      'redis+sentinel://user:p%2Fa@s%40@[::1]:26379/my%20master/3',
      {
        kind: 'sentinel',
        hosts: [{ host: '::1', port: 26379 }],
        name: 'my master',
        username: 'user',
        password: 'p/a@s@',
        db: 3,
        tls: false,
        sentinelTls: false,
      },
    ],
    [
      'rediss://u:p%2C@a.example:7000,b.example,[::1]:7001/0?cluster=true',
      {
        kind: 'redis',
        url: 'rediss://u:p%2C@a.example:7000/0',
        cluster: true,
        seeds: [
          { host: 'a.example', port: 7000 },
          { host: 'b.example', port: 6379 },
          { host: '::1', port: 7001 },
        ],
      },
    ],
    [
      'redis+sentinel://u:p@s.example/m/1?sentinelUsername=su&sentinelPassword=s%26p+&tls=true',
      {
        kind: 'sentinel',
        hosts: [{ host: 's.example', port: 26379 }],
        name: 'm',
        username: 'u',
        password: 'p',
        db: 1,
        sentinelUsername: 'su',
        sentinelPassword: 's&p+',
        tls: true,
        sentinelTls: false,
      },
    ],
    [
      'rediss+sentinel://s.example/m',
      {
        kind: 'sentinel',
        hosts: [{ host: 's.example', port: 26379 }],
        name: 'm',
        username: undefined,
        password: undefined,
        db: 0,
        tls: true,
        sentinelTls: true,
      },
    ],
    [
      'redis+sentinel://:only-password@s.example/m',
      {
        kind: 'sentinel',
        hosts: [{ host: 's.example', port: 26379 }],
        name: 'm',
        username: undefined,
        password: 'only-password',
        db: 0,
        tls: false,
        sentinelTls: false,
      },
    ],
  ])('QUEUE_URL=%s is accepted', (value, target) => {
    expect(load({ QUEUE_URL: value }).queue.target).toEqual(target);
  });

  test.each<[string, object]>([
    ['file:./data/archive', { kind: 'file', directory: './data/archive' }],
    ['file:archive', { kind: 'file', directory: 'archive' }],
    ['file:/srv/archive', { kind: 'file', directory: '/srv/archive' }],
    ['file:///srv/archive', { kind: 'file', directory: '/srv/archive' }],
    ['s3://voicemails', { kind: 's3', bucket: 'voicemails', prefix: '', s3: NO_S3 }],
    ['s3://voicemails/', { kind: 's3', bucket: 'voicemails', prefix: '', s3: NO_S3 }],
    ['s3://voice.mails/a/b c/', { kind: 's3', bucket: 'voice.mails', prefix: 'a/b c', s3: NO_S3 }],
  ])('ARCHIVE_URL=%s is accepted', (value, target) => {
    expect(load({ ARCHIVE_URL: value }).archive).toEqual(target);
  });

  test('the S3 settings are read from their variables', () => {
    const environment = {
      ARCHIVE_URL: 's3://voicemails',
      S3_FORCE_PATH_STYLE: 'true',
      S3_SSE: 'aws:kms',
      S3_KMS_KEY_ID: 'arn:aws:kms:eu-central-1:123456789012:key/1',
      S3_STORAGE_CLASS: 'STANDARD_IA',
      S3_TAGS: 'team=voice%20mail&stage=a+b&empty=',
      S3_OBJECT_LOCK: 'GOVERNANCE:365d',
      S3_EXPECTED_BUCKET_OWNER: '123456789012',
    };
    expect(load(environment).archive).toMatchObject({
      s3: {
        forcePathStyle: true,
        sse: 'aws:kms',
        kmsKeyId: 'arn:aws:kms:eu-central-1:123456789012:key/1',
        storageClass: 'STANDARD_IA',
        tags: 'team=voice%20mail&stage=a%20b&empty=',
        objectLock: { mode: 'GOVERNANCE', retainMs: 31_536_000_000 },
        expectedBucketOwner: '123456789012',
      },
    });
  });

  test('allowing private media adds this machine to the default hosts, but not to a given list', () => {
    expect(load({ KORE_ALLOW_PRIVATE_MEDIA: 'true' }).media.hosts).toContain('127.0.0.1');
    expect(load({}).media.hosts).not.toContain('127.0.0.1');
    const own = load({ KORE_ALLOW_PRIVATE_MEDIA: 'true', KORE_MEDIA_HOSTS: 'media.example' });
    expect(own.media.hosts).toEqual(['media.example']);
  });

  test('media hosts are plain, lowercase and without trailing dots', () => {
    const { media } = load({ KORE_MEDIA_HOSTS: 'Kore.AI., 127.0.0.1 ,[::1],münchen.example,sandbox' });
    expect(media.hosts).toEqual(['kore.ai', '127.0.0.1', '[::1]', 'xn--mnchen-3ya.example', 'sandbox']);
  });

  test('several tokens are accepted, for rotation', () => {
    expect(load({ API_TOKEN: 'new-token, old-token' }).http.tokens).toEqual([
      { name: 'token-1', role: 'operate', token: 'new-token' },
      { name: 'token-2', role: 'operate', token: 'old-token' },
    ]);
  });

  test('tokens can have a name and a role', () => {
    const API_TOKEN = 'ci:enqueue:secret-1,auditor:listen:se:cr:et,plain:token';
    expect(load({ API_TOKEN }).http.tokens).toEqual([
      { name: 'ci', role: 'enqueue', token: 'secret-1' },
      { name: 'auditor', role: 'listen', token: 'se:cr:et' },
      { name: 'token-3', role: 'operate', token: 'plain:token' },
    ]);
    const [fault] = faults({ API_TOKEN: 'ci:enqeue:secret-1' });
    expect(fault).toMatchObject({
      variable: 'API_TOKEN',
      message: expect.stringMatching(/none of read, listen, enqueue, operate, erase/),
    });
    expect(JSON.stringify(fault)).not.toContain('secret-1');
  });

  test.each(['127.0.0.1', '127.1.2.3', 'localhost', '::1', '[::1]'])(
    'HTTP_HOST=%s needs no token',
    (host) => {
      expect(faults({ HTTP_HOST: host }, 'api')).toEqual([]);
    },
  );

  test('any HTTP_HOST is accepted with a token', () => {
    const environment = { HTTP_HOST: '0.0.0.0', HTTP_PORT: '0', API_TOKEN: 'a-long-enough-token' };
    expect(load(environment, 'api').http).toMatchObject({
      host: '0.0.0.0',
      port: 0,
      tokens: [{ role: 'operate', token: 'a-long-enough-token' }],
    });
  });

  test('any HTTP_HOST is accepted for a command that serves no API', () => {
    expect(load({ HTTP_HOST: '0.0.0.0' }).http.host).toBe('0.0.0.0');
  });

  test('JSON web tokens are credentials as well, and take a key set, an issuer and an audience', () => {
    const environment = {
      HTTP_HOST: '0.0.0.0',
      API_JWKS_URL: 'https://login.example.com/.well-known/jwks.json',
      API_JWT_ISSUER: 'https://login.example.com/',
      API_JWT_AUDIENCE: 'archiver',
    };
    expect(load(environment, 'api').http.jwt).toEqual({
      jwksUrl: 'https://login.example.com/.well-known/jwks.json',
      issuer: 'https://login.example.com/',
      audience: 'archiver',
      roleClaim: 'role',
    });
    expect(load({ ...environment, API_JWT_ROLE_CLAIM: 'groups' }).http.jwt?.roleClaim).toBe('groups');
    expect(load({ ...environment, API_JWKS_URL: 'http://[::1]:8080/keys' }).http.jwt?.jwksUrl).toBe(
      'http://[::1]:8080/keys',
    );
    const { API_JWKS_URL: _, API_JWT_ISSUER: __, ...audienceAlone } = environment;
    expect(faults(audienceAlone, 'api').map(({ variable }) => variable)).toEqual([
      'API_JWKS_URL',
      'API_JWT_ISSUER',
    ]);
  });

  test('the webhook is configured by its secrets, and knows the app where there is one', () => {
    const usual = ['/sessionId', '/metaInfo/sessionId', '/data/sessionId', '/session/id'];
    expect(load({}).http.webhook).toBeUndefined();
    expect(load({ WEBHOOK_SECRET: 'new-secret,old-secret' }).http.webhook).toEqual({
      secrets: ['new-secret', 'old-secret'],
      sessionIdPaths: usual,
      app: undefined,
    });
    const environment = {
      WEBHOOK_SECRET_FILE: file('webhook-secret', 'secret-of-a-file\n'),
      WEBHOOK_SESSION_ID_PATH: '/call/id, /a~1b/0',
      KORE_CLIENT_ID: 'cs-1',
      KORE_CLIENT_SECRET: 'a-secret-of-the-app',
    };
    expect(load(environment).http.webhook).toEqual({
      secrets: ['secret-of-a-file'],
      sessionIdPaths: ['/call/id', '/a~1b/0'],
      app: { clientId: 'cs-1', clientSecret: 'a-secret-of-the-app' },
    });
    expect(load(environment).kore).toBeUndefined();
    expect(redact('secret-of-a-file')).toBe('[redacted]');
  });
});

describe('a configuration that is safe by default', () => {
  const SHORT = { HTTP_HOST: '0.0.0.0', API_TOKEN: 'a-long-enough-token,fifteen-letters' };

  test('a token under 16 characters is refused where other machines can try it', () => {
    expect(faults(SHORT, 'api')).toMatchObject([
      { variable: 'API_TOKEN', message: expect.stringMatching(/under 16 characters/) },
    ]);
    expect(faults({ ...SHORT, HTTP_HOST: '::1' }, 'api')).toEqual([]);
    expect(faults(SHORT)).toEqual([]);
  });

  test('Kore is not reached by plain http on another machine, unless that is allowed', () => {
    const plain = { ...KORE, KORE_HOST: 'http://kore.internal.example' };
    expect(faults(plain, 'kore')).toMatchObject([
      { variable: 'KORE_HOST', hint: expect.stringContaining('KORE_ALLOW_PLAIN_HTTP=true') },
    ]);
    expect(faults({ ...plain, KORE_ALLOW_PLAIN_HTTP: 'true' }, 'kore')).toEqual([]);
    expect(faults({ ...plain, KORE_HOST: 'http://[::1]:3000' }, 'kore')).toEqual([]);
  });

  test('an archive must be named where storage is required, as in the container image', () => {
    const required = { REQUIRE_STORAGE: 'true' };
    expect(faults(required).map(({ variable }) => variable)).toEqual(['QUEUE_URL', 'ARCHIVE_URL']);
    expect(
      faults({ ...required, QUEUE_URL_FILE: file('queue-url', 'redis://r'), ARCHIVE_URL: 'file:/a' }),
    ).toEqual([]);
  });
});

describe('misspelt variables', () => {
  test.each([
    ['ARCHIVE_URI', 'ARCHIVE_URL'],
    ['ARCHVIE_URL', 'ARCHIVE_URL'],
    ['archive_url', 'ARCHIVE_URL'],
    ['KORE_BOTID', 'KORE_BOT_ID'],
    ['API_TOKENS', 'API_TOKEN'],
    ['TRANSCRIPTS_WAIT', 'TRANSCRIPT_WAIT'],
    ['LOGLEVEL', 'LOG_LEVEL'],
  ])('the misspelt variable %s is a fault, as %s must be meant', (variable, meant) => {
    const found = faults({ [variable]: 'hunter22' });
    expect(found).toEqual([{ variable, message: `is not known: did you mean ${meant}?` }]);
  });

  test('a misspelt variable beside the right one is a warning', () => {
    const { warnings } = load({ ARCHIVE_URI: 's3://old', ARCHIVE_URL: 's3://new' });
    expect(warnings).toEqual([{ variable: 'ARCHIVE_URI', message: expect.stringContaining('ARCHIVE_URL?') }]);
  });

  test('an unknown variable that is named like ours is a warning', () => {
    expect(load({ KORE_REGION: 'eu' }).warnings).toEqual([
      { variable: 'KORE_REGION', message: 'is not known and does nothing' },
    ]);
  });

  test('variables of other programs are ignored', () => {
    const environment = {
      PATH: '/bin',
      HOME: '/root',
      AWS_REGION: 'eu-central-1',
      OTEL_SERVICE_NAME: 'x',
      FTP_PROXY: 'http://proxy.example',
      all_proxy: 'socks5://proxy.example',
      QUEUE_SERVICE_HOST: '10.0.0.1',
      QUEUE_SERVICE_PORT_REDIS: '6379',
      QUEUE_PORT: 'tcp://10.0.0.1:6379',
      QUEUE_PORT_6379_TCP_ADDR: '10.0.0.1',
      NODE_ENV: 'production',
      npm_config_loglevel: 'warn',
      ARCHIVE_URI: '',
    };
    expect(load(environment).warnings).toEqual([]);
  });
});

describe('proxies in the configuration', () => {
  test('proxies are read from the variables that curl reads, lower case first, and apply to all parts that send requests', () => {
    const environment = {
      ...KORE,
      ARCHIVE_URL: 's3://voicemails',
      OTEL_EXPORTER_OTLP_ENDPOINT: 'https://collector.example',
      HTTP_PROXY: 'http://ignored.example:1',
      http_proxy: 'plain.example:3128',
      HTTPS_PROXY: 'https://secure.example/',
      no_proxy: 'localhost,.internal.example',
    };
    const proxy = {
      http: 'http://plain.example:3128',
      https: 'https://secure.example',
      noProxy: 'localhost,.internal.example',
    };
    const config = load(environment, 'kore');
    expect(config.proxy).toEqual(proxy);
    expect(config.kore?.proxy).toEqual(proxy);
    expect(config.media.proxy).toEqual(proxy);
    expect(config.archive).toMatchObject({ s3: { proxy } });
    expect(config.traces?.proxy).toEqual(proxy);
  });

  test('no proxy is used where only the exceptions are named', () => {
    expect(load({ NO_PROXY: '*' }).proxy).toBeUndefined();
  });

  test('a password in a proxy’s URL is redacted', () => {
    load({ HTTPS_PROXY: 'http://user:proxy%2Fpassword@proxy.example' });
    expect(redact('it was proxy/password, written proxy%2Fpassword')).toBe(
      'it was [redacted], written [redacted]',
    );
  });

  test.each<[string, string, RegExp]>([
    ['HTTPS_PROXY', 'socks5://user:hunter22@proxy.example', /neither with http/],
    ['https_proxy', 'http://proxy.example/path', /more than a host/],
    ['HTTP_PROXY', 'http://user:hunter22#@proxy.example', /no URL of a proxy|more than a host/],
    ['HTTP_PROXY', 'http://user:hunter22%@proxy.example', /%25/],
    ['NO_PROXY', 'höst.example', /no list of hosts/],
  ])('%s=%s is refused without being quoted', (variable, value, message) => {
    const [fault, ...others] = faults({ [variable]: value });
    expect(others).toEqual([]);
    expect(fault).toMatchObject({ variable, message: expect.stringMatching(message) });
    expect(fault?.message).not.toContain('hunter22');
  });
});

describe('bad values of variables', () => {
  const longTags = Array.from({ length: 11 }, (_, index) => `k${index}=v`).join('&');

  test.each<[string, string, RegExp]>([
    [
      'KORE_HOST',
      'ftp://platform.kore.ai',
      /neither https nor http.*for example https:\/\/platform\.kore\.ai/,
    ],
    ['KORE_HOST', 'https://platform.kore.ai/api', /more than a host/],
    ['KORE_HOST', 'platform.kore.ai?x=1', /more than a host/],
    ['KORE_HOST', 'https://me:hunter22@platform.kore.ai', /user name or password/],
    ['KORE_HOST', 'plat form', /no host/],
    ['KORE_HOST', 'https://', /no host/],
    ['KORE_BOT_ID', 'st-1/../2', /no id/],
    ['KORE_BOT_ID', 'x'.repeat(129), /no id/],
    ['KORE_CLIENT_ID', 'cs 1', /no client id/],
    ['KORE_CLIENT_SECRET', 'hunter22\nhunter23', /line breaks/],
    ['KORE_ACCOUNT_ID', 'a b', /no id/],
    ['KORE_RATE_LIMIT', '60', /no rate.*for example 60\/60s/],
    ['KORE_RATE_LIMIT', '0/60s', /at least one call/],
    ['KORE_MEDIA_HOSTS', 'https://kore.ai', /no host name/],
    ['KORE_MEDIA_HOSTS', '*.kore.ai', /subdomains are included/],
    ['KORE_MEDIA_HOSTS', 'kore.ai:443', /without scheme, port/],
    ['KORE_MEDIA_HOSTS', 'kore.ai,,x.example', /no host name/],
    ['KORE_MEDIA_HOSTS', '-x.example', /no host name/],
    ['KORE_ALLOW_PRIVATE_MEDIA', 'yes', /neither true nor false/],
    ['QUEUE_URL', 'mysql://user:hunter22@db', /begins with none of/],
    ['QUEUE_URL', './data/queue', /begins with none of/],
    ['QUEUE_URL', 'embedded:', /names no directory/],
    ['QUEUE_URL', 'embedded://data/queue', /two slashes/],
    ['QUEUE_URL', 'redis:localhost', /no Redis URL/],
    ['QUEUE_URL', 'redis://:hunter22@', /no Redis URL/],
    ['QUEUE_URL', 'redis://:hunter22/x@localhost', /no Redis URL/],
    ['QUEUE_URL', 'redis://localhost:99999', /no Redis URL/],
    ['QUEUE_URL', 'redis://localhost/zero', /database's number/],
    ['QUEUE_URL', 'redis://localhost?cluster=maybe', /true or false/],
    ['QUEUE_URL', 'redis://localhost/1?cluster=true', /only database 0/],
    ['QUEUE_URL', 'redis://:hunter22%@localhost', /%25/],
    ['QUEUE_URL', 'redis://a,b', /only a cluster has: add \?cluster=true/],
    ['QUEUE_URL', 'redis://:hunter22@a,b/1?cluster=true', /only database 0/],
    ['QUEUE_URL', 'redis://a,:1?cluster=true', /no host/],
    ['QUEUE_URL', 'redis+sentinel://a/name?sentinelpassword=hunter22', /a parameter that is none of/],
    ['QUEUE_URL', 'redis+sentinel://a/name?tls=yes', /tls must be true or false/],
    ['QUEUE_URL', 'redis+sentinel://a,b', /no Sentinel URL/],
    ['QUEUE_URL', 'redis+sentinel://a,,b/name', /no host/],
    ['QUEUE_URL', 'redis+sentinel://a:0/name', /port that is none/],
    ['QUEUE_URL', 'redis+sentinel://:hunter22@a/name/one', /no Sentinel URL/],
    ['QUEUE_URL', 'redis+sentinel://:hunter22%@a/name', /%25/],
    ['QUEUE_URL', 'postgres:///queue', /no PostgreSQL URL/],
    ['QUEUE_URL', 'postgres://u:hunter22#x@db/q:y', /no PostgreSQL URL/],
    ['QUEUE_URL', 'postgres://u:12#hunter22@db/q', /no PostgreSQL URL/],
    ['QUEUE_URL', 'postgres://u:12/hunter22@db/q', /no PostgreSQL URL/],
    ['QUEUE_URL', 'redis://u:12?hunter22@r.example', /no Redis URL/],
    ['QUEUE_NAME', 'voice:mail', /no queue name/],
    ['QUEUE_PREFIX', 'a b', /no prefix/],
    ['ARCHIVE_URL', 'https://bucket.s3.amazonaws.com', /neither with s3/],
    ['ARCHIVE_URL', 's3://', /no bucket name/],
    ['ARCHIVE_URL', 's3://B_', /no bucket name/],
    ['ARCHIVE_URL', 's3://bucket/a//b', /no prefix/],
    ['ARCHIVE_URL', 's3://bucket/../b', /no prefix/],
    ['ARCHIVE_URL', 's3://bucket/a?versionId=1', /no prefix/],
    ['ARCHIVE_URL', 'file:', /names no directory/],
    ['ARCHIVE_URL', 'file://server/share', /two slashes/],
    ['S3_FORCE_PATH_STYLE', 'TRUE!', /neither true nor false/],
    ['S3_SSE', 'kms', /AES256, aws:kms, aws:kms:dsse/],
    ['S3_KMS_KEY_ID', 'alias/x', /set S3_SSE=aws:kms/],
    ['S3_STORAGE_CLASS', 'STANDARD IA', /no storage class/],
    ['S3_TAGS', 'team', /k=v/],
    ['S3_TAGS', 'a=1&&b=2', /k=v/],
    ['S3_TAGS', 'a=1&a=2', /"a" twice/],
    ['S3_TAGS', 'aws:x=1', /aws:/],
    ['S3_TAGS', 'a=%zz', /does not take the tag "a"/],
    ['S3_TAGS', longTags, /11 tags/],
    ['S3_TAGS', `${'k'.repeat(129)}=v`, /too long/],
    ['S3_TAGS', `k=${'v'.repeat(257)}`, /too long/],
    ['S3_OBJECT_LOCK', 'governance:1d', /GOVERNANCE or COMPLIANCE/],
    ['S3_OBJECT_LOCK', 'GOVERNANCE', /GOVERNANCE or COMPLIANCE/],
    ['S3_OBJECT_LOCK', 'COMPLIANCE:7', /no unit/],
    ['S3_OBJECT_LOCK', 'COMPLIANCE:1h', /less than 1d/],
    ['S3_EXPECTED_BUCKET_OWNER', '1234', /12 digits/],
    ['WORKER_CONCURRENCY', '0', /between 1 and 1000/],
    ['WORKER_CONCURRENCY', '1.5', /no whole number/],
    ['TRANSFER_MEMORY', '256', /between 1MiB and 1TiB/],
    ['TRANSFER_MEMORY', '256M', /no size/],
    ['MAX_RECORDING_BYTES', '0', /between 1B and 5TiB/],
    ['RECORDING_WAIT', '24', /"24" has no unit.*for example 24h/],
    ['TRANSCRIPT_WAIT', 'forever', /no duration/],
    ['POLL_DELAY', '0', /between 1ms and 1h/],
    ['RETRY_DELAY', '2h', /between 1ms and 1h/],
    ['RETRY_WAIT', '-1s', /no duration/],
    ['UNAUTHORIZED_PAUSE', '2d', /between 1ms and 1d/],
    ['DOWNLOAD_IDLE_TIMEOUT', '0s', /between 1ms and 1h/],
    ['SHUTDOWN_GRACE', '30d', /between 0 and 1h/],
    ['HTTP_HOST', 'http://localhost', /neither an address nor a host name/],
    ['HTTP_HOST', '0.0.0.0', /without any credentials; set API_TOKEN/],
    ['HTTP_HOST', '::', /without any credentials; set API_TOKEN/],
    ['HTTP_HOST', 'archiver.example', /without any credentials; set API_TOKEN/],
    ['HTTP_PORT', '65536', /between 0 and 65535/],
    ['HTTP_PORT', '80a', /no whole number/],
    ['API_TOKEN', 'hunter22,', /empty token/],
    ['API_TOKEN', 'hunter22 two', /spaces/],
    ['API_JWKS_URL', 'http://login.example.com/keys', /not https/],
    ['API_JWKS_URL', 'https://me:hunter22@login.example.com/keys', /user name or password/],
    ['API_JWKS_URL', 'keys', /no URL/],
    ['WEBHOOK_SECRET', 'hunter22,,', /empty token/],
    ['WEBHOOK_SESSION_ID_PATH', 'sessionId', /no JSON pointer/],
    ['WEBHOOK_SESSION_ID_PATH', '/a,/b~2', /"\/b~2" is no JSON pointer/],
    ['LOG_LEVEL', 'verbose', /none of fatal, error/],
  ])('%s=%s is refused with a clear message', (variable, value, message) => {
    const found = faults({ [variable]: value }, ...(variable === 'HTTP_HOST' ? (['api'] as const) : []));
    expect(found).toHaveLength(1);
    expect(found[0]?.variable).toBe(variable);
    const text = found.map(faultText).join('\n');
    expect(text).toMatch(message);
    expect(text).not.toContain('hunter22');
  });

  test('WEBHOOK_META with numbers needs the secret they are hashed with', () => {
    const hashed = { WEBHOOK_SECRET: 'a-long-secret', WEBHOOK_META: '/caller', CALL_METADATA: 'hashed' };
    expect(faults(hashed)).toMatchObject([{ variable: 'WEBHOOK_META' }]);
    expect(faults({ ...hashed, KORE_CLIENT_ID: 'cs-1', KORE_CLIENT_SECRET: 'a-secret' })).toEqual([]);
  });

  test('a queue prefix without braces is refused with a cluster', () => {
    const cluster = { QUEUE_URL: 'redis://r.example?cluster=true' };
    expect(faults({ ...cluster, QUEUE_PREFIX: 'archive' })).toMatchObject([{ variable: 'QUEUE_PREFIX' }]);
    expect(faults({ ...cluster, QUEUE_PREFIX: '{archive}' })).toEqual([]);
  });

  test('a key id is refused with AES256, and a wrong S3_SSE is one fault, not two', () => {
    expect(faults({ S3_SSE: 'AES256', S3_KMS_KEY_ID: 'k' })).toMatchObject([{ variable: 'S3_KMS_KEY_ID' }]);
    expect(faults({ S3_SSE: 'kms', S3_KMS_KEY_ID: 'k' })).toMatchObject([{ variable: 'S3_SSE' }]);
  });

  test('a wrong QUEUE_URL is not also called embedded', () => {
    expect(faults({ QUEUE_URL: 'mysql://x' }, 'shared-queue')).toHaveLength(1);
  });

  test('long and unprintable values are quoted short and printable', () => {
    const [fault] = faults({ LOG_LEVEL: `a\u0007\u202e${'b'.repeat(500)}` });
    expect(fault?.message).toMatch(/^"a\?\?b+…" is none of/);
    expect(fault?.message.length).toBeLessThan(200);
  });

  test('all faults come in one error, a line each', () => {
    const environment = {
      KORE_HOST: 'ftp://x',
      KORE_CLIENT_SECRET_FILE: join(directory, 'nowhere'),
      QUEUE_URL: 'mysql://u:hunter22@x',
      POLL_DELAY: '30',
      S3_KMS_KEY_ID: 'k',
      HTTP_HOST: '0.0.0.0',
      LOG_LEVEL: 'loud',
    };
    let error: unknown;
    try {
      load(environment, 'kore', 'api');
    } catch (thrown) {
      error = thrown;
    }
    if (!(error instanceof ConfigError)) throw new Error('expected a ConfigError');
    const variables = error.faults.map(({ variable }) => variable);
    expect(variables.toSorted()).toEqual([
      'HTTP_HOST',
      'KORE_BOT_ID',
      'KORE_CLIENT_ID',
      'KORE_CLIENT_SECRET_FILE',
      'KORE_HOST',
      'LOG_LEVEL',
      'POLL_DELAY',
      'QUEUE_URL',
      'S3_KMS_KEY_ID',
    ]);
    expect(error.message.split('\n').map((line) => line.split(':')[0])).toEqual(variables);
    expect(error.message).not.toContain('hunter22');
  });
});

describe('secrets in files', () => {
  test('secrets in files are read without their last line break', () => {
    const environment = {
      ...KORE,
      KORE_CLIENT_SECRET: '',
      KORE_CLIENT_SECRET_FILE: file('secret', ' from a file \r\n'),
      API_TOKEN_FILE: file('token', 'token-of-a-file\n'),
      QUEUE_URL_FILE: file('queue', 'redis://:pw@r.example\n'),
    };
    const config = load(environment, 'kore');
    expect(config.kore?.clientSecret).toBe(' from a file ');
    expect(config.http.tokens).toMatchObject([{ token: 'token-of-a-file' }]);
    expect(config.queue.target).toMatchObject({ url: 'redis://:pw@r.example' });
  });

  test.each<[string, Environment, string]>([
    ['missing', { API_TOKEN_FILE: join(directory, 'missing') }, 'API_TOKEN_FILE'],
    ['a directory', { API_TOKEN_FILE: directory }, 'API_TOKEN_FILE'],
    ['empty', { API_TOKEN_FILE: file('empty', '\n') }, 'API_TOKEN_FILE'],
    ['too large', { API_TOKEN_FILE: file('large', 'x'.repeat(100_000)) }, 'API_TOKEN_FILE'],
    ['of two lines', { API_TOKEN_FILE: file('lines', 'one\ntwo\n') }, 'API_TOKEN_FILE'],
    ['wrong inside', { QUEUE_URL_FILE: file('wrong', 'mysql://x') }, 'QUEUE_URL_FILE'],
    ['beside the variable', { API_TOKEN: 'a-token', API_TOKEN_FILE: file('both', 'x') }, 'API_TOKEN'],
  ])('a secret file is refused with one fault: %s', (_name, environment, variable) => {
    expect(faults(environment)).toMatchObject([{ variable }]);
  });

  test('a secret given for a path by mistake is not quoted', () => {
    const found = faults({ KORE_CLIENT_SECRET_FILE: 'hunter22-is-no-path' });
    expect(found).toHaveLength(1);
    expect(found[0]?.message).not.toContain('hunter22');
  });

  test('only secrets have a file variable', () => {
    expect(load({ LOG_LEVEL_FILE: file('level', 'debug') }).logLevel).toBe('info');
  });
});

test('what is secret in a configuration is redacted from then on', () => {
  const secrets = ['kore-secret-9f', 'api-token-9f', 'api-token-8f', 'sentinel/9f pass', 'aws-secret-9f'];
  load({
    ...KORE,
    KORE_CLIENT_SECRET: 'kore-secret-9f',
    API_TOKEN: 'api-token-9f,api-token-8f',
    QUEUE_URL: 'redis+sentinel://:sentinel%2F9f%20pass@a/m',
    AWS_SECRET_ACCESS_KEY: 'aws-secret-9f',
  });
  load({ QUEUE_URL: 'postgres://u:pg-pass-9f@db/q' });
  load({ QUEUE_URL: 'redis://:redis-pass-9f@r.example' });
  for (const secret of [...secrets, 'pg-pass-9f', 'redis-pass-9f']) {
    expect(redact(`<${secret}>`)).toBe('<[redacted]>');
  }
});

describe('the environment', () => {
  function withDotEnv(content: string): string {
    const home = mkdtempSync(join(directory, 'home-'));
    writeFileSync(join(home, '.env'), content);
    return home;
  }

  test('the environment is the one of the process where there is no .env', () => {
    expect(readEnvironment(mkdtempSync(join(directory, 'home-')), { A: '1' })).toEqual({ A: '1' });
  });

  test('the environment of the process overrides .env, even with an empty value', () => {
    const home = withDotEnv('# comment\nA=1\nB="two words"\nC=3\n');
    expect(readEnvironment(home, { C: '', D: '4' })).toEqual({ A: '1', B: 'two words', C: '', D: '4' });
  });

  test('either form of a secret in the process hides the other in .env', () => {
    const home = withDotEnv(`API_TOKEN=from-dot-env\nKORE_CLIENT_SECRET_FILE=/nowhere\n`);
    const environment = readEnvironment(home, {
      API_TOKEN_FILE: file('process-token', 'from-process'),
      KORE_CLIENT_SECRET: 'from-process-too',
    });
    expect(load({ ...KORE, ...environment }, 'kore')).toMatchObject({
      http: { tokens: [{ token: 'from-process' }] },
      kore: { clientSecret: 'from-process-too' },
    });
  });

  test('both forms of a secret in the process are a fault with a .env too', () => {
    const environment = readEnvironment(withDotEnv('A=1'), { API_TOKEN: 'a', API_TOKEN_FILE: '/b' });
    expect(faults(environment)).toMatchObject([{ variable: 'API_TOKEN' }]);
  });

  test('a .env is read as people and their editors write it', () => {
    const lines = [
      '\uFEFFKORE_HOST=https://kore.example # the one in Europe',
      '',
      '# KORE_BOT_ID=st-0',
      'export KORE_BOT_ID="st-1"',
      "  KORE_CLIENT_ID = 'cs-1'",
      'KORE_CLIENT_SECRET="with # and = in it"',
      'LOG_LEVEL=debug',
      'LOG_LEVEL=warn',
      'KORE_ACCOUNT_ID=',
    ];
    for (const end of ['\n', '\r\n']) {
      const environment = readEnvironment(withDotEnv(lines.join(end)), {});
      expect(load(environment, 'kore')).toMatchObject({
        kore: {
          baseUrl: 'https://kore.example',
          botId: 'st-1',
          clientId: 'cs-1',
          clientSecret: 'with # and = in it',
          accountId: undefined,
        },
        logLevel: 'warn',
      });
    }
  });

  test('values may have the quotes that docker run --env-file leaves on', () => {
    const environment = readEnvironment(mkdtempSync(join(directory, 'home-')), {
      KORE_HOST: '"https://kore.example"',
      KORE_CLIENT_SECRET: "'a-secret'",
      https_proxy: '"http://proxy.example:3128"',
      AWS_REGION: '"eu-central-1"',
      OTHER: '"as it is"',
    });
    expect(environment).toEqual({
      KORE_HOST: 'https://kore.example',
      KORE_CLIENT_SECRET: 'a-secret',
      https_proxy: 'http://proxy.example:3128',
      AWS_REGION: 'eu-central-1',
      OTHER: '"as it is"',
    });
    const processEnv = { AWS_REGION: '"eu-central-1"' };
    passSdkSettings(environment, processEnv);
    expect(processEnv).toEqual({ AWS_REGION: 'eu-central-1' });
  });

  test.each([
    [
      'of UTF-16, as PowerShell writes it',
      Buffer.from('\uFEFFKORE_HOST=kore.example', 'utf16le'),
      /not UTF-8 text/,
    ],
    ['of UTF-16 without a mark', Buffer.from('KORE_HOST=kore.example', 'utf16le'), /not UTF-8 text/],
    ['of Latin-1', Buffer.from('KORE_CLIENT_SECRET=schlüssel', 'latin1'), /not UTF-8 text/],
    [
      'with a colon for "="',
      Buffer.from('A=1\nKORE_HOST: kore.example\n'),
      /line 2 sets nothing; put a "=" behind KORE_HOST/,
    ],
  ])('a .env is refused when it is %s', (_, content, message) => {
    const home = mkdtempSync(join(directory, 'home-'));
    writeFileSync(join(home, '.env'), content);
    expect(() => readEnvironment(home, {})).toThrow(ConfigError);
    expect(() => readEnvironment(home, {})).toThrow(message);
  });

  test('a .env that cannot be read is reported', () => {
    const home = mkdtempSync(join(directory, 'home-'));
    mkdirSync(join(home, '.env'));
    expect(() => readEnvironment(home, {})).toThrow(/^\.env: .*EISDIR/);
  });

  test('settings of .env for the AWS and OpenTelemetry SDKs reach them without overriding those of the process', () => {
    const processEnv: Record<string, string | undefined> = { AWS_REGION: 'eu-west-1' };
    const environment = readEnvironment(
      withDotEnv('AWS_REGION=us-east-1\nAWS_PROFILE=backup\nOTEL_SERVICE_NAME=vm\nOTHER=1'),
      processEnv,
    );
    passSdkSettings(environment, processEnv);
    expect(processEnv).toEqual({ AWS_REGION: 'eu-west-1', AWS_PROFILE: 'backup', OTEL_SERVICE_NAME: 'vm' });
  });
});

describe('the configuration of notifications', () => {
  const url = 'https://crm.example.com/hooks?key=hook-secret-1';
  const secret = 'notify-secret-1';

  test('notifications are sent where a URL and a secret are given, all events by default', () => {
    expect(load({}).notify).toBeUndefined();
    expect(load({ NOTIFY_SECRET: secret }).notify).toBeUndefined();
    expect(load({ NOTIFY_URL: url, NOTIFY_SECRET: secret }).notify).toEqual({
      url,
      secret,
      events: ['archived', 'partial', 'failed', 'transcript', 'completeness'],
      allowPrivate: false,
      proxy: undefined,
    });
    const some = { NOTIFY_URL: url, NOTIFY_SECRET: secret, NOTIFY_EVENTS: 'failed, archived,failed' };
    expect(load(some).notify?.events).toEqual(['failed', 'archived']);
  });

  test.each([
    [{ NOTIFY_URL: url }, 'NOTIFY_SECRET: is required'],
    [{ NOTIFY_URL: 'http://crm.internal/', NOTIFY_SECRET: secret }, 'set NOTIFY_ALLOW_PRIVATE=true'],
    [{ NOTIFY_URL: 'ftp://crm.internal/', NOTIFY_SECRET: secret }, 'NOTIFY_URL: is no https URL'],
    [{ NOTIFY_URL: 'https://user:pass@crm.internal/', NOTIFY_SECRET: secret }, 'would not be sent'],
    [{ NOTIFY_EVENTS: 'archived,deleted' }, '"deleted" is none of archived, partial'],
    [{ AUDIT_LOG: 'perhaps' }, 'AUDIT_LOG'],
  ])('the notification settings %o are refused', (environment, message) => {
    expect(() => load(environment)).toThrow(message);
  });

  test('notifications may go to a private network where that is allowed', () => {
    const environment = {
      NOTIFY_URL: 'http://10.0.0.1/',
      NOTIFY_SECRET: secret,
      NOTIFY_ALLOW_PRIVATE: 'true',
    };
    expect(load(environment).notify).toMatchObject({ url: 'http://10.0.0.1/', allowPrivate: true });
  });

  test('notification settings leave neither URL nor secret in a text', () => {
    load({ NOTIFY_URL: url, NOTIFY_SECRET: secret });
    expect(redact(`sent to ${url} with ${secret}`)).not.toMatch(/hook-secret|notify-secret/);
  });

  test('the audit log is on unless it is turned off', () => {
    expect(load({}).auditLog).toBe(true);
    expect(load({ AUDIT_LOG: 'off' }).auditLog).toBe(false);
    expect(load({ AUDIT_LOG: 'false' }).auditLog).toBe(false);
  });
});
