import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { hasLogged, runCli, startCli } from '../support/cli.ts';
import { temporaryDirectory } from '../support/services.ts';

/** Which packages are of which part of the program. */
const PARTS: Readonly<Record<string, readonly string[]>> = {
  http: ['fastify', '@bull-board/api', '@fastify/swagger', '@fastify/swagger-ui', 'prom-client', 'ajv'],
  pages: ['@bull-board/api', '@fastify/swagger', '@fastify/swagger-ui', 'ajv'],
  s3: ['@aws-sdk/client-s3', '@smithy/node-http-handler', '@smithy/signature-v4'],
  embedded: ['@electric-sql/pglite'],
  postgres: ['pg'],
  traces: ['@opentelemetry/sdk-trace', '@opentelemetry/exporter-trace-otlp-proto', 'bullmq-otel'],
  work: ['undici', 'ipaddr.js'],
  progress: ['cli-progress'],
  queue: ['bullmq'],
};

const KORE = {
  KORE_HOST: 'http://127.0.0.1:9',
  KORE_BOT_ID: 'st-1',
  KORE_CLIENT_ID: 'cs-1',
  KORE_CLIENT_SECRET: 'a-client-secret',
};

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let runs = 0;

beforeAll(async () => {
  directory = await temporaryDirectory();
});

afterAll(() => directory.remove());

/** The environment of a program that lists what it loads, and the packages, once it has ended. */
function listed(environment: Readonly<Record<string, string>> = {}) {
  runs += 1;
  const file = join(directory.path, `packages-${runs}.json`);
  const preload = join(import.meta.dirname, '../support/list-loaded-packages.ts');
  return {
    env: {
      ...KORE,
      QUEUE_URL: inject('redisUrl'),
      QUEUE_NAME: `loaded-${process.pid}`,
      ARCHIVE_URL: `file:${directory.path}/archive`,
      NODE_OPTIONS: `--import=${preload}`,
      LOADED_PACKAGES: file,
      ...environment,
    },
    packages: async () => JSON.parse(await readFile(file, 'utf8')) as string[],
  };
}

function expectNone(packages: readonly string[], parts: readonly string[]): void {
  for (const part of parts) {
    expect(packages.filter((name) => PARTS[part]?.includes(name))).toEqual([]);
  }
}

describe.concurrent('the packages that a program loads', () => {
  it('--version loads no package beyond the few it needs', async () => {
    const { env, packages } = listed();

    expect((await runCli(['--version'], { env })).code).toBe(0);

    expectNone(await packages(), Object.keys(PARTS));
    expect(await packages()).toContain('commander');
  });

  it('status on Redis loads no HTTP, no AWS SDK, no PGlite, no OpenTelemetry and no worker', async () => {
    const { env, packages } = listed();

    expect((await runCli(['status'], { env })).code).toBe(0);

    expectNone(await packages(), ['http', 's3', 'embedded', 'postgres', 'traces', 'work', 'progress']);
    expect(await packages()).toEqual(expect.arrayContaining(['bullmq', 'ioredis']));
  });

  it('a worker on Redis loads no pages, and neither stores nor queues that it does not use', async () => {
    const { env, packages } = listed({ HTTP_PORT: '0' });
    const worker = startCli(['worker'], { env });
    await worker.waitFor(hasLogged('taking sessions'));
    worker.kill('SIGTERM');

    expect((await worker.ended).code).toBe(0);

    expectNone(await packages(), ['pages', 's3', 'embedded', 'postgres', 'traces', 'progress']);
    expect(await packages()).toEqual(expect.arrayContaining(['fastify', 'prom-client', 'undici']));
  });

  it('a worker with a bucket and traces loads the packages for these too', async () => {
    const { env, packages } = listed({
      HTTP_PORT: '0',
      ARCHIVE_URL: 's3://bucket/prefix',
      AWS_REGION: 'eu-central-1',
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9',
    });
    const worker = startCli(['worker'], { env });
    await worker.waitFor(hasLogged('taking sessions'));
    worker.kill('SIGTERM');

    expect((await worker.ended).code).toBe(0);

    expectNone(await packages(), ['pages', 'embedded', 'postgres', 'progress']);
    expect(await packages()).toEqual(
      expect.arrayContaining(['@aws-sdk/client-s3', '@opentelemetry/sdk-trace', 'bullmq-otel']),
    );
  });
});
