import { isUtf8 } from 'node:buffer';

/** Kinds of text that gateways and storage services send in place of a recording. */
export type DocumentKind = 'HTML' | 'XML' | 'JSON' | 'text';

/** How much text is looked at once the blank start is skipped. */
const SAMPLE_CHARACTERS = 1024;

/** Control characters that no document holds. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: their absence is what tells text from audio.
const BINARY = /[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd]/;

/** No audio begins like this, whatever follows. */
const HTML = /^<(!doctype\s+html|html|head|body|title|script|style|h1|center)\b/i;
const XML = /^<(\?xml|!doctype|error|svg|soap:envelope)\b/i;

/** Markup of any other name, closed by what closes one: samples may well begin with the bytes of `<a`. */
const MARKUP = /^<(!--|!\[CDATA\[|[/?]?[a-z_:\x80-\uffff][\w:.\x80-\uffff-]{0,127}([ \t\r\n>]|\/>))/i;

/** Objects and arrays. `)]}'` stands before those that no script shall read. */
const JSON_START = /^(\)\]\}'|\{\s*["}]|\[\s*([[{"\]]|-?\d|true\b|false\b|null\b))/;

/**
 * Whether a body that is no known audio is a document instead: HTML, XML or JSON whatever its content type
 * says, with or without byte order mark and leading blanks, in UTF-8, UTF-16, UTF-32 or Latin-1; or any other text
 * whose content type says so itself.
 *
 * @param head the body's first bytes.
 * @param contentType the header as received.
 */
export function recogniseDocument(head: Buffer, contentType: string | undefined): DocumentKind | undefined {
  const text = trimBlank(decode(head));
  const sample = text.slice(0, SAMPLE_CHARACTERS);
  if (HTML.test(sample)) return 'HTML';
  if (XML.test(sample)) return 'XML';
  if (BINARY.test(sample)) return undefined;
  if (MARKUP.test(sample)) return 'XML';
  if (JSON_START.test(sample) || isSmallJson(text)) return 'JSON';
  return saysText(contentType) && isPlainText(head) ? 'text' : undefined;
}

/**
 * Text without what is nothing at either end: byte order mark, blanks, and the zeros that servers written in C send with
 * a text or fill its buffer with.
 */
function trimBlank(text: string): string {
  let start = 0;
  while (start < text.length && isBlank(text.charCodeAt(start))) start++;
  let end = text.length;
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
}

function isBlank(code: number): boolean {
  return code === 0 || code === 0xfeff || code === 0x20 || (code >= 0x09 && code <= 0x0d);
}

/** A word, number or string alone is JSON only if nothing else is there. */
function isSmallJson(text: string): boolean {
  if (text.length > SAMPLE_CHARACTERS) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function saysText(contentType: string | undefined): boolean {
  return /^\s*(text\/|application\/([\w.+-]+\+)?(json|xml)\b)/i.test(contentType ?? '');
}

/** Servers also say text of what they don't know, so the bytes have to agree. */
function isPlainText(head: Buffer): boolean {
  // With a byte order mark, they were decoded by it and looked at before.
  if (markedEncoding(head) !== undefined) return true;
  return isUtf8(head) && !BINARY.test(head.toString('utf8', 0, SAMPLE_CHARACTERS));
}

function markedEncoding(head: Buffer): 'utf32le' | 'utf32be' | 'utf16le' | 'utf16be' | undefined {
  const mark = head.toString('hex', 0, 4);
  if (mark === 'fffe0000') return 'utf32le';
  if (mark === '0000feff') return 'utf32be';
  if (mark.startsWith('fffe')) return 'utf16le';
  return mark.startsWith('feff') ? 'utf16be' : undefined;
}

function decode(head: Buffer): string {
  const encoding = markedEncoding(head);
  if (encoding === 'utf32le' || encoding === 'utf32be') return decodeUtf32(head, encoding === 'utf32le');
  const [first, second, third, fourth] = head;
  // UTF-16 without a mark: each letter of the markup has a zero beside it.
  const isBigEndian = first === 0 && second !== 0 && third === 0;
  const isLittleEndian = first !== 0 && second === 0 && fourth === 0;
  if (encoding === 'utf16be' || isBigEndian) return swapped(head).toString('utf16le');
  if (encoding === 'utf16le' || isLittleEndian) return head.toString('utf16le');
  // Markup is ASCII, which Latin-1 shows as it is, whatever the letters between it are encoded in.
  const marked = head.subarray(0, 3).equals(Buffer.from([0xef, 0xbb, 0xbf]));
  return head.toString('latin1', marked ? 3 : 0);
}

/** What is no character becomes the one that stands for such. */
function decodeUtf32(head: Buffer, littleEndian: boolean): string {
  let text = '';
  for (let at = 0; at + 4 <= head.length; at += 4) {
    const code = littleEndian ? head.readUInt32LE(at) : head.readUInt32BE(at);
    text += code > 0x10ffff ? '\ufffd' : String.fromCodePoint(code);
  }
  return text;
}

function swapped(head: Buffer): Buffer {
  return Buffer.from(head.subarray(0, head.length & ~1)).swap16();
}
