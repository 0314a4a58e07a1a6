import { setTimeout as sleep } from 'node:timers/promises';
import { Command, Option } from 'commander';
import type { CompletenessOperations } from '../completeness/operations.ts';
import { LISTING_SOURCES, type ListingSource } from '../domain/backfills.ts';
import {
  type CompletenessRun,
  type DayReport,
  dayOf,
  daysBetween,
  MAX_RUN_DAYS,
} from '../domain/completeness.ts';
import { type CliContext, CommandFailed, loadCommand, UsageError } from './context.ts';
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

/** While nothing happens, the pause between two looks grows. */
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;
const TAKEN_WITHIN_MS = 5_000;

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
    .addOption(
      new Option(
        '--source <source>',
        'call details (needs KORE_ACCOUNT_ID) or sessions history (default: the first where that is possible)',
      ).choices(LISTING_SOURCES),
    )
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
  if (from !== undefined && daysBetween(from, last).length > MAX_RUN_DAYS) {
    throw new UsageError(`that is more than ${MAX_RUN_DAYS} days: ask for fewer at a time`);
  }
  const { config, log } = loadCommand(context);
  const signal = context.stopSignal();
  const { withConnection } = await import('./connect.ts');
  await withConnection(config, { log, signal, say: context.say }, async (connection) => {
    const botId = options.bot ?? connection.defaultBotId;
    if (botId === undefined) throw new UsageError('which bot? Give --bot or set KORE_BOT_ID');
    if (connection.isAlone) {
      throw new CommandFailed(
        'it is the workers that list sessions: this queue is embedded, and nobody can work on it while this command holds it; run "voicemail-archiver start", then this again',
      );
    }
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
  let run = started;
  let pauseMs = FIRST_PAUSE_MS;
  let sayAt = Date.now() + TAKEN_WITHIN_MS;
  const progress = showProgress(stderr, 'Listing days');
  try {
    while (run.state !== 'completed' && run.state !== 'failed') {
      await sleep(pauseMs, undefined, { signal });
      if (run.state === 'queued' && Date.now() > sayAt) {
        sayAt = Number.POSITIVE_INFINITY;
        say('No worker has taken it yet: is one running?\n');
      }
      const next = await operations.run(run.id);
      if (!next) throw new CommandFailed('the run was removed from the queue');
      const isSame = next.state === run.state && next.days.length === run.days.length;
      pauseMs = isSame ? Math.min(pauseMs * 1.5, LONGEST_PAUSE_MS) : FIRST_PAUSE_MS;
      run = next;
      progress.update(run.days.length, run.error ? `waiting: ${run.error.message}` : '');
    }
    return run;
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new CommandFailed(`${(signal.reason as Error).message}; the run goes on without this command`);
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
