/** How a process ends when a part fails to close, and continues when it was suspended. */

import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { openRuntime } from '../../src/runtime.ts';
import { openStore } from '../../src/storage/open.ts';
import { ask } from '../support/api-server.ts';
import { startCli } from '../support/cli.ts';
import { urlOf } from '../support/killed-programs.ts';
import { silent } from '../support/queues.ts';
import { type OwnRedis, startOwnRedis } from '../support/redis-server.ts';
import { temporaryDirectory } from '../support/services.ts';

const SOON = { timeout: 60_000, interval: 5 };
const ACTOR = { name: 'somebody', role: 'operate', via: 'cli' } as const;
/** Longer than the queue waits for an answer (10 s), so that the wait is over when the process goes on. */
const SUSPENDED_MS = 12_000;

let redis: OwnRedis;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

beforeEach(async () => {
  [redis, directory] = await Promise.all([
    startOwnRedis('--maxmemory-policy', 'noeviction'),
    temporaryDirectory(),
  ]);
});
afterEach(async () => {
  await redis.stop();
  await directory.remove();
});

/** Connections to the server, without the test's own. */
async function connections(): Promise<number> {
  const clients = String(await redis.admin.client('LIST'));
  return clients.trim().split('\n').length - 1;
}

it('a part that fails to close leaves no other part open, and its error is reported', async () => {
  const archive = `file:${directory.path}`;
  const config = loadConfig({ QUEUE_URL: redis.url, ARCHIVE_URL: archive }, { needs: [] });
  const runtime = await openRuntime(config, silent);
  await runtime.events.subscribe();
  expect(await connections()).toBeGreaterThan(0);
  runtime.auditLog?.record({ actor: ACTOR, action: 'pause' });
  const { queue } = runtime;
  const close = queue.close.bind(queue);
  queue.close = async () => {
    await close();
    throw new Error('the queue was closed badly');
  };

  await expect(runtime.close()).rejects.toThrow('the queue was closed badly');

  await vi.waitFor(async () => expect(await connections()).toBe(0), SOON);
  const store = await openStore({ kind: 'file', directory: directory.path });
  const keys: string[] = [];
  for await (const { key } of store.list('audit/', new AbortController().signal)) keys.push(key);
  await store.close();
  expect(keys).toHaveLength(1);
});

it('a process that is suspended for 12 seconds while it connects to Redis takes sessions afterwards, or ends', {
  timeout: 120_000,
}, async () => {
  const program = startCli(['start'], {
    env: {
      KORE_HOST: 'http://127.0.0.1:9',
      KORE_BOT_ID: 'st-1',
      KORE_CLIENT_ID: 'cs-1',
      KORE_CLIENT_SECRET: 'not much of a secret',
      QUEUE_URL: redis.url,
      ARCHIVE_URL: `file:${directory.path}`,
      HTTP_PORT: '0',
    },
  });
  await vi.waitUntil(async () => (await connections()) > 0, SOON);
  program.kill('SIGSTOP');
  await sleep(SUSPENDED_MS);
  program.kill('SIGCONT');

  const url = await Promise.race([urlOf(program), program.ended.then(() => undefined)]);
  const answers =
    url === undefined
      ? []
      : await Promise.all([
          ask(url, '/readyz'),
          ask(url, '/v1/sessions', { json: { sessionIds: ['67ab573f3685d1ba99541234'] } }),
        ]);
  program.kill('SIGTERM');
  const { code } = await program.ended;
  const outcome = url === undefined ? { code } : { statuses: answers.map(({ status }) => status) };
  expect([{ code: 1 }, { statuses: [200, 202] }]).toContainEqual(outcome);
});
