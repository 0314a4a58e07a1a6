import { createHash } from 'node:crypto';

/**
 * A file of any size that is never held as a whole: each part is made on request, and is the same
 * every time.
 */
export interface AudioSource {
  readonly contentType: string;
  /** The size of the whole file. */
  readonly bytes: number;
  /** The bytes from `start` (inclusive) to `end` (exclusive), cut to what there is. */
  slice(start: number, end: number): Buffer;
}

/** Serves bytes that are there already. */
export function bufferSource(content: Buffer, contentType = 'application/octet-stream'): AudioSource {
  return { contentType, bytes: content.length, slice: (start, end) => content.subarray(start, end) };
}

/** SHA-256 of the whole file in lowercase hex, read a megabyte at a time. */
export function sha256OfSource(source: AudioSource): string {
  const hash = createHash('sha256');
  const step = 1024 * 1024;
  for (let start = 0; start < source.bytes; start += step) hash.update(source.slice(start, start + step));
  return hash.digest('hex');
}
/** A CRC without reflection and with a starting value of 0, as FLAC and Ogg use them. */
function makeCrc(bits: 8 | 16 | 32, polynomial: number): (data: Uint8Array) => number {
  const top = 2 ** (bits - 1);
  const mask = 2 ** bits - 1;
  const table = Array.from({ length: 256 }, (_, byte) => {
    let value = byte * 2 ** (bits - 8);
    for (let i = 0; i < 8; i++) {
      const carry = value >= top;
      value = (value * 2) % (mask + 1);
      if (carry) value = (value ^ polynomial) >>> 0;
    }
    return value;
  });
  return (data) => {
    let crc = 0;
    for (const byte of data) {
      const index = (Math.floor(crc / 2 ** (bits - 8)) ^ byte) & 0xff;
      crc = (((crc << 8) & mask) ^ (table[index] ?? 0)) >>> 0;
    }
    return crc;
  };
}

/** Of a FLAC frame's header: https://www.rfc-editor.org/rfc/rfc9639#section-9.1.8 */
export const crc8 = makeCrc(8, 0x07);
/** Of a whole FLAC frame: https://www.rfc-editor.org/rfc/rfc9639#section-9.3 */
export const crc16 = makeCrc(16, 0x8005);
/** Of an Ogg page: https://www.rfc-editor.org/rfc/rfc3533#section-6 */
export const oggCrc = makeCrc(32, 0x04c11db7);
