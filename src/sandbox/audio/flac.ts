import { createHash } from 'node:crypto';
import { makeMelody, melodySamples, SAMPLE_RATE_HZ } from './melody.ts';
import { crc8, crc16 } from './source.ts';

const BLOCK_SAMPLES = 4096;
const SAMPLE_BITS = 16;

/**
 * A FLAC file (mono, 16 bit, 8 kHz) whose samples are stored as they are, in verbatim subframes, with every
 * checksum the format has: https://www.rfc-editor.org/rfc/rfc9639
 */
export function makeFlac(seed: string, seconds: number): Buffer {
  const total = Math.max(1, Math.round(seconds * SAMPLE_RATE_HZ));
  const samples = melodySamples(makeMelody(seed), 0, total);
  const frames: Buffer[] = [];
  for (let start = 0; start < total; start += BLOCK_SAMPLES) {
    frames.push(frame(frames.length, samples.subarray(start, start + BLOCK_SAMPLES)));
  }
  return Buffer.concat([Buffer.from('fLaC'), streamInfo(samples, frames), ...frames]);
}

function streamInfo(samples: Int16Array, frames: readonly Buffer[]): Buffer {
  const sizes = frames.map((one) => one.length);
  const block = Buffer.alloc(4 + 34);
  // The last metadata block (0x80) and of type STREAMINFO (0).
  block.writeUInt8(0x80, 0);
  block.writeUIntBE(34, 1, 3);
  block.writeUInt16BE(BLOCK_SAMPLES, 4);
  block.writeUInt16BE(BLOCK_SAMPLES, 6);
  block.writeUIntBE(Math.min(...sizes), 8, 3);
  block.writeUIntBE(Math.max(...sizes), 11, 3);
  const facts = (BigInt(SAMPLE_RATE_HZ) << 44n) | (BigInt(SAMPLE_BITS - 1) << 36n) | BigInt(samples.length);
  block.writeBigUInt64BE(facts, 14);
  const littleEndian = Buffer.alloc(samples.length * 2);
  samples.forEach((sample, i) => {
    littleEndian.writeInt16LE(sample, i * 2);
  });
  createHash('md5').update(littleEndian).digest().copy(block, 22);
  return block;
}

function frame(number: number, samples: Int16Array): Buffer {
  const whole = samples.length === BLOCK_SAMPLES;
  const header = Buffer.from([
    // Sync code, blocks of a fixed size.
    0xff,
    0xf8,
    // Block size: 4096, or 16 bits at the end of the header. Sample rate: 8 kHz.
    ((whole ? 0b1100 : 0b0111) << 4) | 0b0100,
    // Mono, 16 bit.
    0b100 << 1,
    ...codedNumber(number),
    ...(whole ? [] : [(samples.length - 1) >> 8, (samples.length - 1) & 0xff]),
  ]);
  const verbatim = 0b000001 << 1;
  const body = Buffer.alloc(samples.length * 2);
  samples.forEach((sample, i) => {
    body.writeInt16BE(sample, i * 2);
  });
  const checked = Buffer.concat([header, Buffer.from([crc8(header), verbatim]), body]);
  const footer = Buffer.alloc(2);
  footer.writeUInt16BE(crc16(checked));
  return Buffer.concat([checked, footer]);
}

/** A frame's number is written like a code point in UTF-8; an hour of audio stays below the surrogates. */
function codedNumber(number: number): Buffer {
  return Buffer.from(String.fromCodePoint(number), 'utf8');
}
