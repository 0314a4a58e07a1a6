import { Argument, Command } from 'commander';
import type { RetryOutcome } from '../domain/requests.ts';
import type { Connection } from './connect.ts';
import { type CliContext, CommandFailed, UsageError } from './context.ts';
import { onQueue } from './on-queue.ts';
import { botOption, codeOption, jsonOption, parseIds } from './options.ts';
import { count, table } from './output.ts';

interface RetryOptions {
  readonly all?: boolean;
  readonly code?: string;
  readonly bot?: string;
  readonly json?: boolean;
}

const WORDS: Readonly<Record<RetryOutcome, string>> = {
  requeued: 'queued again',
  'not-failed': 'has not failed: left as it is',
  unknown: 'unknown',
};

/** `retry`: failed sessions again. */
export function retryCommand(context: CliContext): Command {
  return new Command('retry')
    .description('Run failed sessions again')
    .addArgument(new Argument('[id...]', 'session ids').argParser(parseIds))
    .option('--all', 'all failed sessions')
    .addOption(codeOption('all that failed with this code'))
    .addOption(botOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
With ids, the exit code is 1 when one of them is unknown or has not failed.

Examples:
  $ voicemail-archiver retry 6560b1f0a1b2c3d4e5f60718
  $ voicemail-archiver retry --code ARCHIVE_DENIED
  $ voicemail-archiver retry --all
`,
    )
    .action((ids: readonly string[], options: RetryOptions) => retry(context, ids, options));
}

async function retry(context: CliContext, ids: readonly string[], options: RetryOptions): Promise<void> {
  const isForMany = options.all === true || options.code !== undefined;
  if (ids.length > 0 && isForMany) throw new UsageError('give either ids, or --all or --code');
  if (ids.length === 0 && !isForMany)
    throw new UsageError('retry which sessions? Name some, or give --all or --code');
  await onQueue(context, async (connection) => {
    if (ids.length > 0) await retrySome(context, ids, options, connection);
    else await retryMany(context, options, connection);
  });
}

async function retryMany(
  { out }: CliContext,
  { code, json }: RetryOptions,
  { operations }: Connection,
): Promise<void> {
  const requeued = await operations.retryAll(code);
  if (json) await out.json({ requeued });
  else await out.lines([`${count(requeued, 'session')} queued again`]);
}

async function retrySome(
  { out }: CliContext,
  ids: readonly string[],
  { bot, json }: RetryOptions,
  { operations, defaultBotId }: Connection,
): Promise<void> {
  const botId = bot ?? defaultBotId;
  if (botId === undefined) throw new UsageError('which bot? Give --bot or set KORE_BOT_ID');
  const results: { sessionId: string; botId: string; outcome: RetryOutcome }[] = [];
  for (const sessionId of ids) {
    results.push({ sessionId, botId, outcome: await operations.retry({ sessionId, botId }) });
  }
  if (json) await out.json({ results });
  else await out.lines(table(results.map(({ sessionId, outcome }) => [sessionId, WORDS[outcome]])));
  const left = results.filter(({ outcome }) => outcome !== 'requeued').length;
  if (left > 0) throw new CommandFailed(`${count(left, 'session')} could not be retried`);
}
