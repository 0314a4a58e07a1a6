import { randomUUID } from 'node:crypto';
import {
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  paginateListObjectsV2,
  S3Client,
} from '@aws-sdk/client-s3';
import { startProgram } from './program.ts';

/** The store that all contestants archive into. */
export interface BenchStore {
  /** For people. */
  readonly description: string;
  readonly bucket: string;
  /** The AWS SDK's variables. */
  readonly environment: Readonly<Record<string, string>>;
  /** Requests so far, by method; `undefined` where nobody counts them. */
  requests(): Promise<Readonly<Record<string, number>> | undefined>;
  /** How many objects lie below a prefix, and their bytes. */
  measure(prefix: string): Promise<{ objects: number; bytes: number }>;
  /** Deletes what lies below a prefix, so that no store fills up. */
  clear(prefix: string): Promise<void>;
  close(): Promise<void>;
}

const DELETIONS_AT_ONCE = 16;

/** The server that `S3_TEST_ENDPOINT` names, otherwise a sink in a process of its own. */
export async function openBenchStore(): Promise<BenchStore> {
  const endpoint = process.env.S3_TEST_ENDPOINT;
  if (endpoint === undefined || endpoint === '') {
    const sink = startProgram('./servers/s3-sink-program.ts');
    const { url } = await sink.receive('sink');
    const environment = environmentOf(url, 'us-east-1', 'bench', 'bench');
    const description = 'a sink that counts bytes (set S3_TEST_ENDPOINT for a real server)';
    const requests = async () => {
      sink.send({ kind: 'requests' });
      return (await sink.receive('requests')).counts;
    };
    return openBucket('bench', description, environment, requests, () => sink.stop());
  }
  const environment = environmentOf(
    endpoint,
    process.env.AWS_REGION ?? 'us-east-1',
    required('AWS_ACCESS_KEY_ID'),
    required('AWS_SECRET_ACCESS_KEY'),
  );
  const bucket = `bench-${randomUUID()}`;
  const client = clientOf(environment);
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  const description = `the S3 server at ${endpoint}`;
  return openBucket(
    bucket,
    description,
    environment,
    async () => undefined,
    async () => {
      await client.send(new DeleteBucketCommand({ Bucket: bucket }));
      client.destroy();
    },
  );
}

function openBucket(
  bucket: string,
  description: string,
  environment: Readonly<Record<string, string>>,
  requests: BenchStore['requests'],
  close: () => Promise<void>,
): BenchStore {
  const client = clientOf(environment);

  async function list(prefix: string): Promise<{ key: string; bytes: number }[]> {
    const objects: { key: string; bytes: number }[] = [];
    for await (const page of paginateListObjectsV2({ client }, { Bucket: bucket, Prefix: `${prefix}/` })) {
      for (const { Key = '', Size = 0 } of page.Contents ?? []) objects.push({ key: Key, bytes: Size });
    }
    return objects;
  }

  return {
    description,
    bucket,
    environment,
    requests,
    async measure(prefix) {
      const found = await list(prefix);
      return { objects: found.length, bytes: found.reduce((total, { bytes }) => total + bytes, 0) };
    },
    async clear(prefix) {
      const keys = (await list(prefix)).map(({ key }) => key);
      const deleteRest = async () => {
        for (let Key = keys.shift(); Key !== undefined; Key = keys.shift()) {
          await client.send(new DeleteObjectCommand({ Bucket: bucket, Key }));
        }
      };
      await Promise.all(Array.from({ length: DELETIONS_AT_ONCE }, deleteRest));
    },
    async close() {
      client.destroy();
      await close();
    },
  };
}

function environmentOf(endpoint: string, region: string, accessKeyId: string, secretAccessKey: string) {
  return {
    AWS_ENDPOINT_URL_S3: endpoint,
    AWS_REGION: region,
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
  };
}

function clientOf(environment: Readonly<Record<string, string>>): S3Client {
  return new S3Client({
    endpoint: environment.AWS_ENDPOINT_URL_S3 ?? '',
    region: environment.AWS_REGION ?? '',
    credentials: {
      accessKeyId: environment.AWS_ACCESS_KEY_ID ?? '',
      secretAccessKey: environment.AWS_SECRET_ACCESS_KEY ?? '',
    },
    forcePathStyle: true,
  });
}

function required(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === '') throw new Error(`${name} must be set when S3_TEST_ENDPOINT is`);
  return value;
}
