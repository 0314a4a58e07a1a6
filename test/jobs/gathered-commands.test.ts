import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { gatherCommands } from '../../src/jobs/backends/redis-client.ts';
import { startRedis } from '../setup/redis.ts';

let redis: Awaited<ReturnType<typeof startRedis>>;
let observer: Redis;
let client: Redis;
let mayWait: boolean;

beforeAll(async () => {
  redis = await startRedis();
  observer = new Redis(redis.url);
  client = new Redis(redis.url);
  gatherCommands(client, () => mayWait);
  await once(client, 'ready');
});
afterAll(async () => {
  client.disconnect();
  observer.disconnect();
  await redis.stop();
});

/** How often the server read from its clients, this question among it. */
async function reads(): Promise<number> {
  const [, count] = /^total_reads_processed:(\d+)/m.exec(await observer.info('stats')) ?? [];
  return Number(count);
}

it('commands of one pass of the event loop are one write', async () => {
  mayWait = false;
  const before = await reads();
  await expect(Promise.all([client.incr('one'), client.incr('one'), client.incr('one')])).resolves.toEqual([
    1, 2, 3,
  ]);
  expect((await reads()) - before).toBe(2);
});

it('commands of several passes are one write while others are likely to come', async () => {
  mayWait = true;
  const before = await reads();
  const replies = [client.incr('several')];
  // Behind the end of the turn, and before any timer.
  await turn();
  replies.push(client.incr('several'));
  await turn();
  replies.push(client.incr('several'));
  await expect(Promise.all(replies)).resolves.toEqual([1, 2, 3]);
  expect((await reads()) - before).toBeLessThan(4);
});

it('a client that is closed sends what it gathered before', async () => {
  mayWait = true;
  const closing = new Redis(redis.url);
  gatherCommands(closing, () => mayWait);
  await once(closing, 'ready');
  const reply = closing.incr('closed');
  await closing.quit();
  await expect(reply).resolves.toBe(1);
});
