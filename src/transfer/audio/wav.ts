import type { Container } from './container.ts';
import { isChunkId, type PartLength, PartWalker, padded } from './part-walker.ts';
import { judgeSizes, known32, known64, type SampleData } from './sizes.ts';
import {
  readWaveFormat,
  WAVE_FORMAT_BYTES,
  WAVE_FORMAT_LOOK_BYTES,
  type WaveFormat,
  waveFacts,
} from './wave-format.ts';

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
      const wanted = Math.min(bytes, WAVE_FORMAT_LOOK_BYTES);
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
      const wanted = Math.min(bytes, W64_CHUNK_HEADER_BYTES + WAVE_FORMAT_LOOK_BYTES);
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
