import type { Writable } from 'node:stream';

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

  /** Writes a text; resolves when more is welcome, so that any amount can be written in constant memory. */
  async write(text: string): Promise<void> {
    if (this.#isClosed) return;
    // The callback comes with the error as well, which the listener above has dealt with.
    await new Promise<void>((resolve) => this.#stream.write(text, () => resolve()));
  }

  /** Writes lines. */
  async lines(lines: readonly string[]): Promise<void> {
    if (lines.length > 0) await this.write(`${lines.join('\n')}\n`);
  }

  /** Writes a value as JSON. */
  async json(value: unknown): Promise<void> {
    await this.write(`${JSON.stringify(value, undefined, 2)}\n`);
  }
}
