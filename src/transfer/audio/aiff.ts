import type { AudioFacts } from '../../domain/recording.ts';
import { type Container, judgeSizes, known32, type SampleData } from './container.ts';
import { isChunkId, type PartLength, PartWalker, padded } from './part-walker.ts';

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

/** The codec of a four-letter name, where it is one that is known. */
export function codecOf(fourLetters: string): { codec?: string } {
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

  function readChunk(header: Buffer, at: number): PartLength | undefined {
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
