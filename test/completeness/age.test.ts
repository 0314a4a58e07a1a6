/** How old what metrics show of completeness may be, next to what docs/operations.md says. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CronExpressionParser } from 'cron-parser';
import { afterAll, beforeAll, expect, it, onTestFinished, vi } from 'vitest';
import { writeReport } from '../../src/completeness/documents.ts';
import { createCompletenessSummary } from '../../src/completeness/operations.ts';
import { createCompletenessWorker } from '../../src/completeness/worker.ts';
import { createCallFilter } from '../../src/domain/call.ts';
import { DAY_MS, type DayReport, dayOf } from '../../src/domain/completeness.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { createDirectoryStore } from '../../src/storage/fs/store.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import { createTestQueue, silent } from '../support/queues.ts';
import { temporaryDirectory, testConfig } from '../support/services.ts';

const BOT_ID = 'st-1';
const signal = new AbortController().signal;
const text = readFileSync(join(import.meta.dirname, '../../docs/operations.md'), 'utf8');
const [, hour, minute, everyHours, everyMinute, shortDays, freshMinutes] =
  /the workers' run writes at (\d\d):(\d\d) UTC, or every (three) hours \(at (\d+) minutes past\) where `KORE_RETENTION` is under (\d+) days.*up to (\d+) minutes more/.exec(
    text,
  ) ?? [];

let opened: AsyncDisposableStack;
let runtime: Runtime;
let archive: ArchiveStore;

beforeAll(async () => {
  opened = new AsyncDisposableStack();
  const directory = opened.adopt(await temporaryDirectory(), (one) => one.remove());
  const queue = opened.adopt(await createTestQueue('redis'), (one) => one.remove());
  const { config } = testConfig(
    {
      KORE_HOST: 'kore.example',
      KORE_BOT_ID: BOT_ID,
      KORE_CLIENT_ID: 'cs-1',
      KORE_CLIENT_SECRET: 'secret',
      ARCHIVE_URL: `file:${directory.path}`,
    },
    queue.config,
  );
  runtime = opened.adopt(await openRuntime(config, silent), (one) => one.close());
  archive = opened.adopt(createDirectoryStore(directory.path), (one) => one.close());
});

afterAll(() => opened.disposeAsync());

/** When reports of a day are written, where Kore keeps voicemails for so long. */
function runsOfADay(retentionMs: number | undefined): string[] {
  const { daily } = createCompletenessWorker({
    kore: { botId: BOT_ID, accountId: 'o-1', retentionMs },
    completeness: { reportOnly: false },
    queue: runtime.queue,
    keepCall: createCallFilter('off', ''),
    archive,
    listPage: () => Promise.reject(new Error('nothing is run here')),
    notifier: undefined,
    now: Date.now,
    log: silent,
  });
  const times = CronExpressionParser.parse(daily?.cron ?? '', {
    currentDate: '2026-05-03T00:00:00Z',
    endDate: '2026-05-03T23:59:59Z',
    tz: 'UTC',
  });
  const found: string[] = [];
  while (times.hasNext()) found.push(times.next().toDate().toISOString().slice(11, 16));
  return found;
}

function reportOf(date: string, missing: number): DayReport {
  return {
    ...{ date, botId: BOT_ID, complete: false, reasons: ['missing'], failedByCode: {} },
    ...{ listed: 3, archived: 1, transcriptPending: 0, partial: 0, waiting: 0, failed: 0 },
    ...{
      withoutVoicemail: 0,
      erased: 0,
      unknown: 0,
      missing,
      archivedUnlisted: 0,
      atRisk: missing,
      queued: 0,
    },
    computedAt: new Date().toISOString(),
  };
}

it('reports are written when the documentation says so', () => {
  expect(everyHours).toBe('three');
  const shortMs = Number(shortDays) * DAY_MS;
  for (const retention of [undefined, shortMs]) expect(runsOfADay(retention)).toEqual([`${hour}:${minute}`]);
  expect(runsOfADay(shortMs - 1)).toEqual(
    Array.from({ length: 8 }, (_, index) => `${String(index * 3).padStart(2, '0')}:${everyMinute}`),
  );
});

it('a process shows a written report once what it has read before is as old as documented, and not sooner', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const day = dayOf(Date.now());
  const read = createCompletenessSummary(BOT_ID, DAY_MS, runtime.completeness, Date.now);
  const shown = async () => (await read()).days.map(({ missing, atRisk }) => [missing, atRisk]);
  const freshMs = Number(freshMinutes) * 60_000;

  expect(await shown()).toEqual([]);
  await writeReport(reportOf(day, 2), archive, signal);
  vi.advanceTimersByTime(freshMs - 1);
  expect(await shown()).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(await shown()).toEqual([[2, 2]]);
});
