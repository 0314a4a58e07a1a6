import { isUtf8 } from 'node:buffer';

/** Kinds of text that gateways and storage services send in place of a recording. */
export type DocumentKind = 'HTML' | 'XML' | 'JSON' | 'text';

/** How much text is looked at once the blank start is skipped. */
const SAMPLE_CHARACTERS = 1024;

/** Control characters that no document holds. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: their absence is what tells text from audio.
const BINARY = /[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd]/;

/**
 * Whether a body that is no known audio is a document instead: HTML, XML or JSON whatever its content type
 * says, with or without byte order mark and leading blanks, in UTF-8, UTF-16 or Latin-1; or any other text
 * whose content type says so itself.
 *
 * @param head the body's first bytes.
 * @param contentType the header as received.
 */
export function recogniseDocument(head: Buffer, contentType: string | undefined): DocumentKind | undefined {
  const text = decode(head)
    .replace(/^\ufeff/, '')
    .trimStart();
  const sample = text.slice(0, SAMPLE_CHARACTERS);
  if (BINARY.test(sample)) return undefined;
  if (/^<(!doctype\s+html|html|head|body|title|script|style|h1|center)\b/i.test(sample)) return 'HTML';
  if (/^<[a-z!?/]/i.test(sample)) return 'XML';
  if (/^(\{\s*["}]|\[\s*[[{"\]\d])/.test(sample)) return 'JSON';
  if (/^(null|true|false|"[^"]*")\s*$/.test(sample)) return 'JSON';
  return saysText(contentType) && isPlainText(head) ? 'text' : undefined;
}

function saysText(contentType: string | undefined): boolean {
  return /^\s*(text\/|application\/([\w.+-]+\+)?(json|xml)\b)/i.test(contentType ?? '');
}

/** Servers also say text of what they don't know, so the bytes have to agree. */
function isPlainText(head: Buffer): boolean {
  return isUtf8(head) && !BINARY.test(head.toString('utf8', 0, SAMPLE_CHARACTERS));
}

function decode(head: Buffer): string {
  const [first, second] = head;
  if (first === 0xfe && second === 0xff) return swapped(head).toString('utf16le');
  if (first === 0xff && second === 0xfe) return head.toString('utf16le');
  // UTF-16 without a mark: each letter of the markup has a zero beside it.
  if (first === 0 && second !== 0) return swapped(head).toString('utf16le');
  if (first !== 0 && second === 0) return head.toString('utf16le');
  // Markup is ASCII, which Latin-1 shows as it is, whatever the letters between it are encoded in.
  const marked = head.subarray(0, 3).equals(Buffer.from([0xef, 0xbb, 0xbf]));
  return head.toString('latin1', marked ? 3 : 0);
}

function swapped(head: Buffer): Buffer {
  return Buffer.from(head.subarray(0, head.length & ~1)).swap16();
}
