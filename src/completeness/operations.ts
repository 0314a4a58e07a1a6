import {
  type CompletenessOrder,
  type CompletenessRun,
  type DayReport,
  daysWithinRetention,
} from '../domain/completeness.ts';
import type { BackfillQueue } from '../jobs/backfill-queue.ts';
import type { ArchiveStore } from '../storage/store.ts';
import { shareResult } from '../util/async.ts';
import { readReport } from './documents.ts';

/** What may be asked about completeness. */
export interface CompletenessOperations {
  /** Starts a run, or joins one under way for the same; a worker computes it. */
  start(order: CompletenessOrder): Promise<CompletenessRun>;
  /** `undefined` when there is no run of that id. */
  run(id: string): Promise<CompletenessRun | undefined>;
  /** The last written report of each of the days; one that says so for a day that has none. */
  reports(botId: string, days: readonly string[]): Promise<readonly DayReport[]>;
}

/** Completeness on a queue and an archive that this process has open. */
export function createCompletenessOperations(
  runs: Pick<BackfillQueue, 'startCompleteness' | 'completenessRun'>,
  archive: Pick<ArchiveStore, 'read'>,
  now: () => number,
): CompletenessOperations {
  return {
    async start(order) {
      const id = await runs.startCompleteness(order);
      const run = await runs.completenessRun(id);
      if (!run) throw new Error(`the run ${id} was removed in the moment it was started`);
      return run;
    },
    run: (id) => runs.completenessRun(id),
    async reports(botId, days) {
      const found: DayReport[] = [];
      for (const date of days) {
        found.push(
          (await readReport(botId, date, archive, neverAborted())) ?? notComputed(botId, date, now()),
        );
      }
      return found;
    },
  };
}

/** Days within retention of which something is missing or at risk, as far as they are computed. */
export interface CompletenessSummary {
  /** The latest days that have a report, at most 31. */
  readonly days: readonly Pick<DayReport, 'date' | 'missing' | 'atRisk'>[];
}

/** How long the result of a check is reused: reports change every few hours. */
const FRESH_MS = 5 * 60 * 1000;

/** A function that returns a summary of the latest reports, the same in every process. */
export function createCompletenessSummary(
  botId: string,
  retentionMs: number | undefined,
  operations: Pick<CompletenessOperations, 'reports'>,
  now: () => number,
): () => Promise<CompletenessSummary> {
  return shareResult(async () => {
    const reports = await operations.reports(botId, daysWithinRetention(now(), retentionMs));
    return { days: reports.filter(({ reasons }) => !reasons.includes('not-computed')) };
  }, FRESH_MS);
}

function notComputed(botId: string, date: string, now: number): DayReport {
  return {
    date,
    botId,
    complete: false,
    reasons: ['not-computed'],
    listed: 0,
    archived: 0,
    transcriptPending: 0,
    partial: 0,
    waiting: 0,
    failed: 0,
    failedByCode: {},
    withoutVoicemail: 0,
    erased: 0,
    unknown: 0,
    missing: 0,
    archivedUnlisted: 0,
    atRisk: 0,
    queued: 0,
    computedAt: new Date(now).toISOString(),
  };
}

/** The stores have timeouts of their own. */
function neverAborted(): AbortSignal {
  return new AbortController().signal;
}
