/** The one S3 client of a process, and what every object is written with. */

import {
  type ObjectLockMode,
  S3Client,
  type S3ClientConfig,
  type ServerSideEncryption,
  type StorageClass,
} from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import type { S3Config } from '../config/config.ts';

const CONNECTION_TIMEOUT_MS = 5_000;
/** A connection on which nothing moves. */
const SOCKET_TIMEOUT_MS = 30_000;
/** A whole request up to the answer's headers: a part of 5 MiB at half a megabit a second. */
const REQUEST_TIMEOUT_MS = 90_000;
/** More than any worker has uploads at once: waiting for a socket counts as time spent on connecting. */
const MAX_SOCKETS = 512;
/** With pauses that double from 50 ms (1 s when the store says slow down). */
const MAX_ATTEMPTS = 5;

/** What may be handed in instead of coming by the SDK's standard chain. */
export type S3Connection = Pick<
  S3ClientConfig,
  'endpoint' | 'region' | 'credentials' | 'requestChecksumCalculation' | 'maxAttempts'
>;

/** Makes a client whose every wait is bounded; the SDK's own defaults wait for ever. */
export function createS3Client(s3: S3Config, connection: S3Connection): S3Client {
  const agent = { keepAlive: true, maxSockets: MAX_SOCKETS };
  return new S3Client({
    maxAttempts: MAX_ATTEMPTS,
    retryMode: 'standard',
    ...connection,
    forcePathStyle: s3.forcePathStyle,
    // The SDK opens a connection of its own for each request that it sends `Expect: 100-continue` with.
    expectContinueHeader: false,
    requestHandler: new NodeHttpHandler({
      connectionTimeout: CONNECTION_TIMEOUT_MS,
      socketTimeout: SOCKET_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true,
      httpAgent: agent,
      httpsAgent: agent,
    }),
  });
}

/** The bucket's owner, on every request, where it is configured. */
export function ownerParameters(s3: S3Config): { ExpectedBucketOwner?: string } {
  return s3.expectedBucketOwner === undefined ? {} : { ExpectedBucketOwner: s3.expectedBucketOwner };
}

/** The parameters of `PutObject` and `CreateMultipartUpload` that the configuration decides. */
export interface ObjectParameters {
  readonly ServerSideEncryption?: ServerSideEncryption;
  readonly SSEKMSKeyId?: string;
  readonly StorageClass?: StorageClass;
  readonly Tagging?: string;
  readonly ObjectLockMode?: ObjectLockMode;
  readonly ObjectLockRetainUntilDate?: Date;
}

/**
 * Encryption, class, tags and lock as configured.
 * @param now unix milliseconds of the write, from which an object is retained.
 */
export function objectParameters(s3: S3Config, now: number): ObjectParameters {
  return {
    ...(s3.sse !== undefined && { ServerSideEncryption: s3.sse }),
    ...(s3.kmsKeyId !== undefined && { SSEKMSKeyId: s3.kmsKeyId }),
    // Any name goes: S3-compatible stores have classes of their own.
    ...(s3.storageClass !== undefined && { StorageClass: s3.storageClass as StorageClass }),
    ...(s3.tags !== undefined && { Tagging: s3.tags }),
    ...(s3.objectLock !== undefined && {
      ObjectLockMode: s3.objectLock.mode,
      ObjectLockRetainUntilDate: new Date(now + s3.objectLock.retainMs),
    }),
  };
}
