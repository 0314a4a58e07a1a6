import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Ajv } from 'ajv';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { loadConfig } from '../../src/config/load.ts';
import { VARIABLES } from '../../src/config/variables.ts';
import { composeText, readCompose, serviceOf } from '../support/compose.ts';
import { runInProcess } from '../support/in-process-command.ts';
import { temporaryDirectory } from '../support/services.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Settings of the AWS SDK, which are no variables of ours. */
const SDK = ['AWS_ENDPOINT_URL_S3', 'AWS_REGION', 'AWS_SHARED_CREDENTIALS_FILE'];

const { services, secrets, volumes } = readCompose();
const ours = ['api', 'worker'].map((name) => serviceOf({ services }, name));

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

beforeAll(async () => {
  directory = await temporaryDirectory();
  execFileSync('sh', [join(ROOT, 'deploy/compose/make-secrets.sh'), directory.path]);
});

afterAll(() => directory.remove());

describe('compose.yaml', () => {
  it('is valid by the schema of the Compose specification', () => {
    const schema = readFileSync(join(ROOT, 'test/fixtures/compose-spec/compose-spec.json'), 'utf8');
    // Named by another address than the one that Ajv has it under; its formats are checked as patterns below.
    const { $schema: _, ...draft7 } = JSON.parse(schema) as Record<string, unknown>;
    const validate = new Ajv({ allErrors: true, strict: false, validateFormats: false }).compile(draft7);
    const written = parse(composeText(), { merge: true }) as { services: Record<string, object> };

    expect(validate(written) ? [] : validate.errors).toEqual([]);
    const misspelt = { ...written, services: { redis: { ...written.services.redis, volums: [] } } };
    expect(validate(misspelt)).toBe(false);
  });

  it('has every service that a tour of the system needs', () => {
    expect(Object.keys(services).sort()).toEqual(
      ['api', 'grafana', 'prometheus', 'redis', 's3', 'sandbox', 'worker'].sort(),
    );
  });

  it('keeps what is queued when Redis restarts', () => {
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
    const open = [...composeText().matchAll(/\$\{(\w+)/g)].map(([, name = '']) => name);
    expect(open.length).toBeGreaterThan(5);
    expect(open.filter((name) => !known.has(name))).toEqual([]);
  });

  it('configures an archiver that starts, as it is', () => {
    for (const [index, { environment = {}, secrets: mounted = [] }] of ours.entries()) {
      const values = Object.entries(environment).map(([name, value]) => [
        name,
        value.replace('/run/secrets', directory.path),
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

  it('reaches servers by names and at ports that they have', () => {
    const named = ours.flatMap(({ environment = {} }) =>
      ['KORE_HOST', 'QUEUE_URL', 'AWS_ENDPOINT_URL_S3'].map((name) => new URL(environment[name] ?? '')),
    );
    const listening: Readonly<Record<string, string>> = {
      sandbox: '8089',
      redis: '6379',
      s3: services.s3?.environment?.VGW_PORT?.slice(1) ?? '',
    };

    expect(named).toHaveLength(6);
    for (const { hostname, port } of named) expect(listening[hostname]).toBe(port);
    for (const { environment = {} } of ours) {
      const [, bucket] = /^s3:\/\/([^/]+)\//.exec(environment.ARCHIVE_URL ?? '') ?? [];
      expect(services.s3?.command?.join()).toContain(`mkdir -p /data/${bucket}\n`);
    }
  });

  it('makes secrets once: what is there stays', () => {
    const before = readFileSync(join(directory.path, 'api_token'), 'utf8');
    execFileSync('sh', [join(ROOT, 'deploy/compose/make-secrets.sh'), directory.path]);

    expect(readFileSync(join(directory.path, 'api_token'), 'utf8')).toBe(before);
  });

  it('runs commands and options of the program that there are', async () => {
    const commands = ['api', 'worker', 'sandbox'].map((name) => serviceOf({ services }, name).command ?? []);
    // As its first comment tells people.
    const told = [...composeText().matchAll(/exec api voicemail-archiver (.*)$/gm)].map(([, text = '']) =>
      text.split(' '),
    );
    expect(told).toHaveLength(1);

    for (const [command = '', ...words] of [...commands, ...told]) {
      const { code, stdout } = await runInProcess([command, '--help']);
      expect(code, command).toBe(0);
      expect(stdout).toContain(`Usage: voicemail-archiver ${command} `);
      for (const option of words.filter((word) => word.startsWith('-')))
        expect(stdout).toContain(` ${option}`);
    }
    expect((await runInProcess(['wroker', '--help'])).stdout).not.toContain('voicemail-archiver wroker');
  });

  it('gives Grafana a data source and a dashboard where it looks for them', () => {
    const { environment = {}, volumes: mounted = [] } = serviceOf({ services }, 'grafana');
    const sources = Object.fromEntries(
      mounted.map((volume) => volume.split(':').slice(0, 2).reverse() as [string, string]),
    );
    const provisioned = (name: string) => {
      const file = sources[`/etc/grafana/provisioning/${name}/voicemail.yml`] ?? '';
      return parse(readFileSync(join(ROOT, file), 'utf8')) as unknown;
    };

    expect(provisioned('datasources')).toMatchObject({
      datasources: [{ type: 'prometheus', url: 'http://prometheus:9090' }],
    });
    const home = environment.GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH ?? '';
    expect(sources[home]).toBe('./deploy/grafana-dashboard.json');
    expect(provisioned('dashboards')).toMatchObject({ providers: [{ options: { path: dirname(home) } }] });
  });

  it('gives Prometheus its rules where its configuration looks for them', () => {
    const { volumes: mounted = [], command = [] } = serviceOf({ services }, 'prometheus');
    const targets = mounted.map((volume) => volume.split(':')[1] ?? '');
    const [, file = ''] = /--config\.file=(\S+)/.exec(command.join(' ')) ?? [];
    const { rule_files: rules } = parse(readFileSync(join(ROOT, 'deploy/prometheus.yml'), 'utf8')) as {
      rule_files: string[];
    };

    expect(targets).toContain(file);
    expect(rules).toHaveLength(1);
    for (const name of rules) expect(targets).toContain(join(dirname(file), name));
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
