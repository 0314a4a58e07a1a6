import { Command, Option } from 'commander';
import type { CompletenessOperations } from '../completeness/operations.ts';
import type { ListingSource } from '../domain/backfills.ts';
import {
  type CompletenessRun,
  type DayReport,
  dayOf,
  isRunOfDays,
  MAX_RUN_DAYS,
} from '../domain/completeness.ts';
import { type CliContext, CommandFailed, UsageError } from './context.ts';
import { assertWorkersReach, followRun, sourceOption } from './listing-run.ts';
import { botOf, onQueue } from './on-queue.ts';
import { botOption, jsonOption, parseTime } from './options.ts';
import { count, table } from './output.ts';
import { showProgress } from './progress.ts';

interface CompletenessOptions {
  readonly from?: Date;
  readonly to?: Date;
  readonly source?: ListingSource;
  readonly bot?: string;
  readonly write?: boolean;
  readonly reportOnly?: boolean;
  readonly json?: boolean;
}

/** `completeness`: what Kore has of each day, and what became of it. */
export function completenessCommand(context: CliContext): Command {
  return new Command('completeness')
    .description('Compare what Kore lists of each day with the archive and the queue')
    .addOption(
      new Option('--from <day>', 'the first day in UTC (default: the first that Kore still has)').argParser(
        parseTime,
      ),
    )
    .addOption(new Option('--to <day>', 'the last day (default: today)').argParser(parseTime))
    .addOption(sourceOption())
    .addOption(botOption())
    .option('--write', 'put the reports into the archive')
    .option('--report-only', 'queue nothing of what is missing')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
A worker lists the days at Kore and queues what is missing behind live sessions. A day is complete when all of it was
seen and nothing is left to be archived; otherwise the report says why not. The exit code is 1 when something is missing,
saved in part or failed, or when Kore could not be listed.

Examples:
  $ voicemail-archiver completeness
  $ voicemail-archiver completeness --from 2026-01-01 --to 2026-01-07 --report-only --json
  $ voicemail-archiver completeness --write
`,
    )
    .action((options: CompletenessOptions) => completeness(context, options));
}

async function completeness(context: CliContext, options: CompletenessOptions): Promise<void> {
  const { source, write, reportOnly, json } = options;
  const from = options.from && dayOf(options.from.getTime());
  const to = options.to && dayOf(options.to.getTime());
  const last = to ?? dayOf(Date.now());
  if (from !== undefined && from > last) throw new UsageError('--from must not be after --to');
  if (from !== undefined && !isRunOfDays(from, last)) {
    throw new UsageError(`that is more than ${MAX_RUN_DAYS} days: ask for fewer at a time`);
  }
  await onQueue(context, async (connection, { signal }) => {
    const botId = botOf(options.bot, connection);
    assertWorkersReach(connection);
    const started = await connection.completeness.start({
      botId,
      ...(from && { from }),
      ...(to && { to }),
      ...(source && { source }),
      ...(reportOnly && { reportOnly }),
      ...(write && { write }),
    });
    const run = await follow(started, connection.completeness, context, signal);
    if (run.state === 'failed') throw new CommandFailed(`the run failed: ${run.error?.message ?? ''}`);
    if (json) await context.out.json({ days: run.days });
    else await context.out.lines(lines(run.days));
    failOn(run.days);
  });
}

async function follow(
  started: CompletenessRun,
  operations: CompletenessOperations,
  { stderr, say }: CliContext,
  signal: AbortSignal,
): Promise<CompletenessRun> {
  const progress = showProgress(stderr, 'Listing days');
  const onPoll = ({ days, error }: CompletenessRun) =>
    progress.update(days.length, error ? `waiting: ${error.message}` : '');
  const hasEnded = ({ state }: CompletenessRun) => state === 'completed' || state === 'failed';
  const isTaken = ({ state }: CompletenessRun) => state !== 'queued';
  const poll = () => operations.run(started.id);
  try {
    return await followRun({ started, poll, hasEnded, isTaken, onPoll, name: 'the run' }, { say }, signal);
  } finally {
    progress.stop();
  }
}

const COLUMNS = [
  'listed',
  'archived',
  'partial',
  'waiting',
  'failed',
  'withoutVoicemail',
  'erased',
  'unknown',
  'missing',
] as const;
const HEADS = ['listed', 'archived', 'partial', 'waiting', 'failed', 'none', 'erased', 'unknown', 'missing'];

function lines(days: readonly DayReport[]): string[] {
  const rows = days.map((day) => [
    day.date,
    ...COLUMNS.map((column) => day[column].toLocaleString('en')),
    day.hoursLeft === undefined ? '' : `${day.hoursLeft}h`,
    day.complete ? 'complete' : day.reasons.join(', '),
  ]);
  const right = [...COLUMNS.keys()].map((column) => column + 1);
  return table([['day', ...HEADS, 'left', ''], ...rows], [...right, COLUMNS.length + 1]);
}

function failOn(days: readonly DayReport[]): void {
  const lost = days.reduce((sum, { missing, partial, failed }) => sum + missing + partial + failed, 0);
  const unseen = days.filter(({ error }) => error);
  const [first] = unseen;
  if (first?.error) {
    throw new CommandFailed(`Kore could not list ${count(unseen.length, 'day')}: ${first.error.message}`);
  }
  if (lost > 0) throw new CommandFailed(`${count(lost, 'session')} missing, saved in part or failed`);
}
