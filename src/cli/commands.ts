import type { Command } from 'commander';
import type { CliContext } from './context.ts';

type CommandLoader = (context: CliContext) => Promise<Command>;

/** All commands, in the order of the help. Each is loaded where it is wanted: see {@link addCommands}. */
const COMMANDS: ReadonlyMap<string, CommandLoader> = new Map<string, CommandLoader>([
  ['demo', async (context) => (await import('./demo.ts')).demoCommand(context)],
  ['start', async (context) => (await import('./service.ts')).startCommand(context)],
  ['worker', async (context) => (await import('./service.ts')).workerCommand(context)],
  ['api', async (context) => (await import('./service.ts')).apiCommand(context)],
  ['enqueue', async (context) => (await import('./enqueue.ts')).enqueueCommand(context)],
  ['status', async (context) => (await import('./status.ts')).statusCommand(context)],
  ['retry', async (context) => (await import('./retry.ts')).retryCommand(context)],
  ['cancel', async (context) => (await import('./queue-control.ts')).cancelCommand(context)],
  ['erase', async (context) => (await import('./erase.ts')).eraseCommand(context)],
  ['hold', async (context) => (await import('./hold.ts')).holdCommand(context)],
  ['pause', async (context) => (await import('./queue-control.ts')).pauseCommand(context)],
  ['resume', async (context) => (await import('./queue-control.ts')).resumeCommand(context)],
  ['backfill', async (context) => (await import('./backfill.ts')).backfillCommand(context)],
  ['schedule', async (context) => (await import('./schedule.ts')).scheduleCommand(context)],
  ['completeness', async (context) => (await import('./completeness.ts')).completenessCommand(context)],
  ['verify', async (context) => (await import('./verify.ts')).verifyCommand(context)],
  ['digest', async (context) => (await import('./digest.ts')).digestCommand(context)],
  ['doctor', async (context) => (await import('./doctor.ts')).doctorCommand(context)],
  ['sandbox', async (context) => (await import('./sandbox.ts')).sandboxCommand(context)],
  ['completion', async (context) => (await import('./completion.ts')).completionCommand(context)],
]);

/**
 * Adds to the program the command that the arguments name, and no other, as loading all of them takes longer than
 * most of them run. Where the arguments name none (help, a wrong name), all are added.
 *
 * @param args the arguments of the program, without those of Node.
 */
export async function addCommands(
  program: Command,
  context: CliContext,
  args: readonly string[],
): Promise<void> {
  const [first = ''] = args;
  if (first === '-V' || first === '--version') return;
  // The completion script needs all commands.
  const named = first === 'completion' ? undefined : COMMANDS.get(first);
  const loaders = named ? [named] : [...COMMANDS.values()];
  for (const command of await Promise.all(loaders.map((load) => load(context)))) {
    program.addCommand(command.copyInheritedSettings(program));
    for (const part of command.commands) part.copyInheritedSettings(command);
  }
}
