/**
 * An S3 server for tests: the real one that `S3_TEST_ENDPOINT` (with the standard `AWS_*` variables) names,
 * otherwise fauxqs in this process, which does plain puts, gets, listings and multipart uploads truthfully and
 * knows neither conditional writes nor checksums, object lock, tags or authentication.
 */

import { randomUUID } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { startFauxqs } from 'fauxqs';
import type { S3Config } from '../../src/config/config.ts';

/** No setting of `S3_*` but the one that servers on an address need. */
export const PLAIN_S3: S3Config = {
  forcePathStyle: true,
  sse: undefined,
  kmsKeyId: undefined,
  storageClass: undefined,
  tags: undefined,
  objectLock: undefined,
  expectedBucketOwner: undefined,
};

/** Whether a real server is at hand. */
export const REAL_S3 = process.env.S3_TEST_ENDPOINT !== undefined && process.env.S3_TEST_ENDPOINT !== '';

/** Why a test is skipped without one. */
export const NEEDS_REAL_S3 = 'needs a real S3 server: set S3_TEST_ENDPOINT and the AWS_* variables';

/** A fresh bucket on a server. */
export interface TestBucket {
  readonly endpoint: string;
  readonly region: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  readonly bucket: string;
  /** A plain client, for looking past the code under test. */
  readonly client: S3Client;
  /** A real server, not fauxqs. */
  readonly real: boolean;
  /** Keys of all objects, in byte order. */
  listObjects(): Promise<string[]>;
  /** Keys of all open multipart uploads. */
  listMultipartUploads(): Promise<string[]>;
  getObject(key: string): Promise<Buffer>;
  /** Deletes the bucket with all it holds, and stops the server if it was started for it. */
  close(): Promise<void>;
}

/** Makes a bucket of its own for a test file. */
export async function openTestBucket(options: { objectLock?: boolean } = {}): Promise<TestBucket> {
  const server = REAL_S3 ? undefined : await startFauxqs({ port: 0, logger: false });
  const endpoint = server ? `http://127.0.0.1:${server.port}` : required('S3_TEST_ENDPOINT');
  const region = server ? 'us-east-1' : (process.env.AWS_REGION ?? 'us-east-1');
  const credentials = server
    ? { accessKeyId: 'test', secretAccessKey: 'test' }
    : { accessKeyId: required('AWS_ACCESS_KEY_ID'), secretAccessKey: required('AWS_SECRET_ACCESS_KEY') };
  const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  // A run of the tests looks for its own at its end.
  const bucket = `${process.env.TEST_BUCKET_PREFIX ?? 'test-'}${randomUUID()}`;
  await client.send(
    new CreateBucketCommand({
      Bucket: bucket,
      ...(options.objectLock && { ObjectLockEnabledForBucket: true }),
    }),
  );

  async function listUploads() {
    return (await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }))).Uploads ?? [];
  }

  async function listObjects(): Promise<string[]> {
    const keys: string[] = [];
    let token: string | undefined;
    do {
      const page = await client.send(
        new ListObjectsV2Command({
          Bucket: bucket,
          ...(token !== undefined && { ContinuationToken: token }),
        }),
      );
      keys.push(...(page.Contents ?? []).map((object) => object.Key ?? ''));
      token = page.NextContinuationToken;
    } while (token !== undefined);
    return keys;
  }

  async function empty(): Promise<void> {
    for (const { Key, UploadId } of await listUploads()) {
      await client.send(new AbortMultipartUploadCommand({ Bucket: bucket, Key, UploadId }));
    }
    for (const Key of await listObjects())
      await client.send(new DeleteObjectCommand({ Bucket: bucket, Key }));
    if (!options.objectLock) return;
    for (let isMore = true; isMore; ) {
      const page = await client.send(new ListObjectVersionsCommand({ Bucket: bucket }));
      isMore = page.IsTruncated === true;
      const versions = [...(page.Versions ?? []), ...(page.DeleteMarkers ?? [])];
      for (let at = 0; at < versions.length; at += 50) {
        const deletions = versions
          .slice(at, at + 50)
          .map(({ Key, VersionId }) =>
            client.send(
              new DeleteObjectCommand({ Bucket: bucket, Key, VersionId, BypassGovernanceRetention: true }),
            ),
          );
        await Promise.all(deletions);
      }
    }
  }

  return {
    endpoint,
    region,
    credentials,
    bucket,
    client,
    real: server === undefined,
    listObjects,
    async listMultipartUploads() {
      return (await listUploads()).map((upload) => upload.Key ?? '');
    },
    async getObject(Key) {
      const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key }));
      return Buffer.from((await Body?.transformToByteArray()) ?? []);
    },
    async close() {
      if (!server) {
        await empty();
        await client.send(new DeleteBucketCommand({ Bucket: bucket }));
      }
      client.destroy();
      await server?.stop(); // all it held was in memory
    },
  };
}

function required(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === '') throw new Error(`${name} must be set when S3_TEST_ENDPOINT is`);
  return value;
}
