import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import {
  ListObjectVersionsCommand,
  PutBucketLifecycleConfigurationCommand,
  PutBucketVersioningCommand,
} from '@aws-sdk/client-s3';
import { Client } from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from 'vitest';
import { readOwner, writeOwner } from '../../src/cli/owner.ts';
import type { CheckResult } from '../../src/doctor/check.ts';
import { checkNode, type DoctorOptions, runDoctor } from '../../src/doctor/doctor.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { freePort } from '../setup/process.ts';
import { runCli, startCli } from '../support/cli.ts';
import { whyMissing } from '../support/queues.ts';
import { type OwnRedis, startOwnRedis, startOwnSentinel } from '../support/redis-server.ts';
import { NEEDS_REAL_S3, openTestBucket, REAL_S3, type TestBucket } from '../support/s3.ts';
import { type InjectedFault, type SeenRequest, startS3Proxy } from '../support/s3-proxy.ts';
import { temporaryDirectory } from '../support/services.ts';

/** Nothing listens there. */
const NOWHERE = '127.0.0.1:1';
const never = new AbortController().signal;

let sandbox: Sandbox;
let redis: OwnRedis;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
beforeAll(async () => {
  [sandbox, redis, directory] = await Promise.all([
    startSandbox(),
    startOwnRedis('--appendonly', 'yes'),
    temporaryDirectory(),
  ]);
});
afterAll(async () => {
  await Promise.all([sandbox.close(), redis.stop(), directory.remove()]);
});

/** All in order; tests change what they are about. */
function environment(changes: Readonly<Record<string, string>> = {}): Record<string, string> {
  return {
    KORE_HOST: sandbox.url,
    KORE_BOT_ID: sandbox.botId,
    KORE_CLIENT_ID: sandbox.clientId,
    KORE_CLIENT_SECRET: sandbox.clientSecret,
    QUEUE_URL: redis.url,
    ARCHIVE_URL: `file:${join(directory.path, 'archive')}`,
    ...changes,
  };
}

/** The results by name; a name with several of them has the worst first. */
async function examine(
  changes: Readonly<Record<string, string>> = {},
  options: Partial<DoctorOptions> = {},
  signal: AbortSignal = never,
): Promise<Readonly<Record<string, CheckResult>>> {
  const checks = runDoctor(
    { environment: environment(changes), nodeVersion: '24.1.0', findHolder: readOwner, ...options },
    signal,
  );
  const results: Record<string, CheckResult> = {};
  for await (const result of checks) results[result.name] ??= result;
  return results;
}

const status = (results: Readonly<Record<string, CheckResult>>) =>
  Object.fromEntries(Object.values(results).map((result) => [result.name, result.status]));

/** The text of a result, with its fix. */
const text = (result: CheckResult | undefined) => `${result?.status}: ${result?.message} -> ${result?.fix}`;

describe('doctor', () => {
  it('doctor finds nothing wrong in a sound set-up, and leaves nothing behind', async () => {
    expect(status(await examine({ KORE_ACCOUNT_ID: sandbox.accountId }))).toEqual({
      configuration: 'ok',
      node: 'ok',
      queue: 'ok',
      'queue eviction': 'ok',
      'queue persistence': 'ok',
      archive: 'ok',
      'archive disk': 'ok',
      kore: 'ok',
      'kore listing': 'ok',
      clock: 'ok',
    });
    expect(await redis.admin.keys('*')).toEqual([]);
    expect(await readdir(directory.path)).toEqual([]);
  });

  it('doctor names each fault of the configuration, and checks the rest all the same', async () => {
    const checks = runDoctor(
      {
        environment: environment({
          KORE_HOST: '',
          QUEUE_URL: 'mysql://user:sesame-open@db/queue',
          WORKER_CONCURRENCY: 'many',
          HTTP_HOST: '0.0.0.0',
        }),
        nodeVersion: '24.1.0',
        findHolder: readOwner,
      },
      never,
    );
    const results: CheckResult[] = [];
    for await (const result of checks) results.push(result);

    expect(results.filter(({ name }) => name === 'configuration').map(text)).toEqual([
      expect.stringMatching(/^failed: KORE_HOST: is required -> set KORE_HOST, for example https/),
      expect.stringMatching(/^failed: QUEUE_URL: begins with none of .* -> set QUEUE_URL/),
      expect.stringMatching(/^failed: WORKER_CONCURRENCY: "many" is no whole number/),
      expect.stringMatching(/^warning: HTTP_HOST: .*start and api refuse.* -> set API_TOKEN/),
    ]);
    expect(results).toContainEqual(expect.objectContaining({ name: 'archive', status: 'ok' }));
    for (const name of ['queue', 'kore']) {
      expect(results).toContainEqual(expect.objectContaining({ name, status: 'skipped' }));
    }
    expect(JSON.stringify(results)).not.toContain('sesame-open');
  });

  it('doctor warns of a Kore host without https where that is allowed, and names the setting where it is not', async () => {
    const refused = await examine({ KORE_HOST: 'http://kore.invalid' });
    expect(text(refused.configuration)).toMatch(
      /^failed: KORE_HOST: .*in clear -> write https.*KORE_ALLOW_PLAIN_HTTP=true/,
    );
    const { configuration } = await examine({
      KORE_HOST: 'http://kore.invalid',
      KORE_ALLOW_PLAIN_HTTP: 'true',
    });
    expect(text(configuration)).toMatch(/^warning: .*in clear -> write https/);
  });

  it.each([
    ['22.18.0', 'failed'],
    ['22.19.0', 'ok'],
    ['20.20.2', 'failed'],
    ['24.0.0', 'ok'],
  ])('doctor judges Node.js %s: %s', (version, expected) => {
    expect(checkNode(version).status).toBe(expected);
  });

  it('doctor gives up on a check that does not end', async () => {
    const silent = await startSilentServer();
    try {
      const { kore, archive } = await examine({ KORE_HOST: silent.url }, { timeoutMs: 2_000 });
      expect(text(kore)).toMatch(/^failed: no result after 2 s -> check the network/);
      expect(archive?.status).toBe('ok');
    } finally {
      await silent.close();
    }
  });
});

describe('doctor on a queue on Redis', () => {
  /** What the tests change, as it was in the beginning. */
  const GOOD = {
    'maxmemory-policy': 'noeviction',
    maxmemory: '0',
    appendonly: 'yes',
    appendfsync: 'everysec',
    save: '',
    requirepass: '',
  };
  afterEach(async () => {
    for (const [name, value] of Object.entries(GOOD)) await redis.admin.config('SET', name, value);
  });

  it.each<[string, Record<string, string>, string, RegExp]>([
    [
      'that evicts keys',
      { 'maxmemory-policy': 'allkeys-lru' },
      'queue eviction',
      /^failed: .*allkeys-lru.*vanish.* -> CONFIG SET maxmemory-policy noeviction/,
    ],
    [
      'whose memory is almost full',
      { maxmemory: '1mb' },
      'queue eviction',
      /^warning: noeviction, and \d+% of maxmemory is used.* -> raise maxmemory/,
    ],
    [
      'that keeps nothing on disk',
      { appendonly: 'no' },
      'queue persistence',
      /^failed: nothing is kept on disk.* -> CONFIG SET appendonly yes/,
    ],
    [
      'that only makes snapshots',
      { appendonly: 'no', save: '3600 1' },
      'queue persistence',
      /^warning: snapshots alone \(save 3600 1\).* -> CONFIG SET appendonly yes/,
    ],
    [
      'that never syncs its file',
      { appendfsync: 'no' },
      'queue persistence',
      /^warning: .*appendfsync no.* -> CONFIG SET appendfsync everysec/,
    ],
    ['whose memory is full', { maxmemory: '1mb' }, 'queue', /^failed: .*memory is full.* -> raise maxmemory/],
  ])('doctor reports a Redis server %s', async (_title, settings, name, expected) => {
    for (const [setting, value] of Object.entries(settings)) await redis.admin.config('SET', setting, value);

    expect(text((await examine())[name])).toMatch(expected);
  });

  it('doctor reports a replica, and does not take replicas for persistence', async () => {
    const replica = await startOwnRedis('--replicaof', '127.0.0.1', String(redis.port));
    try {
      await expect.poll(() => redis.admin.info('replication')).toContain('connected_slaves:1');
      await redis.admin.config('SET', 'appendonly', 'no');

      const { 'queue persistence': persistence } = await examine();
      expect(text(persistence)).toMatch(
        /^warning: nothing is kept on disk, only by 1 replica.* -> CONFIG SET/,
      );
      const { queue } = await examine({ QUEUE_URL: replica.url });
      expect(text(queue)).toMatch(/^failed: .*is a replica, which takes no writes -> name the primary/);
    } finally {
      await replica.stop();
    }
  });

  it('doctor finds the server through Sentinel, and reports a name that Sentinel does not know', async () => {
    const sentinel = await startOwnSentinel(redis);
    try {
      const { queue } = await examine({ QUEUE_URL: `redis+sentinel://${sentinel.host}/main` });
      expect(text(queue)).toMatch(/^ok: redis .* at redis\+sentinel:\/\/127\.0\.0\.1:\d+\/main/);
      const other = await examine({ QUEUE_URL: `redis+sentinel://${sentinel.host}/other` });
      expect(text(other.queue)).toMatch(/^failed: .* -> start the sentinels, or correct .* the name other/);
    } finally {
      await sentinel.stop();
    }
  });

  it.each([
    ['no password', (url: string) => url],
    ['a wrong one', (url: string) => url.replace('//', '//:sesame-wrong@')],
  ])('doctor reports %s, without the password', async (_title, change) => {
    await redis.admin.config('SET', 'requirepass', 'sesame-open');

    const results = await examine({ QUEUE_URL: change(redis.url) });
    expect(text(results.queue)).toMatch(/^failed: .*the password.* -> correct the user and the password/);
    expect(results['queue persistence']?.status).toBe('skipped');
    expect(JSON.stringify(results)).not.toContain('sesame');
  });

  it('doctor accepts the Redis user that it recommends, which may not read settings', async () => {
    await redis.admin.acl(
      'SETUSER',
      'archiver',
      'on',
      '>sesame-open',
      '+@all',
      '-@dangerous',
      '+info',
      '~bull:*',
    );
    const url = redis.url.replace('//', '//archiver:sesame-open@');

    const good = await examine({ QUEUE_URL: url });
    expect([good.queue?.status, good['queue eviction']?.status]).toEqual(['ok', 'ok']);
    await redis.admin.config('SET', 'appendonly', 'no');
    const { queue, ...bad } = await examine({ QUEUE_URL: url, QUEUE_PREFIX: 'other' });
    expect(text(queue)).toMatch(/^failed: .*may not do what a queue needs \(.*NOPERM.*ACL SETUSER/);
    expect(text(bad['queue persistence'])).toMatch(/^warning: .*does not report whether it makes snapshots/);
  });

  it.each<[string, string, RegExp]>([
    ['where nobody listens', `redis://${NOWHERE}`, /^failed: .*nothing listens there .*-> start the server/],
    ['without an address', 'redis://queue.invalid:6379', /^failed: .*no such host name .*-> start the/],
    ['of a cluster that nobody runs', `redis://${NOWHERE}?cluster=true`, /^failed: .*-> check the network/],
    [
      'of sentinels that nobody runs',
      `redis+sentinel://${NOWHERE}/main`,
      /^failed: .*-> start the sentinels/,
    ],
  ])('doctor reports a queue URL %s', async (_title, url, expected) => {
    expect(text((await examine({ QUEUE_URL: url })).queue)).toMatch(expected);
  });

  it('doctor reports a single Redis server that is configured as a cluster, and the other way round', async () => {
    const { queue } = await examine({ QUEUE_URL: `${redis.url}?cluster=true` });
    expect(text(queue)).toMatch(/^failed: .*is no cluster.* -> take \?cluster=true out/);

    const busPort = String(await freePort());
    // biome-ignore format: one option a line
    const node = await startOwnRedis(
      '--appendonly', 'yes',
      '--cluster-enabled', 'yes',
      '--cluster-announce-ip', '127.0.0.1',
      '--cluster-port', busPort,
    );
    try {
      await node.admin.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
      expect(text((await examine({ QUEUE_URL: node.url })).queue)).toMatch(
        /^failed: .*part of a cluster -> add \?cluster=true/,
      );
      await expect.poll(() => node.admin.cluster('INFO')).toContain('cluster_state:ok');
      const good = await examine({ QUEUE_URL: `${node.url}?cluster=true` });
      expect(text(good.queue)).toMatch(/^ok: .*a cluster with 1 primary/);
      expect(good['queue persistence']?.status).toBe('ok');
    } finally {
      await node.stop();
    }
  });
});

const noPostgres = whyMissing('postgres');
describe.skipIf(noPostgres !== undefined)(
  `doctor on a queue on PostgreSQL${noPostgres ? ` (${noPostgres})` : ''}`,
  () => {
    it('doctor checks the permissions of PostgreSQL, and leaves nothing behind', async () => {
      const url = inject('postgresUrl') ?? '';
      const admin = new Client({ connectionString: url });
      await admin.connect();
      const schemas = async () => (await admin.query('select nspname from pg_namespace order by 1')).rows;
      const before = await schemas();
      const name = `doctor_${process.pid}`;
      try {
        expect(text((await examine({ QUEUE_URL: url })).queue)).toMatch(/^ok: PostgreSQL \d+/);
        expect(await schemas()).toEqual(before);

        await admin.query(`create role ${name} login`);
        const limited = Object.assign(new URL(url), { username: name }).href;
        expect(text((await examine({ QUEUE_URL: limited })).queue)).toMatch(
          /^failed: .*permission denied.* -> grant create on database "postgres" to "doctor_\d+"/,
        );
        await admin.query(`grant create on database postgres to ${name}`);
        expect((await examine({ QUEUE_URL: limited })).queue?.status).toBe('ok');
      } finally {
        await admin.query(`revoke create on database postgres from ${name}`);
        await admin.query(`drop role ${name}`);
        await admin.end();
      }
    });

    it.each<[string, (url: URL) => URL, RegExp]>([
      [
        'a database that is not there',
        (url) => Object.assign(url, { pathname: '/no_such' }),
        /^failed: .*no such database.* -> create it/,
      ],
      [
        'a user that is not there',
        (url) => Object.assign(url, { username: 'nobody', password: 'sesame-open' }),
        /^failed: .*user may not log in/,
      ],
      ['no server', (url) => Object.assign(url, { host: NOWHERE }), /^failed: .*nothing listens.* -> start/],
      [
        'a server without TLS',
        (url) => Object.assign(url, { search: '?sslmode=verify-full' }),
        /^failed: .*does not speak TLS .* -> take \?sslmode= out/,
      ],
    ])('doctor reports a PostgreSQL with %s', async (_title, change, expected) => {
      const { queue } = await examine({ QUEUE_URL: change(new URL(inject('postgresUrl') ?? '')).href });
      expect(text(queue)).toMatch(expected);
      expect(text(queue)).not.toContain('sesame');
    });
  },
);

describe('doctor on an embedded queue', () => {
  it('doctor names the process that holds the embedded queue, which is no fault', async () => {
    const queue = join(directory.path, 'queue');
    await mkdir(join(queue, 'pgdata'), { recursive: true });
    const QUEUE_URL = `embedded:${queue}`;
    const lock = new DatabaseSync(join(queue, 'lock'));
    try {
      expect((await examine({ QUEUE_URL })).queue?.message).toMatch(/held by no process/);
      lock.exec('BEGIN EXCLUSIVE');
      expect(text((await examine({ QUEUE_URL })).queue)).toMatch(/^ok: .*a process without an API/);
      await writeOwner(queue, { pid: 42, url: 'http://127.0.0.1:8080', token: 'sesame-open' });
      const results = await examine({ QUEUE_URL });
      expect(text(results.queue)).toMatch(/^ok: .*held by process 42, .*http:\/\/127\.0\.0\.1:8080/);
      expect(JSON.stringify(results)).not.toContain('sesame');
    } finally {
      lock.close();
    }
    expect((await readdir(queue)).sort()).toEqual(['lock', 'owner.json', 'pgdata']);
  });

  it('doctor reports a queue directory that cannot be made, and makes none that can', async () => {
    const file = join(directory.path, 'file');
    await writeFile(file, '');

    expect(text((await examine({ QUEUE_URL: `embedded:${file}/queue` })).queue)).toMatch(
      /^failed: .*can not be written to \(ENOTDIR\) -> .*QUEUE_URL/,
    );
    const { queue } = await examine({ QUEUE_URL: `embedded:${join(directory.path, 'new/queue')}` });
    expect(queue?.message).toMatch(/made when it is first needed/);
    expect(await readdir(directory.path)).not.toContain('new');
  });
});

describe('doctor on an archive in a directory', () => {
  it('doctor reports an archive directory that cannot be written to', async () => {
    const file = join(directory.path, 'a-file');
    await writeFile(file, '');

    const results = await examine({ ARCHIVE_URL: `file:${file}/archive` });
    expect(text(results.archive)).toMatch(
      /^failed: .*\(ENOTDIR\) -> rename it, or move it out of the archive/,
    );
    expect(results['archive disk']?.status).toBe('skipped');
  });

  it('doctor warns of a disk with less room than one recording may take', async () => {
    const results = await examine({ MAX_RECORDING_BYTES: '5TiB', TRANSFER_MEMORY: '1TiB' });
    expect(text(results['archive disk'])).toMatch(/^warning: .* are free.*5,120 GiB -> free some space/);
  });

  it('doctor keeps what the archive directory holds', async () => {
    const archive = join(directory.path, 'kept');
    await mkdir(join(archive, 'bot_id=st-1'), { recursive: true });

    expect((await examine({ ARCHIVE_URL: `file:${archive}` })).archive?.status).toBe('ok');
    expect(await readdir(archive)).toEqual(['bot_id=st-1']);
  });
});

describe('doctor on an archive in a bucket', () => {
  let server: TestBucket;
  beforeAll(async () => {
    server = await openTestBucket();
  });
  afterAll(() => server.close());

  /** @param change what is different from a bucket that is as it should be. */
  async function examineBucket(
    change: {
      readonly bucket?: TestBucket;
      readonly env?: Readonly<Record<string, string>>;
      readonly connection?: DoctorOptions['connection'];
      readonly signal?: AbortSignal;
    } = {},
  ) {
    const { endpoint, region, credentials, bucket } = change.bucket ?? server;
    return examine(
      { ARCHIVE_URL: `s3://${bucket}/voice/mail`, S3_FORCE_PATH_STYLE: 'true', ...change.env },
      { connection: { endpoint, region, credentials, ...change.connection } },
      change.signal,
    );
  }

  /** The same through a proxy that spoils some requests. */
  async function examineThrough(
    decide: (request: SeenRequest) => InjectedFault | undefined,
    { signal = never, bucket = server }: { signal?: AbortSignal; bucket?: TestBucket } = {},
  ) {
    const proxy = await startS3Proxy(bucket.endpoint, decide);
    try {
      return await examineBucket({ bucket, connection: { endpoint: proxy.endpoint }, signal });
    } finally {
      await proxy.close();
    }
  }

  const DENIED: InjectedFault = { status: 403, code: 'AccessDenied' };
  const isProbe = ({ path }: SeenRequest) => path.includes('/_doctor-');
  const leftBehind = async () => [...(await server.listObjects()), ...(await server.listMultipartUploads())];

  it('doctor writes, reads, lists and deletes in a bucket, and leaves nothing behind', async () => {
    const results = await examineBucket({ env: { S3_TAGS: 'team=voice' } });

    expect(text(results.archive)).toMatch(
      /^ok: .*voice\/mail: an object was written, read, listed and deleted/,
    );
    // The stand-in knows neither the listing of parts nor conditional writes.
    expect(results['archive parts']?.status).toBe(server.real ? 'ok' : 'warning');
    expect(results['archive overwrites']?.status).toBe(server.real ? 'ok' : 'warning');
    expect(results.clock?.message).toMatch(/the bucket and Kore|Kore and the bucket/);
    expect(await leftBehind()).toEqual([]);
  });

  it.each<[string, (request: SeenRequest) => boolean, string, RegExp]>([
    [
      'writing',
      (request) => request.stage === 'put',
      'archive',
      /^failed: .*may not be written -> allow the credentials s3:PutObject /,
    ],
    [
      'reading',
      ({ stage }) => stage === 'head' || stage === 'get',
      'archive',
      /^failed: .*may not be read -> allow the credentials s3:GetObject /,
    ],
    [
      'listing',
      ({ query }) => query.includes('list-type'),
      'archive',
      /^failed: .*may not be listed -> allow the credentials s3:ListBucket /,
    ],
    [
      'uploads in parts',
      ({ stage }) => stage === 'create',
      'archive parts',
      /^failed: large recordings.* -> allow s3:PutObject on arn:aws:s3:::test-.*\/voice\/mail\/\*/,
    ],
    [
      'listing parts',
      ({ method, query }) => method === 'GET' && query.includes('uploadId='),
      'archive parts',
      /^warning: .* -> allow s3:ListMultipartUploadParts on/,
    ],
    [
      'reading the lifecycle rules',
      ({ query }) => query.includes('lifecycle'),
      'archive lifecycle',
      /^skipped: .*s3:GetLifecycleConfiguration/,
    ],
  ])(
    'doctor reports that %s is not allowed, and leaves nothing behind',
    async (_title, isHit, name, expected) => {
      const results = await examineThrough((request) => (isHit(request) ? DENIED : undefined));

      expect(text(results[name])).toMatch(expected);
      expect(await leftBehind()).toEqual([]);
    },
  );

  it('doctor warns that sessions may not be erased, before it writes what would stay', async () => {
    const results = await examineThrough(({ method, path }) =>
      method === 'DELETE' && !path.includes('/_doctor-') ? DENIED : undefined,
    );

    expect(results.archive?.status).toBe('ok');
    expect(text(results['archive erase'])).toMatch(
      /^warning: sessions can not be erased.* allow s3:DeleteObject, s3:DeleteObjectVersion.*\/voice\/mail\/\*/,
    );
    expect(await leftBehind()).toEqual([]);
  });

  it('doctor reports what it could not delete, and which permission that takes', async () => {
    const { archive } = await examineThrough((request) =>
      request.method === 'DELETE' && isProbe(request) && !request.query.includes('uploadId')
        ? DENIED
        : undefined,
    );

    const [left = ''] = await leftBehind();
    expect(left).toMatch(/^voice\/mail\/_doctor-[0-9a-f-]{36}\/probe$/);
    expect(archive?.status).toBe('warning');
    expect(archive?.message).toContain(left);
    expect(archive?.fix).toMatch(/s3:DeleteObject on arn:aws:s3:::.*\/voice\/mail\/_doctor-\*/);
    await server.close();
    server = await openTestBucket();
  });

  it('doctor removes what it wrote when it is interrupted', async () => {
    const stop = new AbortController();
    const checks = examineThrough((request) => {
      if (!request.query.includes('list-type')) return undefined;
      stop.abort(new Error('stopped by the test'));
      return 'hang';
    }, stop);

    await expect(checks).rejects.toThrow('stopped by the test');
    expect(await leftBehind()).toEqual([]);
  });

  it('doctor reports a missing bucket once', async () => {
    const results = await examineBucket({ env: { ARCHIVE_URL: 's3://no-such-bucket-at-all' } });

    expect(text(results.archive)).toMatch(/^failed: .*does not exist.* -> create it/);
    for (const name of [
      'archive overwrites',
      'archive parts',
      'archive lifecycle',
      'archive erase',
      'archive hold',
    ]) {
      expect(results[name]?.status).toBe('skipped');
    }
  });

  it('doctor reports an S3 server that is unavailable', async () => {
    const { archive } = await examineBucket({ connection: { endpoint: `http://${NOWHERE}` } });
    expect(text(archive)).toMatch(/^failed: .*ECONNREFUSED.* -> check the network/);
  });

  it.skipIf(!REAL_S3)(
    `doctor prints a lifecycle rule that fixes what it found (${NEEDS_REAL_S3})`,
    async () => {
      const before = (await examineBucket())['archive lifecycle'];
      expect(text(before)).toMatch(/^warning: no rule/);
      const [, rules = ''] = /--lifecycle-configuration '(.*)'$/.exec(before?.fix ?? '') ?? [];
      await server.client.send(
        new PutBucketLifecycleConfigurationCommand({
          Bucket: server.bucket,
          LifecycleConfiguration: JSON.parse(rules),
        }),
      );

      expect(text((await examineBucket())['archive lifecycle'])).toMatch(/^ok: .*after 1 day/);
    },
  );

  it.skipIf(!REAL_S3)(`doctor reports a wrong secret (${NEEDS_REAL_S3})`, async () => {
    const credentials = { ...server.credentials, secretAccessKey: 'sesame-open' };
    const results = await examineBucket({ connection: { credentials } });

    expect(text(results.archive)).toMatch(/^failed: the signature is refused.* -> correct AWS_SECRET/);
    expect(JSON.stringify(results)).not.toContain('sesame');
  });

  it.skipIf(!REAL_S3)(
    `doctor leaves no version behind in a bucket with versions (${NEEDS_REAL_S3})`,
    async () => {
      await server.client.send(
        new PutBucketVersioningCommand({
          Bucket: server.bucket,
          VersioningConfiguration: { Status: 'Enabled' },
        }),
      );

      const { archive, 'archive erase': erase, 'archive hold': hold } = await examineBucket();
      expect([archive?.status, erase?.status]).toEqual(['ok', 'ok']);
      expect(text(hold)).toMatch(/^ok: the bucket has no Object Lock: holds are kept by the archive alone/);
      const { Versions = [], DeleteMarkers = [] } = await server.client.send(
        new ListObjectVersionsCommand({ Bucket: server.bucket }),
      );
      expect([...Versions, ...DeleteMarkers]).toEqual([]);
    },
  );

  it.skipIf(!REAL_S3)(`doctor tries object lock without locking anything (${NEEDS_REAL_S3})`, async () => {
    const env = { S3_OBJECT_LOCK: 'COMPLIANCE:1d' };
    const lockable = await openTestBucket({ objectLock: true });
    try {
      const results = await examineBucket({ bucket: lockable, env });
      expect(text(results['archive parts'])).toMatch(/^ok: .*with object lock/);
      expect(results.archive?.status).toBe('ok');
      expect(results['archive erase']?.status).toBe('ok');
      expect(text(results['archive hold'])).toMatch(/^ok: .* was read and set to off; nothing was held/);
      const { Versions = [], DeleteMarkers = [] } = await lockable.client.send(
        new ListObjectVersionsCommand({ Bucket: lockable.bucket }),
      );
      expect([...Versions, ...DeleteMarkers]).toEqual([]);
    } finally {
      await lockable.close();
    }
    expect((await examineBucket({ env }))['archive parts']?.status).toBe('failed');
  });

  it.skipIf(!REAL_S3)(
    `doctor names each permission that holds and erasures lack (${NEEDS_REAL_S3})`,
    async () => {
      const bucket = await openTestBucket({ objectLock: true });
      const without = (lacks: (request: SeenRequest) => boolean) =>
        examineThrough((request) => (lacks(request) ? DENIED : undefined), { bucket });
      try {
        const [listing, reading, setting] = await Promise.all([
          without(({ query }) => query.includes('versions')),
          without(({ method, query }) => method === 'GET' && query.includes('legal-hold')),
          without(({ method, query }) => method === 'PUT' && query.includes('legal-hold')),
        ]);
        expect(text(listing['archive erase'])).toMatch(
          /^warning: .* allow s3:ListBucketVersions \(on the bucket/,
        );
        expect(text(reading['archive erase'])).toMatch(
          /^warning: .* allow s3:GetObjectRetention, s3:GetObjectLegalHold on/,
        );
        expect(setting['archive erase']?.status).toBe('ok');
        expect(text(setting['archive hold'])).toMatch(
          /^warning: .*can not be held.* allow s3:PutObjectLegalHold on/,
        );
        const { Versions = [], DeleteMarkers = [] } = await bucket.client.send(
          new ListObjectVersionsCommand({ Bucket: bucket.bucket }),
        );
        expect([...Versions, ...DeleteMarkers]).toEqual([]);
      } finally {
        await bucket.close();
      }
    },
  );
});

describe("doctor on Kore's API", () => {
  afterEach(() =>
    sandbox.configure({
      signingSecret: undefined,
      rateLimit: undefined,
      autoSessions: false,
      outage: undefined,
      scopes: ['SmartAssist Voicemail', 'SmartAssist Analytics', 'Bot Sessions'],
    }),
  );

  it('doctor distinguishes a wrong secret, a missing scope and a wrong bot', async () => {
    sandbox.configure({ signingSecret: 'another-secret' });
    expect(text((await examine()).kore)).toMatch(/^failed: .*Invalid JWT token.* -> check KORE_CLIENT_ID/);

    sandbox.configure({ signingSecret: undefined, scopes: [] });
    expect(text((await examine()).kore)).toMatch(
      /^failed: .*Scope is incorrect.* -> give the Kore app the scope "SmartAssist Voicemail" and publish it/,
    );

    sandbox.configure({ scopes: ['SmartAssist Voicemail'] });
    const { kore, 'kore listing': listing } = await examine({ KORE_BOT_ID: 'st-other' });
    expect(text(kore)).toMatch(/^failed: .*Invalid SDK credentials.* -> check that the bot id is right/);
    expect(listing?.status).toBe('skipped');
  });

  it('doctor warns when only backfills are not allowed', async () => {
    sandbox.configure({ scopes: ['SmartAssist Voicemail'] });

    const { kore, 'kore listing': listing } = await examine();
    expect(kore?.status).toBe('ok');
    expect(text(listing)).toMatch(/^warning: .*sessions history.* -> give .* the scope "Bot Sessions"/);
  });

  it('doctor reports that it cannot check the credentials while the rate limit is reached', async () => {
    sandbox.configure({ rateLimit: { calls: 1, windowMs: 60_000 } });
    await examine();

    expect(text((await examine()).kore)).toMatch(/^warning: .*could not be tried -> run this again/);
  });

  it('doctor reports an outage of Kore, and an address where nobody listens', async () => {
    sandbox.configure({ autoSessions: true, outage: { status: 503 } });
    expect(text((await examine()).kore)).toMatch(/^failed: Kore is not available just now \(status 503/);
    expect(text((await examine({ KORE_HOST: `http://${NOWHERE}` })).kore)).toMatch(
      /^failed: Kore could not be reached at 127\.0\.0\.1:1 \(ECONNREFUSED\) -> check KORE_HOST/,
    );
  });

  it.each([200, 404, 401])('doctor does not take a web page with status %d for Kore', async (code) => {
    const server = createServer((_, response) => {
      response.writeHead(code, { 'content-type': 'text/html' }).end('<html>Hello</html>');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const { port } = server.address() as AddressInfo;
      const { kore } = await examine({ KORE_HOST: `http://127.0.0.1:${port}` });
      expect(text(kore)).toMatch(/^failed: what answers at .* is not Kore's API.* -> correct KORE_HOST/);
    } finally {
      server.close();
    }
  });

  it('doctor does not take the 404 of any other server for accepted credentials', async () => {
    const server = createServer((_, response) => {
      response.writeHead(404, { 'content-type': 'application/json' }).end('{"Code":"NoSuchBucket"}');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const { port } = server.address() as AddressInfo;
      const { kore, 'kore listing': listing } = await examine({ KORE_HOST: `http://127.0.0.1:${port}` });
      expect(text(kore)).toMatch(/^warning: .*not in Kore's words.* -> check KORE_HOST/);
      expect(listing?.status).toBe('skipped');
    } finally {
      server.close();
    }
  });

  it.each([
    ['behind', -10 * 60_000],
    ['ahead of', 10 * 60_000],
  ])('doctor reports a clock that is %s the right time', async (words, offsetMs) => {
    const { clock, kore } = await examine({}, { now: () => Date.now() + offsetMs });

    expect(text(clock)).toMatch(new RegExp(`^failed: this machine's clock is 10 min ${words} .*Kore -> set`));
    if (offsetMs < 0) expect(text(kore)).toMatch(/^failed: .*clock is 10 min behind.* -> set this machine's/);
  });
});

describe('the command doctor', () => {
  const secrets = ['sesame-of-redis', 'sesame-of-the-api'];

  it('the command doctor ends with 0 when nothing failed, and with 1 when something did, and shows no secret', async () => {
    await redis.admin.acl('SETUSER', 'cli', 'on', `>${secrets[0]}`, '+@all', '~*');
    const env = environment({
      QUEUE_URL: redis.url.replace('//', `//cli:${secrets[0]}@`),
      API_TOKEN: secrets[1] ?? '',
    });

    const [good, bad, json] = await Promise.all([
      runCli(['doctor'], { env, cwd: directory.path }),
      runCli(['doctor'], { env: { ...env, KORE_CLIENT_ID: 'cs-other' }, cwd: directory.path }),
      runCli(['doctor', '--json'], { env: { ...env, QUEUE_URL: '', POLL_DELAY: '30' }, cwd: directory.path }),
    ]);

    expect(good).toMatchObject({ code: 0, stderr: '' });
    expect(good.stdout).toMatch(/^ok +queue +redis \d+\S* at redis:\/\/127\.0\.0\.1:\d+: a key was written/m);
    expect(bad).toMatchObject({ code: 1, stderr: 'error: 1 check of 10 failed\n' });
    expect(bad.stdout).toMatch(/^failed +kore +Kore refused the credentials.*\n {2}fix: check/m);
    expect(json.code).toBe(1);
    const { ok, checks } = JSON.parse(json.stdout);
    expect(ok).toBe(false);
    expect(checks).toContainEqual({
      name: 'configuration',
      status: 'failed',
      message: expect.stringMatching(/^POLL_DELAY: "30" has no unit/),
      fix: 'set POLL_DELAY, for example 30s',
    });
    for (const { stdout, stderr } of [good, bad, json]) {
      for (const secret of [...secrets, sandbox.clientSecret]) expect(stdout + stderr).not.toContain(secret);
    }
  });

  it('the command doctor ends at once when it is interrupted', async () => {
    const silent = await startSilentServer();
    try {
      const cli = startCli(['doctor'], { env: environment({ KORE_HOST: silent.url }), cwd: directory.path });
      await silent.asked;
      cli.kill('SIGINT');
      expect(await cli.ended).toMatchObject({ code: 1, stderr: 'error: stopped by SIGINT\n' });
    } finally {
      await silent.close();
    }
  });
});

/** Takes requests and answers none. */
async function startSilentServer() {
  const asked = Promise.withResolvers<void>();
  const server = createServer(() => asked.resolve()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked: asked.promise,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
