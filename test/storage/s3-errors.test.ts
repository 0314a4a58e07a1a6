import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { VoicemailError } from '../../src/domain/errors.ts';
import { toArchiveFileError } from '../../src/storage/fs/files.ts';
import { toArchiveS3Error } from '../../src/storage/s3/errors.ts';
import { createS3Store } from '../../src/storage/s3/store.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import { openTestBucket, PLAIN_S3, type TestBucket } from '../support/s3.ts';
import { type InjectedFault, type Stage, startS3Proxy } from '../support/s3-proxy.ts';
import { bodyOf, bytesOf } from '../support/storage-bodies.ts';

const WAV = { contentType: 'audio/wav' };
const never = new AbortController().signal;

function answered(name: string, status: number | undefined, message = 'as the store says'): VoicemailError {
  const error = Object.assign(new Error(message), { name, $metadata: { httpStatusCode: status } });
  return toArchiveS3Error(error, 'mail') as VoicemailError;
}

describe('S3 errors of keys, credentials and regions', () => {
  test.for<[string, number | undefined, RegExp]>([
    ['KMS.DisabledException', 400, /enable the KMS key.*S3_KMS_KEY_ID/],
    ['KMS.KMSInvalidStateException', 400, /enable the KMS key.*S3_KMS_KEY_ID/],
    ['KMS.NotFoundException', 400, /correct S3_KMS_KEY_ID/],
    ['KMS.InvalidKeyUsageException', 400, /symmetric/],
    ['KMS.AccessDeniedException', 400, /kms:GenerateDataKey and kms:Decrypt/],
    ['InvalidAccessKeyId', 403, /AWS_ACCESS_KEY_ID/],
    ['InvalidClientTokenId', 403, /AWS_ACCESS_KEY_ID/],
    ['SignatureDoesNotMatch', 403, /AWS_SECRET_ACCESS_KEY/],
    ['ExpiredToken', 400, /AWS_SESSION_TOKEN/],
    ['InvalidToken', 400, /AWS_SESSION_TOKEN/],
    ['CredentialsProviderError', undefined, /AWS_PROFILE/],
    ['RequestTimeTooSkewed', 403, /set the clock/],
    ['AccessDenied', 403, /s3:PutObject/],
    ['NoSuchBucket', 404, /ARCHIVE_URL/],
    ['PermanentRedirect', 301, /AWS_REGION/],
    ['AuthorizationHeaderMalformed', 400, /AWS_REGION/],
    ['UnknownError', 400, /S3_\* settings, AWS_REGION/],
    ['InvalidObjectState', 403, /s3:RestoreObject/],
    ['QuotaExceeded', 403, /raise the quota/],
    ['CERT_HAS_EXPIRED', undefined, /NODE_EXTRA_CA_CERTS/],
  ])('the S3 error %s (%s) says what to do', ([name, status, hint]) => {
    const converted = answered(name, status);
    expect(converted).toMatchObject({ code: 'ARCHIVE_DENIED', hint: expect.stringMatching(hint) });
    expect(converted.message).not.toMatch(hint);
  });

  test('a missing permission on the key, which S3 answers like one on the bucket, names the key', () => {
    const message =
      'User: x is not authorized to perform: kms:GenerateDataKey on resource: arn:aws:kms:eu:1:key/1';
    const converted = answered('AccessDenied', 403, message);
    expect(converted).toMatchObject({ code: 'ARCHIVE_DENIED', hint: expect.stringMatching(/key policy/) });
  });

  test.for<[string, number | undefined]>([
    ['KMS.ThrottlingException', 400],
    ['KMS.KMSInternalException', 500],
    ['KMS.DependencyTimeoutException', 503],
    ['RequestTimeout', 400],
    ['UnknownError', 408],
    ['UnknownError', 407],
    ['ServiceUnavailable', 503],
    ['SlowDown', 503],
  ])('the S3 error %s (%s) is retryable', ([name, status]) => {
    expect(answered(name, status)).toMatchObject({ code: 'ARCHIVE_UNAVAILABLE', retryable: true });
  });
});

test.for(['constructor', '__proto__', 'toString', 'hasOwnProperty', 'KMS.constructor'])(
  'an error code that is also the name of something else is only a code: %s',
  (name) => {
    expect(answered(name, 400)).toMatchObject({ code: 'ARCHIVE_DENIED', hint: expect.any(String) });
  },
);

test('an error code from outside shows no control characters, and is shortened', () => {
  const converted = answered(`Evil\u001b[2J\r\n${'x'.repeat(100_000)}`, 400);
  expect(converted.message).not.toMatch(/\p{Cc}/u);
  expect(converted.message.length).toBeLessThan(300);
});

test.for([
  ['ENOSPC', 'ARCHIVE_UNAVAILABLE', /ARCHIVE_URL/],
  ['EROFS', 'ARCHIVE_DENIED', /ARCHIVE_URL/],
  ['EACCES', 'ARCHIVE_DENIED', /ARCHIVE_URL/],
  ['EPERM', 'ARCHIVE_DENIED', /ARCHIVE_URL/],
  ['EMFILE', 'ARCHIVE_UNAVAILABLE', /ulimit/],
  ['EIO', 'ARCHIVE_UNAVAILABLE', /log/],
] as const)('a disk error %s is %s, with what to do', ([system, code, hint]) => {
  const error = Object.assign(new Error('as the system says'), { code: system });
  expect(toArchiveFileError(error, 'file:/a')).toMatchObject({ code, hint: expect.stringMatching(hint) });
});

describe('an answer that is not from S3', () => {
  let server: TestBucket;
  beforeAll(async () => {
    server = await openTestBucket();
  });
  afterAll(() => server.close());

  async function through(stage: Stage, fault: InjectedFault) {
    const proxy = await startS3Proxy(server.endpoint, (request) =>
      request.stage === stage ? fault : 'pass',
    );
    const { region, credentials, bucket } = server;
    const store = createS3Store(
      { kind: 's3', bucket, prefix: crypto.randomUUID(), s3: PLAIN_S3 },
      { connection: { endpoint: proxy.endpoint, region, credentials, maxAttempts: 2 } },
    );
    onTestFinished(async () => {
      await store.close();
      await proxy.close();
    });
    return store;
  }

  test.for<[string, Stage, (store: ArchiveStore) => Promise<unknown>]>([
    [
      'a listing, as an empty archive',
      'list',
      (store) => store.list('', never)[Symbol.asyncIterator]().next(),
    ],
    ['a read, as a document', 'get', (store) => store.read('a', never)],
    ['a scan, as an object', 'get', (store) => store.scan('a', () => undefined, never)],
    ['a check, as an object', 'head', (store) => store.head('a', never)],
    ['the check, as a store that is there', 'get', (store) => store.check(never)],
  ])('a page is not taken for the answer to %s', async ([, stage, use]) => {
    const store = await through(stage, 'page');
    await expect(use(store)).rejects.toMatchObject({
      code: 'ARCHIVE_UNAVAILABLE',
      hint: expect.stringContaining('proxies'),
    });
  });

  test.for<[Stage, number]>([
    ['put', 403],
    ['get', 403],
    ['head', 403],
    ['list', 403],
    ['create', 403],
    ['complete', 403],
  ])('an answer to a %s with %s is denied, with what to do', async ([stage, status]) => {
    const store = await through(stage, { status, code: 'AccessDenied' });
    const denied = { code: 'ARCHIVE_DENIED', hint: expect.stringContaining('s3:') };
    const use: Partial<Record<Stage, () => Promise<unknown>>> = {
      put: () => store.write('a', bytesOf(1), WAV, 'replace', never),
      get: () => store.read('a', never),
      head: () => store.head('a', never),
      list: () => store.list('', never)[Symbol.asyncIterator]().next(),
    };
    const inParts = () => store.writeStream('a', bodyOf(bytesOf(5 * 1024 * 1024 + 1)), WAV, 'replace', never);
    await expect((use[stage] ?? inParts)()).rejects.toMatchObject(denied);
  });
});
