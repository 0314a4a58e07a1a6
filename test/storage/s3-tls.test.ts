import { readFileSync } from 'node:fs';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { S3Connection } from '../../src/storage/s3/client.ts';
import { createS3Store } from '../../src/storage/s3/store.ts';
import { NEEDS_REAL_S3, openTestBucket, PLAIN_S3, REAL_S3, type TestBucket } from '../support/s3.ts';
import { type InjectedFault, type SeenRequest, startS3Proxy } from '../support/s3-proxy.ts';
import { bodyOf, bytesOf, sha256 } from '../support/storage-bodies.ts';

const PART = 5 * 1024 * 1024;
const never = new AbortController().signal;
const read = (name: string) => readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8');
const tls = { cert: read('tls-localhost.crt'), key: read('tls-localhost.key') };

let server: TestBucket;
const trusted = getCACertificates('default');
beforeAll(async () => {
  server = await openTestBucket();
  setDefaultCACertificates([...trusted, tls.cert]);
});
afterAll(async () => {
  setDefaultCACertificates(trusted);
  await server.close();
});

/** Writes an object of two parts over https; tells what was sent for them. */
async function writeParts(connection: S3Connection, decide?: (request: SeenRequest) => InjectedFault) {
  const proxy = await startS3Proxy(server.endpoint, decide, tls);
  const { region, credentials, bucket } = server;
  const store = createS3Store(
    { kind: 's3', bucket, prefix: '', s3: PLAIN_S3 },
    { connection: { endpoint: proxy.endpoint, region, credentials, ...connection } },
  );
  const bytes = bytesOf(PART + 1000);
  try {
    await store.writeStream('a.wav', bodyOf(bytes), { contentType: 'audio/wav' }, 'replace', never);
  } finally {
    await store.close();
    await proxy.close();
  }
  expect(sha256(await server.getObject('a.wav'))).toBe(sha256(bytes));
  return proxy.seen.filter(({ stage }) => stage === 'part').map(({ headers }) => headers);
}

test('parts over https carry a checksum and are not hashed for the signature as well', async () => {
  const parts = await writeParts({});
  expect(parts).toHaveLength(2);
  for (const headers of parts) {
    expect(headers['x-amz-content-sha256']).toBe('UNSIGNED-PAYLOAD');
    expect(headers['x-amz-checksum-crc32']).toBeTruthy();
  }
});

test('parts over https without checksums are signed with their hash', async () => {
  for (const headers of await writeParts({ requestChecksumCalculation: 'WHEN_REQUIRED' })) {
    expect(headers['x-amz-content-sha256']).toMatch(/^[0-9a-f]{64}$/);
    expect(headers['x-amz-checksum-crc32']).toBeUndefined();
  }
});

test.skipIf(!REAL_S3)(
  `a part that changes on its way is noticed by its checksum and sent again (${NEEDS_REAL_S3})`,
  async () => {
    const parts = await writeParts({}, ({ stage, partNumber, count }) =>
      stage === 'part' && partNumber === 1 && count === 1 ? 'damage' : 'pass',
    );
    expect(parts).toHaveLength(3);
  },
);
