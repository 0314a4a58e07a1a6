import { enqueueRequestOf } from '../backfills/list.ts';
import { type CompletenessWorker, listingOf, retryWhileLimited } from '../backfills/worker.ts';
import type { CompletenessConfig, KoreConfig } from '../config/config.ts';
import type { createCallFilter } from '../domain/call.ts';
import {
  type CompletenessOrder,
  DAY_MS,
  type DayReport,
  daysBetween,
  daysWithinRetention,
} from '../domain/completeness.ts';
import type { VoicemailError } from '../domain/errors.ts';
import type { Notifier } from '../domain/notifications.ts';
import type { SessionQueue } from '../jobs/session-queue.ts';
import type { KoreClient } from '../kore/client.ts';
import { completenessReportKey } from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';
import type { Logger } from '../util/log.ts';
import { readReport, writeReport } from './documents.ts';
import type { OpenSession } from './judge-day.ts';
import { type DayReportDeps, reportDay } from './report-day.ts';

/** What a run computes. */
export interface RunTask {
  readonly botId: string;
  /** `YYYY-MM-DD`, in order. */
  readonly days: readonly string[];
  readonly reportOnly: boolean;
  /** Put the reports into the archive. */
  readonly write: boolean;
}

/** What a run depends on. */
export interface RunDeps extends Omit<DayReportDeps, 'remembers'> {
  /** Queues sessions behind live ones. @returns how many were not queued before. */
  readonly enqueue: (open: readonly OpenSession[]) => Promise<number>;
  /** Stores the finished days, so that they survive a crash of this process. */
  readonly save: (days: readonly DayReport[]) => Promise<void>;
}

/** What a run came to. */
export interface RunResult {
  readonly days: readonly DayReport[];
  /** What kept Kore from listing some of the days. */
  readonly fault?: VoicemailError;
}

/**
 * Computes the reports of some days, one after the other, and queues what is missing. A run that was interrupted goes
 * on with the day it was in: what of that was queued before is then found in the queue.
 *
 * Where Kore can't list a day, it is not asked for the others either, and all their reports say so.
 *
 * @param before the days done before an interruption.
 * @throws what the archive and the queue throw; the signal's reason when aborted.
 */
async function runCompleteness(
  task: RunTask,
  before: readonly DayReport[],
  deps: RunDeps,
  signal: AbortSignal,
): Promise<RunResult> {
  const done = new Map(before.map((report) => [report.date, report]));
  let fault: VoicemailError | undefined;
  for (const date of task.days) {
    // One that could not be listed is tried again.
    const earlier = done.get(date);
    if (earlier && !earlier.error) continue;
    signal.throwIfAborted();
    const dayDeps = { ...deps, remembers: task.write };
    const computed = await reportDay(task.botId, date, dayDeps, signal, fault);
    // A second with too many sessions says nothing of other days.
    if (computed.fault?.retryable !== false) fault ??= computed.fault;
    const queued = task.reportOnly || computed.open.length === 0 ? 0 : await deps.enqueue(computed.open);
    const report = { ...computed.report, queued };
    if (task.write) await keep(report, deps, signal);
    done.set(date, report);
    await deps.save(inOrder(done));
  }
  return { days: inOrder(done), ...(fault && { fault }) };
}

/** A report of what could not be seen does not take the place of one that saw it. */
async function keep(report: DayReport, { archive }: RunDeps, signal: AbortSignal): Promise<void> {
  if (report.error) {
    const before = await readReport(report.botId, report.date, archive, signal);
    if (before && !before.error) return;
  }
  await writeReport(report, archive, signal);
}

function inOrder(done: ReadonlyMap<string, DayReport>): DayReport[] {
  return [...done.values()].sort((a, b) => (a.date < b.date ? -1 : 1));
}

/** What completeness runs work with. */
export interface CompletenessWorkerDeps {
  readonly kore: Pick<KoreConfig, 'botId' | 'accountId' | 'retentionMs'>;
  /** Without it there is no daily run. */
  readonly completeness: CompletenessConfig | undefined;
  readonly queue: Pick<SessionQueue, 'statuses' | 'view' | 'awaitingCheck' | 'enqueue'>;
  /** Makes of what a listing says of a call what is kept of it (`CALL_METADATA`). */
  readonly keepCall: ReturnType<typeof createCallFilter>;
  readonly archive: ArchiveStore;
  readonly listPage: KoreClient['listPage'];
  readonly notifier: Pick<Notifier, 'reported'> | undefined;
  readonly now: () => number;
  readonly log: Logger;
}

/** Once a day at a quiet time; where Kore forgets within days, often enough to notice in time. UTC. */
const DAILY = '17 2 * * *';
const EVERY_THREE_HOURS = '17 */3 * * *';
const SHORT_RETENTION_MS = 4 * DAY_MS;

/** Sessions queued in one go. */
const BATCH_SIZE = 1_000;

/** Works on completeness runs. */
export function createCompletenessWorker(deps: CompletenessWorkerDeps): CompletenessWorker {
  const { kore, archive, queue, notifier, now, log } = deps;
  const { retentionMs } = kore;
  const isShort = retentionMs !== undefined && retentionMs < SHORT_RETENTION_MS;
  return {
    daily: deps.completeness && {
      botId: kore.botId,
      cron: isShort ? EVERY_THREE_HOURS : DAILY,
      ...(deps.completeness.reportOnly && { reportOnly: true }),
    },
    async run(order, before, save, signal) {
      const { botId, reportOnly = false, write = false } = order;
      const source = order.source ?? (kore.accountId === undefined ? 'sessions' : 'calls');
      const listing = listingOf(source, kore.accountId);
      const listPage = retryWhileLimited((query, pageSignal) =>
        deps.listPage(listing, { botId, ...query }, pageSignal),
      );
      const task = { botId, days: daysOf(order, now(), retentionMs), reportOnly, write };
      const { days, fault } = await runCompleteness(
        task,
        before,
        {
          source,
          lister: { limits: listing.limits, listPage },
          archive,
          queue,
          retentionMs,
          now,
          enqueue: (open) => enqueue(open, deps),
          save,
        },
        signal,
      );
      for (const report of days) log[report.missing > 0 ? 'warn' : 'info'](summary(report), 'completeness');
      if (write && notifier) await notify(days, notifier, archive);
      // The daily run is repeated until Kore can be listed. A requested run reports what it has.
      if (fault && order.isDaily) throw fault;
    },
  };
}

/** The days of a run; those that are still to come are left out. */
function daysOf({ from, to }: CompletenessOrder, now: number, retentionMs: number | undefined): string[] {
  const within = daysWithinRetention(now, retentionMs);
  const first = from ?? within[0] ?? '';
  const last = within.at(-1) ?? '';
  return daysBetween(first, to === undefined || to > last ? last : to);
}

async function enqueue(
  open: readonly OpenSession[],
  { queue, keepCall }: Pick<CompletenessWorkerDeps, 'queue' | 'keepCall'>,
): Promise<number> {
  let queued = 0;
  for (let at = 0; at < open.length; at += BATCH_SIZE) {
    const requests = open
      .slice(at, at + BATCH_SIZE)
      .map((session) => ({ ...enqueueRequestOf(session, keepCall), by: 'completeness' }));
    const results = await queue.enqueue(requests);
    queued += results.filter(({ outcome }) => outcome === 'queued' || outcome === 'requeued').length;
  }
  return queued;
}

/** Counts alone. */
function summary({ date, botId, complete, reasons, listed, archived, missing, atRisk, queued }: DayReport) {
  return { date, bot: botId, complete, reasons, listed, archived, missing, atRisk, queued };
}

async function notify(
  days: readonly DayReport[],
  notifier: Pick<Notifier, 'reported'>,
  archive: Pick<ArchiveStore, 'fullKey'>,
): Promise<void> {
  for (const { date, botId, ...report } of days.filter(({ error }) => !error)) {
    const { listed, archived, transcriptPending, partial, waiting, failed } = report;
    const { withoutVoicemail, erased, unknown, missing, atRisk } = report;
    const counts = {
      ...{ listed, archived, transcriptPending, partial, waiting, failed },
      ...{ withoutVoicemail, erased, unknown, missing, atRisk },
    };
    await notifier.reported({ botId, date, counts, reportKey: archive.fullKey(completenessReportKey(date)) });
  }
}
