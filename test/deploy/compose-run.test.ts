/** What Docker Compose would start, started by hand: each service's own command, environment and secrets. */

import { execFile, execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { readDockerfile } from '../../scripts/dockerfile.ts';
import { findProgram, freePort, searchPath, startServer } from '../setup/process.ts';
import { hasLogged, type RunningCli, startCli } from '../support/cli.ts';
import { type ComposeService, readCompose, serviceOf } from '../support/compose.ts';
import { openTestBucket, type TestBucket } from '../support/s3.ts';
import { temporaryDirectory } from '../support/services.ts';

const ROOT = join(import.meta.dirname, '../..');
const SESSION = '6560b1f0a1b2c3d4e5f60718';
const HERE = '127.0.0.1';
/** Of Debian's package prometheus, which the CI installs. */
const prometheus = findProgram('prometheus', searchPath());

let opened: AsyncDisposableStack;
let directory: string;
let bucket: TestBucket;
let compose: ReturnType<typeof readCompose>;
let redisUrl: string;
let sandboxUrl: string;
let api: RunningCli;
let worker: RunningCli;

beforeAll(async () => {
  opened = new AsyncDisposableStack();
  const made = opened.adopt(await temporaryDirectory(), (one) => one.remove());
  directory = made.path;
  execFileSync('sh', [join(ROOT, 'deploy/compose/make-secrets.sh'), secret('')]);
  bucket = opened.adopt(await openTestBucket(), (one) => one.close());
  await useCredentialsOf(bucket);
  const redisPort = await freePort();
  redisUrl = `redis://${HERE}:${redisPort}`;
  const [redisServer = '', ...redisOptions] = serviceOf(readCompose(), 'redis').command ?? [];
  opened.adopt(
    await startServer(
      findProgram(redisServer, searchPath()) ?? redisServer,
      [...redisOptions, '--port', String(redisPort), '--bind', HERE, '--dir', directory],
      'Ready to accept connections',
    ),
    (server) => server.stop('SIGKILL'),
  );
  const sandbox = startService(serviceOf(readCompose(), 'sandbox'), ['--port', '0', '--json']);
  await sandbox.waitFor(({ stdout }) => stdout.endsWith('}\n'));
  const { url } = z.looseObject({ url: z.url() }).parse(JSON.parse(sandbox.stdout));
  sandboxUrl = url;
  // What an operator would write into .env: where things are. All else is as compose.yaml has it.
  compose = readCompose({
    KORE_HOST: url,
    KORE_MEDIA_HOSTS: HERE,
    QUEUE_URL: redisUrl,
    ARCHIVE_URL: `s3://${bucket.bucket}/archive`,
    AWS_ENDPOINT_URL_S3: bucket.endpoint,
    AWS_REGION: bucket.region,
  });
  api = startService(serviceOf(compose, 'api'));
  worker = startService(serviceOf(compose, 'worker'));
  await Promise.all([api, worker].map((program) => program.waitFor(hasLogged('listening'))));
});

afterAll(() => opened.disposeAsync());

function secret(name: string): string {
  return join(directory, 'secrets', name);
}

/** In place of those of the S3 server that make-secrets.sh has made, in the file and the form in which it made them. */
async function useCredentialsOf({ credentials }: TestBucket): Promise<void> {
  const file = readFileSync(secret('aws_credentials'), 'utf8');
  const used = file
    .replace(/(?<=aws_access_key_id = ).*/, credentials.accessKeyId)
    .replace(/(?<=aws_secret_access_key = ).*/, credentials.secretAccessKey);
  expect(used).not.toBe(file);
  await writeFile(secret('aws_credentials'), used);
}

/** A service of ours as its container runs it. Its own name is this machine's address here. */
function startService(service: ComposeService, more: readonly string[] = []): RunningCli {
  const [command = '', ...options] = service.command ?? [];
  const environment = Object.entries(service.environment ?? {}).map(([name, value]) => [
    name,
    value.replace('/run/secrets', secret('')),
  ]);
  const args = [...options.map((word) => (word === command ? HERE : word)), ...more];
  const program = startCli([command, ...args], {
    cwd: directory,
    env: { ...Object.fromEntries(environment), HTTP_PORT: '0' },
  });
  opened.defer(async () => {
    program.kill('SIGKILL');
    await program.ended;
  });
  return program;
}

function portOf(program: RunningCli): string {
  return String(program.log.find(({ msg }) => msg === 'listening')?.port);
}

async function ask(path: string, init: { method?: string; body?: string } = {}): Promise<unknown> {
  const token = readFileSync(secret('api_token'), 'utf8').trim();
  const response = await fetch(`http://${HERE}:${portOf(api)}${path}`, {
    ...init,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
  });
  return response.json();
}

it('the services of compose.yaml archive what the API receives, signed, into the bucket', async () => {
  await ask('/v1/sessions', { method: 'POST', body: JSON.stringify({ sessionIds: [SESSION] }) });

  await expect.poll(() => ask(`/v1/sessions/${SESSION}`)).toMatchObject({ state: 'archived' });
  const keys = await bucket.listObjects();
  const manifest = keys.find((key) => key.startsWith('archive/') && key.endsWith(`${SESSION}/manifest.json`));
  expect(manifest).toBeDefined();
  expect(JSON.parse(String(await bucket.getObject(manifest ?? '')))).toHaveProperty('signature');
});

it('the services of compose.yaml log no warning', () => {
  const warnings = [api, worker].flatMap(({ log }) =>
    log.filter(({ level }) => level === 'warn' || level === 'error').map(({ msg }) => String(msg)),
  );

  // The stand-in for a real S3 server has no conditional writes.
  expect(warnings.filter((msg) => bucket.real || !/conditional writes/.test(msg))).toEqual([]);
});

it('compose.yaml keeps the queue in a Redis that forgets and evicts nothing', async () => {
  const client = new Redis(redisUrl);
  const settings = await client.config('GET', 'maxmemory*', 'appendonly');
  client.disconnect();

  expect(settings).toEqual(
    expect.arrayContaining(['noeviction', 'appendonly', 'yes', String(384 * 1024 * 1024)]),
  );
});

it('API and worker of compose.yaml are healthy by the check of the image', async () => {
  const check = readDockerfile(readFileSync(join(ROOT, 'Dockerfile'), 'utf8')).find(
    ({ name }) => name === 'HEALTHCHECK',
  );
  const [, , ...args] = z
    .array(z.string())
    .parse(JSON.parse(/CMD (\[.*\])$/.exec(check?.text ?? '')?.[1] ?? ''));
  const codes = [api, worker].map((program) =>
    promisify(execFile)(process.execPath, ['-e', ...args], { env: { HTTP_PORT: portOf(program) } }),
  );

  await expect(Promise.all(codes)).resolves.toHaveLength(2);
});

it('the checks of compose.yaml find the Kore sandbox and Redis healthy, and nothing where they are not', async () => {
  const checkOf = (name: string) => {
    const [kind, program, ...args] = serviceOf(compose, name).healthcheck?.test ?? [];
    expect(kind).toBe('CMD');
    return { program, args };
  };
  const askSandbox = (url: string) => {
    const { program, args } = checkOf('sandbox');
    expect(program).toBe('node');
    const own = args.map((word) => word.replace('http://sandbox:8089/', url));
    return promisify(execFile)(process.execPath, own);
  };
  const askRedis = (port: string | number) => {
    const { program = '', args } = checkOf('redis');
    return promisify(execFile)(program, ['-h', HERE, '-p', String(port), ...args]);
  };
  const nobody = await freePort();

  await expect(askSandbox(`${sandboxUrl}/`)).resolves.toBeDefined();
  await expect(askSandbox(`http://${HERE}:${nobody}/`)).rejects.toMatchObject({ code: 1 });
  await expect(askRedis(new URL(redisUrl).port)).resolves.toMatchObject({ stdout: 'PONG\n' });
  await expect(askRedis(nobody)).rejects.toMatchObject({ code: 1 });
});

it.runIf(prometheus)(
  'Prometheus, as compose.yaml configures it, reads the metrics of the services',
  async () => {
    const config = z
      .looseObject({ scrape_configs: z.tuple([z.looseObject({ dns_sd_configs: z.unknown() })]) })
      .parse(parse(readFileSync(join(ROOT, 'deploy/prometheus.yml'), 'utf8')));
    const [{ dns_sd_configs: _, ...scrape }] = config.scrape_configs;
    const targets = [api, worker].map((program) => `${HERE}:${portOf(program)}`);
    const file = join(directory, 'prometheus.yml');
    await writeFile(
      file,
      stringify({
        ...config,
        global: { scrape_interval: '1s' },
        rule_files: [join(ROOT, 'deploy/prometheus-rules.yml')],
        scrape_configs: [{ ...scrape, static_configs: [{ targets }] }],
      }),
    );
    const port = await freePort();
    const options = (serviceOf(compose, 'prometheus').command ?? []).map((option) =>
      option
        .replace('=/etc/prometheus/prometheus.yml', `=${file}`)
        .replace('=/prometheus', `=${join(directory, 'prometheus')}`),
    );
    const server = await startServer(
      prometheus ?? '',
      [...options, `--web.listen-address=${HERE}:${port}`],
      'Server is ready to receive web requests',
    );
    try {
      const valuesOf = async (query: string) => {
        const response = await fetch(
          `http://${HERE}:${port}/api/v1/query?query=${encodeURIComponent(query)}`,
        );
        const Answer = z.looseObject({
          data: z.looseObject({
            result: z.array(z.looseObject({ value: z.tuple([z.number(), z.string()]) })),
          }),
        });
        return Answer.parse(await response.json()).data.result.map(({ value }) => value[1]);
      };

      await expect.poll(() => valuesOf('up{job="voicemail-archiver"}')).toEqual(['1', '1']);
      await expect.poll(() => valuesOf('sum(voicemail_sessions_total{outcome="archived"})')).toEqual(['1']);
    } finally {
      await server.stop('SIGKILL');
    }
  },
);
