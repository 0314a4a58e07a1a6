import { VoicemailError } from '../domain/errors.ts';
import { tooLargeError } from './limits.ts';
import type { MediaResponse } from './media-http.ts';

/** Bytes handed on at a time. */
const PIECE_BYTES = 64 * 1024;

const PERCENT = 0x25;

/** Whether a recording's URL holds the recording itself. */
export function isDataUrl(url: string): boolean {
  return /^data:/i.test(url);
}

/**
 * The recording inside a `data:` URI (RFC 2397), as if a server had sent it with its length. Kore's older call
 * recordings come so.
 *
 * @throws VoicemailError `RECORDING_TOO_LARGE` before anything is decoded, `RECORDING_NOT_AUDIO` without data.
 */
export function openDataUrl(url: string, maxBytes: number): MediaResponse {
  const comma = url.indexOf(',');
  if (comma === -1) {
    throw new VoicemailError('RECORDING_NOT_AUDIO', "the recording's data: URI holds no data", {
      retryable: true,
    });
  }
  const [contentType, ...parameters] = url.slice('data:'.length, comma).slice(0, 256).split(';');
  const isBase64 = parameters.at(-1)?.trim().toLowerCase() === 'base64';
  const text = url.slice(comma + 1);
  // Each byte takes at most three characters, in base64 at most four thirds of one.
  if (text.length > maxBytes * 3 + 3) throw tooLargeError(maxBytes);
  const body = !isBase64
    ? decodePercent(text)
    : Buffer.from(text.includes('%') ? decodePercent(text).toString('latin1') : text, 'base64');
  if (body.length > maxBytes) throw tooLargeError(maxBytes);
  let at = 0;
  return {
    status: 200,
    host: 'data',
    source: { host: 'data', path: '' },
    contentLength: body.length,
    delimiter: 'length',
    contentType: contentType || undefined,
    codings: [],
    validator: undefined,
    range: undefined,
    retryAfterMs: undefined,
    async read() {
      const piece = body.subarray(at, at + PIECE_BYTES);
      at += piece.length;
      return piece.length === 0 ? undefined : piece;
    },
    discard() {
      at = body.length;
    },
  };
}

/** The bytes that a percent-encoded text stands for; a `%` that begins no escape stands for itself. */
function decodePercent(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  let length = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0;
    const high = byte === PERCENT ? hexDigit(bytes[at + 1]) : -1;
    const low = high === -1 ? -1 : hexDigit(bytes[at + 2]);
    bytes[length] = low === -1 ? byte : high * 16 + low;
    length += 1;
    if (low !== -1) at += 2;
  }
  return bytes.subarray(0, length);
}

/** The value of an ASCII hex digit, or -1. */
function hexDigit(byte: number | undefined): number {
  if (byte === undefined) return -1;
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  // Letters differ from their lowercase by one bit.
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : -1;
}
