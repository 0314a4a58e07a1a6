import { Queue } from 'bullmq';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { DAY_MS, type DayReport, dayOf } from '../../src/domain/completeness.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { backfillQueueName } from '../../src/jobs/backfill-queue.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import type { SessionWorker } from '../../src/workers/worker.ts';
import { runInProcess } from '../support/in-process-command.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';

const DAY = dayOf(Date.now() - 3 * DAY_MS);
const OTHER = dayOf(Date.now() - 2 * DAY_MS);
const WAIT = { timeout: 60_000, interval: 50 };

let sandbox: Sandbox;
let queue: TestQueue;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let env: Record<string, string>;
let runtime: Runtime;
const workers: SessionWorker[] = [];

async function startWorker(): Promise<void> {
  const { kore } = testConfig(env, queue.config);
  const worker = await runtime.startWorker(kore);
  workers.push(worker);
  await worker.ready();
}

beforeAll(async () => {
  [sandbox, directory, queue] = await Promise.all([
    startSandbox({ accountId: 'o-1' }),
    temporaryDirectory(),
    createTestQueue('redis'),
  ]);
  const { target, name, prefix = '' } = queue.config;
  if (target.kind !== 'redis') throw new Error('a queue on Redis was asked for');
  env = {
    ...sandboxEnvironment(sandbox),
    KORE_ACCOUNT_ID: 'o-1',
    KORE_RETENTION: '5d',
    QUEUE_URL: target.url,
    QUEUE_NAME: name,
    QUEUE_PREFIX: prefix,
    ARCHIVE_URL: `file:${directory.path}`,
  };
  runtime = await openRuntime(testConfig(env, queue.config).config, silent);
  await startWorker();
});

afterAll(async () => {
  for (const worker of workers) await worker.stop();
  await runtime.close();
  await Promise.all([sandbox.close(), directory.remove(), queue.remove()]);
});

let count = 0;
const add = (date: string) => {
  count += 1;
  return sandbox.addSession({
    sessionId: makeSessionId(new Date(Date.parse(date) + count * 60_000)),
    transcription: 'Hello.',
  });
};
const isArchived = async (sessionId: string) =>
  (await runtime.operations.view({ botId: sandbox.botId, sessionId }))?.state === 'archived';
const completeness = (...options: string[]) => runInProcess(['completeness', ...options], { env });

describe('completeness', () => {
  it('completeness --report-only only reports what is missing, day by day, and ends with 1', async () => {
    const sessionId = add(DAY);
    const result = await completeness('--from', DAY, '--to', OTHER, '--report-only', '--json');
    expect(result).toMatchObject({ code: 1, stderr: expect.stringMatching(/1 session missing/) });
    const { days } = JSON.parse(result.stdout) as { days: DayReport[] };
    expect(days.map(({ date, missing, queued }) => [date, missing, queued])).toEqual([
      [DAY, 1, 0],
      [OTHER, 0, 0],
    ]);
    expect(await isArchived(sessionId)).toBe(false);
    // Nothing was written without --write.
    const [report] = await runtime.completeness.reports(sandbox.botId, [DAY]);
    expect(report?.reasons).toEqual(['not-computed']);
  });

  it('completeness queues what is missing, writes the report, and ends with 0 once all is archived', async () => {
    const sessionId = add(DAY);
    expect((await completeness('--from', DAY, '--to', DAY, '--write')).code).toBe(1);
    await vi.waitUntil(() => isArchived(sessionId), WAIT);
    await vi.waitUntil(async () => (await runtime.operations.stats()).states.queued === 0, WAIT);
    const done = await completeness('--from', DAY, '--to', DAY, '--write');
    expect(done).toMatchObject({ code: 0, stdout: expect.stringMatching(/ complete\n/) });
    const [report] = await runtime.completeness.reports(sandbox.botId, [DAY]);
    expect(report).toMatchObject({ complete: true, archived: 2, missing: 0 });
  });

  it('completeness says that a listing failed, and never that the day is complete', async () => {
    sandbox.configure({ scopes: ['SmartAssist Voicemail'] });
    const result = await completeness('--from', DAY, '--to', DAY, '--report-only', '--json');
    sandbox.configure({ scopes: ['SmartAssist Voicemail', 'SmartAssist Analytics', 'Bot Sessions'] });
    expect(result).toMatchObject({ code: 1, stderr: expect.stringMatching(/Kore could not list 1 day/) });
    const { days } = JSON.parse(result.stdout) as { days: DayReport[] };
    expect(days).toMatchObject([{ complete: false, reasons: ['listing-failed'] }]);
  });

  it.each([
    [['--from', 'yesterday'], /--from/],
    [['--from', OTHER, '--to', DAY], /must not be after/],
    [['--from', '2020-01-01', '--to', '2021-01-01'], /more than 93 days/],
    [['--source', 'tapes'], /calls, sessions/],
  ])('completeness with %j is wrong usage', async (options, message) => {
    const result = await completeness(...options);
    expect(result).toMatchObject({ code: 2, stderr: expect.stringMatching(message) });
  });
});

it('the daily completeness run is shared by all workers, survives their restart, and works when it is due', async () => {
  const backend = await openBackend(queue.config, silent);
  const jobs = new Queue(
    backend.queueName(backfillQueueName(queue.config.name)),
    backend.options('producer'),
    backend.factory,
  );
  try {
    const scheduled = async () => (await jobs.getJobSchedulers()).map(({ key, next }) => ({ key, next }));
    const [before] = await scheduled();
    expect(before?.key).toBe('_completeness');
    await startWorker();
    expect(await scheduled()).toEqual([before]);

    const sessionId = add(OTHER);
    const [due, ...others] = await jobs.getDelayed();
    expect(others).toEqual([]);
    await due?.promote();
    await vi.waitUntil(() => isArchived(sessionId), WAIT);
    await vi.waitUntil(async () => {
      const [report] = await runtime.completeness.reports(sandbox.botId, [OTHER]);
      return report?.listed === 1 && report.queued === 1;
    }, WAIT);
    expect((await scheduled()).map(({ key }) => key)).toEqual(['_completeness']);
  } finally {
    await jobs.close();
    await backend.close();
  }
});
