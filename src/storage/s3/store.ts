/** An archive in an S3 bucket, on AWS and on stores that speak its protocol. */

import { createHash } from 'node:crypto';
import { addAbortSignal } from 'node:stream';
import type { ArchiveTarget } from '../../config/config.ts';
import { MIN_PART_BYTES, partBytesFor, s3TransferMemory } from '../../domain/transfer-memory.ts';
import type { Logger } from '../../util/log.ts';
import { openBody } from '../body.ts';
import { assertKey, assertPrefix, assertReadable, DEFAULT_MAX_READ_BYTES } from '../keys.ts';
import {
  type ArchiveStore,
  guarded,
  type ListedDirectory,
  type ListedObject,
  type ObjectInfo,
  type ReadObject,
  type StoredObject,
  type StreamedBody,
  type WriteMode,
  type WriteOutcome,
} from '../store.ts';
import {
  createS3Client,
  ownerParameters,
  parametersOf,
  type S3Connection,
  type S3TimeLimits,
  sendsChecksums,
  TIME_LIMITS,
  watchHosts,
} from './client.ts';
import { createConditionalWrites, isAmazonS3 } from './conditional-writes.ts';
import { isConditionalConflict, isPreconditionFailed, toArchiveS3Error } from './errors.ts';
import { createFallbacks, type Fallback } from './fallbacks.ts';
import { createFastPath } from './fast-path.ts';
import { findObject, type ListAddress, listObjects, type ObjectAddress, openObject } from './lookup.ts';
import {
  type BodyPart,
  CLEAN_UP_MS,
  createBufferPool,
  PartReader,
  type UploadProgress,
  uploadInParts,
} from './multipart.ts';
import { type Bucket, compare, preconditionFailed, putObject, resolveExisting } from './put.ts';
import { steadily } from './slow-answers.ts';
import { createBucketVersions } from './versions.ts';

/** As much as 32 voicemails of a minute take. */
const POOLED_BYTES = 16 * 1024 * 1024;

/** An S3 archive. */
export type S3Target = Extract<ArchiveTarget, { kind: 's3' }>;

/** Further options of an S3 store. */
export interface S3StoreOptions {
  /** The largest object that will be written (bytes): decides the size of parts. */
  readonly maxObjectBytes?: number;
  /** How long a failed or cancelled upload may take to remove what it left in the bucket (milliseconds). */
  readonly cleanUpMs?: number;
  /** Called with each request that the SDK must send again, because the fast path could not complete it. */
  readonly onFallback?: (fallback: Fallback) => void;
  /** Gets a line for what could not be cleaned up, and for a store without conditional writes. */
  readonly logger?: Logger;
  /** Endpoint, region and so on, where they shall not come by the SDK's standard chain. */
  readonly connection?: S3Connection;
  /** How long the store is waited for, where that shall not be as long as usual. */
  readonly timeLimits?: Partial<S3TimeLimits>;
}

/**
 * Opens an archive in a bucket, with one client and its connections for as long as it is open.
 *
 * @example
 * const store = createS3Store({ kind: 's3', bucket: 'voicemail', prefix: '', s3 }, { logger });
 */
export function createS3Store(target: S3Target, options: S3StoreOptions = {}): ArchiveStore {
  const { bucket, prefix, s3 } = target;
  const limits = { ...TIME_LIMITS, ...options.timeLimits };
  const client = createS3Client(s3, options.connection ?? {}, limits);
  const conditional = createConditionalWrites(options.logger);
  watchHosts(client, (hostname) => {
    if (isAmazonS3(hostname)) conditional.isAmazon();
  });
  const fallbacks = createFallbacks(options.onFallback, options.logger);
  const fastPath = createFastPath(client, s3.proxy, fallbacks, limits);
  const partBytes = partBytesFor(options.maxObjectBytes ?? MIN_PART_BYTES);
  const pool = createBufferPool(POOLED_BYTES);
  const archive: Bucket = { client, s3, conditional, fastPath };
  const owner = ownerParameters(s3);
  const base = prefix === '' ? '' : `${prefix}/`;
  const translate = (error: unknown) => toArchiveS3Error(error, bucket);

  function fullKey(key: string): string {
    assertKey(key);
    return base + key;
  }

  function address(key: string): ObjectAddress {
    return { Bucket: bucket, Key: fullKey(key), ...owner };
  }

  /** Entries of a listing under their relative keys. */
  async function* listPages(
    keyPrefix: string,
    how: Pick<ListAddress, 'Delimiter' | 'StartAfter'>,
    signal: AbortSignal,
  ): AsyncGenerator<ListedObject | ListedDirectory> {
    assertPrefix(keyPrefix);
    const where = { Bucket: bucket, Prefix: base + keyPrefix, ...owner, ...how };
    let token: string | undefined;
    do {
      const page = await guarded(translate, signal, () => listObjects(client, where, token, signal));
      for (const entry of page.entries) {
        yield 'key' in entry
          ? { ...entry, key: entry.key.slice(base.length) }
          : { directory: entry.directory.slice(base.length) };
      }
      token = page.nextToken;
    } while (token !== undefined);
  }

  async function find(key: string, signal: AbortSignal): Promise<StoredObject | undefined> {
    return findObject(client, address(key), await sendsChecksums(client, s3), signal);
  }

  /** By the fast path where that can. */
  async function readVersion(
    key: string,
    maxBytes: number,
    signal: AbortSignal,
  ): Promise<ReadObject | undefined> {
    const read = await fastPath.get(fullKey(key), maxBytes, signal);
    if (read === null) return undefined;
    if (read) {
      assertReadable(key, read.bytes.length, maxBytes);
      return { bytes: read.bytes, version: read.etag };
    }
    const object = await openObject(client, address(key), signal);
    return object && { bytes: await readBody(key, object, maxBytes), version: object.etag };
  }

  /** Sends what is in memory, again where the body's owner says so. */
  function persistently<Result>(
    { persist }: Pick<StreamedBody, 'persist'>,
    request: (signal: AbortSignal) => Promise<Result>,
    signal: AbortSignal,
  ): Promise<Result> {
    return persist ? persist(request, translate, signal) : request(signal);
  }

  async function putInParts(
    key: string,
    body: Pick<StreamedBody, 'persist' | 'sha256'> & { readonly first: BodyPart; readonly parts: PartReader },
    info: ObjectInfo,
    mode: WriteMode,
    signal: AbortSignal,
  ): Promise<WriteOutcome> {
    const progress: UploadProgress = { completing: false };
    const absent = mode === 'absent';
    const written = () => ({ bytes: body.parts.bytesRead, sha256: body.sha256() });
    try {
      await uploadInParts(
        {
          client,
          address: address(key),
          parameters: { ...parametersOf(s3, Date.now()), ContentType: info.contentType },
          withChecksums: await sendsChecksums(client, s3),
          ifAbsent: absent && conditional.send,
          first: body.first,
          parts: body.parts,
          async beforeComplete() {
            if (absent && conditional.needsLookup && (await find(key, signal))) throw preconditionFailed();
          },
          onUnconditional: conditional.missing,
          persist: (request) => persistently(body, request, signal),
          logger: options.logger,
          cleanUpMs: options.cleanUpMs ?? CLEAN_UP_MS,
        },
        progress,
        signal,
      );
      return 'stored';
    } catch (error) {
      if (absent && (isPreconditionFailed(error) || (progress.completing && isConditionalConflict(error)))) {
        return resolveExisting(archive, address(key), written(), error, signal);
      }
      // The answer may have been lost on its way: then the object is there, and whole.
      if (!progress.completing) throw error;
      if ((await compare(archive, address(key), written(), signal)) === 'same') return 'stored';
      throw error;
    }
  }

  return {
    location: prefix === '' ? `s3://${bucket}` : `s3://${bucket}/${prefix}`,
    fullKey,
    versions: createBucketVersions({ client, bucket, base, owner, address, translate }),
    read: async (key, signal, maxBytes = DEFAULT_MAX_READ_BYTES) =>
      (await guarded(translate, signal, () => readVersion(key, maxBytes, signal)))?.bytes,
    readVersion: (key, signal, maxBytes = DEFAULT_MAX_READ_BYTES) =>
      guarded(translate, signal, () => readVersion(key, maxBytes, signal)),
    async head(key, signal) {
      return guarded(translate, signal, () => find(key, signal));
    },
    async open(key, range, signal) {
      return guarded(translate, signal, async () => {
        const object = await openObject(client, address(key), signal, range);
        if (!object) return undefined;
        // The SDK ignores the signal once the answer has begun.
        return { bytes: object.bytes, body: addAbortSignal(signal, object.body) };
      });
    },
    async scan(key, onChunk, signal) {
      return guarded(translate, signal, async () => {
        const object = await openObject(client, address(key), signal);
        if (!object) return false;
        // The SDK ignores the signal once the answer has begun.
        const body: AsyncIterable<Buffer> = addAbortSignal(signal, object.body);
        for await (const chunk of steadily(body)) onChunk(chunk);
        return true;
      });
    },
    async *list(keyPrefix, signal, { after } = {}) {
      const from = after === undefined ? {} : { StartAfter: base + after };
      for await (const entry of listPages(keyPrefix, from, signal)) {
        if ('key' in entry) yield entry;
      }
    },
    async names(directory, signal) {
      assertPrefix(directory);
      const start = base.length + directory.length;
      const keys = await guarded(translate, signal, () => fastPath.list(base + directory, signal));
      if (keys) return new Set(keys.map((key) => key.slice(start)));
      const names = new Set<string>();
      for await (const entry of listPages(directory, {}, signal)) {
        if ('key' in entry) names.add(entry.key.slice(directory.length));
      }
      return names;
    },
    listDirectory: (keyPrefix, signal) => listPages(keyPrefix, { Delimiter: '/' }, signal),
    async write(key, body, info, mode, signal) {
      const sha256 = createHash('sha256').update(body).digest('hex');
      return guarded(translate, signal, () =>
        putObject(archive, address(key), { bytes: body, sha256 }, info, mode, signal),
      );
    },
    async writeStream(key, body, info, mode, signal) {
      const source = openBody(body.chunks, signal);
      return guarded(
        translate,
        signal,
        async () => {
          try {
            const parts = new PartReader(source, partBytes, body.expectedBytes, pool);
            const first = await parts.next();
            if (first.isLast) {
              const whole = { bytes: first.bytes, sha256: body.sha256() };
              const outcome = await persistently(
                body,
                (inner) => putObject(archive, address(key), whole, info, mode, inner),
                signal,
              );
              // Not after a failure: what was given up may still be on its way.
              parts.release();
              return outcome;
            }
            const inParts = { ...body, first, parts, sha256: () => body.sha256() };
            const outcome = await putInParts(key, inParts, info, mode, signal);
            parts.release();
            return outcome;
          } finally {
            await source.close();
          }
        },
        source,
      );
    },
    transferMemory: (expectedBytes) => s3TransferMemory(expectedBytes, partBytes),
    isInParts: (expectedBytes) => expectedBytes !== undefined && expectedBytes > partBytes,
    async check(signal) {
      // Reading what is not there asks for the same rights as looking up an object, and unlike HEAD the answer
      // has a body, which distinguishes a missing bucket from a missing object, and a wrong key from a missing right.
      await guarded(translate, signal, async () => {
        const object = await openObject(client, address('archive-check'), signal);
        object?.body.destroy();
      });
    },
    async close() {
      client.destroy();
      await fastPath.close();
    },
  };
}

/** The whole body of an object. */
async function readBody(
  key: string,
  object: { readonly bytes: number; readonly body: AsyncIterable<Buffer> },
  maxBytes: number,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  // Leaving the loop early destroys the body and its connection.
  for await (const chunk of steadily(object.body)) {
    bytes += chunk.length;
    assertReadable(key, Math.max(object.bytes, bytes), maxBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, bytes);
}
