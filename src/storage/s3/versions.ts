/** The versions of objects in a bucket, and what Object Lock says of them. */

import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectLegalHoldCommand,
  GetObjectRetentionCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  PutObjectLegalHoldCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { VoicemailError } from '../../domain/errors.ts';
import { assertPrefix } from '../keys.ts';
import { guarded, type KeptVersion, type Protection, type StoredVersions, type Translate } from '../store.ts';
import { isInvalidRequest, isNoSuchKey, isNoSuchUpload, isNotImplemented, notFromStore } from './errors.ts';
import { listObjects, type ObjectAddress } from './lookup.ts';

/** The bucket whose versions are read. */
export interface VersionsOptions {
  readonly client: S3Client;
  readonly bucket: string;
  /** What full keys begin with: empty, or with a `/` at its end. */
  readonly base: string;
  readonly owner: { readonly ExpectedBucketOwner?: string };
  /** The address of a relative key. */
  readonly address: (key: string) => ObjectAddress;
  readonly translate: Translate;
}

/**
 * A store that answers so has no Object Lock: AWS, Ceph and MinIO say `InvalidRequest` of such a bucket, others do not
 * know the request at all.
 */
function hasNoObjectLock(error: unknown): boolean {
  return isInvalidRequest(error) || isNotImplemented(error);
}

/** The versions in a bucket. */
export function createBucketVersions(options: VersionsOptions): StoredVersions {
  const { client, bucket, base, owner, address, translate } = options;

  /** The same errors, which name the rights that are needed where one is missing. */
  const needing =
    (hint: string): Translate =>
    (error) => {
      const known = translate(error);
      if (!(known instanceof VoicemailError) || known.code !== 'ARCHIVE_DENIED') return known;
      return new VoicemailError(known.code, known.message, { cause: error, hint });
    };
  const listRights = needing('allow s3:ListBucketVersions on the bucket');
  const lockRights = needing('allow s3:GetObjectLegalHold and s3:GetObjectRetention');
  const holdRights = needing('allow s3:PutObjectLegalHold');
  const deleteRights = needing(
    'allow s3:DeleteObject and s3:DeleteObjectVersion; where they are, a legal hold or Object Lock protects the object',
  );

  const versionOf = ({ key, versionId }: KeptVersion) => ({
    ...address(key),
    ...(versionId !== undefined && { VersionId: versionId }),
  });

  async function versionPage(prefix: string, marker: VersionMarker | undefined, abortSignal: AbortSignal) {
    const page = await client.send(
      new ListObjectVersionsCommand({ Bucket: bucket, Prefix: base + prefix, ...owner, ...marker }),
      { abortSignal },
    );
    if (page.Name === undefined) throw notFromStore('a listing without the name of the bucket');
    const { NextKeyMarker: KeyMarker, NextVersionIdMarker: VersionIdMarker } = page;
    if (page.IsTruncated && KeyMarker === undefined) {
      throw notFromStore('an incomplete listing that does not say how to continue');
    }
    const versions = [
      ...(page.Versions ?? []).map(({ Key, VersionId, Size }) => kept(Key, VersionId, Size ?? 0, false)),
      ...(page.DeleteMarkers ?? []).map(({ Key, VersionId }) => kept(Key, VersionId, 0, true)),
    ];
    const next: VersionMarker | undefined =
      page.IsTruncated && KeyMarker !== undefined
        ? { KeyMarker, ...(VersionIdMarker !== undefined && { VersionIdMarker }) }
        : undefined;
    return { versions: versions.flat(), next };
  }

  const kept = (
    fullKey: string | undefined,
    versionId: string | undefined,
    bytes: number,
    isDeleteMarker: boolean,
  ): KeptVersion[] =>
    fullKey === undefined
      ? []
      : [
          {
            key: fullKey.slice(base.length),
            ...(versionId !== undefined && { versionId }),
            bytes,
            isDeleteMarker,
          },
        ];

  /** Stores without versions do not list them. */
  async function* listPlain(prefix: string, signal: AbortSignal): AsyncGenerator<KeptVersion> {
    const where = { Bucket: bucket, Prefix: base + prefix, ...owner };
    let token: string | undefined;
    do {
      const page = await guarded(translate, signal, () => listObjects(client, where, token, signal));
      for (const entry of page.entries) {
        if ('key' in entry) yield* kept(entry.key, undefined, entry.bytes, false);
      }
      token = page.nextToken;
    } while (token !== undefined);
  }

  async function retentionOf(version: KeptVersion, abortSignal: AbortSignal) {
    const { Retention } = await client.send(new GetObjectRetentionCommand(versionOf(version)), {
      abortSignal,
    });
    return Retention;
  }

  async function legalHoldOf(version: KeptVersion, abortSignal: AbortSignal) {
    const { LegalHold } = await client.send(new GetObjectLegalHoldCommand(versionOf(version)), {
      abortSignal,
    });
    return LegalHold?.Status;
  }

  return {
    async *list(prefix, signal) {
      assertPrefix(prefix);
      let marker: VersionMarker | undefined;
      do {
        const current: VersionMarker | undefined = marker;
        const page = await guarded(listRights, signal, async () => {
          try {
            return await versionPage(prefix, current, signal);
          } catch (error) {
            if (isNotImplemented(error)) return undefined;
            throw error;
          }
        });
        if (!page) {
          yield* listPlain(prefix, signal);
          return;
        }
        yield* page.versions;
        marker = page.next;
      } while (marker !== undefined);
    },
    async protection(version, signal) {
      if (version.isDeleteMarker) return 'none';
      return guarded(lockRights, signal, async (): Promise<Protection | 'none' | 'unsupported'> => {
        try {
          if ((await orNothing(legalHoldOf(version, signal))) === 'ON') return { kind: 'hold' };
          const retention = await orNothing(retentionOf(version, signal));
          const until = retention?.RetainUntilDate;
          if (until === undefined || until.getTime() <= Date.now()) return 'none';
          return { kind: 'retention', until, mode: retention?.Mode ?? 'unknown' };
        } catch (error) {
          if (hasNoObjectLock(error)) return 'unsupported';
          throw error;
        }
      });
    },
    async delete(version, signal) {
      await guarded(deleteRights, signal, async () => {
        const command = new DeleteObjectCommand(versionOf(version));
        await orNothing(client.send(command, { abortSignal: signal }));
      });
    },
    async hide(key, signal) {
      await guarded(deleteRights, signal, async () => {
        await client.send(new DeleteObjectCommand(address(key)), { abortSignal: signal });
      });
    },
    async setLegalHold(version, on, signal) {
      if (version.isDeleteMarker) return false;
      const command = new PutObjectLegalHoldCommand({
        ...versionOf(version),
        LegalHold: { Status: on ? 'ON' : 'OFF' },
      });
      return guarded(holdRights, signal, async () => {
        try {
          await client.send(command, { abortSignal: signal });
          return true;
        } catch (error) {
          // Deleted since it was listed: there is nothing to be held.
          if (hasNoObjectLock(error) || isNoSuchKey(error)) return false;
          throw error;
        }
      });
    },
    async abortUploads(prefix, signal) {
      assertPrefix(prefix);
      return guarded(translate, signal, async () => {
        const where = { Bucket: bucket, ...owner };
        const { Uploads = [] } = await client.send(
          new ListMultipartUploadsCommand({ ...where, Prefix: base + prefix }),
          { abortSignal: signal },
        );
        for (const { Key, UploadId } of Uploads) {
          try {
            const command = new AbortMultipartUploadCommand({ ...where, Key, UploadId });
            await client.send(command, { abortSignal: signal });
          } catch (error) {
            // It has ended meanwhile.
            if (!isNoSuchUpload(error)) throw error;
          }
        }
        return Uploads.length;
      });
    },
  };
}

interface VersionMarker {
  readonly KeyMarker: string;
  readonly VersionIdMarker?: string;
}

/** What a request answers; `undefined` where there is no such object, or nothing of the kind with it. */
async function orNothing<Answer>(request: Promise<Answer>): Promise<Answer | undefined> {
  try {
    return await request;
  } catch (error) {
    if (isNoSuchKey(error)) return undefined;
    throw error;
  }
}
