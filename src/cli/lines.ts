import { TextDecoder } from 'node:util';
import { UsageError } from './exit.ts';

/** No line of ids is nearly as long; a file of another kind must not fill the memory. */
const MAX_LINE_CHARACTERS = 64 * 1024;

/** A line of a text: its number, counted from 1, and the text without its end; `undefined` when it is too long. */
export interface Line {
  readonly number: number;
  readonly text: string | undefined;
}

/**
 * The lines of a text, in constant memory. It is UTF-8, or UTF-16 where a byte order mark says so; the mark is left out.
 * @throws UsageError when it is compressed.
 */
export async function* readTextLines(input: AsyncIterable<Buffer | string>): AsyncGenerator<Line> {
  let number = 0;
  for await (const text of splitLines(decode(input))) {
    number += 1;
    yield { number, text };
  }
}

async function* decode(input: AsyncIterable<Buffer | string>): AsyncGenerator<string> {
  let decoder: TextDecoder | undefined;
  for await (const chunk of input) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    decoder ??= new TextDecoder(encodingOf(bytes));
    yield decoder.decode(bytes, { stream: true });
  }
  if (decoder) yield decoder.decode();
}

/** What the first bytes of a text say of its encoding. */
function encodingOf(bytes: Buffer): string {
  const start = bytes.toString('hex', 0, 2);
  if (start === '1f8b')
    throw new UsageError('the list is compressed: unpack it, as with zcat, and hand it in by "-"');
  if (start === '504b') throw new UsageError('the list is a ZIP file or a spreadsheet: save it as CSV');
  return { fffe: 'utf-16le', feff: 'utf-16be' }[start] ?? 'utf-8';
}

async function* splitLines(chunks: AsyncIterable<string>): AsyncGenerator<string | undefined> {
  let begun = '';
  let isTooLong = false;
  const finish = () =>
    isTooLong || begun.length > MAX_LINE_CHARACTERS ? undefined : begun.replace(/\r$/, '');
  for await (const chunk of chunks) {
    const [first = '', ...others] = chunk.split('\n');
    begun += first;
    for (const next of others) {
      yield finish();
      begun = next;
      isTooLong = false;
    }
    if (begun.length > MAX_LINE_CHARACTERS) {
      begun = '';
      isTooLong = true;
    }
  }
  if (isTooLong || begun !== '') yield finish();
}
