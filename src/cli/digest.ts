import { Command } from 'commander';
import { type CliContext, loadCommand, UsageError } from './context.ts';
import { jsonOption } from './options.ts';
import { count } from './output.ts';

const HELP = `
Workers with MANIFEST_KEY_FILE do so every night at 00:15 UTC; by hand it is of use right after the key was set, as the
first digest names everything that is archived. It reads and writes the archive alone. Keep the hashes that it writes
in another place: they show when somebody with the key has replaced the whole chain.

Example:
  $ voicemail-archiver digest
`;

/** `digest`: writes the daily digests that are due. */
export function digestCommand(context: CliContext): Command {
  return new Command('digest')
    .description('Write the signed daily digests of all days that are over and have none')
    .addOption(jsonOption())
    .addHelpText('after', HELP)
    .action(async (options: { readonly json?: boolean }) => {
      const { config, log } = loadCommand(context);
      if (!config.manifestKey) throw new UsageError('digests are signed: set MANIFEST_KEY_FILE');
      const signal = context.stopSignal();
      const { openStore } = await import('../storage/open.ts');
      const { toSigningKey } = await import('../signing/signatures.ts');
      const { writeDigests } = await import('../signing/write-digests.ts');
      const store = await openStore(config.archive, { logger: log });
      try {
        const deps = { store, key: toSigningKey(config.manifestKey), now: () => new Date(), log };
        const run = await writeDigests(deps, signal);
        if (options.json) {
          await context.out.json(run);
          return;
        }
        await context.out.lines(
          run.written.length === 0
            ? ['nothing to do: all days that are over have a digest']
            : run.written.map(
                ({ date, sha256, entries }) => `${date}  ${sha256}  ${count(entries, 'change')}`,
              ),
        );
        if (run.refused > 0) {
          context.say(
            `${count(run.refused, 'session')} left out: run "verify --public-key", which names them.\n`,
          );
        }
      } finally {
        await store.close();
      }
    });
}
