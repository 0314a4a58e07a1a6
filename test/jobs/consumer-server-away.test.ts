import { expect, it } from 'vitest';
import { openRedisBackend } from '../../src/jobs/backends/redis.ts';
import { Consumer } from '../../src/jobs/consumer.ts';
import { startRedis } from '../setup/redis.ts';
import { silent } from '../support/queues.ts';

it('a worker can be stopped while Redis is unavailable', async () => {
  const redis = await startRedis();
  const backend = openRedisBackend({ kind: 'redis', url: redis.url, cluster: false }, undefined, silent);
  const consumer = new Consumer(backend, 'sessions', {
    concurrency: 1,
    handle: async () => ({ kind: 'give-back' }),
    log: silent,
  });
  await consumer.ready();
  await redis.stop();
  await consumer.stop(10);
  await backend.close();
  expect(consumer.activeJobs).toBe(0);
});
