import type { AudioFacts } from '../../domain/recording.ts';
import { type Container, judgeSizes, type SampleData } from './container.ts';
import { type PartLength, PartWalker } from './part-walker.ts';

const EBML_MAGIC = '1a45dfa3';
/** The element that holds all there is, tracks and samples alike. */
const SEGMENT = 0x18538067;
/** 4 bytes of id and 8 of size at most, see https://www.rfc-editor.org/rfc/rfc8794#section-4 */
const LEAST_HEADER_BYTES = 2;

const CODECS: Readonly<Record<string, string>> = {
  A_OPUS: 'opus',
  A_VORBIS: 'vorbis',
  A_AAC: 'aac',
  A_FLAC: 'flac',
  'A_MPEG/L3': 'mp3',
  'A_MPEG/L2': 'mp2',
  'A_PCM/INT/LIT': 'pcm_le',
  'A_PCM/INT/BIG': 'pcm_be',
};
/** The id of a track's codec, which a size of one byte and the name follow. */
const CODEC_ID = 0x86;

/** WebM and Matroska: one segment, whose size a writer that streams does not know. */
export function recogniseMatroska(head: Buffer): Container | undefined {
  if (head.toString('hex', 0, 4) !== EBML_MAGIC) return undefined;
  const isWebm = head.subarray(0, 64).includes('webm');
  let data: SampleData | undefined;

  function readElement(header: Buffer, at: number): PartLength | undefined {
    const idBytes = Math.clz32(header.readUInt8(0)) - 23;
    if (idBytes > 4) return undefined;
    if (header.length <= idBytes) return { need: idBytes + 1 };
    const lead = header.readUInt8(idBytes);
    const sizeBytes = Math.clz32(lead) - 23;
    if (sizeBytes > 8) return undefined;
    const start = idBytes + sizeBytes;
    if (header.length < start) return { need: start };
    const size = readSize(header.subarray(idBytes, start));
    if (header.readUIntBE(0, idBytes) === SEGMENT && data === undefined) {
      data = { start: at + start, end: size === undefined ? undefined : at + start + size };
    }
    return { bytes: size === undefined ? Number.POSITIVE_INFINITY : start + size };
  }

  const elements = new PartWalker(0, LEAST_HEADER_BYTES, readElement);
  const codec = readCodec(head);
  const facts: AudioFacts = {
    container: isWebm ? 'webm' : 'matroska',
    ...(codec === undefined ? {} : { codec }),
  };
  return {
    contentType: isWebm ? 'audio/webm' : 'audio/x-matroska',
    tailBytes: 0,
    add: (chunk) => elements.add(chunk),
    conclude: (totalBytes) => ({
      facts,
      ...judgeSizes(totalBytes, { data, fileEnd: undefined }, elements),
    }),
  };
}

/** A size as EBML writes it: `undefined` with all its bits set, by which writers say that they do not know it. */
function readSize(bytes: Buffer): number | undefined {
  const bits = 7 * bytes.length;
  const value = bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n) & ((1n << BigInt(bits)) - 1n);
  return value === (1n << BigInt(bits)) - 1n ? undefined : Number(value);
}

/** The codec of the first track, where the first bytes name it. */
function readCodec(head: Buffer): string | undefined {
  for (let at = head.indexOf('A_', 0, 'latin1'); at !== -1; at = head.indexOf('A_', at + 1, 'latin1')) {
    const length = at < 2 ? 0 : head.readUInt8(at - 1) & 0x7f;
    if (length === 0 || head.readUInt8(at - 2) !== CODEC_ID) continue;
    return CODECS[head.toString('latin1', at, at + length)];
  }
  return undefined;
}
