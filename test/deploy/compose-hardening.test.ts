import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { VARIABLES } from '../../src/config/variables.ts';
import { type ComposeService, composeText, readCompose } from '../support/compose.ts';

const ROOT = join(import.meta.dirname, '../..');

/** What every service has to have. */
type Rule =
  | 'limit of memory'
  | 'limit of processors'
  | 'read-only root'
  | 'place to write'
  | 'no capabilities'
  | 'no new privileges'
  | 'logs that end'
  | 'version of the image'
  | 'secrets by file'
  | 'health check'
  | 'loopback alone'
  | 'mounts read-only'
  | 'waits for health';

/** Where a service can't have what it should, and why. One that is not needed any more fails the test, too. */
const EXCEPTIONS: Readonly<Record<string, string>> = {
  'api: version of the image': 'built from this repository, on a base that is named by its digest',
  'worker: version of the image': 'the same',
  'sandbox: version of the image': 'the same',
  'api: health check': 'the image brings one, which compose-run.test.ts runs',
  'worker: health check': 'the same',
  'api: secrets by file, QUEUE_URL': 'Redis is reached by the containers alone and has no password',
  'worker: secrets by file, QUEUE_URL': 'the same',
  's3: secrets by file, ROOT_ACCESS_KEY_ID': 'the name of an account, whose key comes by file',
};

/** Directories that the programs write to, whatever they are told. */
const WRITTEN: Readonly<Record<string, readonly string[]>> = {
  api: ['/tmp'],
  worker: ['/tmp'],
  sandbox: [],
  redis: ['/data'],
  s3: ['/data', '/tmp'],
  prometheus: ['/prometheus'],
  grafana: ['/var/lib/grafana', '/tmp'],
};

/** Fields of the Compose specification that open what the others close. */
const WAYS_OUT = [
  ...['privileged', 'cap_add', 'devices', 'device_cgroup_rules', 'cgroup_parent', 'group_add', 'sysctls'],
  ...['pid', 'ipc', 'uts', 'network_mode', 'userns_mode', 'volumes_from', 'use_api_socket'],
];
const MOST_LOG_BYTES = 50 * 2 ** 20;
const SECRET_VARIABLES: readonly string[] = VARIABLES.filter(({ isSecret }) => isSecret).map(
  ({ name }) => name,
);
const compose = readCompose();

/** What is not as it should be, a line for each. */
function faultsOf(services: Readonly<Record<string, ComposeService>>): string[] {
  return Object.entries(services).flatMap(([name, service]) => [
    ...rulesBroken(name, service).map((rule) => `${name}: ${rule}`),
    ...secretsShown(service).map((variable) => `${name}: ${'secrets by file' satisfies Rule}, ${variable}`),
    ...Object.entries(service.depends_on ?? {}).flatMap(([other, condition]) =>
      typeof condition === 'object' &&
      condition.condition === 'service_healthy' &&
      services[other]?.healthcheck
        ? []
        : [`${name}: ${'waits for health' satisfies Rule}`],
    ),
  ]);
}

function rulesBroken(name: string, service: ComposeService): Rule[] {
  const { cpus = '', memory = '' } = service.deploy.resources.limits;
  const { volumes = [], tmpfs = [], logging, ports = [] } = service;
  const mounts = volumes.map((volume) => {
    const [source = '', target = '', mode] = volume.split(':');
    return { source, target, isWritable: mode !== 'ro', isFile: source.startsWith('.') };
  });
  const writable = [...tmpfs, ...mounts.filter((mount) => mount.isWritable).map(({ target }) => target)];
  const written = WRITTEN[name];
  const { 'max-size': size = '', 'max-file': files = '' } = logging?.options ?? {};
  const [, megabytes = 'Infinity'] = /^(\d+)m$/.exec(size) ?? [];
  const kept: Readonly<Record<Exclude<Rule, 'secrets by file' | 'waits for health'>, boolean>> = {
    'limit of memory': /^[1-9]\d*M$/.test(memory),
    'limit of processors': Number(cpus) > 0,
    'read-only root': service.read_only === true,
    'place to write': written?.every((path) => writable.includes(path)) ?? false,
    'no capabilities': service.cap_drop?.join() === 'ALL',
    'no new privileges': service.security_opt?.join() === 'no-new-privileges:true',
    'logs that end':
      logging?.driver === 'json-file' && Number(megabytes) * 2 ** 20 * Number(files) <= MOST_LOG_BYTES,
    'version of the image': /:v?\d+\.\d+\.\d+[\w.-]*$/.test(service.image),
    'health check': service.healthcheck !== undefined,
    'loopback alone': ports.every((port) => /^127\.0\.0\.1:\d+:\d+$/.test(port)),
    'mounts read-only': mounts.every(
      ({ source, isFile, isWritable }) => !isFile || (!isWritable && existsSync(join(ROOT, source))),
    ),
  };
  return (Object.keys(kept) as (keyof typeof kept)[]).filter((rule) => !kept[rule]);
}

/** Variables by which a secret would come that `docker inspect` shows. */
function secretsShown({ environment = {}, secrets = [] }: ComposeService): string[] {
  return Object.entries(environment)
    .filter(([name, value]) => {
      const isSecret =
        SECRET_VARIABLES.includes(name.replace(/_FILE$/, '')) ||
        /SECRET|PASSWORD|TOKEN|CREDENTIAL|(^|_)KEY(_|$)/.test(name);
      const [, file = ''] = /^\/run\/secrets\/(\w+)$/.exec(value) ?? [];
      return isSecret && !(name.endsWith('_FILE') && secrets.includes(file));
    })
    .map(([name]) => name);
}

describe('compose.yaml', () => {
  it('bounds and locks up every service, but for exceptions that have a reason', () => {
    expect(faultsOf(compose.services).sort()).toEqual(Object.keys(EXCEPTIONS).sort());
    expect(Object.keys(compose.services).sort()).toEqual(Object.keys(WRITTEN).sort());
  });

  it('gives no service a way out: of its namespaces, to devices, or to directories of the machine', () => {
    const written = parse(composeText(), { merge: true }) as { services: Record<string, object> };
    const fields = Object.values(written.services).flatMap((service) => Object.keys(service));
    expect(fields).toContain('cap_drop');
    expect(fields.filter((field) => WAYS_OUT.includes(field))).toEqual([]);
    const sources = Object.values(compose.services).flatMap(({ volumes = [] }) => volumes);
    expect(sources.filter((volume) => /^[/~]/.test(volume))).toEqual([]);
  });

  it.each<[string, Partial<ComposeService>, string]>([
    ['no memory limit', { deploy: { resources: { limits: { cpus: '1' } } } }, 'limit of memory'],
    ['no processor limit', { deploy: { resources: { limits: { memory: '1M' } } } }, 'limit of processors'],
    ['a root to write to', { read_only: false }, 'read-only root'],
    ['nowhere to keep its data', { volumes: [] }, 'place to write'],
    ['a volume that is read-only', { volumes: ['redis:/data:ro'] }, 'place to write'],
    ['some capabilities', { cap_drop: ['NET_RAW'] }, 'no capabilities'],
    ['a way to more privileges', { security_opt: [] }, 'no new privileges'],
    ['logs without an end', { logging: { driver: 'json-file' } }, 'logs that end'],
    [
      'logs of a gigabyte',
      { logging: { driver: 'json-file', options: { 'max-size': '100m', 'max-file': '10' } } },
      'logs that end',
    ],
    ['an image of no version', { image: 'redis:latest' }, 'version of the image'],
    ['an image of a major version', { image: 'redis:7-alpine' }, 'version of the image'],
    ['no health check', { healthcheck: undefined }, 'health check'],
    ['a port for everybody', { ports: ['6379:6379'] }, 'loopback alone'],
    ['a password', { environment: { REDIS_PASSWORD: 'x' } }, 'secrets by file, REDIS_PASSWORD'],
    ['a token of ours', { environment: { API_TOKEN: 'x' } }, 'secrets by file, API_TOKEN'],
    [
      'a file of a secret that is not mounted',
      { environment: { API_TOKEN_FILE: '/run/secrets/api_token' } },
      'secrets by file, API_TOKEN_FILE',
    ],
    [
      'a configuration that it may change',
      { volumes: ['redis:/data', './deploy/prometheus.yml:/etc/redis.conf'] },
      'mounts read-only',
    ],
    [
      'a configuration that is not there',
      { volumes: ['redis:/data', './deploy/redis.conf:/etc/redis.conf:ro'] },
      'mounts read-only',
    ],
    ['a dependency that it does not wait for', { depends_on: ['s3'] }, 'waits for health'],
    [
      'a dependency that tells no health',
      { depends_on: { api: { condition: 'service_healthy' } } },
      'waits for health',
    ],
  ])('would be found with %s', (_what, change, fault) => {
    const { redis } = compose.services;
    if (!redis) throw new Error('compose.yaml has no Redis');
    const services = { ...compose.services, redis: { ...redis, ...change } };

    expect(faultsOf(services)).toContain(`redis: ${fault}`);
    expect(faultsOf(compose.services)).not.toContain(`redis: ${fault}`);
  });
});
