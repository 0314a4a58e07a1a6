import { CreateMultipartUploadCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createS3Store } from '../../src/storage/s3/store.ts';
import type { ArchiveStore, KeptVersion } from '../../src/storage/store.ts';
import { ARCHIVE_KINDS, openTestArchive, type TestArchive } from '../support/archive-stores.ts';
import { NEEDS_REAL_S3, openTestBucket, PLAIN_S3, REAL_S3, type TestBucket } from '../support/s3.ts';
import { type InjectedFault, type SeenRequest, startS3Proxy } from '../support/s3-proxy.ts';

const INFO = { contentType: 'text/plain' };
const never = new AbortController().signal;

async function write(store: ArchiveStore, ...keys: string[]): Promise<void> {
  for (const key of keys) await store.write(key, Buffer.from(key), INFO, 'replace', never);
}

async function list(store: ArchiveStore, prefix: string): Promise<KeptVersion[]> {
  const versions: KeptVersion[] = [];
  for await (const version of store.versions.list(prefix, never)) versions.push(version);
  return versions;
}

describe.for(ARCHIVE_KINDS)('the versions of objects (%s)', (kind) => {
  const skipped = kind === 's3' && !REAL_S3;
  let archive: TestArchive;
  beforeAll(async () => {
    archive = await openTestArchive(kind);
  });
  afterAll(() => archive.close());

  test.skipIf(skipped)(
    `kept versions are listed below a prefix alone, and deleted one by one${skipped ? ` (skipped: ${NEEDS_REAL_S3})` : ''}`,
    async () => {
      const { store } = archive;
      await write(store, 'a/one', 'a/two', 'ab/three');
      const versions = await list(store, 'a/');
      expect(versions.map(({ key, bytes, isDeleteMarker }) => [key, bytes, isDeleteMarker])).toEqual([
        ['a/one', 5, false],
        ['a/two', 5, false],
      ]);
      for (const version of versions) {
        expect(await store.versions.protection(version, never)).toBe('unsupported');
        expect(await store.versions.setLegalHold(version, true, never)).toBe(false);
        await store.versions.delete(version, never);
        // What is gone counts as deleted.
        await store.versions.delete(version, never);
      }
      expect(await list(store, 'a/')).toEqual([]);
      expect(await list(store, 'nothing/')).toEqual([]);
      expect(await store.read('a/one', never)).toBeUndefined();
      expect(await store.read('ab/three', never)).toEqual(Buffer.from('ab/three'));
      await store.versions.hide('ab/three', never);
      await store.versions.hide('ab/three', never);
      expect(await store.read('ab/three', never)).toBeUndefined();
      expect(await archive.leftovers()).toEqual([]);
    },
  );

  test('kept versions are requested by whole path segments alone', async () => {
    await expect(list(archive.store, '../')).rejects.toMatchObject({ code: 'INTERNAL' });
    await expect(list(archive.store, 'a')).rejects.toMatchObject({ code: 'INTERNAL' });
  });
});

describe.skipIf(!REAL_S3)(`in a bucket with versions${REAL_S3 ? '' : ` (skipped: ${NEEDS_REAL_S3})`}`, () => {
  let server: TestBucket;
  beforeAll(async () => {
    server = await openTestBucket({ objectLock: true });
  });
  afterAll(() => server.close());

  async function through(decide: (request: SeenRequest) => InjectedFault | undefined = () => undefined) {
    const { region, credentials, bucket } = server;
    const proxy = await startS3Proxy(server.endpoint, decide);
    const prefix = crypto.randomUUID();
    const store = createS3Store(
      { kind: 's3', bucket, prefix, s3: PLAIN_S3 },
      { connection: { endpoint: proxy.endpoint, region, credentials, maxAttempts: 1 } },
    );
    onTestFinished(async () => {
      await store.close();
      await proxy.close();
    });
    return { store, prefix };
  }

  test('each kept version is listed, delete markers too, page by page, until it is deleted', async () => {
    const { store } = await through();
    for (let round = 0; round < 3; round += 1) await write(store, 'a/one', 'a/two');
    await store.versions.hide('a/one', never);
    expect(await store.read('a/one', never)).toBeUndefined();
    const versions = await list(store, 'a/');
    expect(versions.filter(({ isDeleteMarker }) => isDeleteMarker)).toHaveLength(1);
    expect(versions.filter(({ key }) => key === 'a/one')).toHaveLength(4);
    expect(versions).toHaveLength(7);
    for (const version of versions) {
      expect(await store.versions.protection(version, never)).toBe('none');
      await store.versions.delete(version, never);
    }
    expect(await list(store, 'a/')).toEqual([]);
  });

  test('kept versions are listed also where there is more than one page of them', async () => {
    const { store } = await through();
    const writes = Array.from({ length: 1_100 }, (_, index) => `a/${index % 20}`);
    for (let at = 0; at < writes.length; at += 20) {
      await Promise.all(writes.slice(at, at + 20).map((key) => write(store, key)));
    }
    const versions = await list(store, 'a/');
    expect(versions).toHaveLength(writes.length);
    expect(new Set(versions.map(({ versionId }) => versionId)).size).toBe(writes.length);
  });

  test('a legal hold protects a kept version until it is removed', async () => {
    const { store } = await through();
    await write(store, 'a/one');
    const [version] = await list(store, 'a/');
    if (!version) throw new Error('there is no version');
    expect(await store.versions.setLegalHold(version, true, never)).toBe(true);
    expect(await store.versions.protection(version, never)).toEqual({ kind: 'hold' });
    await expect(store.versions.delete(version, never)).rejects.toMatchObject({ code: 'ARCHIVE_DENIED' });
    expect(await store.versions.setLegalHold(version, false, never)).toBe(true);
    expect(await store.versions.protection(version, never)).toBe('none');
    await store.versions.delete(version, never);
  });

  test('unfinished uploads below a prefix are aborted, and no others', async () => {
    const { store, prefix } = await through();
    const { client, bucket } = server;
    for (const name of ['a/one', 'ab/two']) {
      await client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key: `${prefix}/${name}` }));
    }
    expect(await store.versions.abortUploads('a/', never)).toBe(1);
    expect(await server.listMultipartUploads()).toEqual([`${prefix}/ab/two`]);
    expect(await store.versions.abortUploads('ab/', never)).toBe(1);
  });

  test('a store that lists no versions has its objects deleted', async () => {
    const { store } = await through(({ query }) =>
      query.includes('versions') ? { status: 501, code: 'NotImplemented' } : undefined,
    );
    await write(store, 'a/one', 'a/two');
    const versions = await list(store, 'a/');
    expect(versions.map(({ key, versionId }) => [key, versionId])).toEqual([
      ['a/one', undefined],
      ['a/two', undefined],
    ]);
    for (const version of versions) await store.versions.delete(version, never);
    expect(await store.read('a/one', never)).toBeUndefined();
  });

  test.for<[string, (request: SeenRequest) => boolean, RegExp]>([
    ['listing', ({ query }) => query.includes('versions'), /s3:ListBucketVersions/],
    ['looking at holds', ({ query }) => query.includes('legal-hold'), /s3:GetObjectLegalHold/],
    ['looking at retention', ({ query }) => query.includes('retention'), /s3:GetObjectRetention/],
    ['deleting', ({ method }) => method === 'DELETE', /s3:DeleteObjectVersion/],
  ])('the error names a missing permission: %s', async ([, isRefused, right]) => {
    const { store } = await through((request) =>
      isRefused(request) ? { status: 403, code: 'AccessDenied' } : undefined,
    );
    await write(store, 'a/one');
    const eraseAll = async () => {
      for (const version of await list(store, 'a/')) {
        await store.versions.protection(version, never);
        await store.versions.delete(version, never);
      }
    };
    await expect(eraseAll()).rejects.toMatchObject({
      code: 'ARCHIVE_DENIED',
      hint: expect.stringMatching(right),
    });
  });
});
