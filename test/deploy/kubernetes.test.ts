import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ScaledObject } from '@kubernetes-models/keda/keda.sh/v1alpha1';
import { ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';
import { Deployment } from 'kubernetes-models/apps/v1';
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1';
import { Namespace, Service, ServiceAccount } from 'kubernetes-models/v1';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { VARIABLES } from '../../src/config/variables.ts';
import { reportEverything, scrape, testMetrics } from '../support/metrics.ts';
import { readPromql } from '../support/promql.ts';

const K8S = join(import.meta.dirname, '../../deploy/k8s');
const BASE = join(K8S, 'base');
const OVERLAY = join(K8S, 'overlays/example');
const MODELS = {
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

function kustomization(directory: string): z.infer<typeof Kustomization> {
  return Kustomization.parse(parse(readFileSync(join(directory, 'kustomization.yaml'), 'utf8')));
}

const base = kustomization(BASE);
const overlay = kustomization(OVERLAY);
const resources = [
  ...base.resources.flatMap((file) => resourcesIn(BASE, file)),
  ...['namespace.yaml', 'service-account.yaml'].flatMap((file) => resourcesIn(OVERLAY, file)),
];
const deployments = resources
  .filter(({ kind }) => kind === 'Deployment')
  .map((resource) => new Deployment(resource as ConstructorParameters<typeof Deployment>[0]));
const podOf = ({ spec }: Deployment) => spec?.template.spec;
const containerOf = (deployment: Deployment) => podOf(deployment)?.containers[0];

describe('the resources for Kubernetes', () => {
  it.each(resources.map((resource) => [resource.kind, resource.metadata.name, resource] as const))(
    '%s %s is valid',
    (kind, _name, resource) => {
      expect(MODELS).toHaveProperty(kind);
      const Model = MODELS[kind as keyof typeof MODELS] as unknown as new (
        data: Resource,
      ) => {
        apiVersion: string;
        validate(): void;
      };

      expect(() => new Model(resource).validate()).not.toThrow();
      expect(resource.apiVersion).toBe(new Model(resource).apiVersion);
    },
  );

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
