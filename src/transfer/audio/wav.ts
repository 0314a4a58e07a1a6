import type { AudioFacts } from '../../domain/recording.ts';
import { type Container, judgeSizes, known32, known64, type SampleData } from './container.ts';
import { isChunkId, type PartLength, PartWalker, padded } from './part-walker.ts';

const CHUNK_HEADER_BYTES = 8;
const DS64_BYTES = 24;
const UNKNOWN_32 = 0xffffffff;

/** WAV: RIFF, its 64-bit sisters RF64 and BW64 (EBU Tech 3306), and big-endian RIFX. */
export function recogniseWav(head: Buffer): Container | undefined {
  const magic = head.toString('latin1', 0, 4);
  if (!['RIFF', 'RIFX', 'RF64', 'BW64'].includes(magic)) return undefined;
  if (head.toString('latin1', 8, 12) !== 'WAVE') return undefined;
  const bigEndian = magic === 'RIFX';
  const u32 = (bytes: Buffer, at: number) => (bigEndian ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at));
  const u64 = (bytes: Buffer, at: number) => known64(bytes.readBigUInt64LE(at));

  const riffBytes32 = u32(head, 4);
  let riffBytes = known32(riffBytes32);
  /** What the 64-bit forms say of the samples. */
  let dataBytes64: number | undefined;
  let format: WaveFormat | undefined;
  let data: SampleData | undefined;

  function readChunk(header: Buffer, at: number): PartLength | undefined {
    const id = header.toString('latin1', 0, 4);
    const bytes = u32(header, 4);
    const content = header.subarray(CHUNK_HEADER_BYTES);
    if (id === 'data' && data === undefined) {
      const start = at + CHUNK_HEADER_BYTES;
      const size = bytes === UNKNOWN_32 ? dataBytes64 : known32(bytes);
      data = { start, end: size === undefined ? undefined : start + size };
      return { bytes: size === undefined ? Number.POSITIVE_INFINITY : padded(CHUNK_HEADER_BYTES + size) };
    }
    if (id === 'fmt ' && bytes >= WAVE_FORMAT_BYTES) {
      const wanted = Math.min(bytes, WAVE_FORMAT_HEAD_BYTES);
      if (content.length < wanted) return { need: CHUNK_HEADER_BYTES + wanted };
      format ??= readWaveFormat(content, bigEndian);
    }
    if (id === 'ds64' && bytes >= DS64_BYTES) {
      if (content.length < DS64_BYTES) return { need: CHUNK_HEADER_BYTES + DS64_BYTES };
      if (riffBytes32 === UNKNOWN_32) riffBytes = u64(content, 0);
      dataBytes64 = u64(content, 8);
    }
    return isChunkId(header.subarray(0, 4)) ? { bytes: padded(CHUNK_HEADER_BYTES + bytes) } : undefined;
  }

  const chunks = new PartWalker(12, CHUNK_HEADER_BYTES, readChunk);
  return {
    contentType: 'audio/wav',
    tailBytes: 0,
    add: (chunk) => chunks.add(chunk),
    conclude(totalBytes) {
      const fileEnd = riffBytes === undefined ? undefined : riffBytes + CHUNK_HEADER_BYTES;
      return {
        facts: waveFacts('wav', format, data, totalBytes),
        ...judgeSizes(totalBytes, { data, fileEnd }, chunks),
      };
    },
  };
}

/** Sony Wave64: chunks of a GUID and 64 bits of size, which counts both. Most ids are four letters and this. */
const GUID_ENDS = ['f3acd3118cd100c04f8edb8a', '2e91cf11a5d628db04c10000', '2f91cf11a5d628db04c10000'];
const W64_CHUNK_HEADER_BYTES = 24;

/** Wave64, the 64-bit form of WAV that came from Sonic Foundry and Sony. */
export function recogniseWave64(head: Buffer): Container | undefined {
  if (head.length < 40) return undefined;
  if (head.toString('latin1', 0, 4) !== 'riff' || head.toString('hex', 4, 16) !== GUID_ENDS[1])
    return undefined;
  if (head.toString('latin1', 24, 28) !== 'wave' || head.toString('hex', 28, 40) !== GUID_ENDS[0])
    return undefined;
  const fileEnd = known64(head.readBigUInt64LE(16));
  let format: WaveFormat | undefined;
  let data: SampleData | undefined;

  function readChunk(header: Buffer, at: number): PartLength | undefined {
    if (!GUID_ENDS.includes(header.toString('hex', 4, 16))) return undefined;
    const id = header.toString('latin1', 0, 4);
    const size = header.readBigUInt64LE(16);
    const bytes = known64(size);
    if (id === 'data' && data === undefined) {
      const start = at + W64_CHUNK_HEADER_BYTES;
      const isKnown = bytes !== undefined && bytes > W64_CHUNK_HEADER_BYTES;
      data = { start, end: isKnown ? at + bytes : undefined };
      return { bytes: isKnown ? Math.ceil(bytes / 8) * 8 : Number.POSITIVE_INFINITY };
    }
    if (bytes === undefined) return undefined;
    if (id === 'fmt ' && bytes >= W64_CHUNK_HEADER_BYTES + WAVE_FORMAT_BYTES) {
      const wanted = Math.min(bytes, W64_CHUNK_HEADER_BYTES + WAVE_FORMAT_HEAD_BYTES);
      if (header.length < wanted) return { need: wanted };
      format ??= readWaveFormat(header.subarray(W64_CHUNK_HEADER_BYTES));
    }
    // Chunks start at positions that 8 divides.
    return { bytes: Math.ceil(bytes / 8) * 8 };
  }

  const chunks = new PartWalker(40, W64_CHUNK_HEADER_BYTES, readChunk);
  return {
    contentType: 'audio/x-w64',
    tailBytes: 0,
    add: (chunk) => chunks.add(chunk),
    conclude: (totalBytes) => ({
      facts: waveFacts('w64', format, data, totalBytes),
      ...judgeSizes(totalBytes, { data, fileEnd }, chunks),
    }),
  };
}

/** Format tags of RIFF and ASF, see https://www.iana.org/assignments/wave-avi-codec-registry */
const CODECS: Readonly<Record<number, string>> = {
  2: 'adpcm_ms',
  6: 'pcm_alaw',
  7: 'pcm_mulaw',
  17: 'adpcm_ima_wav',
  20: 'g723_adpcm',
  49: 'gsm_ms',
  64: 'g721_adpcm',
  66: 'g723_1',
  69: 'g726',
  80: 'mp2',
  85: 'mp3',
  87: 'amr_nb',
  88: 'amr_wb',
  100: 'g726',
  101: 'g722',
  131: 'g729',
  132: 'g729',
  255: 'aac',
  304: 'sipr',
  352: 'wmav1',
  353: 'wmav2',
  354: 'wmapro',
  655: 'g722',
  26447: 'vorbis',
  28751: 'opus',
  5376: 'gsm',
  5632: 'aac',
  5648: 'aac',
  41225: 'speex',
  61868: 'flac',
};
const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;

/** The shortest form, without a size of its own. */
export const WAVE_FORMAT_BYTES = 16;
/** As much as is looked at: up to the tag in the sub-format of the extensible form. */
const WAVE_FORMAT_HEAD_BYTES = 26;

/** What a WAVEFORMATEX says. */
interface WaveFormat {
  readonly codec?: string;
  readonly sampleRate: number;
  readonly channels: number;
  readonly bytesPerSecond: number;
}

/**
 * Reads a WAVEFORMATEX, which RIFF and ASF share.
 *
 * @param bytes from its first byte on, at least {@link WAVE_FORMAT_BYTES} of it.
 */
export function readWaveFormat(bytes: Buffer, bigEndian = false): WaveFormat {
  const u16 = (at: number) => (bigEndian ? bytes.readUInt16BE(at) : bytes.readUInt16LE(at));
  const u32 = (at: number) => (bigEndian ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at));
  const tag = u16(0);
  // The extensible format holds the real tag in the first two bytes of its sub-format.
  const isExtended = tag === EXTENSIBLE && bytes.length >= WAVE_FORMAT_HEAD_BYTES;
  const codec = codecName(isExtended ? u16(24) : tag, u16(14), bigEndian);
  return {
    ...(codec === undefined ? {} : { codec }),
    channels: u16(2),
    sampleRate: u32(4),
    bytesPerSecond: u32(8),
  };
}

function codecName(tag: number, bits: number, bigEndian: boolean): string | undefined {
  const order = bigEndian ? 'be' : 'le';
  if (tag === PCM) return bits <= 8 ? 'pcm_u8' : `pcm_s${bits}${order}`;
  if (tag === FLOAT) return `pcm_f${bits}${order}`;
  return CODECS[tag];
}

/** What a format and its samples say of the audio. */
function waveFacts(
  container: string,
  format: WaveFormat | undefined,
  data: { readonly start: number; readonly end: number | undefined } | undefined,
  totalBytes: number,
): AudioFacts {
  if (format === undefined) return { container };
  const { bytesPerSecond, ...known } = format;
  if (data === undefined || bytesPerSecond === 0) return { container, ...known };
  const end = Math.min(data.end ?? totalBytes, totalBytes);
  return { container, ...known, durationSeconds: Math.max(0, end - data.start) / bytesPerSecond };
}
