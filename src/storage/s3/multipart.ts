/**
 * An object too large for one request: create an upload, send its parts, complete it, or remove it.
 *
 * A loop of our own rather than `Upload` of `@aws-sdk/lib-storage`, because of what that does not offer: its `abort()`
 * settles at once while requests go on; it gives up removing an upload at the first failure and then hides the error
 * that mattered; it keeps no note of answers that got lost; it holds four parts in memory where this holds two. See
 * docs/decisions/0003-plain-multipart-loop.md.
 */

import {
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  type CreateMultipartUploadCommandInput,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { VoicemailError } from '../../domain/errors.ts';
import { MAX_PARTS } from '../../domain/transfer-memory.ts';
import type { Logger } from '../../util/log.ts';
import type { BodyReader } from '../body.ts';
import { cleanUp, type UploadTrace } from './abandoned-uploads.ts';
import { withUnsignedPayload } from './client.ts';
import { attemptsOf, isNotImplemented, notFromStore, statusOf, unconfirmed } from './errors.ts';
import type { ObjectAddress } from './lookup.ts';

/**
 * How long a cancelled or failed upload may take to clean up. What is left then is logged: a process that shuts down is
 * killed if it takes too long.
 */
export const CLEAN_UP_MS = 10_000;

/** An object to be uploaded in parts. */
export interface PartsUpload {
  readonly client: S3Client;
  readonly address: ObjectAddress;
  /** What the object is created with: its type, encryption, tags and so on. */
  readonly parameters: Omit<CreateMultipartUploadCommandInput, 'Bucket' | 'Key' | 'ChecksumAlgorithm'>;
  /** Whether each part carries a checksum of its own. */
  readonly withChecksums: boolean;
  /** Complete it only if there is no such object yet: the condition counts when the upload is completed. */
  readonly ifAbsent: boolean;
  /** The first part; the others follow by `parts`. */
  readonly first: BodyPart;
  readonly parts: PartReader;
  /** Called when all parts are there; throws if the object shall not be completed. */
  beforeComplete(): Promise<void>;
  /** Runs each request, and again where it is worth it. */
  persist<Result>(request: (signal: AbortSignal) => Promise<Result>): Promise<Result>;
  /** The store does not know `IfNoneMatch`; it is completed without. */
  onUnconditional(): void;
  readonly logger: Logger | undefined;
  /**
   * For all of the cleaning up together (milliseconds). In the first half of it, a cancelled request that starts or
   * completes the upload may still bring its answer.
   */
  readonly cleanUpMs: number;
}

/** The progress of an upload, also of a failed one. */
export interface UploadProgress {
  /** Completion was requested: whether it happened may be unknown. */
  completing: boolean;
}

/**
 * Uploads in parts, one at a time, each with its own checksum and tried again from memory. When it fails or is
 * cancelled, the upload is removed before this returns.
 *
 * @throws what the SDK, the body or `beforeComplete` throws.
 */
export async function uploadInParts(
  upload: PartsUpload,
  progress: UploadProgress,
  signal: AbortSignal,
): Promise<void> {
  const trace: UploadTrace = { startedAt: Date.now(), answerLost: false, partInFlight: false };
  let cancelledAt: number | undefined;
  const onAbort = () => {
    cancelledAt = Date.now();
  };
  signal.addEventListener('abort', onAbort, { once: true });
  let done = false;
  try {
    const uploadId = await upload.persist((inner) => createUpload(upload, trace, inner));
    const sent: CompletedPart[] = [];
    for (let part = upload.first; ; part = await upload.parts.next()) {
      const number = sent.length + 1;
      sent.push(await upload.persist((inner) => uploadPart(upload, uploadId, number, part, trace, inner)));
      if (part.isLast) break;
    }
    await upload.beforeComplete();
    signal.throwIfAborted();
    progress.completing = true;
    await upload.persist((inner) => completeUpload(upload, uploadId, sent, inner));
    done = true;
  } finally {
    signal.removeEventListener('abort', onAbort);
    const passed = cancelledAt === undefined ? 0 : Date.now() - cancelledAt;
    await cleanUp(upload, trace, done, Math.max(0, upload.cleanUpMs - passed));
  }
}

/** Begins an upload and returns its id, for which also a cancelled request is waited for. */
async function createUpload(upload: PartsUpload, trace: UploadTrace, signal: AbortSignal): Promise<string> {
  const { client, address, parameters, withChecksums, cleanUpMs } = upload;
  signal.throwIfAborted();
  const command = new CreateMultipartUploadCommand({
    ...address,
    ...parameters,
    ...(withChecksums && { ChecksumAlgorithm: 'CRC32' }),
  });
  try {
    const { UploadId, $metadata } = await withGrace(signal, cleanUpMs / 2, (abortSignal) =>
      client.send(command, { abortSignal }),
    );
    // Without an id, or after more than one attempt, there may be an upload whose id is unknown.
    trace.answerLost ||= UploadId === undefined || UploadId === '' || ($metadata.attempts ?? 1) > 1;
    if (UploadId === undefined || UploadId === '')
      throw notFromStore('the start of an upload without its id');
    trace.uploadId = UploadId;
    return UploadId;
  } catch (error) {
    if (error instanceof VoicemailError) throw error;
    const status = statusOf(error);
    trace.answerLost ||= status === undefined || status >= 500 || attemptsOf(error) > 1;
    throw error;
  }
}

async function uploadPart(
  { client, address, withChecksums }: PartsUpload,
  uploadId: string,
  number: number,
  part: BodyPart,
  trace: UploadTrace,
  signal: AbortSignal,
): Promise<CompletedPart> {
  signal.throwIfAborted();
  if (number > MAX_PARTS) {
    throw new VoicemailError('RECORDING_TOO_LARGE', `the object has more than ${MAX_PARTS} parts`);
  }
  const command = new UploadPartCommand({
    ...address,
    ...(withChecksums && { ChecksumAlgorithm: 'CRC32' }),
    UploadId: uploadId,
    PartNumber: number,
    Body: part.bytes,
  });
  trace.partInFlight = true;
  const { ETag, ChecksumCRC32 } = await client.send(withUnsignedPayload(command), { abortSignal: signal });
  trace.partInFlight = false;
  if (ETag === undefined) throw unconfirmed();
  return { PartNumber: number, ETag, ...(ChecksumCRC32 !== undefined && { ChecksumCRC32 }) };
}

/** Makes the object of the parts. A cancelled request may still bring its answer, for a while. */
async function completeUpload(
  upload: PartsUpload,
  uploadId: string,
  parts: CompletedPart[],
  signal: AbortSignal,
): Promise<void> {
  const { client, address, ifAbsent, cleanUpMs } = upload;
  const input = { ...address, UploadId: uploadId, MultipartUpload: { Parts: parts } };
  await withGrace(signal, cleanUpMs / 2, async (abortSignal) => {
    const send = async (condition: { IfNoneMatch?: '*' }) => {
      const command = new CompleteMultipartUploadCommand({ ...input, ...condition });
      const { ETag } = await client.send(command, { abortSignal });
      if (ETag === undefined) throw unconfirmed();
    };
    try {
      await send(ifAbsent ? { IfNoneMatch: '*' } : {});
    } catch (error) {
      if (!ifAbsent || !isNotImplemented(error)) throw error;
      upload.onUnconditional();
      await send({});
    }
  });
}

/**
 * Sends a request whose answer must be known, or at least waited for: it is aborted only `graceMs` after the
 * signal.
 */
async function withGrace<Result>(
  signal: AbortSignal,
  graceMs: number,
  send: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    timer = setTimeout(() => late.abort(signal.reason), graceMs);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await send(late.signal);
  } finally {
    signal.removeEventListener('abort', onAbort);
    clearTimeout(timer);
  }
}

/** The first size of a part for a body of unknown length. */
const INITIAL_BYTES = 256 * 1024;

/** A part of a body. */
export interface BodyPart {
  /** As many bytes as a part has, except in the last one. Valid until the next part is requested. */
  readonly bytes: Buffer;
  /** Whether the body ends with it. */
  readonly isLast: boolean;
}

/** Reads a body part by part, into one buffer that all parts share. */
export class PartReader {
  readonly #source: BodyReader;
  readonly #partBytes: number;
  readonly #pool: BufferPool;
  #buffer: Buffer;
  /** Read, but not part of a part yet. */
  #pending: Buffer | undefined;
  #bytesRead = 0;

  /** @param expectedBytes a hint: a body of just that size is held once, without copies. */
  constructor(source: BodyReader, partBytes: number, expectedBytes: number | undefined, pool: BufferPool) {
    this.#source = source;
    this.#partBytes = partBytes;
    this.#pool = pool;
    this.#buffer = pool.take(Math.min(expectedBytes ?? INITIAL_BYTES, partBytes));
  }

  /** Releases the memory of all parts, once the last one is stored: no request may be under way that sends one. */
  release(): void {
    this.#pool.give(this.#buffer);
    this.#buffer = Buffer.alloc(0);
  }

  /** How many bytes the parts have had so far. */
  get bytesRead(): number {
    return this.#bytesRead;
  }

  /** The next part, empty if the body is. Not to be called after the last one. */
  async next(): Promise<BodyPart> {
    let length = 0;
    for (;;) {
      const chunk = this.#pending ?? (await this.#source.next());
      this.#pending = chunk;
      const isLast = chunk === undefined;
      if (isLast || length === this.#partBytes) {
        this.#bytesRead += length;
        return { bytes: this.#buffer.subarray(0, length), isLast };
      }
      this.#makeRoom(length, length + chunk.length);
      const taken = chunk.copy(this.#buffer, length);
      length += taken;
      this.#pending = taken < chunk.length ? chunk.subarray(taken) : undefined;
    }
  }

  /** Grows the buffer up to a part. */
  #makeRoom(length: number, wanted: number): void {
    if (wanted <= this.#buffer.length || this.#buffer.length === this.#partBytes) return;
    const grown = this.#pool.take(Math.min(Math.max(2 * this.#buffer.length, wanted), this.#partBytes));
    this.#buffer.copy(grown, 0, 0, length);
    this.#pool.give(this.#buffer);
    this.#buffer = grown;
  }
}
/** Memory for bodies that are sent in one piece, used again and again. */

/** Free buffers. */
interface BufferPool {
  /** A buffer of that size; what is in it is left from before. */
  take(bytes: number): Buffer;
  /** Gives back a buffer that {@link BufferPool.take} returned. It must not be read any more. */
  give(buffer: Buffer): void;
}

/** So that recordings of about the same length share buffers. */
const STEP_BYTES = 64 * 1024;

/**
 * Fresh memory costs more than filling it, as the kernel hands it out page by page: 64 µs for 480 KB. It also stays
 * with the process until the next collection of garbage, since buffers lie outside of the heap.
 *
 * @param maxBytes kept at the most.
 */
export function createBufferPool(maxBytes: number): BufferPool {
  const free: ArrayBufferLike[] = [];
  let keptBytes = 0;
  return {
    take(bytes) {
      const size = Math.max(1, Math.ceil(bytes / STEP_BYTES)) * STEP_BYTES;
      const index = free.findIndex(({ byteLength }) => byteLength >= size && byteLength <= 2 * size);
      const [known] = index === -1 ? [] : free.splice(index, 1);
      if (known === undefined) return Buffer.allocUnsafeSlow(size).subarray(0, bytes);
      keptBytes -= known.byteLength;
      return Buffer.from(known, 0, bytes);
    },
    give({ buffer }) {
      if (keptBytes + buffer.byteLength > maxBytes) return;
      keptBytes += buffer.byteLength;
      free.push(buffer);
    },
  };
}
