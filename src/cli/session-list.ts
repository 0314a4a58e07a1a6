import { TextDecoder } from 'node:util';
import { isValidId } from '../domain/session.ts';
import { UsageError } from './context.ts';

/** No line of ids is nearly as long; a file of another kind must not fill the memory. */
const MAX_LINE_CHARACTERS = 64 * 1024;

/** A line of a text: its number, counted from 1, and the text without its end; `undefined` when it is too long. */
interface Line {
  readonly number: number;
  readonly text: string | undefined;
}

/**
 * The lines of a text, in constant memory. It is UTF-8, or UTF-16 where a byte order mark says so; the mark is left
 * out.
 * @throws UsageError when it is compressed.
 */
async function* readTextLines(input: AsyncIterable<Buffer | string>): AsyncGenerator<Line> {
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
/** CSV as far as a list of ids needs it: RFC 4180 with any delimiter, and blanks around fields left out. */

/** The fields of a record; `open` when the text ends within quotes; `broken` when more follows closing quotes. */
export type CsvRecord = readonly string[] | 'open' | 'broken';

/** A field in quotes, in which two quotes stand for one. */
const QUOTED = /"((?:[^"]|"")*)"(?!")/y;

/**
 * Takes one record apart.
 *
 * @param delimiter one character between two fields.
 * @example
 * parseCsvRecord('a, "b, ""c"""', ','); // ['a', 'b, "c"']
 */
export function parseCsvRecord(text: string, delimiter: string): CsvRecord {
  const fields: string[] = [];
  let at = 0;
  for (;;) {
    const start = skipSpaces(text, at);
    if (text[start] === '"') {
      QUOTED.lastIndex = start;
      const content = QUOTED.exec(text)?.[1];
      if (content === undefined) return 'open';
      fields.push(content.replaceAll('""', '"').trim());
      at = skipSpaces(text, QUOTED.lastIndex);
    } else {
      const end = text.indexOf(delimiter, at);
      at = end === -1 ? text.length : end;
      fields.push(text.slice(start, at).trim());
    }
    if (at >= text.length) return fields;
    if (text[at] !== delimiter) return 'broken';
    at += 1;
  }
}

function skipSpaces(text: string, from: number): number {
  let at = from;
  while (text[at] === ' ') at += 1;
  return at;
}

/** One entry of a list of sessions: a session, or what is wrong with that line (counted from 1). */
export type ListEntry = { readonly line: number } & (Listed | Fault);

interface Listed {
  readonly session: { readonly sessionId: string; readonly botId?: string };
}
interface Fault {
  readonly fault: string;
}

const CSV_DELIMITERS = [',', ';', '\t'] as const;
const ID_COLUMN = 'sessionId';
const BOT_COLUMN = 'botId';
/** `Session ID`, `session_id` and the like are the same column. */
const plain = (column: string) => column.toLowerCase().replaceAll(/[ _-]/g, '');
/** The most lines of a quoted text; an opening quote without an end within them is a mistake. */
const MAX_RECORD_LINES = 100;
const ID_RULE = 'an id has 1 to 128 letters, digits, "_" and "-"';
const TOO_LONG: Fault = { fault: 'the line is far too long' };

/**
 * Reads session ids from a text in constant memory: one id a line; CSV with a `sessionId` column and perhaps a
 * `botId` column; or JSON lines, each a string or an object with `sessionId` and perhaps `botId`. Which it is
 * shows in the first line that is not empty. Bad lines are reported and skipped.
 *
 * @example
 * for await (const entry of readSessionList(createReadStream('ids.csv'))) {
 *   if ('fault' in entry) console.error(`line ${entry.line}: ${entry.fault}`);
 * }
 */
export async function* readSessionList(input: AsyncIterable<Buffer | string>): AsyncGenerator<ListEntry> {
  const lines = new LineQueue(readTextLines(input));
  try {
    let first = await lines.next();
    while (first && first.text?.trim() === '') first = await lines.next();
    if (!first) return;
    const header = csvHeader(first.text ?? '');
    if (header) yield* readCsv(lines, header);
    else yield* readPlain(first, lines);
  } finally {
    await lines.close();
  }
}

async function* readPlain(first: Line, lines: LineQueue): AsyncGenerator<ListEntry> {
  const parse = /^\s*["{]/.test(first.text ?? '') ? parseJsonLine : parsePlainLine;
  for (let line: Line | undefined = first; line; line = await lines.next()) {
    if (line.text === undefined) yield { line: line.number, ...TOO_LONG };
    else if (line.text.trim() !== '') yield { line: line.number, ...parse(line.text.trim()) };
  }
}

function parsePlainLine(line: string): Listed | Fault {
  return toEntry(line, undefined);
}

function parseJsonLine(line: string): Listed | Fault {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return { fault: 'not JSON, as the first line is' };
  }
  if (typeof value === 'string') return toEntry(value, undefined);
  if (typeof value !== 'object' || value === null) return { fault: 'neither a string nor an object' };
  const { sessionId, botId } = value as Record<string, unknown>;
  return toEntry(asText(sessionId), asText(botId));
}

/** Some programs write ids of nothing but digits as numbers; those too large to be exact are no ids. */
function asText(value: unknown): unknown {
  return Number.isSafeInteger(value) ? String(value) : value;
}

/** Where the columns of a CSV are. */
interface CsvHeader {
  readonly delimiter: string;
  readonly idColumn: number;
  readonly botColumn: number;
}

/** `undefined` when it is not the header of a CSV with the id column. */
function csvHeader(line: string): CsvHeader | undefined {
  for (const delimiter of CSV_DELIMITERS) {
    const record = parseCsvRecord(line, delimiter);
    if (typeof record === 'string') continue;
    const names = record.map(plain);
    const idColumn = names.indexOf(plain(ID_COLUMN));
    if (idColumn >= 0) return { delimiter, idColumn, botColumn: names.indexOf(plain(BOT_COLUMN)) };
  }
  return undefined;
}

async function* readCsv(
  lines: LineQueue,
  { delimiter, idColumn, botColumn }: CsvHeader,
): AsyncGenerator<ListEntry> {
  for (let line = await lines.next(); line; line = await lines.next()) {
    const { number, text } = line;
    if (text?.trim() === '') continue;
    const fields = text === undefined ? undefined : await readRecord(text, delimiter, lines);
    if (fields === undefined) yield { line: number, ...TOO_LONG };
    else if (fields === 'open') yield { line: number, fault: 'a quote is not closed' };
    else if (fields === 'broken') yield { line: number, fault: 'there is text behind a closing quote' };
    else yield { line: number, ...toEntry(fields[idColumn], fields[botColumn]) };
  }
}

/** A record that begins with this line. The lines that it goes on in are used up only when it is whole. */
async function readRecord(firstLine: string, delimiter: string, lines: LineQueue) {
  let text = firstLine;
  let record = parseCsvRecord(text, delimiter);
  const taken: Line[] = [];
  while (record === 'open' && taken.length < MAX_RECORD_LINES && text.length <= MAX_LINE_CHARACTERS) {
    const line = await lines.next();
    if (!line) break;
    taken.push(line);
    if (line.text === undefined) break;
    text += `\n${line.text}`;
    record = parseCsvRecord(text, delimiter);
  }
  if (typeof record === 'string') lines.putBack(taken);
  return record;
}

function toEntry(sessionId: unknown, botId: unknown): Listed | Fault {
  if (isMissing(sessionId)) return { fault: `no ${ID_COLUMN}` };
  if (!isId(sessionId)) return { fault: `${shown(sessionId)} is no session id: ${ID_RULE}` };
  if (isMissing(botId)) return { session: { sessionId } };
  if (!isId(botId)) return { fault: `${shown(botId)} is no bot id: ${ID_RULE}` };
  return { session: { sessionId, botId } };
}

function isMissing(value: unknown): boolean {
  return value === undefined || value === null || value === '';
}

function isId(value: unknown): value is string {
  return typeof value === 'string' && isValidId(value);
}

/** A value from outside, fit for a message. */
function shown(value: unknown): string {
  const text = (typeof value === 'string' ? value : (JSON.stringify(value) ?? '')).replace(
    /[^\x20-\x7e]/g,
    '?',
  );
  return `"${text.length > 40 ? `${text.slice(0, 40)}...` : text}"`;
}

/** Lines, one after the other, of which some can be put back. */
class LineQueue {
  readonly #lines: AsyncGenerator<Line>;
  #putBack: Line[] = [];

  constructor(lines: AsyncGenerator<Line>) {
    this.#lines = lines;
  }

  async next(): Promise<Line | undefined> {
    const line = this.#putBack.shift();
    if (line) return line;
    const { done, value } = await this.#lines.next();
    return done ? undefined : value;
  }

  putBack(lines: readonly Line[]): void {
    this.#putBack = [...lines, ...this.#putBack];
  }

  /** Releases the source, also before its end. */
  async close(): Promise<void> {
    await this.#lines.return(undefined);
  }
}
