/** Writing an object that fits into one request, under the condition of its mode. */

import { setTimeout as delay } from 'node:timers/promises';
import { PutObjectCommand, type S3Client } from '@aws-sdk/client-s3';
import type { S3Config } from '../../config/config.ts';
import { VoicemailError } from '../../domain/errors.ts';
import type { ObjectInfo, ObjectVersion, OverVersion, WriteMode, WriteOutcome } from '../store.ts';
import { hasHeaders, parametersOf, sendsChecksums } from './client.ts';
import type { ConditionalWrites } from './conditional-writes.ts';
import {
  isConditionalConflict,
  isNoSuchKey,
  isNotImplemented,
  isPreconditionFailed,
  unconfirmed,
} from './errors.ts';
import type { FastPath, PutCondition } from './fast-path.ts';
import { compareObject, findEtag, findObject, type ObjectAddress } from './lookup.ts';

/** How often a write that met another one is tried again, and the first pause; pauses double. */
const CONFLICT_ATTEMPTS = 5;
const CONFLICT_DELAY_MS = 50;

/** The bucket that objects are written to. */
export interface Bucket {
  readonly client: S3Client;
  readonly s3: S3Config;
  readonly conditional: ConditionalWrites;
  readonly fastPath: FastPath;
}

/** A body whose hash is known. */
export interface HashedBody {
  readonly bytes: Buffer;
  /** Lowercase hex. */
  readonly sha256: string;
}

/**
 * Writes an object with one request.
 * @throws VoicemailError `ARCHIVE_CONFLICT` when another object (`absent`) or another version (`over`) is there; what
 * the SDK throws.
 */
export async function putObject(
  bucket: Bucket,
  address: ObjectAddress,
  body: HashedBody,
  info: ObjectInfo,
  mode: WriteMode | OverVersion,
  signal: AbortSignal,
): Promise<WriteOutcome> {
  const { conditional } = bucket;
  const send = (condition: PutCondition) => sendPut(bucket, address, body, info, condition, signal);
  if (mode === 'replace') {
    await send({});
    return 'stored';
  }
  const written = { bytes: body.bytes.length, sha256: body.sha256 };
  if (mode !== 'absent') return putOver(bucket, address, written, mode.over, send, signal);

  if (conditional.needsLookup) {
    const found = await findObject(bucket.client, address, false, signal);
    if (found) return resolveExisting(bucket, address, written, preconditionFailed(), signal);
  }
  const sendIfAbsent = () => send(conditional.send ? { IfNoneMatch: '*' } : {});
  try {
    await whileConflicting(sendIfAbsent, signal);
  } catch (error) {
    if (isPreconditionFailed(error)) conditional.works();
    if (isPreconditionFailed(error) || isConditionalConflict(error)) {
      return resolveExisting(bucket, address, written, error, signal);
    }
    if (!conditional.send || !isNotImplemented(error)) throw error;
    conditional.missing();
    await sendIfAbsent();
    return 'stored';
  }
  await conditional.prove(body.bytes.length, sendIfAbsent);
  return 'stored';
}

/**
 * Replaces one version. A store that keeps `If-None-Match` may still ignore `If-Match`, so the ETag is
 * checked before the write wherever the store is not known to keep both. Replacing is rare: one more request does
 * not matter.
 */
async function putOver(
  bucket: Bucket,
  address: ObjectAddress,
  written: WrittenBody,
  version: ObjectVersion,
  send: (condition: PutCondition) => Promise<void>,
  signal: AbortSignal,
): Promise<WriteOutcome> {
  const { client, conditional } = bucket;
  if (!conditional.keepsIfMatch && (await findEtag(client, address, signal)) !== version) {
    return settleOver(bucket, address, written, undefined, signal);
  }
  try {
    await whileConflicting(() => send(conditional.send ? { IfMatch: version } : {}), signal);
  } catch (error) {
    // A refusal may mean that the first try was stored and its answer lost.
    if (isPreconditionFailed(error) || isConditionalConflict(error) || isNoSuchKey(error)) {
      return settleOver(bucket, address, written, error, signal);
    }
    if (!conditional.send || !isNotImplemented(error)) throw error;
    conditional.missing();
    await send({});
  }
  return 'stored';
}

/** Ends a write that did not find the version it was to replace. */
async function settleOver(
  bucket: Bucket,
  address: ObjectAddress,
  written: WrittenBody,
  cause: unknown,
  signal: AbortSignal,
): Promise<WriteOutcome> {
  if ((await compare(bucket, address, written, signal)) === 'same') return 'exists';
  throw new VoicemailError(
    'ARCHIVE_CONFLICT',
    `${address.Key} was changed since it was read; it was left as it is`,
    { cause },
  );
}

/** What was to be written: enough to know it again. */
export interface WrittenBody {
  readonly bytes: number;
  /** Lowercase hex. */
  readonly sha256: string;
}

/**
 * Ends a write in mode `absent` that found something at its key.
 * @param error thrown when nothing is there any more.
 * @throws VoicemailError `ARCHIVE_CONFLICT` when it is something else.
 */
export async function resolveExisting(
  bucket: Bucket,
  address: ObjectAddress,
  written: WrittenBody,
  error: unknown,
  signal: AbortSignal,
): Promise<WriteOutcome> {
  const found = await compare(bucket, address, written, signal);
  if (found === 'same') return 'exists';
  if (found === 'nothing') throw error;
  throw new VoicemailError(
    'ARCHIVE_CONFLICT',
    `another object is already at ${address.Key}; it was left as it is`,
    { cause: error },
  );
}

/** What lies at an address, compared with what was to be written there. */
export async function compare(
  { client, s3 }: Bucket,
  address: ObjectAddress,
  written: WrittenBody,
  signal: AbortSignal,
): Promise<'same' | 'other' | 'nothing'> {
  return compareObject(client, address, written, await sendsChecksums(client, s3), signal);
}

/** What the SDK throws when the condition of a write does not hold. */
export function preconditionFailed(): Error {
  return Object.assign(new Error('the condition of the write does not hold'), { name: 'PreconditionFailed' });
}

async function sendPut(
  bucket: Bucket,
  address: ObjectAddress,
  body: HashedBody,
  info: ObjectInfo,
  condition: PutCondition,
  signal: AbortSignal,
): Promise<void> {
  const { client, s3, fastPath } = bucket;
  const outcome = await fastPath.put(address.Key, { ...body, ...info, condition }, signal);
  if (outcome === 'stored') return;
  if (outcome === 'refused') throw preconditionFailed();
  const checksum = (await sendsChecksums(client, s3))
    ? ({
        ChecksumAlgorithm: 'SHA256',
        ChecksumSHA256: Buffer.from(body.sha256, 'hex').toString('base64'),
      } as const)
    : {};
  const { ETag } = await client.send(
    withPayloadHash(
      new PutObjectCommand({
        ...address,
        ...parametersOf(s3, Date.now()),
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
  const written = { bytes: body.bytes.length, sha256: body.sha256 };
  if ((await compare(bucket, address, written, signal)) !== 'same') throw unconfirmed();
}

/** Sends again while the store says that another write of the same key is under way. */
async function whileConflicting(send: () => Promise<void>, signal: AbortSignal): Promise<void> {
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
