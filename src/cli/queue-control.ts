import { Argument, Command } from 'commander';
import type { ErrorCode } from '../domain/errors.ts';
import type { CancelOutcome } from '../domain/requests.ts';
import type { Operations } from '../operations/operations.ts';
import type { Connection } from './connect.ts';
import { type CliContext, CommandFailed, UsageError } from './context.ts';
import { onQueue } from './on-queue.ts';
import { botOption, codeOption, jsonOption, parseIds } from './options.ts';
import { count, table } from './output.ts';

/** `pause`: no worker takes a session until `resume`. */
export function pauseCommand(context: CliContext): Command {
  return new Command('pause')
    .description('Let no worker take a session until "resume"; those in work go on')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nSessions can still be queued. "status" shows that the queue is paused.\n\nExample:\n  $ voicemail-archiver pause\n',
    )
    .action((options: { readonly json?: boolean }) =>
      change(context, options, true, (operations) => operations.pause()),
    );
}

/** `resume`: workers take sessions again. */
export function resumeCommand(context: CliContext): Command {
  return new Command('resume')
    .description('Let workers take sessions again after "pause"')
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  $ voicemail-archiver resume\n')
    .action((options: { readonly json?: boolean }) =>
      change(context, options, false, (operations) => operations.resume()),
    );
}

async function change(
  context: CliContext,
  { json }: { readonly json?: boolean },
  paused: boolean,
  apply: (operations: Operations) => Promise<void>,
): Promise<void> {
  await onQueue(context, ({ operations }) => apply(operations));
  if (json) await context.out.json({ paused });
  else await context.out.lines([paused ? 'the queue is paused' : 'the queue is not paused']);
}

interface CancelOptions {
  readonly all?: boolean;
  readonly backfills?: boolean;
  readonly code?: ErrorCode;
  readonly dryRun?: boolean;
  readonly bot?: string;
  readonly json?: boolean;
}

const WORDS: Readonly<Record<CancelOutcome | 'would-cancel', string>> = {
  cancelled: 'taken out of the queue',
  'would-cancel': 'would be taken out of the queue',
  'not-waiting': 'is neither queued nor waiting: left as it is',
  unknown: 'unknown',
};

/** `cancel`: takes sessions out of the queue. */
export function cancelCommand(context: CliContext): Command {
  return new Command('cancel')
    .description('Take queued or waiting sessions out of the queue; what is archived stays')
    .addArgument(new Argument('[id...]', 'session ids').argParser(parseIds))
    .option('--all', 'all queued and waiting sessions')
    .option('--backfills', 'all that wait behind live sessions')
    .addOption(codeOption('all whose last error has this code'))
    .option('--dry-run', 'only say what would be taken out')
    .addOption(botOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Sessions that are active, archived or failed are left as they are. With ids, the exit
code is 1 when one of them is none of those that can be cancelled.

Examples:
  $ voicemail-archiver cancel 6560b1f0a1b2c3d4e5f60718
  $ voicemail-archiver cancel --backfills --dry-run
  $ voicemail-archiver cancel --code RECORDING_HOST_NOT_ALLOWED
`,
    )
    .action((ids: readonly string[], options: CancelOptions) => cancel(context, ids, options));
}

async function cancel(context: CliContext, ids: readonly string[], options: CancelOptions): Promise<void> {
  const isForMany = options.all === true || options.backfills === true || options.code !== undefined;
  if (ids.length > 0 && isForMany) throw new UsageError('give either ids, or --all, --backfills or --code');
  if (ids.length === 0 && !isForMany) {
    throw new UsageError('cancel which sessions? Name some, or give --all, --backfills or --code');
  }
  await onQueue(context, async (connection) => {
    if (ids.length > 0) await cancelSome(context, ids, options, connection);
    else await cancelMany(context, options, connection);
  });
}

async function cancelMany(
  { out }: CliContext,
  { code, backfills, dryRun, json }: CancelOptions,
  { operations }: Connection,
): Promise<void> {
  const cancelled = await operations.cancelAll({
    ...(code && { code }),
    ...(backfills && { backfills }),
    ...(dryRun && { dryRun }),
  });
  if (json) await out.json({ cancelled, dryRun: dryRun === true });
  else await out.lines([`${count(cancelled, 'session')} ${WORDS[dryRun ? 'would-cancel' : 'cancelled']}`]);
}

async function cancelSome(
  { out }: CliContext,
  ids: readonly string[],
  { bot, dryRun, json }: CancelOptions,
  { operations, defaultBotId }: Connection,
): Promise<void> {
  const botId = bot ?? defaultBotId;
  if (botId === undefined) throw new UsageError('which bot? Give --bot or set KORE_BOT_ID');
  const results: { sessionId: string; botId: string; outcome: CancelOutcome | 'would-cancel' }[] = [];
  for (const sessionId of ids) {
    const session = { sessionId, botId };
    const outcome = dryRun ? await foresee(session, operations) : await operations.cancel(session);
    results.push({ ...session, outcome });
  }
  if (json) await out.json({ results });
  else await out.lines(table(results.map(({ sessionId, outcome }) => [sessionId, WORDS[outcome]])));
  const left = results.filter(({ outcome }) => outcome === 'not-waiting' || outcome === 'unknown').length;
  if (left > 0) throw new CommandFailed(`${count(left, 'session')} could not be cancelled`);
}

/** The outcome that a cancellation would have. */
async function foresee(
  session: { readonly sessionId: string; readonly botId: string },
  operations: Connection['operations'],
): Promise<CancelOutcome | 'would-cancel'> {
  const view = await operations.view(session);
  if (!view) return 'unknown';
  return view.state === 'queued' || view.state === 'waiting' ? 'would-cancel' : 'not-waiting';
}
