import type { Readable, Writable } from 'node:stream';
import type { WriteStream } from 'node:tty';
import type { Config } from '../config/config.ts';
import { type LoadOptions, loadConfig } from '../config/load.ts';
import type { Environment } from '../config/settings.ts';
import { createLogger, type Logger } from '../util/log.ts';
import { forTerminal } from '../util/text.ts';
import { Output } from './output.ts';

/** How commands end. 0: done; 1: something failed; 2: wrong usage or configuration. */
export const EXIT_DONE = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

/** What a command was to do has failed, as `message` says; exit code 1. */
export class CommandFailed extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'CommandFailed';
  }
}

/** A command was called in a way that makes no sense, as `message` says; exit code 2. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}

/** What of a process the program uses. */
export type CliProcess = Pick<NodeJS.Process, 'argv' | 'env' | 'cwd' | 'exit'> & {
  on(signal: 'SIGINT' | 'SIGTERM', listener: () => void): void;
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly stderr: Pick<WriteStream, 'write' | 'isTTY'>;
};

/** What commands have to do with the process they run in. */
export interface CliContext {
  /** The environment, read once. */
  readonly environment: Environment;
  readonly stdin: Readable;
  /** Results. */
  readonly out: Output;
  /** Progress; logs go there as well. */
  readonly stderr: Pick<WriteStream, 'write' | 'isTTY'>;
  /** Shows the person at the terminal something that is no result. */
  say(text: string): void;
  /**
   * From the first call on, SIGINT and SIGTERM abort the signal that it returns instead of ending the process;
   * a second one ends it at once.
   */
  stopSignal(): AbortSignal;
}

/** The context of a process. */
export function createContext(process: CliProcess, environment: Environment): CliContext {
  let stop: AbortController | undefined;
  return {
    environment,
    stdin: process.stdin,
    out: new Output(process.stdout),
    stderr: process.stderr,
    say: (text) => void process.stderr.write(forTerminal(text)),
    stopSignal() {
      if (stop) return stop.signal;
      const controller = new AbortController();
      stop = controller;
      for (const name of ['SIGINT', 'SIGTERM'] as const) {
        process.on(name, () => {
          if (controller.signal.aborted) process.exit(EXIT_FAILED);
          controller.abort(new CommandFailed(`stopped by ${name}`));
        });
      }
      return controller.signal;
    },
  };
}

/** The configuration and logger of a command that runs until it is stopped. */
export function loadService(context: CliContext, options: LoadOptions): { config: Config; log: Logger } {
  const config = loadConfig(context.environment, options);
  const log = contextLogger(context, config);
  for (const { variable, message } of config.warnings) log.warn({ variable }, `${variable} ${message}`);
  return { config, log };
}

/** The same for a command that does one thing: people read its output, so by default it logs only warnings. */
export function loadCommand(
  context: CliContext,
  options: LoadOptions = { needs: [] },
): { config: Config; log: Logger } {
  const { environment } = context;
  const isLevelSet = (environment.LOG_LEVEL ?? '').trim() !== '';
  const config = loadConfig(isLevelSet ? environment : { ...environment, LOG_LEVEL: 'warn' }, options);
  return { config, log: contextLogger(context, config) };
}

function contextLogger({ stderr }: CliContext, { logLevel }: Config): Logger {
  return createLogger(logLevel, (line) => void stderr.write(line));
}
