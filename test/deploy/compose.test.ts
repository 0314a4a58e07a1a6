import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { loadConfig } from '../../src/config/load.ts';
import { VARIABLES } from '../../src/config/variables.ts';
import { temporaryDirectory } from '../support/services.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Settings of the AWS SDK, which are no variables of ours. */
const SDK = ['AWS_ENDPOINT_URL_S3', 'AWS_REGION', 'AWS_SHARED_CREDENTIALS_FILE'];

const Duration = z.string().regex(/^\d+s$/);
const Condition = z.enum(['service_started', 'service_healthy', 'service_completed_successfully']);
/** What is used of the Compose specification: a name that is not in it is a misspelt one. */
const Service = z.strictObject({
  image: z.string().regex(/^(voicemail-archiver|[\w./-]+:[\w.-]*\d[\w.-]*)$/),
  build: z.literal('.').optional(),
  command: z.array(z.string()).optional(),
  entrypoint: z.array(z.string()).optional(),
  user: z.string().optional(),
  environment: z.record(z.string(), z.string()).optional(),
  secrets: z.array(z.string()).optional(),
  ports: z.array(z.string().regex(/^127\.0\.0\.1:\d+:\d+$/)).optional(),
  volumes: z.array(z.string()).optional(),
  tmpfs: z.array(z.string()).optional(),
  depends_on: z
    .union([z.array(z.string()), z.record(z.string(), z.strictObject({ condition: Condition }))])
    .optional(),
  healthcheck: z
    .strictObject({
      test: z.array(z.string()),
      interval: Duration,
      timeout: Duration,
      retries: z.int().positive(),
    })
    .optional(),
  stop_grace_period: Duration.optional(),
  read_only: z.literal(true),
  cap_drop: z.tuple([z.literal('ALL')]),
  security_opt: z.tuple([z.literal('no-new-privileges:true')]),
  restart: z.enum(['unless-stopped', 'no']),
  logging: z.strictObject({
    driver: z.literal('json-file'),
    options: z.strictObject({ 'max-size': z.string(), 'max-file': z.string() }),
  }),
  deploy: z.strictObject({
    resources: z.strictObject({ limits: z.strictObject({ cpus: z.string(), memory: z.string() }) }),
  }),
});
const Compose = z.strictObject({
  name: z.string(),
  'x-logging': z.unknown(),
  'x-hardened': z.unknown(),
  'x-archiver': z.unknown(),
  services: z.record(z.string(), Service),
  secrets: z.record(z.string(), z.strictObject({ file: z.string() })),
  volumes: z.record(z.string(), z.null()),
});

const text = readFileSync(join(ROOT, 'compose.yaml'), 'utf8');
const { services, secrets, volumes } = Compose.parse(parse(text, { merge: true }));
const ours = ['api', 'worker'].flatMap((name) => services[name] ?? []);

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

beforeAll(async () => {
  directory = await temporaryDirectory();
  execFileSync('sh', [join(ROOT, 'deploy/compose/make-secrets.sh'), directory.path]);
});

afterAll(() => directory.remove());

/** A value as Compose fills it in where no variable is set. */
function filled(value: string): string {
  return value.replaceAll(/\$\{\w+:?-([^}]*)\}/g, '$1');
}

describe('compose.yaml', () => {
  it('has what it takes to click through it all', () => {
    expect(Object.keys(services).sort()).toEqual(
      ['api', 'bucket', 'grafana', 'prometheus', 'redis', 's3', 'sandbox', 'worker'].sort(),
    );
  });

  it('keeps what is queued', () => {
    const command = services.redis?.command?.join(' ');

    expect(command).toContain('--maxmemory-policy noeviction');
    expect(command).toContain('--appendonly yes');
    expect(services.redis?.healthcheck).toBeDefined();
  });

  it('sets only variables that the program knows, and those that it lets one set are ours too', () => {
    const known = new Set([
      ...VARIABLES.flatMap(({ name, isSecret }) => (isSecret ? [name, `${name}_FILE`] : [name])),
      ...SDK,
    ]);

    expect(ours).toHaveLength(2);
    for (const { environment = {} } of ours) {
      expect(Object.keys(environment).filter((name) => !known.has(name))).toEqual([]);
    }
    const open = [...text.matchAll(/\$\{(\w+)/g)].map(([, name = '']) => name);
    expect(open.length).toBeGreaterThan(5);
    expect(open.filter((name) => !known.has(name))).toEqual([]);
  });

  it('configures an archiver that starts, as it is', () => {
    for (const [index, { environment = {}, secrets: mounted = [] }] of ours.entries()) {
      const values = Object.entries(environment).map(([name, value]) => [
        name,
        filled(value).replace('/run/secrets', directory.path),
      ]);
      const config = loadConfig(Object.fromEntries(values), {
        needs: index === 0 ? ['api', 'shared-queue'] : ['kore', 'shared-queue'],
      });

      expect(config.warnings).toEqual([]);
      expect(config.manifestKey).toBeDefined();
      const files = Object.values(environment).filter((value) => value.startsWith('/run/secrets/'));
      for (const file of files) expect(mounted).toContain(file.slice('/run/secrets/'.length));
    }
  });

  it('mounts secrets that make-secrets.sh makes, volumes that are declared, and files that are there', () => {
    const made = readdirSync(directory.path);
    for (const [name, { file }] of Object.entries(secrets)) {
      expect(file).toBe(`./deploy/compose/secrets/${name}`);
      expect(made).toContain(name);
    }
    for (const { secrets: mounted = [], volumes: used = [] } of Object.values(services)) {
      for (const name of mounted) expect(secrets).toHaveProperty(name);
      for (const volume of used) {
        const [source = ''] = volume.split(':');
        expect(source.startsWith('./') ? existsSync(join(ROOT, source)) : source in volumes, volume).toBe(
          true,
        );
      }
    }
  });

  it('makes secrets once: what is there stays', () => {
    const before = readFileSync(join(directory.path, 'api_token'), 'utf8');
    execFileSync('sh', [join(ROOT, 'deploy/compose/make-secrets.sh'), directory.path]);

    expect(readFileSync(join(directory.path, 'api_token'), 'utf8')).toBe(before);
  });

  it('waits for services that there are, and for the health of those that tell it', () => {
    for (const { depends_on: wanted = {} } of Object.values(services)) {
      for (const name of Array.isArray(wanted) ? wanted : Object.keys(wanted)) {
        expect(services).toHaveProperty(name);
        const condition = Array.isArray(wanted) ? undefined : wanted[name]?.condition;
        if (condition === 'service_healthy') expect(services[name]?.healthcheck, name).toBeDefined();
      }
    }
  });

  it('lets Prometheus read every process of the archiver, at the port where it listens', () => {
    const prometheus = parse(readFileSync(join(ROOT, 'deploy/prometheus.yml'), 'utf8')) as {
      scrape_configs: { dns_sd_configs: { names: string[]; port: number }[] }[];
    };
    const read = prometheus.scrape_configs.flatMap(({ dns_sd_configs: found }) =>
      found.flatMap(({ names, port }) => names.map((name) => `${name}:${port}`)),
    );
    const serving = Object.entries(services).flatMap(
      ([name, { environment: { HTTP_PORT, HTTP_HOST } = {} }]) =>
        HTTP_PORT === undefined ? [] : [[`${name}:${HTTP_PORT}`, HTTP_HOST]],
    );

    expect(read).toEqual(serving.map(([name]) => name));
    for (const [, host] of serving) expect(host).toBe('0.0.0.0');
  });
});
