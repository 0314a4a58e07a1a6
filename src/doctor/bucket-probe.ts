/** Tries out on a bucket everything that an archive does there: for `doctor`. */

import {
  AbortMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetBucketLifecycleConfigurationCommand,
  HeadObjectCommand,
  type LifecycleRule,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { VoicemailError } from '../domain/errors.ts';
import { newProbeDirectory, PROBE_BODY, PROBE_INFO } from '../storage/keys.ts';
import {
  createS3Client,
  hasHeaders,
  ownerParameters,
  parametersOf,
  type S3Connection,
  sendsChecksums,
} from '../storage/s3/client.ts';
import {
  isNoSuchKey,
  isNotImplemented,
  isPreconditionFailed,
  nameOf,
  statusOf,
} from '../storage/s3/errors.ts';
import type { ObjectAddress } from '../storage/s3/lookup.ts';
import { createS3Store, type S3Target } from '../storage/s3/store.ts';
import type { ArchiveStore } from '../storage/store.ts';

/** A person waits for the result, so a request is repeated only once. */
export const MAX_ATTEMPTS = 2;
/** How long removing the probe may take after the time for everything else is up. */
export const PROBE_REMOVAL_MS = 5_000;
/** More versions of the probe than it is ever written. */
const MAX_VERSIONS = 5;

/** Something of the probe is still there. */
export interface Leftover {
  /** `object`: it can be seen. `version`: it is deleted, and the bucket keeps a version of it. */
  readonly kind: 'object' | 'version';
  /** The full key. */
  readonly key: string;
  readonly fault: unknown;
}

/** What was found. A fault is what the store, the SDK or the network said; `undefined` where all went well. */
export interface BucketFindings {
  readonly object: {
    readonly writeFault: unknown;
    /** Reading and inspecting it. */
    readonly readFault: unknown;
    readonly listFault: unknown;
    readonly leftover: Leftover | undefined;
  };
  /** Whether a write with `If-None-Match: *` leaves what is there alone; `undefined` where that could not be tried. */
  readonly keepsCondition: boolean | undefined;
  /** An upload in parts with all settings, object lock included, which is never completed. */
  readonly parts: {
    /** Beginning it, and sending a part. */
    readonly uploadFault: unknown;
    /** Listing uploads and parts. */
    readonly listFault: unknown;
    readonly abortFault: unknown;
  };
  readonly lifecycle: { readonly rules: readonly LifecycleRule[] | undefined; readonly fault: unknown };
}

/** How to reach the bucket, and what receives its time. */
export interface InspectBucketOptions {
  /** Endpoint, region and so on, where they shall not come by the SDK's standard chain. */
  readonly connection?: S3Connection;
  /** Gets the `Date` header of each answer. */
  readonly onDate?: (date: string | undefined) => void;
}

/**
 * Writes, looks up, reads, lists and deletes a small object, begins an upload in parts and ends it, and reads the
 * bucket's lifecycle rules. What was written is removed also when `signal` is aborted.
 *
 * The object is written without object lock, which would keep it for years; that is tried with the upload, which is
 * never completed.
 *
 * @throws the signal's reason when aborted.
 */
export async function inspectBucket(
  target: S3Target,
  options: InspectBucketOptions,
  signal: AbortSignal,
): Promise<BucketFindings> {
  const connection = { maxAttempts: MAX_ATTEMPTS, ...options.connection };
  const client = createS3Client(target.s3, connection);
  watchDates(client, options.onDate);
  const unlocked = { ...target, s3: { ...target.s3, objectLock: undefined } };
  const store = createS3Store(unlocked, { connection });
  try {
    const [object, parts, lifecycle] = await Promise.all([
      tryObject(client, store, unlocked, signal),
      tryParts(client, store, target, signal),
      readLifecycle(client, target, signal),
    ]);
    signal.throwIfAborted();
    const { keepsCondition, ...rest } = object;
    return { object: rest, keepsCondition, parts, lifecycle };
  } finally {
    client.destroy();
    await store.close();
  }
}

/** Whether a right is missing. A store says so for each request; any other fault concerns more than one request. */
export function isForbidden(fault: unknown): boolean {
  const said = fault instanceof VoicemailError ? fault.cause : fault;
  return statusOf(said) === 403 && NAMES_OF_FORBIDDEN.includes(nameOf(said));
}

/** The answer to HEAD has no body to say a name in, for which the SDK then makes one up. */
const NAMES_OF_FORBIDDEN = ['AccessDenied', 'Forbidden', 'UnknownError', 'Unknown', '403'];

function watchDates({ middlewareStack }: S3Client, onDate: InspectBucketOptions['onDate']): void {
  if (!onDate) return;
  middlewareStack.add(
    (next) => async (args) => {
      const answer = await next(args);
      if (hasHeaders(answer.response)) onDate(answer.response.headers.date);
      return answer;
    },
    // Below the step that throws what the store refuses.
    { name: 'watchDates', step: 'deserialize', priority: 'low' },
  );
}

async function tryObject(client: S3Client, store: ArchiveStore, target: S3Target, signal: AbortSignal) {
  const directory = newProbeDirectory();
  const key = `${directory}probe`;
  const address = { Bucket: target.bucket, Key: store.fullKey(key), ...ownerParameters(target.s3) };
  let leftover: Leftover | undefined;
  // Not `absent`, which reads before it writes: what is missing then would not be clear.
  const writeFault = await thrownBy(() => store.write(key, PROBE_BODY, PROBE_INFO, 'replace', signal));
  const isWritten = writeFault === undefined;
  let readFault: unknown;
  let listFault: unknown;
  let keepsCondition: boolean | undefined;
  try {
    if (isWritten || isForbidden(writeFault)) {
      readFault = await thrownBy(() => assertReadable(store, key, isWritten, signal));
      listFault = await thrownBy(() => assertListed(store, directory, isWritten, signal));
    }
    if (isWritten) keepsCondition = await tryCondition(client, address, target, signal);
  } finally {
    // A write whose answer was lost may have happened all the same.
    leftover = await removeProbe(client, address, isWritten);
  }
  return { writeFault, readFault, listFault, leftover, keepsCondition };
}

async function assertReadable(
  store: ArchiveStore,
  key: string,
  isWritten: boolean,
  signal: AbortSignal,
): Promise<void> {
  const found = await store.head(key, signal);
  const body = await store.read(key, signal);
  if (!isWritten) return;
  if (!body?.equals(PROBE_BODY) || found?.bytes !== PROBE_BODY.length) {
    throw new Error('what was read is not what was written');
  }
}

async function assertListed(
  store: ArchiveStore,
  directory: string,
  isWritten: boolean,
  signal: AbortSignal,
): Promise<void> {
  let isListed = false;
  for await (const _object of store.list(directory, signal)) isListed = true;
  if (isWritten && !isListed) throw new Error('what was written is not listed');
}

/** The same bytes again, so that nothing is lost where the store ignores the condition. */
async function tryCondition(
  client: S3Client,
  address: ObjectAddress,
  { s3 }: S3Target,
  abortSignal: AbortSignal,
): Promise<boolean | undefined> {
  const again = new PutObjectCommand({
    ...address,
    ...parametersOf(s3, Date.now()),
    Body: PROBE_BODY,
    ContentType: PROBE_INFO.contentType,
    IfNoneMatch: '*',
  });
  const fault = await thrownBy(() => client.send(again, { abortSignal }));
  if (fault === undefined || isNotImplemented(fault)) return false;
  return isPreconditionFailed(fault) ? true : undefined;
}

/** Deletes every version of the probe that can be seen. */
export async function removeProbe(
  client: S3Client,
  address: ObjectAddress,
  isWritten: boolean,
): Promise<Leftover | undefined> {
  const abortSignal = AbortSignal.timeout(PROBE_REMOVAL_MS);
  const remove = (VersionId?: string) =>
    client.send(new DeleteObjectCommand({ ...address, ...(VersionId && { VersionId }) }), { abortSignal });
  for (let attempt = 1; attempt <= MAX_VERSIONS; attempt += 1) {
    const version = await findVersion(client, address, abortSignal);
    if (version === 'nothing') return undefined;
    const versionFault = version.id === undefined ? undefined : await thrownBy(() => remove(version.id));
    if (version.id !== undefined && versionFault === undefined) continue;
    const fault = await thrownBy(() => remove());
    if (fault !== undefined) return isWritten ? { kind: 'object', key: address.Key, fault } : undefined;
    if (versionFault !== undefined) return { kind: 'version', key: address.Key, fault: versionFault };
    return undefined;
  }
  return { kind: 'version', key: address.Key, fault: undefined };
}

/** The version that can be seen, without an id where the bucket keeps none or does not say. */
async function findVersion(
  client: S3Client,
  address: ObjectAddress,
  abortSignal: AbortSignal,
): Promise<'nothing' | { readonly id: string | undefined }> {
  try {
    const { VersionId } = await client.send(new HeadObjectCommand({ ...address }), { abortSignal });
    return { id: VersionId };
  } catch (error) {
    return isNoSuchKey(error) ? 'nothing' : { id: undefined };
  }
}

async function tryParts(
  client: S3Client,
  store: ArchiveStore,
  { bucket, s3 }: S3Target,
  abortSignal: AbortSignal,
): Promise<BucketFindings['parts']> {
  const where = { Bucket: bucket, ...ownerParameters(s3) };
  const Key = store.fullKey(`${newProbeDirectory()}probe`);
  let UploadId: string | undefined;
  let listFault: unknown;
  let abortFault: unknown;
  const uploadFault = await thrownBy(async () => {
    const checksums = await sendsChecksums(client, s3);
    const create = new CreateMultipartUploadCommand({
      ...where,
      Key,
      ...parametersOf(s3, Date.now()),
      ...(checksums && { ChecksumAlgorithm: 'CRC32' }),
      ContentType: PROBE_INFO.contentType,
    });
    ({ UploadId } = await client.send(create, { abortSignal }));
    if (UploadId === undefined) throw new Error('the bucket answered the start of an upload without its id');
    const part = new UploadPartCommand({
      ...where,
      Key,
      UploadId,
      PartNumber: 1,
      ...(checksums && { ChecksumAlgorithm: 'CRC32' }),
      Body: PROBE_BODY,
    });
    await client.send(part, { abortSignal });
  });
  if (UploadId !== undefined) {
    const upload = { ...where, Key, UploadId };
    listFault = await thrownBy(async () => {
      await client.send(new ListPartsCommand(upload), { abortSignal });
      await client.send(new ListMultipartUploadsCommand({ ...where, Prefix: Key }), { abortSignal });
    });
    abortFault = await thrownBy(() =>
      client.send(new AbortMultipartUploadCommand(upload), {
        abortSignal: AbortSignal.timeout(PROBE_REMOVAL_MS),
      }),
    );
  }
  return { uploadFault, listFault, abortFault };
}

async function readLifecycle(
  client: S3Client,
  { bucket, s3 }: S3Target,
  abortSignal: AbortSignal,
): Promise<BucketFindings['lifecycle']> {
  try {
    const command = new GetBucketLifecycleConfigurationCommand({ Bucket: bucket, ...ownerParameters(s3) });
    const { Rules = [] } = await client.send(command, { abortSignal });
    return { rules: Rules, fault: undefined };
  } catch (error) {
    if (nameOf(error) === 'NoSuchLifecycleConfiguration') return { rules: [], fault: undefined };
    return { rules: undefined, fault: error };
  }
}

/** What `work` throws, if it does. */
export async function thrownBy(work: () => Promise<unknown>): Promise<unknown> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return error;
  }
}
