import { Argument, Command, Option } from 'commander';
import type { BackfillOperations } from '../backfills/operations.ts';
import type { ScheduleSpec } from '../config/config.ts';
import { parseCron, parseLookback, parseScheduleName } from '../config/schedules.ts';
import { type CliContext, CommandFailed } from './context.ts';
import { onQueue } from './on-queue.ts';
import { asArgument, jsonOption } from './options.ts';
import { table, timeSpan } from './output.ts';

interface SetOptions {
  readonly cron: string;
  /** Milliseconds. */
  readonly lookback: number;
  readonly json?: boolean;
}

/** `schedule`: backfills on a timetable. */
export function scheduleCommand(context: CliContext): Command {
  const command = new Command('schedule').description('Backfills on a timetable').addHelpText(
    'after',
    `
Times are UTC. Each run goes back from when it was due, so that one that was missed while everything was down is
made up for. Schedules live in the queue; those that SCHEDULES declares are set again when a worker starts, and when they
are gone while workers run.

Examples:
  $ voicemail-archiver schedule set nightly --cron "0 3 * * *" --lookback 48h
  $ voicemail-archiver schedule list
  $ voicemail-archiver schedule remove nightly
`,
  );
  const name = () => new Argument('<name>', 'its name').argParser(asArgument(parseScheduleName));
  command
    .command('list')
    .description('Write all schedules')
    .addOption(jsonOption())
    .action((options: { readonly json?: boolean }) => list(context, options));
  command
    .command('set')
    .description('Set a schedule, in place of the one of that name')
    .addArgument(name())
    .addOption(
      new Option('--cron <expression>', 'when it runs: minute, hour, day, month, day of the week')
        .argParser(asArgument(parseCron))
        .makeOptionMandatory(),
    )
    .addOption(
      new Option('--lookback <time>', 'how far back each run goes, as 48h')
        .argParser(asArgument(parseLookback))
        .makeOptionMandatory(),
    )
    .addOption(jsonOption())
    .action((scheduleName: string, { cron, lookback, json }: SetOptions) =>
      withBackfills(context, async (backfills) => {
        const schedule = { name: scheduleName, cron, lookbackMs: lookback };
        await backfills.setSchedule(schedule);
        if (json) await context.out.json(schedule);
        else await context.out.lines([`${scheduleName}: set`]);
      }),
    );
  command
    .command('remove')
    .description('Remove a schedule')
    .addArgument(name())
    .addOption(jsonOption())
    .action((scheduleName: string, { json }: { readonly json?: boolean }) =>
      withBackfills(context, async (backfills, declared) => {
        if (!(await backfills.removeSchedule(scheduleName))) {
          throw new CommandFailed(`there is no schedule ${scheduleName}`);
        }
        if (json) await context.out.json({ name: scheduleName, removed: true });
        else await context.out.lines([`${scheduleName}: removed`]);
        if (declared.some(({ name }) => name === scheduleName)) {
          context.say('SCHEDULES declares it: workers that run with it set it again.\n');
        }
      }),
    );
  return command;
}

async function list(context: CliContext, { json }: { readonly json?: boolean }): Promise<void> {
  await withBackfills(context, async (backfills) => {
    const schedules = (await backfills.schedules()).map(({ nextRunAt, ...schedule }) => ({
      ...schedule,
      ...(nextRunAt !== undefined && { nextRunAt: new Date(nextRunAt).toISOString() }),
    }));
    if (json) await context.out.json({ schedules });
    else {
      await context.out.lines(
        table(
          schedules.map(({ name, cron, lookbackMs, nextRunAt }) => [
            name,
            cron,
            `goes back ${timeSpan(lookbackMs)}`,
            nextRunAt === undefined ? '' : `next ${nextRunAt}`,
          ]),
        ),
      );
    }
  });
}

async function withBackfills(
  context: CliContext,
  use: (backfills: BackfillOperations, declared: readonly ScheduleSpec[]) => Promise<void>,
): Promise<void> {
  await onQueue(context, ({ backfills }, { config }) => use(backfills, config.schedules));
}
