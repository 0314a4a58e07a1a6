import { Presets, SingleBar } from 'cli-progress';
import type { CliContext } from './context.ts';

/** How far something has come. */
export interface ProgressDisplay {
  update(done: number, note?: string): void;
  /** Makes room for a line of something else; the display comes back by itself. */
  clear(): void;
  /** Ends the display; may be called again. */
  stop(): void;
}

/** Where there is no terminal, or no end in sight, a line is written when it is another, this often at most. */
const LINE_INTERVAL_MS = 3_000;

/** Moves to the start of the line, and clears it. */
const CLEAR_LINE = '\r\x1b[K';

/**
 * Shows on standard error how far something has come: a bar where it is a terminal and the total is known,
 * otherwise a line every few seconds in which something changed.
 *
 * @example
 * const progress = showProgress(context.stderr, 'Archiving', 12);
 * progress.update(3, '1 failed');
 * progress.stop();
 */
export function showProgress(stderr: CliContext['stderr'], what: string, total?: number): ProgressDisplay {
  return stderr.isTTY && total !== undefined ? showBar(stderr, what, total) : showLines(stderr, what, total);
}

function showBar(stderr: CliContext['stderr'], what: string, total: number): ProgressDisplay {
  const bar = new SingleBar(
    {
      stream: stderr as NodeJS.WriteStream,
      format: `${what} {bar} {value}/{total} {note}`,
      // Signals are the command's own business.
      gracefulExit: false,
      forceRedraw: true,
    },
    Presets.shades_classic,
  );
  bar.start(total, 0, { note: '' });
  return {
    update: (done, note = '') => bar.update(done, { note }),
    clear: () => void stderr.write(CLEAR_LINE),
    stop: () => bar.stop(),
  };
}

function showLines(stderr: CliContext['stderr'], what: string, total: number | undefined): ProgressDisplay {
  let writtenAt = Date.now();
  let written = '';
  return {
    update(done, note) {
      if (Date.now() - writtenAt < LINE_INTERVAL_MS) return;
      const number = done.toLocaleString('en');
      const amount = total === undefined ? number : `${number} of ${total.toLocaleString('en')}`;
      const line = `${what}: ${amount}${note ? `, ${note}` : ''}\n`;
      if (line === written) return;
      writtenAt = Date.now();
      written = line;
      stderr.write(line);
    },
    clear() {},
    stop() {},
  };
}
