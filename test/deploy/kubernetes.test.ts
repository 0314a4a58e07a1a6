import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ScaledObject } from '@kubernetes-models/keda/keda.sh/v1alpha1';
import { ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';
import { Deployment } from 'kubernetes-models/apps/v1';
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1';
import { ConfigMap, Namespace, Service, ServiceAccount } from 'kubernetes-models/v1';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { VARIABLES } from '../../src/config/variables.ts';
import { reportEverything, scrape, testMetrics } from '../support/metrics-samples.ts';
import { readPromql } from '../support/promql-parser.ts';
import { temporaryDirectory } from '../support/services.ts';

const ROOT = join(import.meta.dirname, '../..');
const K8S = join(ROOT, 'deploy/k8s');
const BASE = join(K8S, 'base');
const OVERLAY = join(K8S, 'overlays/example');
const MODELS = {
  ConfigMap,
  Deployment,
  NetworkPolicy,
  PodDisruptionBudget,
  Namespace,
  Service,
  ServiceAccount,
  ServiceMonitor,
  ScaledObject,
};

/** What is read of every resource. */
const Resource = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string(), labels: z.record(z.string(), z.string()).optional() }),
});
const Kustomization = z.strictObject({
  apiVersion: z.literal('kustomize.config.k8s.io/v1beta1'),
  kind: z.literal('Kustomization'),
  namespace: z.string().optional(),
  resources: z.array(z.string()),
  labels: z
    .array(z.strictObject({ pairs: z.record(z.string(), z.string()), includeSelectors: z.boolean() }))
    .optional(),
  images: z
    .array(
      z.strictObject({ name: z.string(), newName: z.string(), newTag: z.union([z.string(), z.number()]) }),
    )
    .optional(),
  configMapGenerator: z.array(
    z.strictObject({
      name: z.string(),
      behavior: z.literal('merge').optional(),
      envs: z.array(z.string()).optional(),
      literals: z.array(z.string()).optional(),
    }),
  ),
  patches: z.array(z.strictObject({ path: z.string() })).optional(),
});

type Resource = z.infer<typeof Resource>;

function resourcesIn(directory: string, file: string): Resource[] {
  return parseAllDocuments(readFileSync(join(directory, file), 'utf8')).map((document) =>
    Resource.parse(document.toJS()),
  );
}

/** The text of resources as `kubectl kustomize` makes them, or nothing where no kubectl with Kustomize 5 is. */
function built(directory: string): string | undefined {
  const { stdout: version } = spawnSync('kubectl', ['version', '--client'], { encoding: 'utf8' });
  if (!/Kustomize Version: v[5-9]/.test(version ?? '')) return undefined;
  const { status, stdout, stderr } = spawnSync('kubectl', ['kustomize', directory], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return stdout;
}

/** Throws what Kubernetes' own schemas, and those of the two operators, say against a resource. */
function validate(resource: Resource): void {
  expect(MODELS).toHaveProperty(resource.kind);
  const Model = MODELS[resource.kind as keyof typeof MODELS] as unknown as new (
    data: Resource,
  ) => { apiVersion: string; validate(): void };
  new Model(resource).validate();
  expect(resource.apiVersion).toBe(new Model(resource).apiVersion);
}

/** Where the types of an API are. */
function typesOf(apiVersion: string): string {
  if (apiVersion.startsWith('keda.sh/')) return `@kubernetes-models/keda/${apiVersion}`;
  if (apiVersion.startsWith('monitoring.')) return `@kubernetes-models/prometheus-operator/${apiVersion}`;
  return `kubernetes-models/${apiVersion}`;
}

/** What TypeScript says of resources that are written out: the schemas let unknown fields pass, the types do not. */
async function unknownFields(written: readonly Resource[]): Promise<string> {
  const directory = await temporaryDirectory();
  try {
    const lines = written.flatMap(({ apiVersion, kind, ...rest }, index) => [
      `import type { I${kind} as Kind${index} } from '${typesOf(apiVersion)}';`,
      `export const resource${index}: Kind${index} = ${JSON.stringify({ apiVersion, kind, ...rest })};`,
    ]);
    await writeFile(join(directory.path, 'resources.ts'), lines.join('\n'));
    await writeFile(join(directory.path, 'package.json'), '{"type":"module"}');
    await symlink(join(ROOT, 'node_modules'), join(directory.path, 'node_modules'));
    const options = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--types', ''];
    const { stdout } = spawnSync(join(ROOT, 'node_modules/.bin/tsc'), [...options, 'resources.ts'], {
      cwd: directory.path,
      encoding: 'utf8',
    });
    return stdout;
  } finally {
    await directory.remove();
  }
}

function kustomization(directory: string): z.infer<typeof Kustomization> {
  return Kustomization.parse(parse(readFileSync(join(directory, 'kustomization.yaml'), 'utf8')));
}

const base = kustomization(BASE);
const overlay = kustomization(OVERLAY);
const resources = [
  ...base.resources.flatMap((file) => resourcesIn(BASE, file)),
  ...['namespace.yaml', 'service-account.yaml'].flatMap((file) => resourcesIn(OVERLAY, file)),
];
const example = built(OVERLAY);
const deployments = resources
  .filter(({ kind }) => kind === 'Deployment')
  .map((resource) => new Deployment(resource as ConstructorParameters<typeof Deployment>[0]));
const podOf = ({ spec }: Deployment) => spec?.template.spec;
const containerOf = (deployment: Deployment) => podOf(deployment)?.containers[0];

describe('the resources for Kubernetes', () => {
  it.each(resources.map((resource) => [resource.kind, resource.metadata.name, resource] as const))(
    '%s %s is valid',
    (_kind, _name, resource) => {
      expect(() => validate(resource)).not.toThrow();
      expect(() => validate({ ...resource, metadata: { name: 1 } as never })).toThrow();
    },
  );

  it.runIf(example !== undefined)('are valid as kubectl kustomize makes them of the example', () => {
    const made = parseAllDocuments(example ?? '').map((document) => Resource.parse(document.toJS()));
    for (const resource of made) validate(resource);

    const kinds = made.map(({ kind, metadata }) => `${kind} ${metadata.name.replace(/-[a-z0-9]{10}$/, '')}`);
    expect(kinds.sort()).toEqual(
      [...resources.slice(0, -1), { kind: 'ConfigMap', metadata: { name: 'voicemail-archiver' } }]
        .map(({ kind, metadata }) => `${kind} ${metadata.name}`)
        .sort(),
    );
    for (const { kind, metadata } of made) {
      if (kind !== 'Namespace') expect(metadata.namespace, metadata.name).toBe('voicemail');
    }
    // What patches say is what comes out.
    for (const { path } of overlay.patches ?? []) {
      for (const patch of resourcesIn(OVERLAY, path)) {
        const patched = made.find(
          ({ kind, metadata }) => kind === patch.kind && metadata.name === patch.metadata.name,
        );
        expect(patched, path).toMatchObject(patch);
      }
    }
    const images = made.flatMap((resource) =>
      resource.kind === 'Deployment' ? [new Deployment(resource as never)] : [],
    );
    expect(images.map((one) => containerOf(one)?.image)).toEqual(
      ['api', 'worker'].map(() => 'registry.example.com/voicemail-archiver:0.1.0'),
    );
    // The settings that a pod gets are those of the map that was made, by its name with the hash.
    const map = made.find(({ kind }) => kind === 'ConfigMap');
    for (const one of images) {
      expect(containerOf(one)?.envFrom).toEqual([{ configMapRef: { name: map?.metadata.name } }]);
    }
  });

  it('have no field that Kubernetes or its operators do not know', async () => {
    const misspelt = { ...resources.find(({ kind }) => kind === 'NetworkPolicy'), spec: { podSelektor: {} } };

    expect(await unknownFields(resources)).toEqual('');
    expect(await unknownFields([Resource.parse(misspelt)])).toContain('podSelektor');
  });

  it('are named by the kustomizations, all of them', () => {
    expect([...base.resources, 'config.env', 'kustomization.yaml'].sort()).toEqual(readdirSync(BASE).sort());
    const patches = overlay.patches?.map(({ path }) => path) ?? [];
    const own = overlay.resources.filter((path) => path !== '../../base');
    expect([...own, ...patches, 'kustomization.yaml'].sort()).toEqual(readdirSync(OVERLAY).sort());
  });

  it('set only variables that the program knows', () => {
    const known = VARIABLES.flatMap(({ name, isSecret }) => (isSecret ? [name, `${name}_FILE`] : [name]));
    const lines = readFileSync(join(BASE, 'config.env'), 'utf8').trim().split('\n');
    const literals = overlay.configMapGenerator.flatMap((generator) => generator.literals ?? []);
    const named = deployments.flatMap((deployment) => containerOf(deployment)?.env ?? []);
    const names = [...lines, ...literals, ...named.map(({ name }) => name)].map((line) => line.split('=')[0]);

    expect(names.length).toBeGreaterThan(10);
    expect(names.filter((name) => name !== 'AWS_REGION' && !known.includes(name ?? ''))).toEqual([]);
  });

  it('run an API and workers as restricted pods, with probes and limits, and the signing key', () => {
    expect(deployments.map((deployment) => containerOf(deployment)?.args)).toEqual([['api'], ['worker']]);
    for (const deployment of deployments) {
      const pod = podOf(deployment);
      expect(pod?.securityContext).toMatchObject({
        runAsNonRoot: true,
        runAsUser: 1000,
        seccompProfile: { type: 'RuntimeDefault' },
      });
      expect(pod?.automountServiceAccountToken).toBe(false);
      expect(pod?.terminationGracePeriodSeconds).toBeGreaterThan(30);
      const container = containerOf(deployment);
      expect(container?.securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      expect(container?.livenessProbe?.httpGet?.path).toBe('/livez');
      expect(container?.readinessProbe?.httpGet?.path).toBe('/readyz');
      expect(container?.resources?.requests).toHaveProperty('memory');
      expect(container?.resources?.limits).toHaveProperty('memory');
      expect(container?.env?.map(({ name }) => name)).toContain('MANIFEST_KEY_FILE');
    }
  });

  it('select the pods that there are, by ports that they have', () => {
    const labels = deployments.map(({ spec }) => spec?.template.metadata?.labels ?? {});
    const matches = (wanted: Readonly<Record<string, string>> = {}) =>
      labels.some((own) => Object.entries(wanted).every(([name, value]) => own[name] === value));
    const services = resources.filter(({ kind }) => kind === 'Service');
    for (const { spec } of services) {
      const { selector, ports } = spec as {
        selector: Record<string, string>;
        ports: { targetPort: string }[];
      };
      expect(matches(selector)).toBe(true);
      for (const { targetPort } of ports) expect(targetPort).toBe('http');
    }
    const selecting = resources.filter(({ kind }) => kind === 'PodDisruptionBudget');
    expect(selecting).toHaveLength(2);
    for (const { spec } of selecting) {
      expect(
        matches((spec as { selector: { matchLabels: Record<string, string> } }).selector.matchLabels),
      ).toBe(true);
    }
  });

  it('scale by a metric that is served, for the job name that the monitor gives', async () => {
    const { metrics } = testMetrics();
    reportEverything(metrics);
    const served = (await scrape(metrics)).map(({ name }) => name);
    const scaled = resources.find(({ kind }) => kind === 'ScaledObject')?.spec as {
      scaleTargetRef: { name: string };
      triggers: { metadata: { query: string } }[];
    };
    const monitor = resources.find(({ kind }) => kind === 'ServiceMonitor')?.spec as { jobLabel: string };
    const { selectors } = readPromql(scaled.triggers[0]?.metadata.query ?? '');

    expect(selectors.map(({ metric }) => metric).filter((name) => !served.includes(name))).toEqual([]);
    expect(deployments.map(({ metadata }) => metadata?.name)).toContain(scaled.scaleTargetRef.name);
    const job = selectors[0]?.matchers.find(({ label }) => label === 'job')?.value;
    for (const { metadata } of resources.filter(({ kind }) => kind === 'Service')) {
      expect(metadata.labels?.[monitor.jobLabel]).toBe(job);
    }
  });
});
