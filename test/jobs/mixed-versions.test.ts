import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { openRuntime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { createLogger } from '../../src/util/log.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';

const QUEUES = join(import.meta.dirname, '../fixtures/queues');

/** What a Redis held of a queue, with `{queue}` for its name; without the stream of events. */
interface StoredQueue {
  readonly keys: readonly {
    readonly key: string;
    readonly command: 'hset' | 'zadd' | 'rpush' | 'sadd' | 'set';
    readonly values: readonly string[];
  }[];
}

let sandbox: Sandbox;
let redis: Redis;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

beforeAll(async () => {
  directory = await temporaryDirectory();
  sandbox = await startSandbox({ botId: 'st-old', autoSessions: true });
  redis = new Redis(inject('redisUrl'));
});

afterAll(async () => {
  redis.disconnect();
  await sandbox.close();
  await directory.remove();
});

/** A queue, and the configuration of programs that work on it. */
async function openQueue(): Promise<{ queue: TestQueue; env: Record<string, string> }> {
  const queue = await createTestQueue('redis');
  return {
    queue,
    env: { ...sandboxEnvironment(sandbox), ARCHIVE_URL: `file:${directory.path}/${queue.config.prefix}` },
  };
}

describe('a worker on a queue that another version has filled', () => {
  it.each(readdirSync(QUEUES))('a worker archives what was queued by %s', async (file) => {
    const { queue, env } = await openQueue();
    const { config, kore } = testConfig(env, queue.config);
    const { prefix = 'bull' } = config.queue;
    const stored = JSON.parse(readFileSync(join(QUEUES, file), 'utf8')) as StoredQueue;
    const named = (text: string) =>
      text
        .replaceAll('bull:{queue}', `${prefix}:${config.queue.name}`)
        .replaceAll('{queue}', config.queue.name);
    for (const { key, command, values } of stored.keys) {
      await redis.call(command, named(key), ...values.map(named));
    }
    const queued = stored.keys.flatMap(({ key }) => /:st-old\.(\w+)$/.exec(key)?.[1] ?? []);
    expect(queued.length).toBeGreaterThanOrEqual(4);
    const runtime = await openRuntime(config, silent);
    const worker = await runtime.startWorker(kore);
    try {
      const views = () =>
        Promise.all(queued.map((sessionId) => runtime.operations.view({ sessionId, botId: 'st-old' })));

      await expect
        .poll(async () => (await views()).map((view) => view?.state))
        .toEqual(queued.map(() => 'archived'));
    } finally {
      await worker.stop();
      await runtime.close();
      await queue.remove();
    }
  });

  it('a worker leaves alone what a newer version has queued, logs it, and archives the rest', async () => {
    const { queue, env } = await openQueue();
    const { config, kore } = testConfig(env, queue.config);
    const lines: string[] = [];
    const runtime = await openRuntime(
      config,
      createLogger('info', (line) => lines.push(line)),
    );
    const newer = { sessionId: '6560b1f0a1b2c3d4e5f60711', botId: 'st-old' };
    const known = { sessionId: '6560b1f0a1b2c3d4e5f60712', botId: 'st-old' };
    await runtime.operations.enqueue([newer, known]);
    const job = `${config.queue.prefix ?? 'bull'}:${config.queue.name}:st-old.${newer.sessionId}`;
    const data = JSON.stringify({ ...newer, version: 2, unheardOf: true });
    await redis.hset(job, 'data', data);
    const worker = await runtime.startWorker(kore);
    try {
      await expect.poll(async () => (await runtime.operations.view(known))?.state).toBe('archived');
      await expect.poll(async () => (await runtime.operations.view(newer))?.state).toBe('waiting');

      expect(lines.map((line) => JSON.parse(line))).toContainEqual(
        expect.objectContaining({ level: 'error', version: 2, known: 1, job: `st-old.${newer.sessionId}` }),
      );
      expect(await redis.hget(job, 'data')).toBe(data);
      expect(sandbox.calls.filter(({ sessionId }) => sessionId === newer.sessionId)).toEqual([]);
      expect(sandbox.calls.filter(({ sessionId }) => sessionId === known.sessionId)).not.toEqual([]);
    } finally {
      await worker.stop();
      await runtime.close();
      await queue.remove();
    }
  });
});
