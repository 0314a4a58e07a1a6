import { type Logger, pino, stdSerializers } from 'pino';
import type { LogLevel } from './config/config.ts';
import { redact } from './redact.ts';

export type { Logger } from 'pino';

/**
 * A JSON logger to stderr (file descriptor 2), one object a line, whose every line passes through
 * {@link redact}. Nothing secret is ever logged on purpose; this catches what libraries put into their errors.
 *
 * @param write where the lines go, for tests and for tools that own the terminal.
 */
export function createLogger(level: LogLevel, write: (line: string) => void = writeToStderr): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: stdSerializers.errWithCause, error: stdSerializers.errWithCause },
    },
    { write: (line: string) => write(redact(line)) },
  );
}

function writeToStderr(line: string): void {
  process.stderr.write(line);
}
