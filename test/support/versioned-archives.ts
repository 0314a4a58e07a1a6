/** Archives whose every version a test can read directly. */

import { readdir } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import {
  GetObjectLegalHoldCommand,
  ListObjectVersionsCommand,
  PutObjectLegalHoldCommand,
} from '@aws-sdk/client-s3';
import { vi } from 'vitest';
import { openTestBucket, type TestBucket } from './s3.ts';
import { temporaryDirectory } from './services.ts';

/** A directory, and a bucket with versions and Object Lock. */
export const VERSIONED_ARCHIVE_KINDS = ['directory', 'locked bucket'] as const;
export type VersionedArchiveKind = (typeof VERSIONED_ARCHIVE_KINDS)[number];

/** An archive, by the variables that configure it. */
export interface VersionedArchive {
  readonly environment: Readonly<Record<string, string>>;
  /** The bucket, where it is one. */
  readonly server: TestBucket | undefined;
  /** Names of all objects below a relative directory, once for each version and delete marker. */
  versionsBelow(directory: string): Promise<string[]>;
  /** The legal hold of each version below a relative directory: `ON`, `OFF` or `none`, by names; none in a directory. */
  holdsBelow(directory: string): Promise<string[]>;
  close(): Promise<void>;
}

const PREFIX = 'voice';

/** Opens an empty one. */
export async function openVersionedArchive(kind: VersionedArchiveKind): Promise<VersionedArchive> {
  return kind === 'directory' ? openDirectory() : openBucket();
}

async function openDirectory(): Promise<VersionedArchive> {
  const directory = await temporaryDirectory();
  return {
    environment: { ARCHIVE_URL: `file:${directory.path}` },
    server: undefined,
    async versionsBelow(below) {
      const top = join(directory.path, below);
      const entries = await readdir(top, { recursive: true, withFileTypes: true });
      return entries
        .filter((entry) => !entry.isDirectory())
        .map((entry) => relative(top, join(entry.parentPath, entry.name)).split(sep).join('/'))
        .sort();
    },
    holdsBelow: async () => [],
    close: () => directory.remove(),
  };
}

async function openBucket(): Promise<VersionedArchive> {
  const server = await openTestBucket({ objectLock: true });
  const { bucket, client, endpoint, region, credentials } = server;
  vi.stubEnv('AWS_ENDPOINT_URL_S3', endpoint);
  vi.stubEnv('AWS_REGION', region);
  vi.stubEnv('AWS_ACCESS_KEY_ID', credentials.accessKeyId);
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', credentials.secretAccessKey);
  const list = (prefix: string) =>
    client.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix: prefix }));
  const holdOf = async (Key: string, VersionId: string) => {
    try {
      const held = await client.send(new GetObjectLegalHoldCommand({ Bucket: bucket, Key, VersionId }));
      return held.LegalHold?.Status ?? 'none';
    } catch (error) {
      if ((error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode === 404)
        return 'none';
      throw error;
    }
  };
  return {
    environment: { ARCHIVE_URL: `s3://${bucket}/${PREFIX}`, S3_FORCE_PATH_STYLE: 'true' },
    server,
    async versionsBelow(directory) {
      const prefix = `${PREFIX}/${directory}`;
      const { Versions = [], DeleteMarkers = [] } = await list(prefix);
      return [
        ...Versions.map(({ Key = '' }) => Key.slice(prefix.length)),
        ...DeleteMarkers.map(({ Key = '' }) => `${Key.slice(prefix.length)} (marker)`),
      ].sort();
    },
    async holdsBelow(directory) {
      const prefix = `${PREFIX}/${directory}`;
      const { Versions = [] } = await list(prefix);
      const holds = Versions.map(
        async ({ Key = '', VersionId = '' }) => `${Key.slice(prefix.length)} ${await holdOf(Key, VersionId)}`,
      );
      return (await Promise.all(holds)).sort();
    },
    async close() {
      const { Versions = [] } = await list('');
      for (const { Key = '', VersionId = '' } of Versions) {
        if ((await holdOf(Key, VersionId)) !== 'ON') continue;
        await client.send(
          new PutObjectLegalHoldCommand({ Bucket: bucket, Key, VersionId, LegalHold: { Status: 'OFF' } }),
        );
      }
      await server.close();
      vi.unstubAllEnvs();
    },
  };
}
