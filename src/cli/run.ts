import { Command, CommanderError } from 'commander';
import { passSdkSettings, readEnvironment } from '../config/environment.ts';
import { ConfigError, faultText } from '../config/settings.ts';
import { isVoicemailError } from '../domain/errors.ts';
import { createLogger } from '../util/log.ts';
import { VERSION } from '../util/process.ts';
import { redact } from '../util/redact.ts';
import { forTerminal } from '../util/text.ts';
import { addCommands } from './commands.ts';
import {
  type CliContext,
  type CliProcess,
  CommandFailed,
  createContext,
  EXIT_DONE,
  EXIT_FAILED,
  EXIT_USAGE,
  UsageError,
} from './context.ts';

const EXAMPLES = `
Examples:
  $ voicemail-archiver demo                        see it work, without any server, key or account
  $ voicemail-archiver start                       archive whatever is queued, until it is stopped
  $ voicemail-archiver enqueue 6560b1f0a1b2c3d4e5f60718 --wait
  $ voicemail-archiver status

Configuration comes from environment variables and a .env file: see docs/configuration.md.
Exit codes: 0 done; 1 something failed; 2 wrong usage or configuration.
`;

/** Runs the program in the given process and ends it. */
export async function run(process: NodeJS.Process): Promise<void> {
  const crash = createLogger('fatal');
  process.on('uncaughtException', (error) => {
    crash.fatal({ err: error }, 'the program has a fault and ends');
    process.exit(EXIT_FAILED);
  });
  // A closed log pipe must not end the archiving.
  process.stderr.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
  const code = await runCommand(process);
  // All is written and closed by now; what libraries keep open doesn't hold the program up.
  process.exit(code === EXIT_DONE ? process.exitCode : code);
}

/**
 * Runs the command that the arguments name, up to the end of what it writes.
 * @returns its exit code: 0, 1 or 2.
 */
export async function runCommand(process: CliProcess): Promise<number> {
  const environment = { current: process.env as CliContext['environment'] };
  let code: number;
  try {
    environment.current = readEnvironment(process.cwd(), process.env);
    passSdkSettings(environment.current, process.env);
    const context = createContext(process, environment.current);
    const program = createProgram(context);
    await addCommands(program, context, process.argv.slice(2));
    await program.parseAsync(process.argv);
    code = EXIT_DONE;
  } catch (error) {
    const isDebugging = /^(debug|trace)$/.test(environment.current.LOG_LEVEL ?? '');
    code = reportError(error, isDebugging, (text) => process.stderr.write(text));
  }
  await new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
  return code;
}

/** The program, as yet without commands. */
function createProgram(context: CliContext): Command {
  return (
    new Command('voicemail-archiver')
      .description('Saves Kore.ai voicemails, with their transcripts, before their signed URLs expire')
      .version(VERSION, '-V, --version', 'write the version')
      .helpOption('-h, --help', 'write this help')
      .helpCommand('help [command]', 'write the help of a command')
      .configureHelp({ showGlobalOptions: false })
      // Its errors quote arguments, which may come from a list.
      .configureOutput({
        writeErr: (text) => context.say(text),
        writeOut: (text) => void context.out.write(text),
      })
      .showHelpAfterError('Run it with --help to see what it takes.')
      .addHelpText('after', EXAMPLES)
      .exitOverride()
  );
}

/** Writes what went wrong, and returns the exit code for it. */
function reportError(thrown: unknown, isDebugging: boolean, writeRaw: (text: string) => void): number {
  const write = (text: string) => writeRaw(forTerminal(text));
  // What was waiting when the program was stopped says no more than that it was aborted.
  const isStopped = thrown instanceof Error && thrown.cause instanceof CommandFailed;
  const error = isStopped && thrown.name === 'AbortError' ? thrown.cause : thrown;
  // Commander has said it already.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_DONE : EXIT_USAGE;
  if (error instanceof ConfigError) {
    const faults = error.faults.map((fault) => `  ${faultText(fault)}\n`).join('');
    write(redact(`error: the configuration is not right\n${faults}`));
    return EXIT_USAGE;
  }
  if (error instanceof UsageError) {
    write(`error: ${redact(error.message)}\n`);
    return EXIT_USAGE;
  }
  const message = error instanceof Error ? error.message || error.name : String(error);
  write(`error: ${redact(message)}\n`);
  const hint = isVoicemailError(error) ? error.hint : undefined;
  if (hint !== undefined) write(`hint: ${redact(hint)}\n`);
  if (isDebugging && !(error instanceof CommandFailed)) {
    createLogger('debug', writeRaw).debug({ err: error }, 'where it came from');
  }
  return EXIT_FAILED;
}
