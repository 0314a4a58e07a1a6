/** What the clients of a cluster do between the loss of the node with the queue and its replica's take-over. */

import { once } from 'node:events';
import type { Cluster, Redis } from 'ioredis';
import { afterEach, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { asQueueError } from '../../src/jobs/backends/connection-errors.ts';
import { createRedisClient, type RedisRole, type RedisTarget } from '../../src/jobs/backends/redis-client.ts';
import { type FailoverCluster, startFailoverCluster } from '../support/redis-failover.ts';

const KEY = '{bull}:count';
/** Only as long as a test waits that fails: a client that forgets its command would wait for ever. */
const TIMEOUT = { timeout: 100_000 };

const opened: { readonly clients: (Redis | Cluster)[]; readonly clusters: FailoverCluster[] } = {
  clients: [],
  clusters: [],
};
afterEach(async () => {
  for (const client of opened.clients.splice(0)) client.disconnect();
  await Promise.all(opened.clusters.splice(0).map((cluster) => cluster.stop()));
});

async function openCluster() {
  const cluster = await startFailoverCluster(KEY);
  opened.clusters.push(cluster);
  const { target } = loadConfig({ QUEUE_URL: cluster.url }, { needs: [] }).queue;
  const connect = async (role: RedisRole) => {
    const client = createRedisClient(target as RedisTarget, role);
    opened.clients.push(client);
    // Connections break here, and each command succeeds or fails.
    client.on('error', () => undefined);
    await once(client, 'ready');
    return client;
  };
  return { cluster, connect };
}

it(
  "a worker's command waits until the replica has taken over, while an enqueue fails with an error",
  TIMEOUT,
  async () => {
    const { cluster, connect } = await openCluster();
    const [consumer, producer] = [await connect('consumer'), await connect('producer')];
    await consumer.incr(KEY);
    await cluster.replicated();
    await cluster.lose('dies');

    const kept = consumer.incr(KEY);
    // Two in turn, so that a worker's command that had the limit of these would have failed before the second.
    for (let count = 0; count < 2; count += 1) {
      const error = await producer.incr(KEY).then(() => undefined, asQueueError);
      expect(error).toMatchObject({ name: 'QueueUnavailableError' });
    }
    await cluster.takeOver();
    expect(await kept).toBe(2);
  },
);

it(
  'a command that a hanging node has not answered is sent to the replica that took over',
  TIMEOUT,
  async () => {
    const { cluster, connect } = await openCluster();
    const consumer = await connect('consumer');
    await consumer.incr(KEY);
    await cluster.replicated();
    await cluster.lose('hangs');

    const unanswered = consumer.incr(KEY);
    await cluster.takeOver();
    expect(await unanswered).toBe(2);
  },
);
