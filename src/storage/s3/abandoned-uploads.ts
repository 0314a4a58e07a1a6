/** Removing the multipart uploads that came to nothing, so that their parts do not stay in the bucket. */

import {
  AbortMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import type { Logger } from '../../util/log.ts';
import { isNoSuchUpload } from './errors.ts';
import type { ObjectAddress } from './lookup.ts';

const ABORT_ATTEMPTS = 3;
/** As far as S3 lets clocks differ: a request with an older or newer date is refused. */
const MAX_CLOCK_SKEW_MS = 15 * 60 * 1000;

/** An upload that may have left something. */
interface LeftUpload {
  readonly client: S3Client;
  readonly address: ObjectAddress;
  readonly logger: Logger | undefined;
}

/** What has to be known of an upload to clean up after it. */
export interface UploadTrace {
  readonly startedAt: number;
  uploadId?: string;
  /** A request to create an upload went without an answer: there may be one whose id is unknown. */
  answerLost: boolean;
  partInFlight: boolean;
}

/** Removes what an upload leaves behind, unless `done`, within `timeoutMs` for all of it. What can't be is logged. */
export async function cleanUp(
  upload: LeftUpload,
  trace: UploadTrace,
  done: boolean,
  timeoutMs: number,
): Promise<void> {
  const { uploadId, partInFlight, answerLost } = trace;
  const tasks: ((signal: AbortSignal) => Promise<void>)[] = [];
  if (!done && uploadId !== undefined) tasks.push((end) => removeUpload(upload, uploadId, partInFlight, end));
  if (answerLost) tasks.push((end) => removeUnknownUploads(upload, trace, end));
  if (tasks.length === 0) return;
  const end = AbortSignal.timeout(timeoutMs);
  await Promise.all(tasks.map((task) => task(end)));
}

/** Removes an upload whose id is known. */
async function removeUpload(
  upload: LeftUpload,
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
  upload: LeftUpload,
  trace: UploadTrace,
  abortSignal: AbortSignal,
): Promise<void> {
  const { client, address } = upload;
  const { Key, ...bucket } = address;
  try {
    const listed = await client.send(new ListMultipartUploadsCommand({ ...bucket, Prefix: Key }), {
      abortSignal,
    });
    for (const { Key: found, UploadId, Initiated } of listed.Uploads ?? []) {
      const isOwn = found === Key && (Initiated?.getTime() ?? 0) >= trace.startedAt - MAX_CLOCK_SKEW_MS;
      if (!isOwn || UploadId === undefined || UploadId === trace.uploadId) continue;
      if (await isEmptyUpload(upload, UploadId, abortSignal)) await sendAbort(upload, UploadId, abortSignal);
    }
  } catch (error) {
    if (!isNoSuchUpload(error)) warnOfLeftover(upload, error);
  }
}

async function isEmptyUpload(
  { client, address }: LeftUpload,
  UploadId: string,
  abortSignal: AbortSignal,
): Promise<boolean> {
  const listed = await client.send(new ListPartsCommand({ ...address, UploadId, MaxParts: 1 }), {
    abortSignal,
  });
  return (listed.Parts ?? []).length === 0;
}

async function sendAbort(
  { client, address }: LeftUpload,
  UploadId: string,
  abortSignal: AbortSignal,
): Promise<void> {
  await client.send(new AbortMultipartUploadCommand({ ...address, UploadId }), {
    abortSignal,
  });
}

function warnOfLeftover({ logger, address }: LeftUpload, error: unknown): void {
  logger?.warn(
    { err: error, bucket: address.Bucket, key: address.Key },
    'an unfinished multipart upload may be left in the bucket; a lifecycle rule (AbortIncompleteMultipartUpload) clears it',
  );
}
