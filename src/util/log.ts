import { AsyncLocalStorage } from 'node:async_hooks';
import { type Logger, pino, stdSerializers } from 'pino';
import { redact } from './redact.ts';
import { escapeControls } from './text.ts';

export type { Logger } from 'pino';

const fields = new AsyncLocalStorage<Readonly<Record<string, string>>>();

/** Does some work, and adds the fields to every line that is logged on its behalf, however deep down. */
export function withLogFields<T>(added: Readonly<Record<string, string>>, work: () => T): T {
  return fields.run(added, work);
}

/**
 * A JSON logger to stderr (file descriptor 2), one object a line, whose every line passes through
 * {@link redact} and does nothing to a terminal. Nothing secret is ever logged on purpose; this catches what libraries
 * put into their errors.
 *
 * @param write where the lines go, for tests and for tools that own the terminal.
 */
export function createLogger(level: LogLevel, write: (line: string) => void = writeToStderr): Logger {
  return pino(
    {
      level,
      base: null,
      mixin: () => ({ ...fields.getStore() }),
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: stdSerializers.errWithCause, error: stdSerializers.errWithCause },
    },
    { write: (line: string) => write(escapeControls(redact(line))) },
  );
}

function writeToStderr(line: string): void {
  process.stderr.write(line);
}

/** `LOG_LEVEL` */
export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';
