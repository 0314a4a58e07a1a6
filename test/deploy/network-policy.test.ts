import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isMap, isSeq, parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { isAllowed, NetworkPolicy, type Other, type Pod } from '../support/network-policy.ts';

const K8S = join(import.meta.dirname, '../../deploy/k8s');
const read = (file: string) => readFileSync(join(K8S, file), 'utf8');

const base = parseAllDocuments(read('base/network-policy.yaml')).map((document) =>
  NetworkPolicy.parse(document.toJS()),
);
const Patch = z.strictObject({
  apiVersion: z.literal('networking.k8s.io/v1'),
  kind: z.literal('NetworkPolicy'),
  metadata: z.strictObject({ name: z.string() }),
  spec: z.strictObject({ egress: NetworkPolicy.shape.spec.shape.egress }),
});
const patch = Patch.parse(parse(read('overlays/example/queue-policy.yaml')));
/** A list of rules has no keys by which it could be merged: a patch takes its place. */
const example = base.map((policy) =>
  policy.metadata.name === patch.metadata.name
    ? { ...policy, spec: { ...policy.spec, ...patch.spec } }
    : policy,
);

const OWN = { 'app.kubernetes.io/name': 'voicemail-archiver' };
const ownPod = (component: string): Pod => ({
  namespace: 'voicemail',
  labels: { ...OWN, 'app.kubernetes.io/component': component },
  ports: { http: 8080 },
});
const pods = { api: ownPod('api'), worker: ownPod('worker') };
const podIn = (namespace: string, name: string, namespaceLabels = {}): Pod => ({
  namespace,
  namespaceLabels,
  labels: { 'app.kubernetes.io/name': name },
});
const dns: Pod = { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } };

const enters = (policies: readonly NetworkPolicy[], to: 'api' | 'worker', from: Other, port = 8080) =>
  isAllowed(policies, { direction: 'ingress', pod: pods[to], other: from, port });
const leaves = (other: Other, port: number, { policies = base, protocol = 'TCP' as 'TCP' | 'UDP' } = {}) =>
  (['api', 'worker'] as const).map((from) =>
    isAllowed(policies, { direction: 'egress', pod: pods[from], other, port, protocol }),
  );
const BOTH = [true, true];
const NEITHER = [false, false];

/** Rules for which anybody will do. */
function openRules(policies: readonly NetworkPolicy[]): string[] {
  return policies.flatMap(({ metadata, spec }) =>
    (['ingress', 'egress'] as const).flatMap((direction) =>
      (spec[direction] ?? []).flatMap((rule, index) => {
        const peers = (direction === 'ingress' ? rule.from : rule.to) ?? [];
        const isOpen =
          peers.length === 0 ||
          rule.ports === undefined ||
          peers.some(
            ({ ipBlock, ...selectors }) =>
              (ipBlock ? direction === 'ingress' : Object.keys(selectors).length === 0) ||
              Object.values(selectors).some(
                (selector) => Object.keys(selector?.matchLabels ?? {}).length === 0,
              ),
          );
        return isOpen ? [`${metadata.name}: ${direction} ${index}`] : [];
      }),
    ),
  );
}

describe('the network policies', () => {
  it('name the peers and the ports of each rule', () => {
    expect(openRules(base)).toEqual([]);
    expect(openRules(example)).toEqual([]);

    const opened = (rule: object) =>
      base.map(({ spec, ...rest }) =>
        NetworkPolicy.parse({ ...rest, spec: { ...spec, ingress: spec.ingress && [rule] } }),
      );
    const ports = [{ port: 'http' }];
    for (const rule of [
      { ports },
      { from: [], ports },
      { from: [{ namespaceSelector: {} }], ports },
      { from: [{ ipBlock: { cidr: '0.0.0.0/0' } }], ports },
      { from: [{ namespaceSelector: { matchLabels: { a: 'b' } } }] },
    ]) {
      expect(openRules(opened(rule))).toHaveLength(2);
    }
  });

  it('say of each rule what it is for, and of the internet why', () => {
    const documents = ['base/network-policy.yaml', 'overlays/example/queue-policy.yaml'].flatMap((file) => [
      ...parseAllDocuments(read(file)),
    ]);
    const said = documents.flatMap((document) =>
      ['ingress', 'egress'].flatMap((direction) => {
        const rules = document.getIn(['spec', direction]);
        if (!isSeq(rules)) return [];
        return rules.items.map((rule, index) => ({
          text: String(rule),
          // A comment above the first of them is one of the list.
          comment: (isMap(rule) && rule.commentBefore) || (index === 0 && rules.commentBefore) || '',
        }));
      }),
    );

    expect(said).toHaveLength(8);
    for (const { comment, text } of said) expect(comment.length, text).toBeGreaterThan(20);
    const internet = said.filter(({ text }) => text.includes('ipBlock'));
    expect(internet.map(({ comment }) => /internet, as /.test(comment))).toEqual([true]);
  });

  it('let in the ingress controller and programs that are labelled at the API alone, and nobody else', () => {
    const controller = podIn('ingress-nginx', 'ingress-nginx');
    const client = podIn('crm', 'crm', { 'voicemail-archiver/client': 'true' });

    for (const other of [controller, client]) {
      expect(enters(base, 'api', other)).toBe(true);
      expect(enters(base, 'api', other, 9229)).toBe(false);
      expect(enters(base, 'worker', other)).toBe(false);
    }
    for (const other of [
      podIn('crm', 'crm'),
      podIn('voicemail', 'another'),
      podIn('crm', 'crm', { 'voicemail-archiver/client': 'false' }),
      { address: '203.0.113.7' },
      pods.worker,
    ]) {
      expect(enters(base, 'api', other)).toBe(false);
      expect(enters(base, 'worker', other)).toBe(false);
    }
  });

  it('let Prometheus read both, in the namespace where the autoscaler asks it', () => {
    const scaled = read('base/scaled-object.yaml');
    const [, namespace = ''] = /serverAddress: http:\/\/[\w-]+\.([\w-]+)\.svc/.exec(scaled) ?? [];

    for (const to of ['api', 'worker'] as const) {
      expect(enters(base, to, podIn(namespace, 'prometheus'))).toBe(true);
    }
  });

  it('let pods ask for names, and reach https on the internet, but no private network', () => {
    expect(leaves(dns, 53, { protocol: 'UDP' })).toEqual(BOTH);
    expect(leaves(dns, 53)).toEqual(BOTH);
    expect(leaves(podIn('kube-system', 'metrics-server'), 53)).toEqual(NEITHER);
    for (const address of ['52.95.110.1', '2a00:1450:4001::1']) {
      expect(leaves({ address }, 443), address).toEqual(BOTH);
      expect(leaves({ address }, 80), address).toEqual(NEITHER);
    }
    for (const address of [
      '10.1.2.3',
      '169.254.169.254',
      '192.168.1.1',
      '172.20.0.1',
      'fd00::1',
      'fe80::1',
    ]) {
      expect(leaves({ address }, 443), address).toEqual(NEITHER);
    }
    expect(leaves(podIn('crm', 'crm'), 443)).toEqual(NEITHER);
  });

  it('let pods reach the Redis that QUEUE_URL names, and no other', () => {
    const [, here] = /^QUEUE_URL=redis:\/\/([\w-]+):6379$/m.exec(read('base/config.env')) ?? [];
    const [, name = '', there = ''] =
      /QUEUE_URL=rediss:\/\/([\w-]+)\.([\w-]+)\.svc:6379$/m.exec(
        read('overlays/example/kustomization.yaml'),
      ) ?? [];

    expect(leaves(podIn('voicemail', here ?? ''), 6379)).toEqual(BOTH);
    expect(leaves(podIn(there, name), 6379)).toEqual(NEITHER);
    expect(leaves(podIn(there, name), 6379, { policies: example })).toEqual(BOTH);
    for (const policies of [base, example]) {
      expect(leaves(podIn('shop', 'redis'), 6379, { policies })).toEqual(NEITHER);
      expect(leaves(podIn(there, 'postgres'), 6379, { policies })).toEqual(NEITHER);
    }
  });
});
