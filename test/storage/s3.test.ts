import {
  GetObjectRetentionCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { S3Config } from '../../src/config/config.ts';
import { isVoicemailError, type VoicemailError } from '../../src/domain/errors.ts';
import { toArchiveS3Error } from '../../src/storage/s3/errors.ts';
import { createS3Store, type S3StoreOptions } from '../../src/storage/s3/store.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import { NEEDS_REAL_S3, openTestBucket, PLAIN_S3, REAL_S3, type TestBucket } from '../support/s3.ts';
import { type S3Proxy, startS3Proxy } from '../support/s3-proxy.ts';
import { bodyOf, bytesOf, sha256 } from '../support/storage-bodies.ts';

const PART = 5 * 1024 * 1024;
const WAV = { contentType: 'audio/wav' };
const never = new AbortController().signal;
const DAY_MS = 24 * 60 * 60 * 1000;

const SIZES: [string, number][] = [
  ['a single put', 1000],
  ['an upload in parts', PART + 1000],
];

let server: TestBucket;
let proxy: S3Proxy;
beforeAll(async () => {
  server = await openTestBucket({ objectLock: REAL_S3 });
  proxy = await startS3Proxy(server.endpoint);
});
afterAll(async () => {
  await proxy.close();
  await server.close();
});

let number = 0;
const newKey = () => `recording-${++number}.wav`;

interface Overrides {
  readonly s3?: Partial<S3Config>;
  readonly bucket?: string;
  readonly prefix?: string;
  readonly options?: S3StoreOptions;
}

function open({ s3 = {}, bucket = server.bucket, prefix = '', options = {} }: Overrides = {}): ArchiveStore {
  const { region, credentials } = server;
  const store = createS3Store(
    { kind: 's3', bucket, prefix, s3: { ...PLAIN_S3, ...s3 } },
    { ...options, connection: { endpoint: proxy.endpoint, region, credentials, ...options.connection } },
  );
  onTestFinished(() => store.close());
  return store;
}

/** Writes an object with these settings; returns its metadata and the requests that were sent. */
async function written(length: number, overrides: Overrides) {
  const store = open(overrides);
  const key = newKey();
  const before = proxy.seen.length;
  const bytes = bytesOf(length, number);
  await store.writeStream(key, bodyOf(bytes), WAV, 'replace', never);
  const head: HeadObjectCommandOutput = await server.client.send(
    new HeadObjectCommand({ Bucket: server.bucket, Key: key, ChecksumMode: 'ENABLED' }),
  );
  return { store, key, head, bytes, sent: proxy.seen.slice(before) };
}

async function failureOf(
  promise: Promise<unknown>,
): Promise<{ code: string; message: string; hint?: string }> {
  const error = await promise.then(
    () => new Error('it succeeded'),
    (reason: unknown) => reason,
  );
  return isVoicemailError(error)
    ? { code: error.code, message: error.message, ...(error.hint && { hint: error.hint }) }
    : { code: 'none', message: String(error) };
}

test('the S3 store gives its location, and puts keys below its prefix', () => {
  expect(open({ bucket: 'mail' }).location).toBe('s3://mail');
  expect(open({ bucket: 'mail' }).fullKey('a/b')).toBe('a/b');
  expect(open({ bucket: 'mail', prefix: 'x/y' }).location).toBe('s3://mail/x/y');
  expect(open({ bucket: 'mail', prefix: 'x/y' }).fullKey('a/b')).toBe('x/y/a/b');
});

describe.for(SIZES)('%s', ([name, length]) => {
  const single = name === 'a single put';

  test('an object carries its content type, and its hash where that is known in time', async () => {
    const { store, key, head, bytes } = await written(length, {});
    expect(head.ContentType).toBe('audio/wav');
    expect(head.Metadata).toEqual(single ? { sha256: sha256(bytes) } : {});
    expect(await store.head(key, never)).toEqual({ bytes: length, ...(single && { sha256: sha256(bytes) }) });
  });

  test('an object is sent with hashes that the store verifies', async () => {
    const { sent, bytes } = await written(length, {});
    const writes = sent.filter(({ stage }) => stage === 'put' || stage === 'part');
    expect(writes.length).toBe(single ? 1 : 2);
    for (const { headers } of writes) {
      expect(headers['x-amz-content-sha256']).toMatch(/^[0-9a-f]{64}$/);
      expect(headers[single ? 'x-amz-checksum-sha256' : 'x-amz-checksum-crc32']).toBeTruthy();
      expect(headers.expect).toBeUndefined();
    }
    if (single) {
      expect(writes[0]?.headers['x-amz-content-sha256']).toBe(sha256(bytes));
      expect(writes[0]?.headers['x-amz-checksum-sha256']).toBe(
        Buffer.from(sha256(bytes), 'hex').toString('base64'),
      );
    }
  });

  test('an object is sent without checksums, but signed with its hash, when only required ones are wanted', async () => {
    const options: S3StoreOptions = { connection: { requestChecksumCalculation: 'WHEN_REQUIRED' } };
    const { store, key, sent, bytes } = await written(length, { options });
    const names = sent.flatMap(({ headers }) => Object.keys(headers));
    expect(names.filter((header) => /checksum|trailer/.test(header))).toEqual([]);
    const writes = sent.filter(({ stage }) => stage === 'put' || stage === 'part');
    for (const { headers } of writes) expect(headers['x-amz-content-sha256']).toMatch(/^[0-9a-f]{64}$/);
    expect(sha256((await store.read(key, never)) ?? Buffer.of())).toBe(sha256(bytes));
    expect((await store.head(key, never))?.sha256).toBe(single ? sha256(bytes) : undefined);
  });

  test('every request names the expected owner of the bucket', async () => {
    const { sent, store, key } = await written(length, { s3: { expectedBucketOwner: 'tester' } });
    const before = proxy.seen.length;
    await store.writeStream(key, bodyOf(bytesOf(length, number)), WAV, 'absent', never);
    await store.check(never);
    for (const { headers } of [...sent, ...proxy.seen.slice(before)]) {
      expect(headers['x-amz-expected-bucket-owner']).toBe('tester');
    }
  });

  describe.skipIf(!REAL_S3)(`with settings (${NEEDS_REAL_S3})`, () => {
    test('an object is encrypted with the KMS key', async () => {
      const { head } = await written(length, { s3: { sse: 'aws:kms', kmsKeyId: 'testkey-1' } });
      expect(head.ServerSideEncryption).toBe('aws:kms');
      expect(head.SSEKMSKeyId).toBe('testkey-1');
    });

    test("an object is encrypted with the store's own key", async () => {
      expect((await written(length, { s3: { sse: 'AES256' } })).head.ServerSideEncryption).toBe('AES256');
    });

    test('an object has its storage class', async () => {
      expect((await written(length, { s3: { storageClass: 'STANDARD_IA' } })).head.StorageClass).toBe(
        'STANDARD_IA',
      );
    });

    test('an object has its tags', async () => {
      const { key } = await written(length, { s3: { tags: 'team=voice%20mail&keep=yes' } });
      const { TagSet } = await server.client.send(
        new GetObjectTaggingCommand({ Bucket: server.bucket, Key: key }),
      );
      expect(TagSet).toEqual(
        expect.arrayContaining([
          { Key: 'team', Value: 'voice mail' },
          { Key: 'keep', Value: 'yes' },
        ]),
      );
    });

    test.for([undefined, 'WHEN_REQUIRED'] as const)(
      'is locked from its write on, checksums %s',
      async (checksums) => {
        const connection = checksums ? { requestChecksumCalculation: checksums } : {};
        const before = Date.now();
        const { key, sent } = await written(length, {
          s3: { objectLock: { mode: 'GOVERNANCE', retainMs: 30 * DAY_MS } },
          options: { connection },
        });
        const { Retention } = await server.client.send(
          new GetObjectRetentionCommand({ Bucket: server.bucket, Key: key }),
        );
        expect(Retention?.Mode).toBe('GOVERNANCE');
        const until = Retention?.RetainUntilDate?.getTime() ?? 0;
        expect(until).toBeGreaterThanOrEqual(before + 30 * DAY_MS - 1000);
        expect(until).toBeLessThanOrEqual(Date.now() + 30 * DAY_MS + 1000);
        const writes = sent.filter(({ stage }) => stage === 'put' || stage === 'part');
        for (const { headers } of writes) {
          expect(Object.keys(headers).filter((header) => header.startsWith('x-amz-checksum-'))).toHaveLength(
            1,
          );
        }
      },
    );
  });
});

test('parts are so large that the largest recording fits into 10,000', async () => {
  const store = open({ options: { maxObjectBytes: 60_000 * 1024 * 1024 } });
  expect(store.transferMemory(undefined)).toBeGreaterThan(2 * 6_000 * 1024);
  const bytes = bytesOf(6 * 1024 * 1024 + 1);
  const key = newKey();
  const before = proxy.seen.length;
  await store.writeStream(key, bodyOf(bytes), WAV, 'replace', never);
  expect(proxy.seen.slice(before).filter(({ stage }) => stage === 'part')).toHaveLength(2);
  expect(sha256(await server.getObject(key))).toBe(sha256(bytes));
});

test('the S3 store says how much of a body it holds at most, whatever its size', () => {
  const store = open();
  expect(store.transferMemory(0)).toBeGreaterThan(0);
  expect(store.transferMemory(480_000)).toBeLessThan(2_000_000);
  expect(store.transferMemory(50 * PART)).toBe(store.transferMemory(500 * PART));
  expect(store.transferMemory(undefined)).toBe(store.transferMemory(50 * PART));
});

describe('errors of a bucket', () => {
  test('a bucket that does not exist is reported with what to do', async () => {
    const store = open({ bucket: 'there-is-no-such-bucket' });
    const expected = {
      code: 'ARCHIVE_DENIED',
      message: expect.stringMatching(/does not exist/),
      hint: expect.stringMatching(/^create it/),
    };
    expect(await failureOf(store.check(never))).toEqual(expected);
    expect(await failureOf(store.write('a', bytesOf(1), WAV, 'absent', never))).toEqual(expected);
    const inParts = store.writeStream('a', bodyOf(bytesOf(PART + 1)), WAV, 'absent', never);
    expect(await failureOf(inParts)).toEqual(expected);
  });

  test.skipIf(!REAL_S3)(`a wrong secret is reported with what to do (${NEEDS_REAL_S3})`, async () => {
    const credentials = { ...server.credentials, secretAccessKey: 'wrong-secret-wrong-secret' };
    const failure = await failureOf(open({ options: { connection: { credentials } } }).check(never));
    expect(failure).toEqual({
      code: 'ARCHIVE_DENIED',
      message: expect.stringMatching(/signature/),
      hint: expect.stringMatching(/AWS_SECRET_ACCESS_KEY/),
    });
    expect(failure.message).not.toContain('wrong-secret');
  });

  test.skipIf(!REAL_S3)(`an unknown access key is reported with what to do (${NEEDS_REAL_S3})`, async () => {
    const credentials = { ...server.credentials, accessKeyId: 'AKIDNOBODY' };
    expect(await failureOf(open({ options: { connection: { credentials } } }).check(never))).toEqual({
      code: 'ARCHIVE_DENIED',
      message: expect.stringMatching(/access key/),
      hint: expect.stringMatching(/AWS_ACCESS_KEY_ID/),
    });
  });

  test('an endpoint where nobody listens is reported with what to do', async () => {
    const dead = await startS3Proxy(server.endpoint);
    await dead.close();
    const store = open({ options: { connection: { endpoint: dead.endpoint, maxAttempts: 2 } } });
    expect(await failureOf(store.check(never))).toEqual({
      code: 'ARCHIVE_UNAVAILABLE',
      message: expect.stringMatching(/can not be reached.*ECONNREFUSED/),
      hint: expect.stringMatching(/AWS_ENDPOINT_URL_S3/),
    });
    expect((await failureOf(store.write('a', bytesOf(1), WAV, 'absent', never))).code).toBe(
      'ARCHIVE_UNAVAILABLE',
    );
  });

  test.for<[string, number | undefined, string, RegExp]>([
    [
      'AccessDenied',
      403,
      'ARCHIVE_DENIED',
      /s3:ListMultipartUploadParts, s3:ListBucket and s3:ListBucketMultipartUploads/,
    ],
    ['Forbidden', 403, 'ARCHIVE_DENIED', /S3_EXPECTED_BUCKET_OWNER/],
    ['ExpiredToken', 400, 'ARCHIVE_DENIED', /expired/],
    ['CredentialsProviderError', undefined, 'ARCHIVE_DENIED', /no credentials/],
    ['KMS.DisabledException', 400, 'ARCHIVE_DENIED', /KMS key/],
    ['PermanentRedirect', 301, 'ARCHIVE_DENIED', /AWS_REGION/],
    ['InvalidStorageClass', 400, 'ARCHIVE_DENIED', /S3_\* settings/],
    ['QuotaExceeded', 403, 'ARCHIVE_DENIED', /quota/],
    ['SlowDown', 503, 'ARCHIVE_UNAVAILABLE', /slow down/],
    ['TooManyRequests', 429, 'ARCHIVE_UNAVAILABLE', /slow down/],
    ['InternalError', 500, 'ARCHIVE_UNAVAILABLE', /passing/],
    ['TimeoutError', undefined, 'ARCHIVE_UNAVAILABLE', /can not be reached/],
    ['BadDigest', 400, 'ARCHIVE_UNAVAILABLE', /damaged/],
  ])('the S3 error %s (%s) is %s', ([name, status, code, words]) => {
    const error = Object.assign(new Error('User: someone is not allowed'), {
      name,
      $metadata: { httpStatusCode: status },
    });
    const converted = toArchiveS3Error(error, 'mail') as VoicemailError;
    expect(converted).toMatchObject({ code, cause: error });
    expect(`${converted.message}; ${converted.hint}`).toMatch(words);
  });

  test('a fault of this program stays as it is', () => {
    const fault = new ReferenceError('x is not defined');
    expect(toArchiveS3Error(fault, 'mail')).toBe(fault);
  });

  test('a missing region is reported with what to do', () => {
    expect(toArchiveS3Error(new Error('Region is missing'), 'mail')).toMatchObject({
      code: 'ARCHIVE_DENIED',
      hint: expect.stringMatching(/AWS_REGION/),
    });
  });
});
