/** Both archives as tests want them: empty, inspected past the code under test, and gone afterwards. */

import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative, sep } from 'node:path';
import type { ArchiveTarget, S3Config } from '../../src/config/config.ts';
import { createDirectoryStore } from '../../src/storage/fs/store.ts';
import { createS3Store, type S3StoreOptions } from '../../src/storage/s3/store.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import { openTestBucket, PLAIN_S3 } from './s3.ts';

/** The two stores that there are. */
export const ARCHIVE_KINDS = ['file', 's3'] as const;
export type ArchiveKind = (typeof ARCHIVE_KINDS)[number];

/** An archive of its own for a test file. */
export interface TestArchive {
  readonly kind: ArchiveKind;
  /** Keeps the condition of mode `absent` also against a writer at the very same moment. */
  readonly atomic: boolean;
  readonly target: ArchiveTarget;
  readonly options: S3StoreOptions;
  readonly store: ArchiveStore;
  /** Another store on the same archive, as another process would have it. The caller closes it. */
  openAnother(options?: S3StoreOptions): ArchiveStore;
  /** Full keys of everything stored, sorted. */
  list(): Promise<string[]>;
  /** The bytes under a full key. */
  get(fullKey: string): Promise<Buffer>;
  /** What must not be left behind: open multipart uploads, temporary files. */
  leftovers(): Promise<string[]>;
  close(): Promise<void>;
}

/** Opens an empty archive. */
export async function openTestArchive(
  kind: ArchiveKind,
  { prefix = 'voice/mail', s3 = {} }: { prefix?: string; s3?: Partial<S3Config> } = {},
): Promise<TestArchive> {
  return kind === 's3' ? openBucketArchive(prefix, s3) : openDirectoryArchive();
}

async function openBucketArchive(prefix: string, s3: Partial<S3Config>): Promise<TestArchive> {
  const server = await openTestBucket();
  const { endpoint, region, credentials, bucket } = server;
  const target = { kind: 's3' as const, bucket, prefix, s3: { ...PLAIN_S3, ...s3 } };
  const options: S3StoreOptions = { connection: { endpoint, region, credentials } };
  const store = createS3Store(target, options);
  return {
    kind: 's3',
    atomic: server.real,
    target,
    options,
    store,
    openAnother: (more) => createS3Store(target, { ...options, ...more }),
    list: async () => (await server.listObjects()).sort(),
    get: server.getObject,
    leftovers: server.listMultipartUploads,
    async close() {
      await store.close();
      await server.close();
    },
  };
}

async function openDirectoryArchive(): Promise<TestArchive> {
  const top = await mkdtemp(join(tmpdir(), 'archive-'));
  const directory = join(top, 'archive');
  const target: ArchiveTarget = { kind: 'file', directory };
  const store = createDirectoryStore(directory);
  return {
    kind: 'file',
    atomic: true,
    target,
    options: {},
    store,
    openAnother: () => createDirectoryStore(directory),
    list: async () => (await filesBelow(directory)).filter((path) => !path.startsWith('.tmp')),
    get: (key) => readFile(join(directory, key)),
    leftovers: async () => (await namesIn(directory)).filter((name) => name.startsWith('.tmp')),
    async close() {
      await store.close();
      await rm(top, { recursive: true, force: true });
    },
  };
}

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(emptyIfMissing);
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .sort();
}

async function namesIn(directory: string): Promise<string[]> {
  return readdir(directory).catch(emptyIfMissing);
}

function emptyIfMissing(error: NodeJS.ErrnoException): [] {
  if (error.code === 'ENOENT') return [];
  throw error;
}
