/** NetworkPolicies as a cluster's network plugin reads them: https://kubernetes.io/docs/concepts/services-networking/network-policies/ */

import { BlockList, isIPv6 } from 'node:net';
import { z } from 'zod';

const Labels = z.record(z.string(), z.string());
const Selector = z.strictObject({ matchLabels: Labels.optional() });
const Peer = z.strictObject({
  namespaceSelector: Selector.optional(),
  podSelector: Selector.optional(),
  ipBlock: z.strictObject({ cidr: z.string(), except: z.array(z.string()).optional() }).optional(),
});
const Port = z.strictObject({
  port: z.union([z.string(), z.int()]),
  protocol: z.enum(['TCP', 'UDP']).default('TCP'),
});
const Rule = z.strictObject({
  from: z.array(Peer).optional(),
  to: z.array(Peer).optional(),
  ports: z.array(Port).optional(),
});
/** What is used of a NetworkPolicy. */
export const NetworkPolicy = z.looseObject({
  metadata: z.looseObject({ name: z.string() }),
  spec: z.strictObject({
    podSelector: Selector,
    policyTypes: z.array(z.enum(['Ingress', 'Egress'])),
    ingress: z.array(Rule).optional(),
    egress: z.array(Rule).optional(),
  }),
});

type Labels = z.infer<typeof Labels>;
type Selector = z.infer<typeof Selector>;
type Peer = z.infer<typeof Peer>;
export type NetworkPolicy = z.infer<typeof NetworkPolicy>;

/** A pod in a cluster. */
export interface Pod {
  readonly namespace: string;
  /** Of its namespace, beside the name. */
  readonly namespaceLabels?: Labels;
  readonly labels: Labels;
  /** Its ports by their names. */
  readonly ports?: Readonly<Record<string, number>>;
}

/** The other end of a connection. */
export type Other = Pod | { readonly address: string };

/** A connection from a pod or to it. */
interface Connection {
  readonly direction: 'ingress' | 'egress';
  readonly pod: Pod;
  readonly other: Other;
  readonly port: number;
  readonly protocol?: 'TCP' | 'UDP';
}

/** Whether policies that lie in the pod's namespace let a connection through. */
export function isAllowed(policies: readonly NetworkPolicy[], connection: Connection): boolean {
  const { direction, pod, other, port, protocol = 'TCP' } = connection;
  const type = direction === 'ingress' ? 'Ingress' : 'Egress';
  const holding = policies.filter(
    ({ spec }) => spec.policyTypes.includes(type) && selects(spec.podSelector, pod.labels),
  );
  if (holding.length === 0) return true;
  // A port by its name is one of the pod that is reached.
  const reached = direction === 'ingress' ? pod : other;
  const named = 'ports' in reached ? reached.ports : undefined;
  return holding
    .flatMap(({ spec }) => spec[direction] ?? [])
    .some(({ from, to, ports }) => {
      const peers = direction === 'ingress' ? from : to;
      const isPort =
        ports === undefined ||
        ports.some(
          (one) =>
            one.protocol === protocol &&
            (typeof one.port === 'string' ? named?.[one.port] : one.port) === port,
        );
      return isPort && (peers === undefined || peers.some((peer) => isPeer(peer, other, pod.namespace)));
    });
}

function isPeer({ namespaceSelector, podSelector, ipBlock }: Peer, other: Other, own: string): boolean {
  if ('address' in other) {
    if (!ipBlock) return false;
    return (
      isWithin(ipBlock.cidr, other.address) &&
      !ipBlock.except?.some((network) => isWithin(network, other.address))
    );
  }
  if (ipBlock) return false;
  const namespaceLabels = { 'kubernetes.io/metadata.name': other.namespace, ...other.namespaceLabels };
  const isNamespace = namespaceSelector
    ? selects(namespaceSelector, namespaceLabels)
    : other.namespace === own;
  return isNamespace && (podSelector === undefined || selects(podSelector, other.labels));
}

function selects({ matchLabels = {} }: Selector, labels: Labels): boolean {
  return Object.entries(matchLabels).every(([name, value]) => labels[name] === value);
}

function isWithin(network: string, address: string): boolean {
  const [base = '', bits] = network.split('/');
  const family = (text: string) => (isIPv6(text) ? 'ipv6' : 'ipv4');
  if (family(base) !== family(address)) return false;
  const list = new BlockList();
  list.addSubnet(base, Number(bits), family(base));
  return list.check(address, family(address));
}
