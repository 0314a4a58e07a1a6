/** Large objects in parts, through lib-storage, and never a part left behind. */

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
import type { Logger } from '../log.ts';
import { attemptsOf, isNoSuchUpload, isNotImplemented, statusOf } from './s3-errors.ts';

/** The least S3 takes for a part that is not the last. */
export const MIN_PART_BYTES = 5 * 1024 * 1024;
const MAX_PARTS = 10_000;

/** How long a cancelled request that starts or completes an upload may still bring its answer. */
const CANCEL_GRACE_MS = 5_000;
/** For all attempts at removing an upload together. */
const CLEANUP_TIMEOUT_MS = 20_000;
const ABORT_ATTEMPTS = 3;
/** As far as S3 lets clocks differ: a request with an older or newer date is refused. */
const MAX_CLOCK_SKEW_MS = 15 * 60 * 1000;

/** The size of a part with which an object of `maxObjectBytes` fits into S3's 10,000 parts. */
export function partBytesFor(maxObjectBytes: number): number {
  return Math.max(MIN_PART_BYTES, Math.ceil(maxObjectBytes / MAX_PARTS));
}

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
    if (!done && trace.uploadId !== undefined) await removeUpload(upload, trace.uploadId, trace.partInFlight);
    if (trace.answerLost) await removeUnknownUploads(upload, trace);
  }
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

  async function create(command: CreateMultipartUploadCommand) {
    try {
      const answer = await withGrace(signal, (abortSignal) => client.send(command, { abortSignal }));
      if (answer.UploadId !== undefined) trace.uploadId = answer.UploadId;
      trace.answerLost = (answer.$metadata.attempts ?? 1) > 1;
      return answer;
    } catch (error) {
      const status = statusOf(error);
      trace.answerLost = status === undefined || status >= 500 || attemptsOf(error) > 1;
      throw error;
    }
  }

  async function uploadPart(command: UploadPartCommand) {
    trace.partInFlight = true;
    const answer = await client.send(command, { abortSignal: signal });
    trace.partInFlight = false;
    return answer;
  }

  async function complete(command: CompleteMultipartUploadCommand) {
    await upload.beforeComplete();
    progress.completing = true;
    return withGrace(signal, async (abortSignal) => {
      try {
        return await client.send(command, { abortSignal });
      } catch (error) {
        if (command.input.IfNoneMatch === undefined || !isNotImplemented(error)) throw error;
        upload.onUnconditional();
        const { IfNoneMatch: _unknown, ...input } = command.input;
        return client.send(new CompleteMultipartUploadCommand(input), { abortSignal });
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

/** Removes an upload whose id is known. */
async function removeUpload(upload: PartsUpload, uploadId: string, partInFlight: boolean): Promise<void> {
  const signal = AbortSignal.timeout(CLEANUP_TIMEOUT_MS);
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
async function removeUnknownUploads(upload: PartsUpload, trace: Trace): Promise<void> {
  const { client, params } = upload;
  const where = ownedBucket(params);
  const abortSignal = AbortSignal.timeout(CLEANUP_TIMEOUT_MS);
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
 * Sends a request whose answer must be known, or at least waited for: it is broken off only some seconds after
 * the signal.
 */
async function withGrace<Result>(
  signal: AbortSignal,
  send: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    timer = setTimeout(() => late.abort(signal.reason), CANCEL_GRACE_MS);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await send(late.signal);
  } finally {
    signal.removeEventListener('abort', onAbort);
    clearTimeout(timer);
  }
}
