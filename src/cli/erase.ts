import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { type EraseResult, MAX_REASON_CHARACTERS } from '../domain/custody.ts';
import { type CliContext, CommandFailed } from './context.ts';
import { botOf, onQueue } from './on-queue.ts';
import { botOption, jsonOption, parseIds } from './options.ts';
import { count, table } from './output.ts';

interface EraseCommandOptions {
  readonly bot?: string;
  readonly reason?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** `erase`: deletes sessions for good. */
export function eraseCommand(context: CliContext): Command {
  return new Command('erase')
    .description('Delete all that is archived of sessions, every version of it, and never archive them again')
    .addArgument(new Argument('<id...>', 'session ids').argParser(parseIds))
    .addOption(reasonOption('why, kept in the record that stays; it is not to name persons'))
    .option('--dry-run', 'only say what would be deleted')
    .addOption(botOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
A record stays (tombstone.json), which keeps backfills, webhooks and --force from archiving the session again. A
session under a legal hold ("hold set") or with an object that Object Lock protects is refused, and nothing of it is
deleted; the exit code is then 1. An erasure that was interrupted is completed by the same command.

Examples:
  $ voicemail-archiver erase 6560b1f0a1b2c3d4e5f60718 --dry-run
  $ voicemail-archiver erase 6560b1f0a1b2c3d4e5f60718 --reason "request 2026-114"
`,
    )
    .action((ids: readonly string[], options: EraseCommandOptions) => erase(context, ids, options));
}

/** `--reason TEXT` */
export function reasonOption(description: string): Option {
  return new Option('--reason <text>', description).argParser((text) => {
    if (text.length <= MAX_REASON_CHARACTERS) return text;
    throw new InvalidArgumentError(`It may have ${MAX_REASON_CHARACTERS} characters.`);
  });
}

async function erase(
  context: CliContext,
  ids: readonly string[],
  { bot, reason, dryRun, json }: EraseCommandOptions,
): Promise<void> {
  const results: EraseResult[] = [];
  await onQueue(context, async (connection, { signal }) => {
    const { custody } = connection;
    const botId = botOf(bot, connection);
    for (const sessionId of ids) {
      signal.throwIfAborted();
      const result = await custody.erase(
        { sessionId, botId },
        { ...(reason !== undefined && { reason }), ...(dryRun && { dryRun }) },
      );
      results.push(result);
      // One after the other, so that deleted sessions are reported even if a later one fails.
      if (!json) await context.out.lines(table([[sessionId, sayResult(result)]]));
    }
  }).finally(async () => {
    if (json) await context.out.json({ results });
  });
  const refused = results.filter(({ outcome }) => outcome === 'refused').length;
  if (refused > 0) throw new CommandFailed(`${count(refused, 'session')} may not be erased`);
}

function sayResult(result: EraseResult): string {
  if (result.outcome === 'refused') return `refused: ${result.message}`;
  const { outcome, objects, versions, erasedAt } = result;
  const what = `${count(objects, 'object')} with ${count(versions, 'version')}`;
  switch (outcome) {
    case 'erased':
      return `erased: ${what}`;
    case 'would-erase':
      return `would be erased: ${what}`;
    case 'already-erased':
      return `was erased at ${erasedAt ?? 'an unknown time'}: nothing is left`;
  }
}
