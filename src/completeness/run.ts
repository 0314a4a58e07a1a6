import type { DayReport } from '../domain/completeness.ts';
import type { VoicemailError } from '../domain/errors.ts';
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
  /** Keeps the days done so far, whatever happens to this process. */
  readonly save: (days: readonly DayReport[]) => Promise<void>;
}

/** What a run came to. */
export interface RunResult {
  readonly days: readonly DayReport[];
  /** What kept Kore from listing some of the days. */
  readonly fault?: VoicemailError;
}

/**
 * Computes the reports of some days, one after the other, and queues what is missing. A run that was interrupted goes on
 * with the day it was in: what of that was queued before is then found in the queue.
 *
 * Where Kore can't list a day, it is not asked for the others either, and all their reports say so.
 *
 * @param before the days done before an interruption.
 * @throws what the archive and the queue throw; the signal's reason when aborted.
 */
export async function runCompleteness(
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
