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
 * @param write where the lines go, for tests and for tools that own the terminal; its second argument says whether a
 *   line is a warning or worse.
 */
export function createLogger(level: LogLevel, write: WriteLine = writeToStderr): Logger {
  return pino(
    {
      level,
      base: null,
      mixin: () => ({ ...fields.getStore() }),
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: stdSerializers.errWithCause, error: stdSerializers.errWithCause },
    },
    new Destination(write),
  );
}

/** Has pino say the level of each line before it. */
const METADATA: unique symbol = Symbol.for('pino.metadata');

/** Where pino writes its lines to. */
class Destination {
  readonly [METADATA] = true;
  lastLevel = 0;
  readonly #write: WriteLine;

  constructor(write: WriteLine) {
    this.#write = write;
  }

  write(line: string): void {
    this.#write(escapeControls(redact(line)), this.lastLevel >= WARN);
  }
}

/** Takes a line, and whether it is a warning or worse. */
type WriteLine = (line: string, isUrgent: boolean) => void;

/** pino's number of the level. */
const WARN = 40;

/** How long lines of `info` and below wait to be written together (milliseconds). */
const GATHER_MS = 50;

let gathered = '';
let timer: NodeJS.Timeout | undefined;

/**
 * Writes lines together: each write is a system call that blocks the whole process. Urgent ones, and the end
 * of the process, wait for nothing.
 */
function writeToStderr(line: string, isUrgent: boolean): void {
  gathered += line;
  if (isUrgent) flush();
  else if (timer === undefined) {
    timer = setTimeout(flush, GATHER_MS);
    timer.unref();
    process.once('exit', flush);
  }
}

function flush(): void {
  clearTimeout(timer);
  timer = undefined;
  process.off('exit', flush);
  const lines = gathered;
  gathered = '';
  if (lines !== '') process.stderr.write(lines);
}

/** `LOG_LEVEL` */
export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';
