import { Argument, Command } from 'commander';
import type { HoldView } from '../domain/custody.ts';
import type { Connection } from './connect.ts';
import { type CliContext, CommandFailed } from './context.ts';
import { reasonOption } from './erase.ts';
import { botOf, onQueue } from './on-queue.ts';
import { botOption, jsonOption, parseIds } from './options.ts';
import { count, table } from './output.ts';

interface HoldOptions {
  readonly bot?: string;
  readonly reason?: string;
  readonly json?: boolean;
}

/** `hold`: legal holds on sessions. */
export function holdCommand(context: CliContext): Command {
  const ids = () => new Argument('<id...>', 'session ids').argParser(parseIds);
  return new Command('hold')
    .description('Keep sessions from being erased, by a legal hold')
    .addHelpText(
      'after',
      `
A hold is recorded beside the session (hold.json). Where the bucket has Object Lock, S3's own legal hold is put on every
version of its objects as well, also on those that are archived later.

Examples:
  $ voicemail-archiver hold set 6560b1f0a1b2c3d4e5f60718 --reason "case 7"
  $ voicemail-archiver hold release 6560b1f0a1b2c3d4e5f60718
  $ voicemail-archiver hold list
`,
    )
    .addCommand(
      new Command('set')
        .description('Hold sessions')
        .addArgument(ids())
        .addOption(reasonOption('why, kept with the hold; it is not to name persons'))
        .addOption(botOption())
        .addOption(jsonOption())
        .action((given: readonly string[], options: HoldOptions) => setHolds(context, given, options)),
    )
    .addCommand(
      new Command('release')
        .description('Take the holds off')
        .addArgument(ids())
        .addOption(botOption())
        .addOption(jsonOption())
        .action((given: readonly string[], options: HoldOptions) => releaseHolds(context, given, options)),
    )
    .addCommand(
      new Command('list')
        .description('Show the holds on sessions, or all of them, for which the whole archive is listed')
        .addArgument(new Argument('[id...]', 'session ids').argParser(parseIds))
        .addOption(botOption())
        .addOption(jsonOption())
        .action((given: readonly string[], options: HoldOptions) => listHolds(context, given, options)),
    );
}

async function setHolds(context: CliContext, ids: readonly string[], options: HoldOptions): Promise<void> {
  await onQueue(context, async (connection) => {
    const botId = botOf(options.bot, connection);
    const results = [];
    for (const sessionId of ids) {
      results.push(await connection.custody.setHold({ sessionId, botId }, options.reason));
    }
    const words = { held: 'held', 'already-held': 'was held already', erased: 'was erased: nothing to hold' };
    if (options.json) await context.out.json({ results });
    else {
      await context.out.lines(
        table(
          results.map((result) => [
            result.sessionId,
            words[result.outcome],
            result.outcome !== 'erased' && result.isLocked ? 'by the bucket as well' : '',
          ]),
        ),
      );
    }
    const erased = results.filter(({ outcome }) => outcome === 'erased').length;
    if (erased > 0) throw new CommandFailed(`${count(erased, 'session')} could not be held`);
  });
}

async function releaseHolds(
  context: CliContext,
  ids: readonly string[],
  options: HoldOptions,
): Promise<void> {
  await onQueue(context, async (connection) => {
    const botId = botOf(options.bot, connection);
    const results = [];
    for (const sessionId of ids) results.push(await connection.custody.releaseHold({ sessionId, botId }));
    if (options.json) await context.out.json({ results });
    else {
      await context.out.lines(
        table(
          results.map(({ sessionId, outcome }) => [
            sessionId,
            outcome === 'released' ? 'released' : 'is not held',
          ]),
        ),
      );
    }
    const left = results.filter(({ outcome }) => outcome === 'not-held').length;
    if (left > 0) throw new CommandFailed(`${count(left, 'session')} had no hold`);
  });
}

async function listHolds(context: CliContext, ids: readonly string[], options: HoldOptions): Promise<void> {
  await onQueue(context, async (connection) => {
    const holds =
      ids.length > 0 ? await holdsOf(ids, options, connection) : await allHolds(options, connection);
    if (options.json) return context.out.json({ holds });
    if (holds.length === 0) context.say('There are no holds.\n');
    await context.out.lines(
      table(holds.map(({ sessionId, botId, setAt, reason }) => [sessionId, botId, setAt, reason ?? ''])),
    );
  });
}

function allHolds({ bot }: HoldOptions, { custody }: Connection): Promise<HoldView[]> {
  return custody.holds(bot);
}

async function holdsOf(
  ids: readonly string[],
  options: HoldOptions,
  connection: Connection,
): Promise<HoldView[]> {
  const botId = botOf(options.bot, connection);
  const holds: HoldView[] = [];
  for (const sessionId of ids) {
    const hold = await connection.custody.hold({ sessionId, botId });
    if (hold) holds.push(hold);
  }
  return holds;
}
