import type { AudioFacts } from '../../domain/recording.ts';
import type { Container } from './container.ts';
import { type Part, PartWalker } from './part-walker.ts';
import { judgeSizes, known32, known64, type SampleData } from './sizes.ts';
import { isChunkId } from './wav.ts';

const CHUNK_HEADER_BYTES = 8;
/** Channels, frames, bits and rate of AIFF's COMM; AIFC adds the codec. */
const COMMON_BYTES = 18;
/** Offset and block size before the samples of SSND. */
const SOUND_HEADER_BYTES = 8;

type Facts = Omit<AudioFacts, 'container'>;

/** Four letters of AIFC and CAF, in the words used here. */
const CODECS: Readonly<Record<string, string>> = {
  NONE: 'pcm_be',
  twos: 'pcm_be',
  sowt: 'pcm_le',
  lpcm: 'pcm',
  ulaw: 'pcm_mulaw',
  ULAW: 'pcm_mulaw',
  alaw: 'pcm_alaw',
  ALAW: 'pcm_alaw',
  ima4: 'adpcm_ima_qt',
  'aac ': 'aac',
  alac: 'alac',
  opus: 'opus',
  samr: 'amr_nb',
  '.mp3': 'mp3',
};

function codecOf(fourLetters: string): { codec?: string } {
  const codec = CODECS[fourLetters];
  return codec === undefined ? {} : { codec };
}

/** AIFF and AIFC: the chunks of RIFF in big-endian. */
export function recogniseAiff(head: Buffer): Container | undefined {
  const form = head.toString('latin1', 8, 12);
  if (head.toString('latin1', 0, 4) !== 'FORM' || (form !== 'AIFF' && form !== 'AIFC')) return undefined;
  const formBytes = known32(head.readUInt32BE(4));
  let facts: Facts = {};
  let data: SampleData | undefined;

  function readChunk(header: Buffer, at: number): Part | undefined {
    const id = header.toString('latin1', 0, 4);
    const bytes = header.readUInt32BE(4);
    if (id === 'SSND' && data === undefined) {
      const size = known32(bytes);
      const content = at + CHUNK_HEADER_BYTES;
      data = {
        start: content + SOUND_HEADER_BYTES,
        end: size === undefined ? undefined : content + Math.max(size, SOUND_HEADER_BYTES),
      };
      return { bytes: size === undefined ? Number.POSITIVE_INFINITY : padded(CHUNK_HEADER_BYTES + size) };
    }
    if (id === 'COMM' && bytes >= COMMON_BYTES) {
      const wanted = CHUNK_HEADER_BYTES + Math.min(bytes, COMMON_BYTES + 4);
      if (header.length < wanted) return { need: wanted };
      facts = readCommon(header.subarray(CHUNK_HEADER_BYTES));
    }
    return isChunkId(header.subarray(0, 4)) ? { bytes: padded(CHUNK_HEADER_BYTES + bytes) } : undefined;
  }

  const chunks = new PartWalker(12, CHUNK_HEADER_BYTES, readChunk);
  const container = form === 'AIFF' ? 'aiff' : 'aifc';
  return {
    contentType: 'audio/aiff',
    tailBytes: 0,
    add: (chunk) => chunks.add(chunk),
    conclude(totalBytes) {
      const fileEnd = formBytes === undefined ? undefined : formBytes + CHUNK_HEADER_BYTES;
      return { facts: { container, ...facts }, ...judgeSizes(totalBytes, { data, fileEnd }, chunks) };
    },
  };
}

/** Chunks start at even positions. */
function padded(bytes: number): number {
  return bytes + (bytes % 2);
}

function readCommon(common: Buffer): Facts {
  const frames = common.readUInt32BE(2);
  const bits = common.readUInt16BE(6);
  const sampleRate = readExtended(common.subarray(8, 18));
  const codec =
    common.length >= COMMON_BYTES + 4
      ? codecOf(common.toString('latin1', COMMON_BYTES, COMMON_BYTES + 4))
      : { codec: `pcm_s${bits}be` };
  return {
    ...codec,
    channels: common.readUInt16BE(0),
    ...(sampleRate > 0
      ? { sampleRate, ...(frames === 0 ? {} : { durationSeconds: frames / sampleRate }) }
      : {}),
  };
}

/** A number of 80 bits as the 68881 had them, for rates that a double can hold; 0 for all others. */
function readExtended(bytes: Buffer): number {
  const exponent = bytes.readUInt16BE(0) - 16_383 - 63;
  const value = Number(bytes.readBigUInt64BE(2)) * 2 ** exponent;
  return value < 2 ** 32 ? value : 0;
}

const CAF_CHUNK_HEADER_BYTES = 12;
const CAF_DESCRIPTION_BYTES = 32;
/** The number of edits, before the samples. */
const CAF_EDITS_BYTES = 4;

/** Core Audio Format: chunks with sizes of 64 bits, and no size of the file as a whole. */
export function recogniseCaf(head: Buffer): Container | undefined {
  if (head.toString('latin1', 0, 4) !== 'caff' || head.length < 8 || head.readUInt16BE(4) !== 1)
    return undefined;
  let facts: Facts = {};
  let bytesPerSecond = 0;
  let data: SampleData | undefined;

  function readChunk(header: Buffer, at: number): Part | undefined {
    const id = header.toString('latin1', 0, 4);
    const size = header.readBigUInt64BE(4);
    const bytes = size === 0n ? 0 : known64(size);
    if (id === 'data' && data === undefined) {
      const content = at + CAF_CHUNK_HEADER_BYTES;
      const end = bytes === undefined || bytes === 0 ? undefined : content + bytes;
      data = { start: content + CAF_EDITS_BYTES, end };
      return { bytes: end === undefined ? Number.POSITIVE_INFINITY : end - at };
    }
    if (bytes === undefined || !isChunkId(header.subarray(0, 4))) return undefined;
    if (id === 'desc' && bytes >= CAF_DESCRIPTION_BYTES) {
      const wanted = CAF_CHUNK_HEADER_BYTES + CAF_DESCRIPTION_BYTES;
      if (header.length < wanted) return { need: wanted };
      const description = header.subarray(CAF_CHUNK_HEADER_BYTES);
      const rate = description.readDoubleBE(0);
      const framesPerPacket = description.readUInt32BE(20);
      const isRate = rate > 0 && rate < 2 ** 32;
      if (isRate && framesPerPacket > 0) {
        bytesPerSecond = (description.readUInt32BE(16) * rate) / framesPerPacket;
      }
      facts = {
        ...codecOf(description.toString('latin1', 8, 12)),
        ...(isRate ? { sampleRate: rate } : {}),
        channels: description.readUInt32BE(24),
      };
    }
    return { bytes: CAF_CHUNK_HEADER_BYTES + bytes };
  }

  const chunks = new PartWalker(8, CAF_CHUNK_HEADER_BYTES, readChunk);
  return {
    contentType: 'audio/x-caf',
    tailBytes: 0,
    add: (chunk) => chunks.add(chunk),
    conclude(totalBytes) {
      const samples = data === undefined ? 0 : Math.min(data.end ?? totalBytes, totalBytes) - data.start;
      const duration = bytesPerSecond > 0 ? { durationSeconds: Math.max(0, samples) / bytesPerSecond } : {};
      return {
        facts: { container: 'caf', ...facts, ...duration },
        ...judgeSizes(totalBytes, { data, fileEnd: undefined }, chunks),
      };
    },
  };
}

/** Encodings of Sun's header whose samples have a fixed size: codec and bytes. */
const SUN_ENCODINGS: Readonly<Record<number, readonly [string, number]>> = {
  1: ['pcm_mulaw', 1],
  2: ['pcm_s8', 1],
  3: ['pcm_s16be', 2],
  4: ['pcm_s24be', 3],
  5: ['pcm_s32be', 4],
  6: ['pcm_f32be', 4],
  7: ['pcm_f64be', 8],
  27: ['pcm_alaw', 1],
};
const SUN_HEADER_BYTES = 24;

/** Sun's and NeXT's format: a header, and samples up to the end. */
export function recogniseAu(head: Buffer): Container | undefined {
  if (head.toString('latin1', 0, 4) !== '.snd' || head.length < SUN_HEADER_BYTES) return undefined;
  const start = head.readUInt32BE(4);
  if (start < SUN_HEADER_BYTES) return undefined;
  const size = known32(head.readUInt32BE(8));
  const [codec, sampleBytes] = SUN_ENCODINGS[head.readUInt32BE(12)] ?? [];
  const sampleRate = head.readUInt32BE(16);
  const channels = head.readUInt32BE(20);
  const bytesPerSecond = sampleRate * channels * (sampleBytes ?? 0);
  const data = { start, end: size === undefined ? undefined : start + size };
  // Header and samples are one part, behind which nothing has a place.
  const file = new PartWalker(0, 1, (_header, at) =>
    at === 0 ? { bytes: data.end ?? Infinity } : undefined,
  );
  return {
    contentType: 'audio/basic',
    tailBytes: 0,
    add: (chunk) => file.add(chunk),
    conclude(totalBytes) {
      const samples = Math.max(0, Math.min(data.end ?? totalBytes, totalBytes) - start);
      return {
        facts: {
          container: 'au',
          ...(codec === undefined ? {} : { codec }),
          sampleRate,
          channels,
          ...(bytesPerSecond > 0 ? { durationSeconds: samples / bytesPerSecond } : {}),
        },
        ...judgeSizes(totalBytes, { data, fileEnd: undefined }, file),
      };
    },
  };
}
