/** An archive in an S3 bucket, on AWS and on stores that speak its protocol. */

import { createHash } from 'node:crypto';
import { addAbortSignal } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import type { ArchiveTarget } from '../../config/config.ts';
import { VoicemailError } from '../../domain/errors.ts';
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
  type WriteMode,
  type WriteOutcome,
} from '../store.ts';
import {
  createS3Client,
  hasHeaders,
  objectParameters,
  ownerParameters,
  type S3Connection,
  sendsChecksums,
  watchHosts,
} from './client.ts';
import { createConditionalWrites, isAmazonS3 } from './conditional-writes.ts';
import {
  isConditionalConflict,
  isNotImplemented,
  isPreconditionFailed,
  statusOf,
  toArchiveS3Error,
  unconfirmed,
} from './errors.ts';
import { createFastPath } from './fast-path.ts';
import {
  compareObject,
  findObject,
  type ListAddress,
  listObjects,
  type ObjectAddress,
  openObject,
} from './lookup.ts';
import { CLEAN_UP_MS, collectFirstPart, type Progress, uploadInParts } from './multipart.ts';

/** How often a write that met another one is tried again, and the first pause; pauses double. */
const CONFLICT_ATTEMPTS = 5;
const CONFLICT_DELAY_MS = 50;

/** An S3 archive. */
export type S3Target = Extract<ArchiveTarget, { kind: 's3' }>;

/** What else an S3 store may be told. */
export interface S3StoreOptions {
  /** The largest object that will be written (bytes): decides the size of parts. */
  readonly maxObjectBytes?: number;
  /** How long a failed or cancelled upload may take to remove what it left in the bucket (milliseconds). */
  readonly cleanUpMs?: number;
  /** Hears of what could not be cleaned up, and of stores without conditional writes. */
  readonly logger?: Logger;
  /** Endpoint, region and so on, where they shall not come by the SDK's standard chain. */
  readonly connection?: S3Connection;
}

/** A body whose hash is known. */
interface HashedBody {
  readonly bytes: Buffer;
  /** Lowercase hex. */
  readonly sha256: string;
}

/**
 * Opens an archive in a bucket, with one client and its connections for as long as it is open.
 *
 * @example
 * const store = createS3Store({ kind: 's3', bucket: 'voicemail', prefix: '', s3 }, { logger });
 */
export function createS3Store(target: S3Target, options: S3StoreOptions = {}): ArchiveStore {
  const { bucket, prefix, s3 } = target;
  const client = createS3Client(s3, options.connection ?? {});
  const conditional = createConditionalWrites(options.logger);
  watchHosts(client, (hostname) => {
    if (isAmazonS3(hostname)) conditional.works();
  });
  const shortCut = createFastPath(client);
  const partBytes = partBytesFor(options.maxObjectBytes ?? MIN_PART_BYTES);
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

  async function compare(key: string, bytes: number, sha256: string, signal: AbortSignal) {
    return compareObject(client, address(key), { bytes, sha256 }, await sendsChecksums(client, s3), signal);
  }

  /** Ends a write that found something at its key. */
  async function settle(
    key: string,
    bytes: number,
    sha256: string,
    error: unknown,
    signal: AbortSignal,
  ): Promise<WriteOutcome> {
    const found = await compare(key, bytes, sha256, signal);
    if (found === 'same') return 'exists';
    if (found === 'nothing') throw error;
    throw new VoicemailError(
      'ARCHIVE_CONFLICT',
      `another object is already at ${fullKey(key)}; it was left as it is`,
      { cause: error },
    );
  }

  async function put(
    key: string,
    body: HashedBody,
    info: ObjectInfo,
    mode: WriteMode,
    signal: AbortSignal,
  ): Promise<WriteOutcome> {
    if (mode === 'absent' && conditional.mustLook && (await find(key, signal))) {
      return settle(key, body.bytes.length, body.sha256, preconditionFailed(), signal);
    }
    const checksum = (await sendsChecksums(client, s3))
      ? ({
          ChecksumAlgorithm: 'SHA256',
          ChecksumSHA256: Buffer.from(body.sha256, 'hex').toString('base64'),
        } as const)
      : {};
    const send = async (condition: { IfNoneMatch?: string; IfMatch?: string }) => {
      const ifAbsent = condition.IfNoneMatch !== undefined;
      const isPlain = condition.IfMatch === undefined;
      if (isPlain && (await shortCut.put(fullKey(key), { ...body, ...info, ifAbsent }, signal))) return;
      const { ETag } = await client.send(
        withPayloadHash(
          new PutObjectCommand({
            ...address(key),
            ...objectParameters(s3, Date.now()),
            ...checksum,
            ...condition,
            Body: body.bytes,
            ContentLength: body.bytes.length,
            ContentType: info.contentType,
            Metadata: { sha256: body.sha256 },
          }),
          body.sha256,
        ),
        { abortSignal: signal },
      );
      if (ETag !== undefined) return;
      if ((await compare(key, body.bytes.length, body.sha256, signal)) !== 'same') throw unconfirmed();
    };
    /** A second answer of 412 may mean that the first try was stored and its answer lost. */
    const putOver = async (version: string): Promise<WriteOutcome> => {
      try {
        await whileConflicting(() => send({ IfMatch: version }), signal);
        return 'stored';
      } catch (error) {
        if (!isPreconditionFailed(error) && !isConditionalConflict(error) && statusOf(error) !== 404)
          throw error;
        return settle(key, body.bytes.length, body.sha256, error, signal);
      }
    };
    if (mode === 'replace') {
      await send({});
      return 'stored';
    }
    if (mode !== 'absent') return putOver(mode.over);
    const sendIfAbsent = () => send(conditional.send ? { IfNoneMatch: '*' } : {});
    try {
      await whileConflicting(sendIfAbsent, signal);
    } catch (error) {
      if (isPreconditionFailed(error)) conditional.works();
      if (isPreconditionFailed(error) || isConditionalConflict(error)) {
        return settle(key, body.bytes.length, body.sha256, error, signal);
      }
      if (!conditional.send || !isNotImplemented(error)) throw error;
      conditional.missing();
      await sendIfAbsent();
      return 'stored';
    }
    await conditional.prove(body.bytes.length, sendIfAbsent);
    return 'stored';
  }

  async function putInParts(
    key: string,
    body: { next(): Promise<Buffer | undefined>; bytesRead(): number; sha256(): string },
    info: ObjectInfo,
    mode: WriteMode,
    signal: AbortSignal,
  ): Promise<WriteOutcome> {
    const progress: Progress = { completing: false };
    const absent = mode === 'absent';
    try {
      await uploadInParts(
        {
          client,
          params: {
            ...address(key),
            ...objectParameters(s3, Date.now()),
            ContentType: info.contentType,
            ...((await sendsChecksums(client, s3)) && { ChecksumAlgorithm: 'CRC32' }),
            ...(absent && conditional.send && { IfNoneMatch: '*' }),
          },
          partBytes,
          next: body.next,
          async beforeComplete() {
            if (absent && conditional.mustLook && (await find(key, signal))) throw preconditionFailed();
          },
          onUnconditional: conditional.missing,
          logger: options.logger,
          cleanUpMs: options.cleanUpMs ?? CLEAN_UP_MS,
        },
        progress,
        signal,
      );
      return 'stored';
    } catch (error) {
      if (absent && (isPreconditionFailed(error) || (progress.completing && isConditionalConflict(error)))) {
        return settle(key, body.bytesRead(), body.sha256(), error, signal);
      }
      // The answer may have been lost on its way: then the object is there, and whole.
      if (!progress.completing) throw error;
      if ((await compare(key, body.bytesRead(), body.sha256(), signal)) === 'same') return 'stored';
      throw error;
    }
  }

  return {
    location: prefix === '' ? `s3://${bucket}` : `s3://${bucket}/${prefix}`,
    fullKey,
    async read(key, signal, maxBytes = DEFAULT_MAX_READ_BYTES) {
      return guarded(translate, signal, async () => {
        const quick = await shortCut.get(fullKey(key), signal);
        const object = quick === undefined ? await openObject(client, address(key), signal) : quick;
        return object ? await readBody(key, object, maxBytes) : undefined;
      });
    },
    async readVersion(key, signal, maxBytes = DEFAULT_MAX_READ_BYTES) {
      return guarded(translate, signal, async (): Promise<ReadObject | undefined> => {
        const object = await openObject(client, address(key), signal);
        if (!object) return undefined;
        return { bytes: await readBody(key, object, maxBytes), version: object.etag };
      });
    },
    async head(key, signal) {
      return guarded(translate, signal, () => find(key, signal));
    },
    async scan(key, onChunk, signal) {
      return guarded(translate, signal, async () => {
        const object = await openObject(client, address(key), signal);
        if (!object) return false;
        // The SDK lets go of the signal once the answer has begun.
        for await (const chunk of addAbortSignal(signal, object.body) as AsyncIterable<Buffer>)
          onChunk(chunk);
        return true;
      });
    },
    async *list(keyPrefix, signal, { after } = {}) {
      const from = after === undefined ? {} : { StartAfter: base + after };
      for await (const entry of listPages(keyPrefix, from, signal)) {
        if ('key' in entry) yield entry;
      }
    },
    listDirectory: (keyPrefix, signal) => listPages(keyPrefix, { Delimiter: '/' }, signal),
    async write(key, body, info, mode, signal) {
      const sha256 = createHash('sha256').update(body).digest('hex');
      return guarded(translate, signal, () => put(key, { bytes: body, sha256 }, info, mode, signal));
    },
    async writeStream(key, body, info, mode, signal) {
      const source = openBody(body.chunks, signal);
      return guarded(
        translate,
        signal,
        async () => {
          try {
            const first = await collectFirstPart(source, partBytes, body.expectedBytes);
            if (first.whole) {
              return await put(key, { bytes: first.bytes, sha256: body.sha256() }, info, mode, signal);
            }
            return await putInParts(key, { ...first.rest, sha256: () => body.sha256() }, info, mode, signal);
          } finally {
            await source.close();
          }
        },
        source,
      );
    },
    transferMemory: (expectedBytes) => s3TransferMemory(expectedBytes, partBytes),
    async check(signal) {
      // Reading what is not there asks for the same rights as looking up an object, and unlike HEAD the answer
      // has a body, which tells a missing bucket from a missing object and a wrong key from a missing right.
      await guarded(translate, signal, async () => {
        const object = await openObject(client, address('archive-check'), signal);
        object?.body.destroy();
      });
    },
    async close() {
      client.destroy();
    },
  };
}

/** Sends again while the store says that another write of the same key is under way. */
async function whileConflicting(send: () => Promise<unknown>, signal: AbortSignal): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await send();
      return;
    } catch (error) {
      if (!isConditionalConflict(error) || attempt === CONFLICT_ATTEMPTS) throw error;
    }
    await delay(CONFLICT_DELAY_MS * 2 ** (attempt - 1), undefined, { signal });
  }
}

/**
 * Signs a request with the hash that its body is known to have, so that the store itself verifies the body
 * and the SDK does not hash it again: its signer takes the header as it finds it.
 */
function withPayloadHash(command: PutObjectCommand, sha256: string): PutObjectCommand {
  command.middlewareStack.add(
    (next) => async (args) => {
      if (hasHeaders(args.request)) args.request.headers['x-amz-content-sha256'] = sha256;
      return next(args);
    },
    { name: 'knownPayloadHash', step: 'build' },
  );
  return command;
}

/** What the store would have answered, had it known the condition. */
function preconditionFailed(): Error {
  return Object.assign(new Error('an object is already there'), { name: 'PreconditionFailed' });
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
  for await (const chunk of object.body) {
    bytes += chunk.length;
    assertReadable(key, Math.max(object.bytes, bytes), maxBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, bytes);
}
