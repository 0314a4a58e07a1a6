import type { PgPool } from 'bullmq';
import type { SessionState } from '../../domain/views.ts';
import type { JobResult, SessionJob, SessionJobData, SessionJobProgress } from '../session-job.ts';
import type { FoundJob, JobFilter, JobIndex, JobPlace } from './backend.ts';
import { answered } from './connection-errors.ts';

/** The code of a job's last error, of those that have one; what BullMQ failed by itself bears none. */
const CODE = `
(case
  when progress->'error' is not null then progress->'error'->>'code'
  when failed_reason ~ '^[A-Z_]+: ' then split_part(failed_reason, ':', 1)
  else 'INTERNAL'
end)`;
const HAS_CODE = "state <> 'completed' and (progress->'error' is not null or failed_reason is not null)";

/**
 * Creates the indexes that lists need. An existing index is not created again: that would wait for every process that
 * writes.
 */
export function indexSetup(schema: string): string {
  const indexes = [
    ['session_list_idx', '(queue, added_at_ms, id collate "C")'],
    ['session_code_idx', `(queue, ${CODE}, added_at_ms, id collate "C") where ${HAS_CODE}`],
    ['session_failed_idx', `(queue, added_at_ms, id collate "C") where state = 'failed'`],
  ];
  const statements = indexes.map(
    ([name, what]) => `
  if to_regclass('${schema}.${name}') is null then
    create index ${name} on ${schema}.job ${what};
  end if;`,
  );
  return `do $setup$ begin ${statements.join('')} end $setup$;`;
}

/** BullMQ's states in its tables, by session state. */
const STATES: Readonly<Record<SessionState, string>> = {
  queued: "state in ('waiting', 'waiting-children')",
  active: "state = 'active'",
  waiting: "state = 'delayed'",
  archived: "state = 'completed'",
  failed: "state = 'failed'",
};
const OUR_STATES: Readonly<Record<string, SessionState>> = {
  active: 'active',
  delayed: 'waiting',
  completed: 'archived',
  failed: 'failed',
};

interface JobRow {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly data: SessionJobData;
  readonly progress: SessionJobProgress | number | null;
  readonly return_value: JobResult;
  readonly failed_reason: string | null;
  readonly attempts_made: number;
  readonly added_at_ms: string | number;
  readonly processed_at_ms: string | number | null;
  readonly finished_at_ms: string | number | null;
}

/**
 * The number of added jobs after which the planner's statistics are updated; the next updates follow at twice the
 * number each. PostgreSQL does so by itself a minute later, the embedded database never. Until then the planner expects
 * a small queue, and sorts all of it for each page.
 */
const ANALYZED_FROM = 5_000;

/** The index of jobs in PostgreSQL, whose own indexes keep up by themselves. */
export function sqlJobIndex(pool: PgPool, schema: string, queueName: (name: string) => string): JobIndex {
  let added = 0;
  let analyzeAt = ANALYZED_FROM;
  return {
    async find(name, filter, after, limit) {
      const { conditions, values } = conditionsOf(filter, after);
      const { rows } = await answered(
        pool.query<JobRow>(
          `select id, name, state::text as state, data, progress, return_value, failed_reason, attempts_made,
          added_at_ms, processed_at_ms, finished_at_ms
        from ${schema}.job where queue = $1${conditions.map((condition) => ` and ${condition}`).join('')}
        order by added_at_ms desc, id collate "C" desc limit ${Math.trunc(limit)}`,
          [queueName(name), ...values],
        ),
      );
      return rows.map(foundJob);
    },
    async adding(_name, ids) {
      added += ids.length;
      if (added < analyzeAt) return;
      analyzeAt = added * 2;
      await pool.query(`analyze ${schema}.job`);
    },
    sweep: async () => undefined,
  };
}

function conditionsOf(
  { state, isPartial, code, botId, text, from, to }: JobFilter,
  after: JobPlace | undefined,
): { readonly conditions: string[]; readonly values: unknown[] } {
  const values: unknown[] = [];
  // The queue is the first parameter.
  const value = (given: unknown) => `$${values.push(given) + 1}`;
  const conditions: string[] = [];
  if (state) conditions.push(STATES[state]);
  if (isPartial) conditions.push("(progress->>'partial')::boolean");
  if (code !== undefined) conditions.push(HAS_CODE, `${CODE} = ${value(code)}`);
  if (botId !== undefined) conditions.push(`id like ${value(`${botId.replaceAll('_', '\\_')}.%`)}`);
  if (text !== undefined) {
    // LIKE takes a tenth of the time of functions that look for a text. No bot id has a dot.
    const patterns = new Set([text, text.toLowerCase()].map((part) => `%.%${part.replaceAll('_', '\\_')}%`));
    conditions.push(`(${[...patterns].map((pattern) => `id like ${value(pattern)}`).join(' or ')})`);
  }
  if (from !== undefined) conditions.push(`added_at_ms >= ${value(from)}`);
  if (to !== undefined) conditions.push(`added_at_ms <= ${value(to)}`);
  if (after) {
    conditions.push(`(added_at_ms, id collate "C") < (${value(after.at)}::bigint, ${value(after.id)}::text)`);
  }
  return { conditions, values };
}

function foundJob(row: JobRow): FoundJob {
  const at = Number(row.added_at_ms);
  const job: SessionJob = {
    name: row.name,
    data: row.data,
    progress: typeof row.progress === 'object' && row.progress !== null ? row.progress : {},
    returnvalue: row.return_value,
    failedReason: row.failed_reason ?? '',
    attemptsMade: row.attempts_made,
    timestamp: at,
    ...(row.processed_at_ms !== null && { processedOn: Number(row.processed_at_ms) }),
    ...(row.finished_at_ms !== null && { finishedOn: Number(row.finished_at_ms) }),
  };
  return { id: row.id, at, state: OUR_STATES[row.state] ?? 'queued', job };
}
