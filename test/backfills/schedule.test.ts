import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BackfillBody } from '../../src/api/schemas/backfills.ts';
import type { Config, KoreConfig, ScheduleSpec } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import { parseCron, parseLookback } from '../../src/config/schedules.ts';
import { ConfigError } from '../../src/config/settings.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { createLogger } from '../../src/util/log.ts';
import type { SessionWorker } from '../../src/workers/worker.ts';
import { createTestQueue, type QueueKind, silent, type TestQueue, whyMissing } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';

const EVERY_SECOND = '* * * * * *';
const DAY_MS = 24 * 60 * 60 * 1000;

let sandbox: Sandbox;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
const closers: (() => Promise<void>)[] = [];

beforeEach(async () => {
  sandbox = await startSandbox();
  directory = await temporaryDirectory();
});

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await directory.remove();
  await sandbox.close();
});

async function openQueue(kind: QueueKind): Promise<TestQueue> {
  const queue = await createTestQueue(kind);
  closers.push(() => queue.remove());
  return queue;
}

function configFor(queue: TestQueue, schedules = ''): { config: Config; kore: KoreConfig } {
  const environment = { ...sandboxEnvironment(sandbox), ARCHIVE_URL: `file:${directory.path}` };
  const { config, kore } = testConfig(environment, queue.config);
  // Past the loader, which refuses what is due as often as a test wants it.
  return { config: { ...config, schedules: schedules.split('; ').flatMap(scheduleOf) }, kore };
}

/** `name=cron|48h` */
function scheduleOf(text: string): ScheduleSpec[] {
  const [, name, cron, lookback] = /^(.+)=(.+)\|(.+)$/.exec(text) ?? [];
  return name && cron && lookback ? [{ name, cron, lookbackMs: parseLookback(lookback) }] : [];
}

async function open(config: Config, log = silent): Promise<Runtime> {
  const runtime = await openRuntime(config, log);
  closers.push(() => runtime.close());
  return runtime;
}

async function startWorker(runtime: Runtime, kore: KoreConfig): Promise<SessionWorker> {
  const worker = await runtime.startWorker(kore);
  closers.push(() => worker.stop());
  await worker.ready();
  return worker;
}

describe('a schedule', () => {
  it.for(['redis', 'postgres'] as const)(
    'a schedule fires once each time with three workers (%s)',
    async (kind, { skip }) => {
      skip(whyMissing(kind) !== undefined, whyMissing(kind));
      const queue = await openQueue(kind);
      const { config, kore } = configFor(queue, `ticking=${EVERY_SECOND}|1h`);
      const log: string[] = [];
      const logger = createLogger('info', (line) => log.push(line));
      const runtimes = await Promise.all([1, 2, 3].map(() => open(config, logger)));
      await Promise.all(runtimes.map((runtime) => startWorker(runtime, kore)));
      const starts = () =>
        log
          .map((line) => JSON.parse(line) as { msg: string; from: string })
          .filter(({ msg }) => msg.startsWith('a schedule is due'))
          .map(({ from }) => from);
      await vi.waitUntil(() => starts().length >= 3, { timeout: 60_000 });
      const fired = starts();
      expect(new Set(fired).size).toBe(fired.length);
      const [first = '', last = ''] = [fired[0], fired.at(-1)];
      // Every second of the time in between, and none twice.
      expect(fired.length).toBe((Date.parse(last) - Date.parse(first)) / 1000 + 1);
      const schedules = await runtimes[0]?.backfills.schedules();
      expect(schedules).toMatchObject([{ name: 'ticking', cron: EVERY_SECOND, lookbackMs: 3_600_000 }]);
    },
  );

  it.for(['redis', 'postgres'] as const)(
    'a schedule is declared by many processes that start at the same moment (%s)',
    async (kind, { skip }) => {
      skip(whyMissing(kind) !== undefined, whyMissing(kind));
      const { config } = configFor(await openQueue(kind));
      const runtimes = await Promise.all(Array.from({ length: 8 }, () => open(config)));
      const spec = { name: 'nightly', cron: '0 3 * * *', lookbackMs: DAY_MS };
      await Promise.all(runtimes.map(({ backfills }) => backfills.setSchedule(spec)));
      expect(await runtimes[0]?.backfills.schedules()).toMatchObject([spec]);
    },
  );

  it('a schedule runs once for the runs that were missed while every process was down', async () => {
    const queue = await openQueue('redis');
    const { config, kore } = configFor(queue);
    const runtime = await open(config);
    await runtime.backfills.setSchedule({ name: 'ticking', cron: EVERY_SECOND, lookbackMs: DAY_MS });
    const due = (await runtime.backfills.schedules())[0]?.nextRunAt ?? 0;
    await vi.waitUntil(() => Date.now() > due + 1_500, { timeout: 60_000 });
    // Declared as it is already: that leaves the run alone which is due.
    const declared = configFor(queue, `ticking=${EVERY_SECOND}|1d`);
    await startWorker(await open(declared.config), kore);
    const oldest = await vi.waitUntil(
      async () => (await runtime.backfills.list()).find(({ from }) => Date.parse(from) === due - DAY_MS),
      { timeout: 60_000 },
    );
    expect(oldest.botId).toBe(sandbox.botId);
  });

  it('a declared schedule comes back by itself when the queue was replaced by an empty one', async () => {
    const queue = await openQueue('redis');
    const { config, kore } = configFor(queue, 'nightly=0 3 * * *|48h');
    const runtime = await open(config);
    await startWorker(runtime, kore);
    expect(await runtime.backfills.schedules()).toHaveLength(1);
    await queue.remove(); // which is what leaves a Redis of this prefix as empty as a new one
    expect(await runtime.backfills.schedules()).toEqual([]);
    const back = await vi.waitUntil(async () => (await runtime.backfills.schedules())[0], {
      timeout: 60_000,
    });
    expect(back).toMatchObject({ name: 'nightly', cron: '0 3 * * *', lookbackMs: 2 * DAY_MS });
  });

  // The first to want an embedded queue has to make one, which takes seconds of computing.
  it('a schedule is set, replaced, listed and removed, and is declared anew on an empty queue', {
    timeout: 120_000,
  }, async () => {
    const { config, kore } = configFor(
      await openQueue('embedded'),
      'nightly=0 3 * * *|48h; weekly=0 4 * * sun|14d',
    );
    const runtime = await open(config);
    const { backfills } = runtime;
    expect(await backfills.schedules()).toEqual([]);
    await startWorker(runtime, kore);
    const cronsByName = async () =>
      Object.fromEntries((await backfills.schedules()).map(({ name, cron }) => [name, cron]));
    expect(await cronsByName()).toEqual({ nightly: '0 3 * * *', weekly: '0 4 * * sun' });
    const nightly = (await backfills.schedules()).find(({ name }) => name === 'nightly');
    expect(new Date(nightly?.nextRunAt ?? 0).toISOString()).toMatch(/T03:00:00\.000Z$/);

    await backfills.setSchedule({ name: 'nightly', cron: '30 2 * * *', lookbackMs: DAY_MS });
    expect(await backfills.removeSchedule('weekly')).toBe(true);
    expect(await backfills.removeSchedule('weekly')).toBe(false);
    expect(await cronsByName()).toEqual({ nightly: '30 2 * * *' });
  });
});

describe('SCHEDULES', () => {
  it.each([
    'nightly',
    'nightly=0 3 * * *',
    'nightly=0 3 * *|48h',
    'nightly=0 25 * * *|48h',
    'nightly=0 3 0 * *|48h',
    'nightly=0 3 * foo *|48h',
    'nightly=0 3 30 2 *|48h',
    'nightly=0 3 31 apr,jun *|48h',
    'nightly=*/0 3 * * *|48h',
    'nightly=9-3 3 * * *|48h',
    'nightly=H 3 * * *|48h',
    'nightly=@daily|48h',
    'nightly=0 3 * * *|366d',
    'nightly=0 3 * * *|2',
    'nightly=0 3 * * *|5s',
    '1=0 3 * * *|48h',
    'a=0 3 * * *|48h; a=0 4 * * *|48h',
  ])('SCHEDULES=%j is refused', (SCHEDULES) => {
    expect(() => loadConfig({ SCHEDULES }, { needs: [] })).toThrow(ConfigError);
  });

  it.each([
    '* * * * *',
    '*/5 0-6,22 1,15 jan-mar MON',
    '30 */10 3 * * sun',
    '0 3 * * 7',
    '0 0 29,31 feb *',
    '0 0 31 2/2 *',
  ])('SCHEDULES accepts the cron expression %j', (cron) => {
    expect(parseCron(`  ${cron.replace(' ', '   ')} `)).toBe(cron);
  });

  it.each(['* * * * * *', '*/30 * * * * *', '0,1 0 3 * * *'])(
    'SCHEDULES=%j is refused, as it is due too often',
    (cron) => {
      expect(() => parseCron(cron)).toThrow('more often than once a minute');
    },
  );
});

describe('a backfill', () => {
  const ask = (from: string, to?: string) => BackfillBody.safeParse({ from, ...(to && { to }) });

  it('a backfill covers at most ten years', () => {
    expect(ask('2010-01-01T00:00:00Z', '2020-01-01T00:00:00Z').success).toBe(true);
    expect(ask('2010-01-01T00:00:00Z', '2021-01-01T00:00:00Z').error?.issues).toMatchObject([
      { path: ['from'], message: 'is more than 10 years before the end' },
    ]);
    expect(ask('0001-01-01T00:00:00Z').success).toBe(false);
  });
});
