/** The beginning of a body, which decides whether it goes into the bucket as one or in parts. */

import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { type Options, Upload } from '@aws-sdk/lib-storage';
import { VoicemailError } from '../../domain/errors.ts';
import type { Logger } from '../../util/log.ts';
import type { BodyReader } from '../body.ts';
import { withUnsignedPayload } from './client.ts';
import { attemptsOf, isNoSuchUpload, isNotImplemented, statusOf, unconfirmed } from './errors.ts';

/** Where to begin when nobody knows how long a body will be. */
const INITIAL_BYTES = 256 * 1024;

/** What a body turned out to be: no longer than one part, or longer. */
export type FirstPart =
  | { readonly whole: true; readonly bytes: Buffer }
  | { readonly whole: false; readonly rest: Remainder };

/** A body longer than a part, from its first byte. */
export interface Remainder {
  /** The next chunk, or `undefined` after the last. */
  next(): Promise<Buffer | undefined>;
  /** How many bytes `next` has given. */
  bytesRead(): number;
}

/**
 * Reads until the body ends or exceeds one part, into a single buffer.
 * @param expectedBytes a hint: a body of just that size is held once, without copies.
 */
export async function collectFirstPart(
  source: BodyReader,
  partBytes: number,
  expectedBytes: number | undefined,
): Promise<FirstPart> {
  let buffer = Buffer.allocUnsafeSlow(Math.min(expectedBytes ?? INITIAL_BYTES, partBytes));
  let length = 0;
  for (let chunk = await source.next(); chunk; chunk = await source.next()) {
    if (length + chunk.length > partBytes) {
      return { whole: false, rest: remainder([buffer.subarray(0, length), chunk], source) };
    }
    if (length + chunk.length > buffer.length) {
      const larger = Math.min(Math.max(2 * buffer.length, length + chunk.length), partBytes);
      const grown = Buffer.allocUnsafeSlow(larger);
      buffer.copy(grown, 0, 0, length);
      buffer = grown;
    }
    length += chunk.copy(buffer, length);
  }
  return { whole: true, bytes: buffer.subarray(0, length) };
}

function remainder(read: Buffer[], source: BodyReader): Remainder {
  let given = 0;
  return {
    async next() {
      const chunk = read.shift() ?? (await source.next());
      given += chunk?.length ?? 0;
      return chunk;
    },
    bytesRead: () => given,
  };
}

/**
 * From the cancelling (or the failure) until nothing is waited for any more. What is left then is told in the log: a
 * process that shuts down is killed if it takes too long.
 */
export const CLEAN_UP_MS = 10_000;
const ABORT_ATTEMPTS = 3;
/** As far as S3 lets clocks differ: a request with an older or newer date is refused. */
const MAX_CLOCK_SKEW_MS = 15 * 60 * 1000;

/** An object to be uploaded in parts. */
export interface PartsUpload {
  readonly client: S3Client;
  /** Parameters for all requests of the upload; `IfNoneMatch` counts when it is completed. */
  readonly params: Omit<Options['params'], 'Body' | 'ContentLength'> & { Bucket: string; Key: string };
  readonly partBytes: number;
  /** The next chunk, or `undefined` after the last; together more than one part. */
  next(): Promise<Buffer | undefined>;
  /** Called when all parts are there; throws if the object shall not be completed. */
  beforeComplete(): Promise<void>;
  /** The store does not know `IfNoneMatch`; it is completed without. */
  onUnconditional(): void;
  readonly logger: Logger | undefined;
  /**
   * For all of the cleaning up together (milliseconds). In the first half of it, a cancelled request that starts or
   * completes the upload may still bring its answer.
   */
  readonly cleanUpMs: number;
}

/** How far an upload came, told also when it failed. */
export interface Progress {
  /** Completion was asked for: whether it happened may be unknown. */
  completing: boolean;
}

/** What has to be known to clean up. */
interface Trace {
  readonly startedAt: number;
  uploadId?: string;
  /** A request to create an upload went without an answer: there may be one whose id is unknown. */
  answerLost: boolean;
  partInFlight: boolean;
}

/**
 * Uploads in parts, one at a time, each with its own checksum and tried again from memory.
 *
 * When it fails or is cancelled, the upload is removed before this returns. lib-storage's own means for this
 * are not used: its `abort()` settles at once while requests go on, it gives up on the first failed attempt to
 * remove the parts and then hides the error that mattered.
 *
 * @throws what the SDK, `next` or `beforeComplete` throws.
 */
export async function uploadInParts(
  upload: PartsUpload,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const trace: Trace = { startedAt: Date.now(), answerLost: false, partInFlight: false };
  let cancelledAt: number | undefined;
  const onAbort = () => {
    cancelledAt = Date.now();
  };
  signal.addEventListener('abort', onAbort, { once: true });
  let done = false;
  try {
    await new Upload({
      client: clientFor(upload, trace, progress, signal),
      params: { ...upload.params, Body: streamOf(upload) },
      partSize: upload.partBytes,
      queueSize: 1,
      leavePartsOnError: true,
    }).done();
    done = true;
  } finally {
    signal.removeEventListener('abort', onAbort);
    const passed = cancelledAt === undefined ? 0 : Date.now() - cancelledAt;
    await cleanUp(upload, trace, done, Math.max(0, upload.cleanUpMs - passed));
  }
}

/** Removes what an upload leaves behind, unless `done`, within `timeoutMs` for all of it. */
async function cleanUp(upload: PartsUpload, trace: Trace, done: boolean, timeoutMs: number): Promise<void> {
  const { uploadId, partInFlight, answerLost } = trace;
  const tasks: ((signal: AbortSignal) => Promise<void>)[] = [];
  if (!done && uploadId !== undefined) tasks.push((end) => removeUpload(upload, uploadId, partInFlight, end));
  if (answerLost) tasks.push((end) => removeUnknownUploads(upload, trace, end));
  if (tasks.length === 0) return;
  const end = AbortSignal.timeout(timeoutMs);
  await Promise.all(tasks.map((task) => task(end)));
}

/**
 * The body as lib-storage takes it. Nothing is read ahead: a chunk is asked for when there is room for it, so
 * that no read is under way when an upload fails.
 */
function streamOf(upload: PartsUpload): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const chunk = await upload.next();
        if (chunk) controller.enqueue(chunk);
        else controller.close();
      },
    },
    { highWaterMark: 0 },
  );
}

/** The client with a `send` that hands each request the signal and takes notes for the cleaning up. */
function clientFor(upload: PartsUpload, trace: Trace, progress: Progress, signal: AbortSignal): S3Client {
  const { client } = upload;
  const graceMs = upload.cleanUpMs / 2;

  async function create(command: CreateMultipartUploadCommand) {
    try {
      const answer = await withGrace(signal, graceMs, (abortSignal) => client.send(command, { abortSignal }));
      trace.answerLost = !answer.UploadId || (answer.$metadata.attempts ?? 1) > 1;
      if (!answer.UploadId) throw withoutId();
      trace.uploadId = answer.UploadId;
      return answer;
    } catch (error) {
      if (error instanceof VoicemailError) throw error;
      const status = statusOf(error);
      trace.answerLost = status === undefined || status >= 500 || attemptsOf(error) > 1;
      throw error;
    }
  }

  async function uploadPart(command: UploadPartCommand) {
    assertKnownUpload(command.input.UploadId, trace);
    trace.partInFlight = true;
    const answer = await client.send(withUnsignedPayload(command), { abortSignal: signal });
    trace.partInFlight = false;
    return confirmed(answer);
  }

  async function complete(command: CompleteMultipartUploadCommand) {
    assertKnownUpload(command.input.UploadId, trace);
    await upload.beforeComplete();
    progress.completing = true;
    return withGrace(signal, graceMs, async (abortSignal) => {
      try {
        return confirmed(await client.send(command, { abortSignal }));
      } catch (error) {
        if (command.input.IfNoneMatch === undefined || !isNotImplemented(error)) throw error;
        upload.onUnconditional();
        const { IfNoneMatch: _unknown, ...input } = command.input;
        return confirmed(await client.send(new CompleteMultipartUploadCommand(input), { abortSignal }));
      }
    });
  }

  return Object.create(client, {
    send: {
      value: (command: unknown) => {
        signal.throwIfAborted();
        if (command instanceof CreateMultipartUploadCommand) return create(command);
        if (command instanceof UploadPartCommand) return uploadPart(command);
        if (command instanceof CompleteMultipartUploadCommand) return complete(command);
        throw new Error('lib-storage sent a request that is not expected of it');
      },
    },
  });
}

/** @throws VoicemailError unless the answer names what was stored. */
function confirmed<Answer extends { ETag?: string | undefined }>(answer: Answer): Answer {
  if (answer.ETag === undefined) throw unconfirmed();
  return answer;
}

/** Some proxies answer 200 with a page of their own. */
function withoutId(): VoicemailError {
  return new VoicemailError(
    'ARCHIVE_UNAVAILABLE',
    'the bucket answered the start of an upload without its id',
    { hint: 'check what is between here and the store: some proxies answer 200 to anything' },
  );
}

/**
 * The SDK leaves out an id that is not there, and what is left of the request for a part is an unconditional put of
 * that part over the object.
 */
function assertKnownUpload(uploadId: string | undefined, { uploadId: known }: Trace): void {
  if (known === undefined || uploadId !== known) {
    throw new Error('lib-storage sent a part of an upload that was not started');
  }
}

/** Removes an upload whose id is known. */
async function removeUpload(
  upload: PartsUpload,
  uploadId: string,
  partInFlight: boolean,
  signal: AbortSignal,
): Promise<void> {
  // A part that was under way may arrive after the upload was removed, and stay: S3 says to remove it again.
  // https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
  let toGo = partInFlight ? 2 : 1;
  for (let attempt = 1; toGo > 0; attempt += 1) {
    try {
      await sendAbort(upload, uploadId, signal);
      toGo -= 1;
    } catch (error) {
      if (isNoSuchUpload(error)) return;
      if (attempt >= ABORT_ATTEMPTS || signal.aborted) {
        warnOfLeftover(upload, error);
        return;
      }
    }
  }
}

/**
 * Removes uploads of this key that were started by a request whose answer got lost. They look like this: not
 * older than our own, and without any part. An upload that another worker began this very moment looks the
 * same; it then fails in a way that is tried again.
 */
async function removeUnknownUploads(
  upload: PartsUpload,
  trace: Trace,
  abortSignal: AbortSignal,
): Promise<void> {
  const { client, params } = upload;
  const where = ownedBucket(params);
  try {
    const listed = await client.send(new ListMultipartUploadsCommand({ ...where, Prefix: params.Key }), {
      abortSignal,
    });
    for (const { Key, UploadId, Initiated } of listed.Uploads ?? []) {
      const ours = Key === params.Key && (Initiated?.getTime() ?? 0) >= trace.startedAt - MAX_CLOCK_SKEW_MS;
      if (!ours || UploadId === undefined || UploadId === trace.uploadId) continue;
      if (await isEmptyUpload(upload, UploadId, abortSignal)) await sendAbort(upload, UploadId, abortSignal);
    }
  } catch (error) {
    if (!isNoSuchUpload(error)) warnOfLeftover(upload, error);
  }
}

async function isEmptyUpload(
  { client, params }: PartsUpload,
  UploadId: string,
  abortSignal: AbortSignal,
): Promise<boolean> {
  const listed = await client.send(
    new ListPartsCommand({ ...ownedBucket(params), Key: params.Key, UploadId, MaxParts: 1 }),
    { abortSignal },
  );
  return (listed.Parts ?? []).length === 0;
}

async function sendAbort(
  { client, params }: PartsUpload,
  UploadId: string,
  abortSignal: AbortSignal,
): Promise<void> {
  await client.send(new AbortMultipartUploadCommand({ ...ownedBucket(params), Key: params.Key, UploadId }), {
    abortSignal,
  });
}

function ownedBucket({ Bucket, ExpectedBucketOwner }: PartsUpload['params']) {
  return { Bucket, ...(ExpectedBucketOwner !== undefined && { ExpectedBucketOwner }) };
}

function warnOfLeftover({ logger, params }: PartsUpload, error: unknown): void {
  logger?.warn(
    { err: error, bucket: params.Bucket, key: params.Key },
    'an unfinished multipart upload may be left in the bucket; a lifecycle rule (AbortIncompleteMultipartUpload) clears it',
  );
}

/**
 * Sends a request whose answer must be known, or at least waited for: it is broken off only `graceMs` after the
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
