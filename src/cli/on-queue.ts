import type { Config } from '../config/config.ts';
import type { Connection } from './connect.ts';
import { type CliContext, loadCommand, UsageError } from './context.ts';

/** What a command may want beside its connection to the queue. */
export interface CommandRun {
  readonly config: Config;
  /** Aborted when the command is stopped. */
  readonly signal: AbortSignal;
}

/** Runs a command on the queue of its configuration, and closes the queue. */
export async function onQueue(
  context: CliContext,
  use: (connection: Connection, run: CommandRun) => Promise<void>,
): Promise<void> {
  const { config, log } = loadCommand(context);
  const signal = context.stopSignal();
  const { withConnection } = await import('./connect.ts');
  await withConnection(config, { log, signal, say: context.say }, (connection) =>
    use(connection, { config, signal }),
  );
}

/**
 * The bot that a command is about.
 * @param named by `--bot`.
 * @throws UsageError where none is named, neither there nor by `KORE_BOT_ID`.
 */
export function botOf(named: string | undefined, { defaultBotId }: Pick<Connection, 'defaultBotId'>): string {
  const botId = named ?? defaultBotId;
  if (botId === undefined) throw new UsageError('which bot? Give --bot or set KORE_BOT_ID');
  return botId;
}
