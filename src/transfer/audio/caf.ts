import type { AudioFacts } from '../../domain/recording.ts';
import { codecOf } from './aiff.ts';
import { type Container, judgeSizes, known64, type SampleData } from './container.ts';
import { isChunkId, type PartLength, PartWalker } from './part-walker.ts';

const CHUNK_HEADER_BYTES = 12;
const DESCRIPTION_BYTES = 32;
/** The number of edits, before the samples. */
const EDITS_BYTES = 4;

/** Core Audio Format: chunks with sizes of 64 bits, and no size of the file as a whole. */
export function recogniseCaf(head: Buffer): Container | undefined {
  if (head.toString('latin1', 0, 4) !== 'caff' || head.length < 8 || head.readUInt16BE(4) !== 1)
    return undefined;
  let facts: Omit<AudioFacts, 'container'> = {};
  let bytesPerSecond = 0;
  let data: SampleData | undefined;

  function readChunk(header: Buffer, at: number): PartLength | undefined {
    const id = header.toString('latin1', 0, 4);
    const size = header.readBigUInt64BE(4);
    const bytes = size === 0n ? 0 : known64(size);
    if (id === 'data' && data === undefined) {
      const content = at + CHUNK_HEADER_BYTES;
      const end = bytes === undefined || bytes === 0 ? undefined : content + bytes;
      data = { start: content + EDITS_BYTES, end };
      return { bytes: end === undefined ? Number.POSITIVE_INFINITY : end - at };
    }
    if (bytes === undefined || !isChunkId(header.subarray(0, 4))) return undefined;
    if (id === 'desc' && bytes >= DESCRIPTION_BYTES) {
      const wanted = CHUNK_HEADER_BYTES + DESCRIPTION_BYTES;
      if (header.length < wanted) return { need: wanted };
      const description = header.subarray(CHUNK_HEADER_BYTES);
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
    return { bytes: CHUNK_HEADER_BYTES + bytes };
  }

  const chunks = new PartWalker(8, CHUNK_HEADER_BYTES, readChunk);
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
