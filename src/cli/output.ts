import type { Writable } from 'node:stream';
import { escapeControls, forTerminal } from '../util/text.ts';

/**
 * Where results go. A reader that has seen enough (`| head`) ends the output, not the command: what was asked
 * for is done all the same.
 */
export class Output {
  readonly #stream: Writable;
  #isClosed = false;

  /** @param stream standard output. */
  constructor(stream: Writable) {
    this.#stream = stream;
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
      this.#isClosed = true;
    });
  }

  /** Writes a text, or a part of a JSON text; resolves when more is welcome, so that any amount can be written in constant memory. */
  async write(text: string): Promise<void> {
    if (this.#isClosed) return;
    // The callback comes with the error as well, which the listener above has dealt with.
    await new Promise<void>((resolve) => this.#stream.write(escapeControls(text), () => resolve()));
  }

  /** Writes lines. Names in them may come from anywhere: nothing in them is obeyed by a terminal. */
  async lines(lines: readonly string[]): Promise<void> {
    if (lines.length > 0) await this.write(`${lines.map((line) => forTerminal(line)).join('\n')}\n`);
  }

  /** Writes a value as JSON. */
  async json(value: unknown): Promise<void> {
    await this.write(`${JSON.stringify(value, undefined, 2)}\n`);
  }
}
/** Lines of columns, each as wide as its widest cell; numbers (`right`) are set to the right. */
export function table(rows: readonly (readonly string[])[], right: readonly number[] = []): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  }
  return rows.map((row) =>
    row
      .map((cell, column) =>
        right.includes(column) ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
}

/** A time span in words: `45s`, `3m 20s`, `5h 10m`, `12d 3h`. */
export function timeSpan(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3_600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const;
  const first = parts.findIndex(([value]) => value > 0);
  if (first === -1) return '0s';
  return parts
    .slice(first, first + 2)
    .filter(([value]) => value > 0)
    .map(([value, unit]) => `${value}${unit}`)
    .join(' ');
}

/** A number with its noun: `1 session`, `12,000 sessions`. */
export function count(number: number, noun: string): string {
  return `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`;
}
