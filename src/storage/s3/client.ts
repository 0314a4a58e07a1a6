/** The one S3 client of a process, and what every object is written with. */

import type { Agent as HttpAgent } from 'node:http';
import type { Agent as HttpsAgent } from 'node:https';
import { Readable } from 'node:stream';
import {
  type ObjectLockMode,
  S3Client,
  type S3ClientConfig,
  type ServerSideEncryption,
  type StorageClass,
  type UploadPartCommand,
} from '@aws-sdk/client-s3';
import type { HttpHandler, HttpRequest } from '@smithy/core/protocols';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import type { S3Config } from '../../config/config.ts';
import { createProxyAgents, type ProxySettings, proxyFor } from '../../util/http-proxy.ts';
import { VERSION } from '../../util/process.ts';
import { isDamaged } from './errors.ts';
import { boundTime } from './slow-answers.ts';

/** With pauses that double from 50 ms (1 s when the store says slow down). */
const MAX_ATTEMPTS = 5;

/** Settings that may be passed in, instead of the SDK's standard chain. */
export type S3Connection = Pick<
  S3ClientConfig,
  'endpoint' | 'region' | 'credentials' | 'requestChecksumCalculation' | 'maxAttempts'
>;

/** How long the store is waited for (milliseconds). */
export interface S3TimeLimits {
  /** For a connection. */
  readonly connectionMs: number;
  /** For anything to move on a connection. */
  readonly socketMs: number;
  /** From a whole request up to the answer's headers. */
  readonly requestMs: number;
}

/** A part of 5 MiB at half a megabit a second takes almost as long as a request may. */
export const TIME_LIMITS: S3TimeLimits = { connectionMs: 5_000, socketMs: 30_000, requestMs: 90_000 };

/** Makes a client whose every wait is bounded; the SDK's own defaults wait for ever. */
export function createS3Client(s3: S3Config, connection: S3Connection, limits = TIME_LIMITS): S3Client {
  const client = new S3Client({
    maxAttempts: MAX_ATTEMPTS,
    retryMode: 'standard',
    ...connection,
    forcePathStyle: s3.forcePathStyle,
    // The SDK opens a connection of its own for each request that it sends `Expect: 100-continue` with.
    expectContinueHeader: false,
    requestHandler: createRequestHandler(s3.proxy, limits),
  });
  lighten(client);
  resendDamaged(client);
  return client;
}

/**
 * Lets the SDK send again, as often as after a lost connection, what the store says it got damaged: to the SDK that
 * is the caller's fault, as most answers of status 400 are.
 */
function resendDamaged({ middlewareStack }: S3Client): void {
  middlewareStack.add(
    (next) => async (args) => {
      try {
        return await next(args);
      } catch (error) {
        throw isDamaged(error) ? Object.assign(error as Error, { $retryable: { throttling: false } }) : error;
      }
    },
    // Below the step that decides on sending again.
    { name: 'resendDamaged', step: 'finalizeRequest', priority: 'low' },
  );
}

/** Calls `onHost` with the host of each request, which only the SDK's standard chain knows in the end. */
export function watchHosts({ middlewareStack }: S3Client, onHost: (hostname: string) => void): void {
  middlewareStack.add(
    (next) => (args) => {
      if (hasHeaders(args.request)) onHost(args.request.hostname);
      return next(args);
    },
    { name: 'watchHosts', step: 'build' },
  );
}

/**
 * Keeps the SDK's signer from hashing each whole part with SHA-256. TLS protects the bytes, and the store verifies them
 * by the checksum that goes with the part. A request over plain http, or without a checksum, stays signed with the hash
 * of its body, as the AWS SDKs do it: there the signature is all that protects the bytes.
 *
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html ("Unsigned payload option"),
 * https://docs.aws.amazon.com/AWSJavaSDK/latest/javadoc/com/amazonaws/auth/AWS4UnsignedPayloadSigner.html
 */
export function withUnsignedPayload(command: UploadPartCommand): UploadPartCommand {
  command.middlewareStack.add(
    (next) => async (args) => {
      const { request } = args;
      if (hasHeaders(request) && request.protocol === 'https:' && hasChecksum(request.headers)) {
        request.headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
      }
      return next(args);
    },
    // After the step that computes the checksum.
    { name: 'unsignedPayload', step: 'build', priority: 'low' },
  );
  return command;
}

function hasChecksum(headers: Record<string, string>): boolean {
  return Object.keys(headers).some((name) => name.startsWith('x-amz-checksum-'));
}

/**
 * Takes two steps out of the handling of each request, which together cost a sixth of its CPU time: one puts
 * together what only the SDK's logger reads, the other builds a user agent with details of this machine.
 */
function lighten({ middlewareStack }: S3Client): void {
  middlewareStack.remove('loggerMiddleware');
  middlewareStack.remove('getUserAgentMiddleware');
  middlewareStack.add(
    (next) => (args) => {
      if (hasHeaders(args.request)) args.request.headers['user-agent'] = `voicemail-archiver/${VERSION}`;
      return next(args);
    },
    { name: 'shortUserAgent', step: 'build' },
  );
}

/** Whether a request in the SDK's hands is an HTTP request; it does not say so in its types. */
export function hasHeaders(
  request: unknown,
): request is { headers: Record<string, string>; hostname: string; protocol: string } {
  return typeof request === 'object' && request !== null && 'headers' in request;
}

/** Whether writes carry a checksum. Object Lock wants one even where none are sent otherwise. */
export async function sendsChecksums(client: S3Client, s3: S3Config): Promise<boolean> {
  return (
    s3.objectLock !== undefined || (await client.config.requestChecksumCalculation()) !== 'WHEN_REQUIRED'
  );
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
export function parametersOf(s3: S3Config, now: number): ObjectParameters {
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

/** More than any worker has uploads at once: waiting for a socket counts as time spent on connecting. */
const MAX_SOCKETS = 512;

/**
 * A handler for the SDK's requests whose every wait is bounded; the SDK's own defaults wait for ever.
 *
 * It decides about the proxy with each request, as a bucket's host is known only then.
 */
function createRequestHandler(proxy: ProxySettings | undefined, limits: S3TimeLimits): HttpHandler {
  const options = { keepAlive: true, maxSockets: MAX_SOCKETS };
  const direct = createHandler(options, options, limits);
  const proxied = new Map<string, NodeHttpHandler>();
  const handlerFor = (request: HttpRequest): NodeHttpHandler => {
    if (proxy === undefined) return direct;
    const { protocol, hostname, port } = request;
    const uri = proxyFor(`${protocol}//${hostname}${port === undefined ? '' : `:${port}`}`, proxy);
    if (uri === undefined) return direct;
    const existing = proxied.get(uri);
    if (existing !== undefined) return existing;
    const { httpAgent, httpsAgent } = createProxyAgents(uri, options);
    const handler = createHandler(httpAgent, httpsAgent, limits);
    proxied.set(uri, handler);
    return handler;
  };
  return {
    metadata: direct.metadata,
    async handle(request, how) {
      const answer = await handlerFor(request).handle(request, how);
      const { body } = answer.response;
      if (body instanceof Readable && !isObject(request, answer.response.statusCode)) boundTime(body);
      return answer;
    },
    destroy() {
      for (const handler of [direct, ...proxied.values()]) handler.destroy();
    },
    updateHttpClientConfig: () => undefined,
    httpHandlerConfigs: () => ({}),
  };
}

/** Whether an answer is an object, which takes as long as it is large: see `steadily`. */
function isObject({ method, query }: HttpRequest, status: number): boolean {
  return method === 'GET' && status < 300 && !('list-type' in query) && !('uploads' in query);
}

type AgentOrOptions<Agent> = Agent | { readonly keepAlive: boolean; readonly maxSockets: number };

function createHandler(
  httpAgent: AgentOrOptions<HttpAgent>,
  httpsAgent: AgentOrOptions<HttpsAgent>,
  limits: S3TimeLimits,
): NodeHttpHandler {
  return new NodeHttpHandler({
    connectionTimeout: limits.connectionMs,
    socketTimeout: limits.socketMs,
    requestTimeout: limits.requestMs,
    throwOnRequestTimeout: true,
    httpAgent,
    httpsAgent,
  });
}
