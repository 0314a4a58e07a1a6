/** Redis servers of which one takes the place of another: a cluster of three nodes, and a pair that Sentinels watch. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { findProgram, type ServerProcess, searchPath, startServer } from '../setup/process.ts';
import { clusterPorts } from './redis-topologies.ts';

/** Servers whose queue survives the death of the one that holds it. */
export interface Failover {
  /** `QUEUE_URL` */
  readonly url: string;
  /** Resolves when all that was written so far is on the replica too. */
  replicated(): Promise<void>;
  /** Kills the server that holds the queue; resolves when another one has taken its place. */
  fail(): Promise<void>;
  stop(): Promise<void>;
}

/** A cluster whose node can also hang, and whose replica takes over on request. */
export interface FailoverCluster extends Failover {
  /** The node with the queue is killed, or stops where it is with all of its connections open. */
  lose(how: 'dies' | 'hangs'): Promise<void>;
  /** Its replica takes its place. */
  takeOver(): Promise<void>;
}

const HOST = '127.0.0.1';
const SLOTS = 16_384;
const READY = 'Ready to accept connections';
/** Between two questions: what they ask for takes the servers some seconds. */
const POLL_MS = 25;

/** Servers in a directory, that end together. */
async function openServers() {
  const program = findProgram('redis-server', searchPath());
  if (!program) throw new Error('redis-server is not installed');
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-failover-'));
  const running = new Map<number, ServerProcess>();
  const clients: Redis[] = [];
  return {
    async start(port: number, lines: readonly string[], args: readonly string[] = [], ready = READY) {
      const file = join(directory, `${port}.conf`);
      const all = [`port ${port}`, `bind ${HOST}`, `dir ${directory}`, 'save ""', ...lines];
      await writeFile(file, `${all.join('\n')}\n`);
      running.set(port, await startServer(program, [file, ...args], ready));
    },
    admin(port: number): Redis {
      const client = new Redis({ host: HOST, port });
      // One of the servers is killed, and its client is no part of what is tested.
      client.on('error', () => undefined);
      clients.push(client);
      return client;
    },
    async kill(port: number) {
      const server = running.get(port);
      running.delete(port);
      await server?.stop('SIGKILL');
    },
    suspend(port: number) {
      running.get(port)?.signal('SIGSTOP');
    },
    async stop() {
      for (const client of clients) client.disconnect();
      await Promise.all([...running.values()].map((server) => server.stop('SIGKILL')));
      await rm(directory, { recursive: true });
    },
  };
}

/** Asks until the answer is as wanted. */
async function until(ask: () => Promise<boolean>): Promise<void> {
  while (!(await ask())) await sleep(POLL_MS);
}

/**
 * Resolves when the replica has all that its master has now. `WAIT` would not do: it tells of the writes of the
 * connection that asks, which has made none; and a master begins to send only a moment after the link is up.
 */
async function replicatedTo(master: Redis, replica: Redis): Promise<void> {
  const offset = async (server: Redis, field: string) =>
    Number(new RegExp(`^${field}:(\\d+)`, 'm').exec(await server.info('replication'))?.[1]);
  const wanted = await offset(master, 'master_repl_offset');
  await until(async () => (await offset(replica, 'slave_repl_offset')) >= wanted);
}

/** Two masters with half of the slots each, and a replica of the one that has the queue's. */
export async function startFailoverCluster(queueKey: string): Promise<FailoverCluster> {
  const servers = await openServers();
  const ports = await clusterPorts(3);
  await Promise.all(
    ports.map((port) =>
      servers.start(port, [
        'cluster-enabled yes',
        `cluster-config-file nodes-${port}.conf`,
        'cluster-node-timeout 60000',
        'cluster-require-full-coverage no',
        'repl-diskless-sync-delay 0',
      ]),
    ),
  );
  const [first, second, third] = ports.map((port) => servers.admin(port));
  if (!first || !second || !third) throw new Error('a cluster has three nodes');
  // As those who make clusters do. Nodes that begin with the same epoch may believe the one that is gone, not its replica.
  for (const [index, node] of [first, second, third].entries()) {
    await node.call('CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1));
  }
  const half = SLOTS / 2;
  await first.call('CLUSTER', 'ADDSLOTSRANGE', '0', String(half - 1));
  await second.call('CLUSTER', 'ADDSLOTSRANGE', String(half), String(SLOTS - 1));
  for (const port of ports.slice(1)) await first.call('CLUSTER', 'MEET', HOST, String(port));
  const knows = async (client: Redis) => {
    const info = String(await client.call('CLUSTER', 'INFO'));
    return info.includes('cluster_state:ok') && info.includes('cluster_known_nodes:3');
  };
  for (const client of [first, second, third]) await until(() => knows(client));
  const slot = Number(await first.call('CLUSTER', 'KEYSLOT', queueKey));
  const [owner, ownerPort] = slot < half ? [first, ports[0] ?? 0] : [second, ports[1] ?? 0];
  await third.call('CLUSTER', 'REPLICATE', String(await owner.call('CLUSTER', 'MYID')));
  await until(async () => /master_link_status:up/.test(await third.info('replication')));
  // A replica takes over the slots of which it knows that its master has them, and tells the nodes to which it is linked.
  const isWhole = async (client: Redis) => {
    const nodes = String(await client.call('CLUSTER', 'NODES'))
      .trim()
      .split('\n');
    const has = (text: string) => nodes.some((node) => node.includes(text));
    const areLinked = nodes.every((node) => node.includes(' connected'));
    return areLinked && has('slave ') && has(` 0-${half - 1}`) && has(` ${half}-${SLOTS - 1}`);
  };
  for (const client of [first, second, third]) await until(() => isWhole(client));
  const lose = async (how: 'dies' | 'hangs') => {
    if (how === 'dies') await servers.kill(ownerPort);
    else servers.suspend(ownerPort);
  };
  const takeOver = async () => {
    // One master that is left is no majority, so the replica is promoted, as an operator would do.
    await third.call('CLUSTER', 'FAILOVER', 'TAKEOVER');
    await until(async () => /role:master/.test(await third.info('replication')));
  };
  return {
    url: `redis://${ports.map((port) => `${HOST}:${port}`).join(',')}?cluster=true`,
    replicated: () => replicatedTo(owner, third),
    lose,
    takeOver,
    async fail() {
      await lose('dies');
      await takeOver();
    },
    stop: () => servers.stop(),
  };
}

/** A master, its replica, and three Sentinels that put the replica into its place. */
export async function startFailoverSentinels(): Promise<Failover> {
  const servers = await openServers();
  const [port = 0, replicaPort = 0, ...sentinelPorts] = await clusterPorts(5);
  await servers.start(port, ['repl-diskless-sync-delay 0']);
  await servers.start(replicaPort, [`replicaof ${HOST} ${port}`]);
  const [master, replica] = [servers.admin(port), servers.admin(replicaPort)];
  await until(async () => /master_link_status:up/.test(await replica.info('replication')));
  await Promise.all(
    sentinelPorts.map((sentinelPort) =>
      servers.start(
        sentinelPort,
        [
          `sentinel monitor main ${HOST} ${port} 2`,
          'sentinel down-after-milliseconds main 1000',
          'sentinel failover-timeout main 10000',
        ],
        ['--sentinel'],
        '+monitor master main',
      ),
    ),
  );
  // Each has to know the others and the replica before they can agree.
  for (const sentinelPort of sentinelPorts) {
    const sentinel = servers.admin(sentinelPort);
    await until(async () => {
      const reply = (await sentinel.call('SENTINEL', 'MASTER', 'main')) as string[];
      const field = (name: string) => Number(reply[reply.indexOf(name) + 1]);
      return field('num-other-sentinels') === 2 && field('num-slaves') === 1;
    });
  }
  return {
    url: `redis+sentinel://${sentinelPorts.map((one) => `${HOST}:${one}`).join(',')}/main`,
    replicated: () => replicatedTo(master, replica),
    async fail() {
      await servers.kill(port);
      await until(async () => /role:master/.test(await replica.info('replication')));
    },
    stop: () => servers.stop(),
  };
}
