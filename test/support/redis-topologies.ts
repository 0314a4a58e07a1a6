/** Redis servers that belong together: a cluster, and a master that Sentinels watch. */

import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { findProgram, searchPath, startServer } from '../setup/process.ts';

/** One server of several. */
export interface Node {
  readonly port: number;
  /** Resolves when it is gone. */
  kill(): Promise<void>;
}

/** Servers that end together. */
export interface Topology {
  readonly nodes: readonly Node[];
  stop(): Promise<void>;
}

const SLOTS = 16_384;
/** A node's port for the others of its cluster is this much above its own. */
const BUS_OFFSET = 10_000;
const READY = 'Ready to accept connections';

/** Ports for which those of the cluster's bus are free too. */
export async function clusterPorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    server.close();
    await once(server, 'close');
    if (address === null || typeof address === 'string') continue;
    // Where the system hands out ports too high, the same distance downwards is as free.
    const port = address.port > 65_535 - BUS_OFFSET ? address.port - BUS_OFFSET : address.port;
    if (!ports.includes(port)) ports.push(port);
  }
  return ports;
}

async function startNode(directory: string, port: number, options: readonly string[]): Promise<Node> {
  const server = await startServer(
    program(),
    ['--port', String(port), '--bind', '127.0.0.1', '--dir', directory, '--save', '', ...options],
    READY,
  );
  let isGone = false;
  return {
    port,
    async kill() {
      if (isGone) return;
      isGone = true;
      await server.stop('SIGKILL');
    },
  };
}

function program(): string {
  const found = findProgram('redis-server', searchPath());
  if (!found) throw new Error('redis-server is not installed');
  return found;
}

/**
 * A cluster of three nodes. Unless the slots are spread, the second has all of them: the first and the third can die, and
 * what is left can still be used.
 */
export async function startCluster(password: string, { spread = false } = {}): Promise<Topology> {
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-cluster-'));
  const ports = await clusterPorts(3);
  const nodes = await Promise.all(
    ports.map((port) =>
      startNode(directory, port, [
        ...['--cluster-enabled', 'yes', '--cluster-config-file', `nodes-${port}.conf`],
        ...['--cluster-require-full-coverage', 'no', '--cluster-node-timeout', '60000'],
        ...['--requirepass', password, '--masterauth', password],
      ]),
    ),
  );
  const clients = ports.map((port) => new Redis({ port, host: '127.0.0.1', password }));
  const [first, owner] = clients;
  if (!first || !owner) throw new Error('a cluster has nodes');
  const owners = spread ? clients : [owner];
  const bounds = owners.map((_, index) => Math.floor((index * SLOTS) / owners.length));
  for (const [index, client] of owners.entries()) {
    await client.call('CLUSTER', 'ADDSLOTSRANGE', bounds[index] ?? 0, (bounds[index + 1] ?? SLOTS) - 1);
  }
  for (const port of ports.slice(1)) await first.call('CLUSTER', 'MEET', '127.0.0.1', port);
  // Each has to know of all, and who has the slots.
  for (const client of clients) {
    let info = '';
    const isWhole = () =>
      ['cluster_state:ok', 'cluster_known_nodes:3', `cluster_slots_assigned:${SLOTS}`].every((line) =>
        info.includes(line),
      );
    while (!isWhole()) {
      info = String(await client.call('CLUSTER', 'INFO'));
    }
    client.disconnect();
  }
  return {
    nodes,
    async stop() {
      await Promise.all(nodes.map((node) => node.kill()));
      await rm(directory, { recursive: true });
    },
  };
}

/** How to get at a master. */
export interface Sentinels extends Topology {
  /** Where the Sentinels are, as in a URL. */
  readonly hosts: string;
}

/** A master named `main` and three Sentinels, all with passwords, the Sentinels and the master with TLS. */
export async function startSentinels(
  passwords: { readonly server: string; readonly sentinel: string },
  tls: { readonly certificate: string; readonly key: string },
): Promise<Sentinels> {
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-sentinels-'));
  const encrypted = (port: number) => [
    ...['port 0', `tls-port ${port}`, `tls-cert-file ${tls.certificate}`, `tls-key-file ${tls.key}`],
    ...[`tls-ca-cert-file ${tls.certificate}`, 'tls-auth-clients no', 'tls-replication yes'],
  ];
  const [port = 0, ...sentinelPorts] = await clusterPorts(4);
  const start = async (name: string, lines: readonly string[], args: readonly string[], ready: string) => {
    const file = join(directory, `${name}.conf`);
    await writeFile(file, `${['bind 127.0.0.1', `dir ${directory}`, ...lines].join('\n')}\n`);
    return startServer(program(), [file, ...args], ready);
  };
  const master = await start(
    'main',
    [...encrypted(port), `requirepass ${passwords.server}`, 'save ""'],
    [],
    READY,
  );
  const sentinels = await Promise.all(
    sentinelPorts.map((sentinelPort) =>
      start(
        `sentinel-${sentinelPort}`,
        [
          ...encrypted(sentinelPort),
          `requirepass ${passwords.sentinel}`,
          `sentinel sentinel-pass ${passwords.sentinel}`,
          `sentinel monitor main 127.0.0.1 ${port} 2`,
          `sentinel auth-pass main ${passwords.server}`,
        ],
        ['--sentinel'],
        '+monitor master main',
      ),
    ),
  );
  const servers = [master, ...sentinels];
  const gone = new Set<number>();
  const kill = async (index: number) => {
    if (gone.has(index)) return;
    gone.add(index);
    await servers[index]?.stop('SIGKILL');
  };
  return {
    hosts: sentinelPorts.map((sentinelPort) => `127.0.0.1:${sentinelPort}`).join(','),
    nodes: [port, ...sentinelPorts].map((own, index) => ({ port: own, kill: () => kill(index) })),
    async stop() {
      await Promise.all(servers.map((_, index) => kill(index)));
      await rm(directory, { recursive: true });
    },
  };
}
