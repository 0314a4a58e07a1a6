/** Reads objects and listings of the bucket. */

import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { GetObjectCommand, HeadObjectCommand, ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3';
import type { ByteRange } from '../../domain/requests.ts';
import { compareKeys } from '../keys.ts';
import type { ListedDirectory, ListedObject, StoredObject } from '../store.ts';
import { isNoSuchKey, notFromStore } from './errors.ts';
import { steadily } from './slow-answers.ts';

/** Where an object is, as requests name it. */
export interface ObjectAddress {
  readonly Bucket: string;
  readonly Key: string;
  readonly ExpectedBucketOwner?: string;
}

/** An object being read. Its body has to be read to the end or destroyed. */
export interface S3Object {
  /** Of the whole object. */
  readonly bytes: number;
  readonly body: Readable;
  /** Identifies this content. */
  readonly etag: string;
}

/** Size of an object, and its hash where the store keeps one of the whole; `undefined` when there is none. */
export async function findObject(
  client: S3Client,
  address: ObjectAddress,
  withChecksum: boolean,
  abortSignal: AbortSignal,
): Promise<StoredObject | undefined> {
  const mode = withChecksum ? ({ ChecksumMode: 'ENABLED' } as const) : {};
  try {
    const head = await client.send(new HeadObjectCommand({ ...address, ...mode }), { abortSignal });
    if (head.ETag === undefined) throw withoutEtag();
    const sha256 = hexOfWholeChecksum(head.ChecksumSHA256) ?? validHash(head.Metadata?.sha256);
    return { bytes: head.ContentLength ?? 0, ...(sha256 !== undefined && { sha256 }) };
  } catch (error) {
    if (isNoSuchKey(error)) return undefined;
    throw error;
  }
}

/** The ETag of an object; `undefined` when there is none. */
export async function findEtag(
  client: S3Client,
  address: ObjectAddress,
  abortSignal: AbortSignal,
): Promise<string | undefined> {
  try {
    const { ETag } = await client.send(new HeadObjectCommand({ ...address }), { abortSignal });
    if (ETag === undefined) throw withoutEtag();
    return ETag;
  } catch (error) {
    if (isNoSuchKey(error)) return undefined;
    throw error;
  }
}

/** Opens an object for reading; `undefined` when there is none. */
export async function openObject(
  client: S3Client,
  address: ObjectAddress,
  abortSignal: AbortSignal,
  range?: ByteRange,
): Promise<S3Object | undefined> {
  const part = range ? { Range: `bytes=${range.start}-${range.end}` } : {};
  try {
    const { Body, ContentLength, ContentRange, ETag } = await client.send(
      new GetObjectCommand({ ...address, ...part }),
      { abortSignal },
    );
    if (!(Body instanceof Readable)) throw new Error('the SDK answered without a body');
    if (ETag === undefined) {
      Body.destroy();
      throw withoutEtag();
    }
    // `bytes 0-9/1234`, whose last number is the size of the whole.
    const whole = /\/(\d+)$/.exec(ContentRange ?? '')?.[1];
    if (range && whole === undefined) {
      Body.destroy();
      throw notFromStore('a range with the whole object');
    }
    return { bytes: whole === undefined ? (ContentLength ?? 0) : Number(whole), body: Body, etag: ETag };
  } catch (error) {
    if (isNoSuchKey(error)) return undefined;
    throw error;
  }
}

/** What to list. */
export interface ListAddress extends Omit<ObjectAddress, 'Key'> {
  readonly Prefix: string;
  /** `/` for what lies right below the prefix, with the directories there. */
  readonly Delimiter?: string;
  readonly StartAfter?: string;
}

/**
 * One page of the objects (and directories) whose full keys begin with `Prefix`, in the order of their keys.
 * @param token from the page before.
 */
export async function listObjects(
  client: S3Client,
  where: ListAddress,
  token: string | undefined,
  abortSignal: AbortSignal,
): Promise<{
  readonly entries: readonly (ListedObject | ListedDirectory)[];
  readonly nextToken: string | undefined;
}> {
  const page = await client.send(
    new ListObjectsV2Command({ ...where, ...(token !== undefined && { ContinuationToken: token }) }),
    { abortSignal },
  );
  const { Name, IsTruncated, NextContinuationToken } = page;
  if (Name === undefined) throw notFromStore('a listing without the name of the bucket');
  if (IsTruncated && (NextContinuationToken === undefined || NextContinuationToken === token)) {
    throw notFromStore('an incomplete listing that does not say how to continue');
  }
  const objects: ListedObject[] = (page.Contents ?? []).flatMap(({ Key, Size, LastModified }) =>
    Key === undefined ? [] : [{ key: Key, bytes: Size ?? 0, modifiedAt: LastModified ?? new Date(0) }],
  );
  const directories: ListedDirectory[] = (page.CommonPrefixes ?? []).flatMap(({ Prefix }) =>
    Prefix === undefined ? [] : [{ directory: Prefix }],
  );
  const entries =
    directories.length === 0
      ? objects
      : [...objects, ...directories].sort((a, b) => compareKeys(nameOf(a), nameOf(b)));
  return { entries, nextToken: IsTruncated ? NextContinuationToken : undefined };
}

function withoutEtag(): Error {
  return notFromStore('a read without an ETag');
}

function nameOf(entry: ListedObject | ListedDirectory): string {
  return 'key' in entry ? entry.key : entry.directory;
}

/** Compares the object at an address with what was to be written there. It is read only if nothing else decides. */
export async function compareObject(
  client: S3Client,
  address: ObjectAddress,
  written: { readonly bytes: number; readonly sha256: string },
  withChecksum: boolean,
  signal: AbortSignal,
): Promise<'same' | 'other' | 'nothing'> {
  const found = await findObject(client, address, withChecksum, signal);
  if (!found) return 'nothing';
  if (found.bytes !== written.bytes) return 'other';
  if (found.sha256 !== undefined) return found.sha256 === written.sha256 ? 'same' : 'other';
  const object = await openObject(client, address, signal);
  if (!object) return 'nothing';
  return (await sha256Of(object.body)) === written.sha256 ? 'same' : 'other';
}

/** A checksum of the whole object; one made of the parts' checksums ends in their number and proves nothing. */
function hexOfWholeChecksum(base64: string | undefined): string | undefined {
  return base64 === undefined || base64.includes('-')
    ? undefined
    : Buffer.from(base64, 'base64').toString('hex');
}

function validHash(hash: string | undefined): string | undefined {
  return hash !== undefined && /^[0-9a-f]{64}$/.test(hash) ? hash : undefined;
}

async function sha256Of(body: Readable): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of steadily(body)) hash.update(chunk);
  return hash.digest('hex');
}
