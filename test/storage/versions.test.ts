import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { PutBucketVersioningCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createS3Store } from '../../src/storage/s3/store.ts';
import type { ArchiveStore, ObjectVersion } from '../../src/storage/store.ts';
import { ARCHIVE_KINDS, openTestArchive, type TestArchive } from '../support/archive-stores.ts';
import { NEEDS_REAL_S3, openTestBucket, PLAIN_S3, REAL_S3, type TestBucket } from '../support/s3.ts';
import { type InjectedFault, type S3Proxy, type SeenRequest, startS3Proxy } from '../support/s3-proxy.ts';

const JSON_TYPE = { contentType: 'application/json' };
const never = new AbortController().signal;
const ONE = Buffer.from('{"revision":1}\n');
const TWO = Buffer.from('{"revision":2}\n');
const OTHER = Buffer.from('{"revision":2,"by":"another"}\n');

/** Writes the first version of a document and tells which it is. */
async function firstVersion(store: ArchiveStore, key: string): Promise<ObjectVersion> {
  await store.write(key, ONE, JSON_TYPE, 'replace', never);
  const read = await store.readVersion(key, never);
  expect(read?.bytes).toEqual(ONE);
  return read?.version ?? '';
}

const over = (store: ArchiveStore, key: string, body: Buffer, version: ObjectVersion) =>
  store.write(key, body, JSON_TYPE, { over: version }, never);

describe.for(ARCHIVE_KINDS)('replacing one version of an object (%s)', (kind) => {
  let archive: TestArchive;
  let number = 0;
  const newKey = () => `s${++number}/manifest.json`;
  beforeAll(async () => {
    archive = await openTestArchive(kind);
  });
  afterAll(() => archive.close());

  test('a missing object has no version', async () => {
    expect(await archive.store.readVersion(newKey(), never)).toBeUndefined();
  });

  test('replacing one version of an object writes the new one, version by version', async () => {
    const key = newKey();
    const first = await firstVersion(archive.store, key);
    expect(await over(archive.store, key, TWO, first)).toBe('stored');
    const second = await archive.store.readVersion(key, never);
    expect(second?.bytes).toEqual(TWO);
    expect(second?.version).not.toBe(first);
    expect(await over(archive.store, key, OTHER, second?.version ?? '')).toBe('stored');
    expect(await archive.store.read(key, never)).toEqual(OTHER);
    expect(await archive.leftovers()).toEqual([]);
  });

  test('replacing a version that was changed since is a conflict, and leaves the change', async () => {
    const key = newKey();
    const first = await firstVersion(archive.store, key);
    await archive.store.write(key, OTHER, JSON_TYPE, 'replace', never);
    await expect(over(archive.store, key, TWO, first)).rejects.toMatchObject({
      code: 'ARCHIVE_CONFLICT',
      message: expect.stringContaining('changed since it was read'),
    });
    expect(await archive.store.read(key, never)).toEqual(OTHER);
    expect(await archive.leftovers()).toEqual([]);
  });

  test('replacing a version of a missing object is a conflict, and writes nothing', async () => {
    const version = await firstVersion(archive.store, newKey());
    const key = newKey();
    await expect(over(archive.store, key, TWO, version)).rejects.toMatchObject({ code: 'ARCHIVE_CONFLICT' });
    expect(await archive.store.read(key, never)).toBeUndefined();
    expect(await archive.leftovers()).toEqual([]);
  });

  test('replacing a version that was replaced already, with the same bytes, counts as done', async () => {
    const key = newKey();
    const first = await firstVersion(archive.store, key);
    expect(await over(archive.store, key, TWO, first)).toBe('stored');
    expect(await over(archive.store, key, TWO, first)).toBe('exists');
  });

  const atomic = kind === 'file' || REAL_S3;
  test.skipIf(!atomic)(
    `replacing one version of an object has one winner among many writers at once${atomic ? '' : ` (skipped: ${NEEDS_REAL_S3})`}`,
    async () => {
      const stores = [archive.store, archive.openAnother(), archive.openAnother()];
      for (let round = 0; round < 5; round += 1) {
        const key = newKey();
        const first = await firstVersion(archive.store, key);
        const bodies = Array.from({ length: 24 }, (_, index) =>
          Buffer.from(`{"revision":2,"by":${index}}\n`),
        );
        const outcomes = await Promise.allSettled(
          bodies.map((body, index) => over(stores[index % 3] ?? archive.store, key, body, first)),
        );
        const won = outcomes.flatMap(({ status }, index) => (status === 'fulfilled' ? [index] : []));
        expect(won).toHaveLength(1);
        expect(await archive.store.read(key, never)).toEqual(bodies[won[0] ?? 0]);
        const lost = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
        expect(new Set(lost.map(({ code }) => code))).toEqual(new Set(['ARCHIVE_CONFLICT']));
      }
      await Promise.all(stores.slice(1).map((store) => store.close()));
      expect(await archive.leftovers()).toEqual([]);
    },
  );
});

describe('replacing an object in a directory', () => {
  test('one of many writers in two processes wins when they replace an object in a directory', async () => {
    const archive = await openTestArchive('file');
    onTestFinished(() => archive.close());
    const directory = archive.target.kind === 'file' ? archive.target.directory : '';
    const version = await firstVersion(archive.store, 'a/manifest.json');
    const programs = await Promise.all(
      [1, 2].map(() => startReplacing(directory, 'a/manifest.json', version, 20)),
    );
    const outcomes = (await Promise.all(programs.map((program) => program.run()))).flat();
    expect(outcomes.filter(({ outcome }) => outcome === 'ARCHIVE_CONFLICT')).toHaveLength(39);
    const [winner] = outcomes.filter(({ outcome }) => outcome === 'stored');
    expect(await archive.store.read('a/manifest.json', never)).toEqual(Buffer.from(winner?.body ?? ''));
    expect(await archive.leftovers()).toEqual([]);
  });

  test('a lock whose process was killed is removed by one of those that wait for it', async () => {
    const archive = await openTestArchive('file');
    onTestFinished(() => archive.close());
    const directory = archive.target.kind === 'file' ? archive.target.directory : '';
    const first = await firstVersion(archive.store, 'a/manifest.json');
    const name = `${createHash('sha256').update('a/manifest.json').digest('hex')}.lock`;
    await mkdir(join(directory, '.tmp'));
    await writeFile(join(directory, '.tmp', name), `${await markOfEndedProcess()}-token`);
    const outcomes = await Promise.allSettled(
      [TWO, OTHER].map((body) => over(archive.store, 'a/manifest.json', body, first)),
    );
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect([TWO, OTHER]).toContainEqual(await archive.store.read('a/manifest.json', never));
    expect(await archive.leftovers()).toEqual([]);
  });
});

describe('replacing an object in a bucket', () => {
  let server: TestBucket;
  beforeAll(async () => {
    server = await openTestBucket();
  });
  afterAll(() => server.close());

  async function through(decide: (request: SeenRequest) => InjectedFault | undefined) {
    const proxy: S3Proxy = await startS3Proxy(server.endpoint, decide);
    const { region, credentials, bucket } = server;
    const store = createS3Store(
      { kind: 's3', bucket, prefix: crypto.randomUUID(), s3: PLAIN_S3 },
      { connection: { endpoint: proxy.endpoint, region, credentials, maxAttempts: 2 } },
    );
    onTestFinished(async () => {
      await store.close();
      await proxy.close();
    });
    return { store, proxy };
  }

  const isConditional = ({ stage, headers }: SeenRequest) =>
    stage === 'put' && headers['if-match'] !== undefined;

  test('replacing an object in a bucket whose answer is lost counts as done: the second try finds its own bytes', async () => {
    let lost = 0;
    const { store } = await through((request) => {
      if (!isConditional(request) || lost === 2) return 'pass';
      lost += 1;
      return 'drop answer';
    });
    const first = await firstVersion(store, 'manifest.json');
    expect(await over(store, 'manifest.json', TWO, first)).toMatch(/stored|exists/);
    expect(await store.read('manifest.json', never)).toEqual(TWO);
  });

  test.for<[string, InjectedFault]>([
    ['412', { status: 412, code: 'PreconditionFailed' }],
    ['409 for as long as it is asked', { status: 409, code: 'ConditionalRequestConflict' }],
    ['404', { status: 404, code: 'NoSuchKey' }],
  ])('replacing an object in a bucket that answers %s is a conflict', async ([, fault]) => {
    const { store } = await through((request) => (isConditional(request) ? fault : 'pass'));
    const first = await firstVersion(store, 'manifest.json');
    await expect(over(store, 'manifest.json', TWO, first)).rejects.toMatchObject({
      code: 'ARCHIVE_CONFLICT',
    });
    expect(await store.read('manifest.json', never)).toEqual(ONE);
  });

  test('replacing an object in a bucket that answers 409 once is tried again', async () => {
    const { store } = await through((request) =>
      isConditional(request) && request.count <= 3
        ? { status: 409, code: 'ConditionalRequestConflict' }
        : 'pass',
    );
    const first = await firstVersion(store, 'manifest.json');
    expect(await over(store, 'manifest.json', TWO, first)).toBe('stored');
  });

  test('replacing an object in a bucket that is gone is denied, not a conflict', async () => {
    const { store } = await through((request) =>
      isConditional(request) ? { status: 404, code: 'NoSuchBucket' } : 'pass',
    );
    const first = await firstVersion(store, 'manifest.json');
    await expect(over(store, 'manifest.json', TWO, first)).rejects.toMatchObject({ code: 'ARCHIVE_DENIED' });
  });

  test('an object is compared before the write in a bucket that does not know conditions', async () => {
    const { store, proxy } = await through((request) =>
      isConditional(request) ? { status: 501, code: 'NotImplemented' } : 'pass',
    );
    const first = await firstVersion(store, 'manifest.json');
    expect(await over(store, 'manifest.json', TWO, first)).toBe('stored');
    await expect(over(store, 'manifest.json', OTHER, first)).rejects.toMatchObject({
      code: 'ARCHIVE_CONFLICT',
    });
    expect(await store.read('manifest.json', never)).toEqual(TWO);
    expect(proxy.seen.filter(isConditional).length).toBeLessThanOrEqual(2);
  });

  test.skipIf(!REAL_S3)(
    `replacing an older version is refused in a bucket with versions (${NEEDS_REAL_S3})`,
    async () => {
      const versioned = await openTestBucket({ objectLock: true });
      onTestFinished(() => versioned.close());
      await versioned.client.send(
        new PutBucketVersioningCommand({
          Bucket: versioned.bucket,
          VersioningConfiguration: { Status: 'Enabled' },
        }),
      );
      const { endpoint, region, credentials, bucket } = versioned;
      const store = createS3Store(
        { kind: 's3', bucket, prefix: '', s3: PLAIN_S3 },
        { connection: { endpoint, region, credentials } },
      );
      onTestFinished(() => store.close());
      const first = await firstVersion(store, 'manifest.json');
      expect(await over(store, 'manifest.json', TWO, first)).toBe('stored');
      await expect(over(store, 'manifest.json', OTHER, first)).rejects.toMatchObject({
        code: 'ARCHIVE_CONFLICT',
      });
      expect(await store.read('manifest.json', never)).toEqual(TWO);
    },
  );
});

const PROGRAM = new URL('../support/replacing-program.ts', import.meta.url).pathname;

interface Outcome {
  readonly outcome: string;
  readonly body?: string;
}

/** Starts a process that is ready to replace a version; `run` lets it. */
async function startReplacing(directory: string, key: string, version: string, count: number) {
  const child = spawn(process.execPath, [PROGRAM, directory, key, version, String(count)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill());
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  expect((await lines.next()).value).toBe('ready');
  return {
    async run(): Promise<Outcome[]> {
      child.stdin.end();
      return JSON.parse((await lines.next()).value ?? '[]');
    },
  };
}

/** What this system calls a process that was there and is not any more. */
async function markOfEndedProcess(): Promise<string> {
  const archive = await openTestArchive('file');
  onTestFinished(() => archive.close());
  const directory = archive.target.kind === 'file' ? archive.target.directory : '';
  let names: string[] = [];
  async function* chunks() {
    names = await readdir(join(directory, '.tmp'));
    yield Buffer.of(1);
  }
  await archive.store.writeStream('x', { chunks: chunks(), sha256: () => '' }, JSON_TYPE, 'replace', never);
  const [place] = names[0]?.split('.') ?? [];
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  return `${place}.${child.pid}.1`;
}
