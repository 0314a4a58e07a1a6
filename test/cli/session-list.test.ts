import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ListEntry, parseCsvRecord, readSessionList } from '../../src/cli/session-list.ts';

/** Reads a list that arrives in pieces of so many bytes. */
async function read(text: string, pieceBytes = 7): Promise<ListEntry[]> {
  const bytes = Buffer.from(text);
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
  }
  const entries: ListEntry[] = [];
  for await (const entry of readSessionList(pieces())) entries.push(entry);
  return entries;
}

/** Entries in short: `line:id`, `line:bot/id` or `line!fault`. */
async function short(text: string, pieceBytes?: number): Promise<string[]> {
  return (await read(text, pieceBytes)).map((entry) => {
    if ('fault' in entry) return `${entry.line}!${entry.fault}`;
    const { sessionId, botId } = entry.session;
    return `${entry.line}:${botId === undefined ? '' : `${botId}/`}${sessionId}`;
  });
}

const NO_ID = 'is no session id: an id has 1 to 128 letters, digits, "_" and "-"';

describe('a list of session ids', () => {
  it.each<[string, string, string[]]>([
    ['one id a line', 'a1\nb2\nc3\n', ['1:a1', '2:b2', '3:c3']],
    ['no end of the last line, Windows line ends and a byte order mark', '\ufeffa1\r\nb2', ['1:a1', '2:b2']],
    ['empty lines and blanks', '\n \n  a1\t\n\nb2  \n\n', ['3:a1', '5:b2']],
    ['nothing', '', []],
    ['only empty lines', '\n\n', []],
    ['lines that are no ids', 'a1\nb 2\nc3\n', ['1:a1', `2!"b 2" ${NO_ID}`, '3:c3']],
    ['control characters', 'a1\n\u001b[31m\n', ['1:a1', `2!"?[31m" ${NO_ID}`]],
  ])('a list of session ids may hold %s', async (_name, text, entries) => {
    expect(await short(text)).toEqual(entries);
  });

  it.each<[string, string, string[]]>([
    ['with a column of ids', 'sessionId\na\nb\n', ['2:a', '3:b']],
    [
      'with bots, other columns and gaps',
      'botId,x,sessionId\nb1,1,a\n,2,b\nb3,3,\n',
      ['2:b1/a', '3:b', '4!no sessionId'],
    ],
    ['with columns named in other ways', 'Bot ID,session_id\nb,a\n', ['2:b/a']],
    ['with semicolons', 'x;sessionId\n1;a\n', ['2:a']],
    ['with tabs', 'x\tsessionId\n1\ta\n', ['2:a']],
    ['with quotes', '"botId","sessionId"\n"b","a"\n', ['2:b/a']],
    ['with text of several lines', 'note,sessionId\n"one\ntwo, ""three""\n",a\nx,b\n', ['2:a', '5:b']],
    ['with short and long records', 'x,sessionId\n1\n1,a,2,3\n', ['2!no sessionId', '3:a']],
    [
      'with a quote that is never closed',
      'sessionId,x\na,"1\nb,2\nc,3\n',
      ['2!a quote is not closed', '3:b', '4:c'],
    ],
    [
      'with text behind a quote',
      'sessionId,x\na,"1"2\nb,2\n',
      ['2!there is text behind a closing quote', '3:b'],
    ],
    ['with an empty header line before it', '\nsessionId\na\n', ['3:a']],
    [
      'with a bot that is none',
      'sessionId,botId\na,b b\n',
      ['2!"b b" is no bot id: an id has 1 to 128 letters, digits, "_" and "-"'],
    ],
  ])('a list of session ids may be CSV %s', async (_name, text, entries) => {
    expect(await short(text)).toEqual(entries);
  });

  it.each<[string, string, string[]]>([
    ['objects', '{"sessionId":"a","botId":"b","x":1}\n\n{"sessionId":"c"}', ['1:b/a', '3:c']],
    ['strings', '"a"\n"b"\n', ['1:a', '2:b']],
    [
      'numbers',
      '{"sessionId":5}\n{"sessionId":9007199254740993}\n',
      ['1:5', `2!"9007199254740992" ${NO_ID}`],
    ],
    [
      'faults',
      '"a"\n{"sessionId"\nnull\n{"session":"a"}\n{"sessionId":1.5}\n{"sessionId":"b"}\n',
      [
        '1:a',
        '2!not JSON, as the first line is',
        '3!neither a string nor an object',
        '4!no sessionId',
        `5!"1.5" ${NO_ID}`,
        '6:b',
      ],
    ],
  ])('a list of session ids may be JSON lines with %s', async (_name, text, entries) => {
    expect(await short(text)).toEqual(entries);
  });

  it('a list of session ids skips a line that is far too long, and continues behind it', async () => {
    const long = 'x'.repeat(1_000_000);
    const tooLong = 'the line is far too long';
    expect(await short(`a\n${long}\nb\n`, 65_536)).toEqual(['1:a', `2!${tooLong}`, '3:b']);
    expect(await short(`sessionId,x\na,1\nb,${long}\nc,3`, 65_536)).toEqual(['2:a', `3!${tooLong}`, '4:c']);
    expect(await short(long, 65_536)).toEqual([`1!${tooLong}`]);
  });

  it('a list of session ids that is UTF-16 or no text at all is refused by its first bytes', async () => {
    const ids = async (bytes: Buffer) => {
      const entries: ListEntry[] = [];
      for await (const entry of readSessionList(Readable.from([bytes]))) entries.push(entry);
      return entries;
    };
    const a = [{ line: 2, session: { sessionId: 'a' } }];
    expect(await ids(Buffer.from('\ufeffsessionId\r\na', 'utf16le'))).toEqual(a);
    expect(await ids(Buffer.from('\ufeffsessionId\r\na', 'utf16le').swap16())).toEqual(a);
    await expect(ids(gzipSync('sessionId\na'))).rejects.toThrow('unpack it');
    await expect(ids(Buffer.from('PK\x03\x04'))).rejects.toThrow('save it as CSV');
  });

  it('a list of session ids loses no session and no line number, whatever else its CSV holds and however it arrives', async () => {
    const field = fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', ' ', 'ä', ';'), maxLength: 12 });
    const id = fc.stringMatching(/^[A-Za-z0-9_-]{1,12}$/);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ id, note: field }), { maxLength: 20 }),
        fc.integer({ min: 1, max: 40 }),
        async (records, pieceBytes) => {
          const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;
          let line = 2;
          let text = 'note,sessionId\n';
          const expected: ListEntry[] = [];
          for (const { id: sessionId, note } of records) {
            text += `${quoted(note)},${sessionId}\n`;
            expected.push({ line, session: { sessionId } });
            line += note.split('\n').length;
          }
          expect(await read(text, pieceBytes)).toEqual(expected);
        },
      ),
    );
  });

  it('a list of session ids can be any text without an unexpected error', async () => {
    const anything = fc.string({
      unit: fc.constantFrom('a', '"', ',', '\n', '\r', '{', '}', ' ', '\0'),
      maxLength: 60,
    });
    await fc.assert(
      fc.asyncProperty(anything, fc.boolean(), async (text, isCsv) => {
        const lines = await read(isCsv ? `sessionId,x\n${text}` : text);
        const numbers = lines.map(({ line }) => line);
        expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
      }),
    );
  });
});

describe('a CSV record', () => {
  it.each([
    ['', ['']],
    ['a', ['a']],
    ['a,', ['a', '']],
    [' a , b ', ['a', 'b']],
    ['"a,b",c', ['a,b', 'c']],
    [' "a" , "b" ', ['a', 'b']],
    ['"a ""b""",c', ['a "b"', 'c']],
    ['5" pipe,c', ['5" pipe', 'c']],
    ['""', ['']],
    ['"a', 'open'],
    ['"a""', 'open'],
    ['"', 'open'],
    ['"a"b', 'broken'],
  ])('the CSV record %j is split into its fields', (text, expected) => {
    expect(parseCsvRecord(text, ',')).toEqual(expected);
  });
});
