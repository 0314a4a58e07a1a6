import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { createLogger } from '../../src/util/log.ts';
import { createTestQueue, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';
import { type HoldPoint, SHORT_LOCKS, startHandMadeWorker } from '../support/worker-parts.ts';

let queue: TestQueue;
let sandbox: Sandbox;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

beforeAll(async () => {
  [queue, sandbox, directory] = await Promise.all([
    createTestQueue('redis'),
    startSandbox(),
    temporaryDirectory(),
  ]);
});
afterAll(() => Promise.all([queue.remove(), sandbox.close(), directory.remove()]));

it.each<[string, HoldPoint]>([
  ['while Kore is asked', 'answered'],
  ['while a recording is saved', 'recording'],
  ['before the manifest', 'manifest'],
])(
  'a queue that is unavailable %s uses up no attempt, and is no fault of this program',
  async (_, point) => {
    const { config, kore } = testConfig(
      { ...sandboxEnvironment(sandbox), ARCHIVE_URL: `file:${directory.path}` },
      { ...queue.config, name: `fault-${point}` },
    );
    const lines: string[] = [];
    let faults = 2;
    const worker = await startHandMadeWorker({
      config,
      kore,
      log: createLogger('info', (line) => lines.push(line)),
      tuning: SHORT_LOCKS,
      async reached(at) {
        if (at !== point || faults === 0) return;
        faults -= 1;
        // As its driver throws it.
        throw Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:6379'), { code: 'ECONNREFUSED' });
      },
    });
    try {
      const session = { sessionId: sandbox.addSession({ transcription: 'Hello.' }), botId: sandbox.botId };
      await worker.queue.enqueue([session]);
      await vi.waitUntil(async () => (await worker.queue.view(session))?.state === 'archived', {
        timeout: 60_000,
      });
      expect(faults).toBe(0);
      expect(await worker.queue.view(session)).toMatchObject({ attempts: 1 });
      expect(lines.join('')).not.toContain('INTERNAL');
      expect(lines.join('')).toContain('the queue could not be reached for it');
    } finally {
      await worker.stop();
    }
  },
  90_000,
);
