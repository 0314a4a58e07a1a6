import { Command, Option } from 'commander';
import type { BackfillOperations, BackfillView } from '../backfills/operations.ts';
import { isTooLongBackfill, type ListingSource, MAX_BACKFILL_YEARS } from '../domain/backfills.ts';
import { type CliContext, CommandFailed, UsageError } from './context.ts';
import { assertWorkersReach, followRun, sourceOption } from './listing-run.ts';
import { botOf, onQueue } from './on-queue.ts';
import { botOption, jsonOption, parseTime } from './options.ts';
import { count, table } from './output.ts';
import { showProgress } from './progress.ts';

interface BackfillOptions {
  readonly from: Date;
  readonly to?: Date;
  readonly source?: ListingSource;
  readonly bot?: string;
  readonly dryRun?: boolean;
  readonly wait?: boolean;
  readonly json?: boolean;
}

/** Ids of a dry run that are written. */
const MAX_MISSING_SHOWN = 1_000;

/** `backfill`: queues what Kore has of a stretch of time and the archive has not. */
export function backfillCommand(context: CliContext): Command {
  return new Command('backfill')
    .description('Queue what Kore has of a stretch of time and the archive has not')
    .addOption(
      new Option('--from <time>', 'sessions that began from then on (ISO 8601, UTC unless it says otherwise)')
        .argParser(parseTime)
        .makeOptionMandatory(),
    )
    .addOption(new Option('--to <time>', 'and before then (default: now)').argParser(parseTime))
    .addOption(sourceOption())
    .addOption(botOption())
    .option('--dry-run', 'only say what is missing from the archive')
    .option('--wait', 'until all of it is archived or failed')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
The workers list Kore's sessions, leave out those that are archived, and queue the rest behind live sessions. Asking
for the same again while that goes on joins it. A session without a voicemail is no failure. --dry-run changes
nothing, waits for the listing, and writes the ids of what is missing (the first ${MAX_MISSING_SHOWN.toLocaleString('en')}). With --wait the exit code is
1 when a session failed.

Examples:
  $ voicemail-archiver backfill --from 2026-01-01 --to 2026-02-01 --dry-run
  $ voicemail-archiver backfill --from 2026-01-01T00:00:00Z --wait
  $ voicemail-archiver backfill --from 2026-01-01 --source sessions --json
`,
    )
    .action((options: BackfillOptions) => backfill(context, options));
}

async function backfill(context: CliContext, options: BackfillOptions): Promise<void> {
  const { from, to, source, dryRun, wait } = options;
  if (to !== undefined && from >= to) throw new UsageError('--from must be before --to');
  if (from.getTime() > Date.now()) throw new UsageError('--from is in the future');
  if (isTooLongBackfill(from.getTime(), to?.getTime() ?? Date.now())) {
    throw new UsageError(`--from is more than ${MAX_BACKFILL_YEARS} years before the end`);
  }
  await onQueue(context, async (connection, { signal }) => {
    const botId = botOf(options.bot, connection);
    const { backfills, isAlone } = connection;
    if (dryRun || wait) assertWorkersReach(connection);
    const started = await backfills.start({
      botId,
      from: from.toISOString(),
      ...(to && { to: to.toISOString() }),
      ...(source && { source }),
      ...(dryRun && { dryRun }),
    });
    const view = dryRun || wait ? await follow(started, backfills, context, signal) : started;
    await report(view, backfills, context, options);
    if (isAlone)
      context.say('No worker takes sessions from this queue yet: run "voicemail-archiver start".\n');
    if (view.state === 'cancelled') throw new CommandFailed('the backfill was cancelled');
    if (view.state === 'failed') throw new CommandFailed(`the backfill failed: ${view.error?.message ?? ''}`);
    if (wait && view.failed > 0) throw new CommandFailed(`${count(view.failed, 'session')} failed`);
  });
}

function whileListing({ error, listedTo }: BackfillView): string {
  if (error) return `waiting: ${error.message}`;
  return listedTo === undefined ? '' : `up to ${listedTo}`;
}

function hasEnded({ state, open }: BackfillView): boolean {
  return state === 'failed' || state === 'cancelled' || (state === 'listed' && open === 0);
}

/** Shows how a backfill goes on, until it has ended and so have its sessions. */
async function follow(
  started: BackfillView,
  backfills: BackfillOperations,
  { stderr, say }: CliContext,
  signal: AbortSignal,
): Promise<BackfillView> {
  let progress = showProgress(stderr, 'Listing sessions');
  let isListed = false;
  const onPoll = (view: BackfillView) => {
    if (view.state === 'listed' && !isListed) {
      isListed = true;
      progress.stop();
      progress = showProgress(stderr, 'Archiving', view.queued + view.alreadyQueued);
    }
    const ended = view.queued + view.alreadyQueued - view.open;
    if (isListed) progress.update(ended, view.failed > 0 ? `${view.failed} failed` : '');
    else progress.update(view.listed, whileListing(view));
  };
  try {
    const name = `the backfill ${started.id}`;
    const poll = () => backfills.view(started.id);
    const isTaken = ({ state }: BackfillView) => state !== 'queued';
    return await followRun({ started, poll, hasEnded, isTaken, onPoll, name }, { say }, signal);
  } finally {
    progress.stop();
  }
}

async function report(
  view: BackfillView,
  backfills: BackfillOperations,
  { out }: CliContext,
  { json, dryRun }: BackfillOptions,
): Promise<void> {
  const missingSessions = dryRun ? await backfills.sessions(view.id, MAX_MISSING_SHOWN) : undefined;
  if (json) {
    await out.json({ ...view, ...(missingSessions && { missingSessions }) });
    return;
  }
  const counts = [
    ['listed', view.listed],
    ['archived before', view.skipped],
    ['without a voicemail', view.withoutVoicemail],
    ...(view.dryRun
      ? ([['missing', view.missing]] as const)
      : ([
          ['queued', view.queued],
          ['queued before', view.alreadyQueued],
          ['archived by now', view.archived],
          ['failed', view.failed],
          ['still to be archived', view.open],
        ] as const)),
  ] as const;
  await out.lines([
    `${view.id}  ${view.state}  ${view.from} to ${view.to}`,
    ...table(
      counts.map(([what, number]) => [`  ${what}`, number.toLocaleString('en')]),
      [1],
    ),
    ...(missingSessions ?? []),
  ]);
}
