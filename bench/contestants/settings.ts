import type { Config, KoreConfig } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { SigningKey } from './s3-signature.ts';

/** The settings of all contestants, in the product's own variables. */
export interface Settings {
  readonly config: Config;
  readonly kore: KoreConfig;
  readonly redisUrl: string;
  readonly bucket: string;
  readonly prefix: string;
  /** For who does without the SDK, which reads its variables itself. */
  readonly s3: SigningKey & { readonly endpoint: string };
}

/** @throws when a variable is missing: contestants are started by `bench/run.ts`. */
export function readSettings(): Settings {
  const config = loadConfig(process.env, { needs: ['kore', 'shared-queue'] });
  const { kore, archive, queue } = config;
  if (!kore || archive.kind !== 's3' || queue.target.kind !== 'redis') {
    throw new Error('the bench wants Redis and S3');
  }
  return {
    config,
    kore,
    redisUrl: queue.target.url,
    bucket: archive.bucket,
    prefix: archive.prefix,
    s3: {
      endpoint: required('AWS_ENDPOINT_URL_S3'),
      region: required('AWS_REGION'),
      accessKeyId: required('AWS_ACCESS_KEY_ID'),
      secretAccessKey: required('AWS_SECRET_ACCESS_KEY'),
    },
  };
}

function required(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}
