import { afterEach, expect, it } from 'vitest';
import { openRuntime } from '../../src/runtime.ts';
import { startSandbox } from '../../src/sandbox/sandbox.ts';
import { openTestArchive } from '../support/archive-stores.ts';
import { createTestQueue, silent } from '../support/queues.ts';
import { sandboxEnvironment, testConfig } from '../support/services.ts';

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

it('a process without a worker shows the outage that the worker of another process found', async () => {
  const [sandbox, queue, archive] = await Promise.all([
    startSandbox(),
    createTestQueue('redis'),
    openTestArchive('file'),
  ]);
  closers.push(
    () => sandbox.close(),
    () => queue.remove(),
    () => archive.close(),
  );
  const loaded = testConfig({ ...sandboxEnvironment(sandbox), RETRY_DELAY: '1s' }, queue.config);
  const config = { ...loaded.config, archive: archive.target };
  const [working, asked] = [await openRuntime(config, silent), await openRuntime(config, silent)];
  closers.push(
    () => working.close(),
    () => asked.close(),
  );
  const breakers = async () => (await asked.operations.stats()).breakers;
  expect(await breakers()).toBeUndefined();

  sandbox.configure({ outage: { status: 503 } });
  const sessions = Array.from({ length: 3 }, () => ({
    sessionId: sandbox.addSession({}),
    botId: sandbox.botId,
  }));
  await asked.operations.enqueue(sessions);
  const worker = await working.startWorker(loaded.kore);
  closers.push(() => worker.stop());
  await expect
    .poll(breakers, { timeout: 60_000 })
    .toMatchObject([{ dependency: 'kore', state: 'open', code: 'KORE_UNAVAILABLE' }]);

  sandbox.configure({ outage: undefined });
  await expect.poll(breakers, { timeout: 60_000 }).toBeUndefined();
  await expect
    .poll(async () => (await asked.operations.stats()).states.archived, { timeout: 60_000 })
    .toBe(3);
}, 200_000);
