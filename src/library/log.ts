import { createLogger, type Logger } from '../log.ts';
import type { ArchiverLogger } from './archiver.ts';

/** A line of the log, as far as it is looked into. */
interface Line {
  readonly level: string;
  readonly time: string;
  readonly msg?: string;
}

/** The program's own logger, whose lines, cleared of secrets, go to somebody else's; without one, nowhere. */
export function loggerTo(target: ArchiverLogger | undefined): Logger {
  if (!target) return createLogger('silent');
  return createLogger('debug', (text) => {
    const { level, time: _, msg = '', ...fields }: Line = JSON.parse(text);
    if (level === 'debug' || level === 'info' || level === 'warn') target[level](fields, msg);
    else target.error(fields, msg);
  });
}
