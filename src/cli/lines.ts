/** No line of ids is nearly as long; a file of another kind must not fill the memory. */
const MAX_LINE_CHARACTERS = 64 * 1024;

/** A line of a text: its number, counted from 1, and the text without its end; `undefined` when it is too long. */
export interface Line {
  readonly number: number;
  readonly text: string | undefined;
}

/** The lines of a UTF-8 text, in constant memory. A byte order mark is left out. */
export async function* readTextLines(input: AsyncIterable<Buffer | string>): AsyncGenerator<Line> {
  let number = 0;
  for await (const text of splitLines(decode(input))) {
    number += 1;
    yield { number, text };
  }
}

async function* decode(input: AsyncIterable<Buffer | string>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  for await (const chunk of input) {
    yield decoder.decode(typeof chunk === 'string' ? Buffer.from(chunk) : chunk, { stream: true });
  }
  yield decoder.decode();
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
