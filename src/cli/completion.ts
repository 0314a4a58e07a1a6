import { Argument, Command, type Option } from 'commander';
import type { CliContext } from './context.ts';

const NAME = 'voicemail-archiver';
const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

/**
 * `completion`: what a shell reads to complete commands, options and their values; made from the commands themselves.
 */
export function completionCommand(context: CliContext): Command {
  return new Command('completion')
    .description('Write the completion of commands and options for a shell')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .addHelpText(
      'after',
      `
Examples:
  $ voicemail-archiver completion bash > /etc/bash_completion.d/voicemail-archiver
  $ source <(voicemail-archiver completion zsh)        (in ~/.zshrc, after compinit)
  $ voicemail-archiver completion fish > ~/.config/fish/completions/voicemail-archiver.fish
`,
    )
    .action(async (shell: Shell, _options: unknown, { parent }: Command) => {
      const commands = parent?.commands ?? [];
      await context.out.lines(shell === 'fish' ? fishLines(commands) : bashLines(commands, shell));
    });
}

/** Options of a command and of the commands below it. */
function optionsOf(command: Command): readonly Option[] {
  const all = [command, ...command.commands].flatMap(({ options }) => options);
  return [...new Map(all.map((option) => [option.long, option])).values()];
}

/** What may follow a command: names below it, options, and the values of its first argument. */
function wordsOf(command: Command): string {
  const [argument] = command.registeredArguments;
  const names = command.commands.map((part) => part.name());
  const options = optionsOf(command).flatMap(({ long }) => long ?? []);
  return [...names, ...(argument?.argChoices ?? []), ...options, '--help'].join(' ');
}

/** For bash; zsh takes the same after `bashcompinit`. */
function bashLines(commands: readonly Command[], shell: 'bash' | 'zsh'): string[] {
  const values = commands.flatMap((command) =>
    optionsOf(command).flatMap(({ long, argChoices }) =>
      argChoices ? [`    ${command.name()}:${long}) words='${argChoices.join(' ')}' ;;`] : [],
    ),
  );
  return [
    ...(shell === 'zsh' ? ['autoload -U +X bashcompinit && bashcompinit'] : []),
    '_voicemail_archiver() {',
    ...['current=COMP_CWORD', 'before=COMP_CWORD-1', 'command=1'].map((line) => {
      const [variable, index] = line.split('=');
      return `  local ${variable}=\${COMP_WORDS[${index}]}`;
    }),
    '  local words=',
    '  if [ "$COMP_CWORD" -eq 1 ]; then',
    `    words='${commands.map((command) => command.name()).join(' ')} help --help --version'`,
    '  else case "$command:$before" in',
    ...values,
    '    *) case "$command" in',
    ...commands.map((command) => `      ${command.name()}) words='${wordsOf(command)}' ;;`),
    '    esac ;;',
    '  esac; fi',
    '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
    '}',
    // Where nothing fits, names of files.
    `complete -o default -F _voicemail_archiver ${NAME}`,
  ];
}

function fishLines(commands: readonly Command[]): string[] {
  const quote = (text: string) => `'${text.replaceAll(/['\\]/g, String.raw`\$&`)}'`;
  return commands.flatMap((command) => {
    const after = `-n '__fish_seen_subcommand_from ${command.name()}'`;
    return [
      `complete -c ${NAME} -n __fish_use_subcommand -f -a ${command.name()} -d ${quote(command.description())}`,
      ...command.commands.map(
        (part) => `complete -c ${NAME} ${after} -f -a ${part.name()} -d ${quote(part.description())}`,
      ),
      ...(command.registeredArguments[0]?.argChoices ?? []).map(
        (choice) => `complete -c ${NAME} ${after} -f -a ${choice}`,
      ),
      ...optionsOf(command).map(({ long, argChoices, required, description }) => {
        const values = argChoices ? ` -x -a ${quote(argChoices.join(' '))}` : required ? ' -r' : '';
        return `complete -c ${NAME} ${after} -l ${long?.slice(2)}${values} -d ${quote(description)}`;
      }),
    ];
  });
}
