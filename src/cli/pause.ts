import { Command } from 'commander';
import type { Operations } from '../operations/operations.ts';
import { type CliContext, loadCommand } from './context.ts';
import { jsonOption } from './options.ts';

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
  const { config, log } = loadCommand(context);
  const { withConnection } = await import('./connect.ts');
  const access = { log, signal: context.stopSignal(), say: context.say };
  await withConnection(config, access, ({ operations }) => apply(operations));
  if (json) await context.out.json({ paused });
  else await context.out.lines([paused ? 'the queue is paused' : 'the queue is not paused']);
}
