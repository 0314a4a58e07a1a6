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
