import type { AudioFacts } from '../../domain/recording.ts';
import { type AudioEnd, type Container, withNotes } from './container.ts';

/** Format tags of `fmt ` chunks, see https://www.iana.org/assignments/wave-avi-codec-registry */
const CODECS: Readonly<Record<number, string>> = {
  2: 'adpcm_ms',
  6: 'pcm_alaw',
  7: 'pcm_mulaw',
  17: 'adpcm_ima_wav',
  49: 'gsm_ms',
  80: 'mp2',
  85: 'mp3',
};
const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;

interface Format {
  readonly codec?: string;
  readonly sampleRate: number;
  readonly channels: number;
  readonly bytesPerSecond: number;
}

interface DataChunk {
  readonly start: number;
  /** `undefined` while the writer did not know it. */
  readonly bytes: number | undefined;
}

/** Reads numbers in the byte order of the file: RIFX is RIFF in big-endian. */
interface Reader {
  u16(at: number): number;
  u32(at: number): number;
  u64(at: number): number;
}

/** WAV: RIFF, its 64-bit sisters RF64 and BW64 (EBU Tech 3306), and big-endian RIFX. */
export function recogniseWav(head: Buffer): Container | undefined {
  const magic = head.toString('latin1', 0, 4);
  if (!['RIFF', 'RIFX', 'RF64', 'BW64'].includes(magic)) return undefined;
  if (head.toString('latin1', 8, 12) !== 'WAVE') return undefined;
  const bigEndian = magic === 'RIFX';
  const reader = createReader(head, bigEndian);
  const { riffBytes, format, data } = readChunks(head, reader, bigEndian);
  const claims = readClaims(riffBytes, data);
  return {
    contentType: 'audio/wav',
    tailBytes: 0,
    conclude(totalBytes) {
      return { facts: wavFacts(format, data, totalBytes), ...withNotes(judge(totalBytes, claims, data)) };
    },
  };
}

function createReader(head: Buffer, bigEndian: boolean): Reader {
  return {
    u16: (at) => (bigEndian ? head.readUInt16BE(at) : head.readUInt16LE(at)),
    u32: (at) => (bigEndian ? head.readUInt32BE(at) : head.readUInt32LE(at)),
    u64: (at) => Number(bigEndian ? head.readBigUInt64BE(at) : head.readBigUInt64LE(at)),
  };
}

function readChunks(
  head: Buffer,
  reader: Reader,
  bigEndian: boolean,
): { riffBytes: number | undefined; format: Format | undefined; data: DataChunk | undefined } {
  let riffBytes = known(reader.u32(4));
  let dataBytes64: number | undefined;
  let format: Format | undefined;
  let data: DataChunk | undefined;
  for (let at = 12; at + 8 <= head.length; ) {
    const id = head.toString('latin1', at, at + 4);
    const bytes = reader.u32(at + 4);
    const start = at + 8;
    if (id === 'data') {
      data = { start, bytes: dataBytes64 ?? known(bytes) };
      break;
    }
    if (start + bytes > head.length) break;
    if (id === 'fmt ' && bytes >= 16) format = readFormat(reader, start, bytes, bigEndian);
    if (id === 'ds64' && bytes >= 24) {
      riffBytes = reader.u64(start) || undefined;
      dataBytes64 = reader.u64(start + 8) || undefined;
    }
    // Chunks start at even positions.
    at = start + bytes + (bytes % 2);
  }
  return { riffBytes, format, data };
}

/**
 * Writers that stream cannot know a size beforehand and leave 0, or something near 2 or 4 GiB: the largest number
 * there is, rounded down to whole frames or blocks, with a header's length added or taken away.
 */
function known(bytes: number): number | undefined {
  const unknown = bytes === 0 || (bytes >= 0x7ff00000 && bytes <= 0x80000fff) || bytes >= 0xfff00000;
  return unknown ? undefined : bytes;
}

function readFormat(reader: Reader, at: number, bytes: number, bigEndian: boolean): Format {
  const tag = reader.u16(at);
  const bits = reader.u16(at + 14);
  // The extensible format holds the real tag in the first two bytes of its sub-format.
  const codec = codecName(tag === EXTENSIBLE && bytes >= 26 ? reader.u16(at + 24) : tag, bits, bigEndian);
  return {
    ...(codec === undefined ? {} : { codec }),
    channels: reader.u16(at + 2),
    sampleRate: reader.u32(at + 4),
    bytesPerSecond: reader.u32(at + 8),
  };
}

function codecName(tag: number, bits: number, bigEndian: boolean): string | undefined {
  const order = bigEndian ? 'be' : 'le';
  if (tag === PCM) return bits <= 8 ? 'pcm_u8' : `pcm_s${bits}${order}`;
  if (tag === FLOAT) return `pcm_f${bits}${order}`;
  return CODECS[tag];
}

/** Where the file ends by its two sizes, as far as their writers knew them. */
interface Claims {
  readonly riffEnd: number | undefined;
  readonly dataEnd: number | undefined;
}

/**
 * Some writers count RIFF's own header (8 bytes) into its size, or the byte that pads an odd number of samples and
 * then leave it away. A file with all its samples is not cut because of those.
 */
const MISCOUNTED_BYTES = 9;

function readClaims(riffBytes: number | undefined, data: DataChunk | undefined): Claims {
  return {
    riffEnd: riffBytes === undefined ? undefined : riffBytes + 8,
    dataEnd: data?.bytes === undefined ? undefined : data.start + data.bytes,
  };
}

/** What is shorter is cut, whichever of its sizes may be wrong. */
function leastLength({ riffEnd, dataEnd }: Claims): number | undefined {
  if (riffEnd === undefined || dataEnd === undefined) return riffEnd ?? dataEnd;
  return dataEnd >= riffEnd ? riffEnd : Math.max(dataEnd, riffEnd - MISCOUNTED_BYTES);
}

function judge(totalBytes: number, claims: Claims, data: DataChunk | undefined): AudioEnd {
  const least = leastLength(claims);
  if (least === undefined) return 'open';
  if (totalBytes < least) return 'missing';
  const { riffEnd = 0, dataEnd } = claims;
  if (dataEnd === undefined) {
    // A header that was written before the samples and never again: it confirms nothing.
    return data !== undefined && totalBytes > least ? 'open' : 'confirmed';
  }
  // Its samples are not all there: cut, unless the file ends just where the other size says.
  if (totalBytes < dataEnd) return totalBytes === riffEnd ? 'open' : 'missing';
  const unpadded = dataEnd % 2 === 1 && riffEnd === dataEnd + 1;
  return totalBytes >= riffEnd || unpadded ? 'confirmed' : 'open';
}

function wavFacts(format: Format | undefined, data: DataChunk | undefined, totalBytes: number): AudioFacts {
  if (format === undefined) return { container: 'wav' };
  const { bytesPerSecond, ...known } = format;
  if (data === undefined || bytesPerSecond === 0) return { container: 'wav', ...known };
  const present = Math.max(0, totalBytes - data.start);
  const dataBytes = data.bytes === undefined ? present : Math.min(data.bytes, present);
  return { container: 'wav', ...known, durationSeconds: dataBytes / bytesPerSecond };
}
