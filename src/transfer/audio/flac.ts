import type { AudioFacts } from '../../domain/recording.ts';
import { bytesText, type Container, type EndOfAudio } from './container.ts';
import { beginsWithSync } from './frames.ts';
import { PartWalker } from './part-walker.ts';

/** The parts of STREAMINFO that are used, see https://www.rfc-editor.org/rfc/rfc9639#section-8.2 */
export interface StreamInfo {
  readonly maxBlockSamples: number;
  /** 0: unknown. */
  readonly maxFrameBytes: number;
  readonly sampleRate: number;
  readonly channels: number;
  readonly bitsPerSample: number;
  /** 0: unknown. */
  readonly totalSamples: number;
}

const STREAMINFO_BYTES = 34;

/** Frames larger than this are not looked for: no telephony recording has them. */
const TAIL_BYTES = 64 * 1024;

/** An ID3v1 tag is sometimes appended to files that have no use for it. */
const ID3V1_BYTES = 128;

/** Frames that are held against their checksum: more than one only where samples look like a header. */
const CANDIDATES = 4;

/** FLAC. Its header tells no size in bytes, but mostly the number of samples, and each frame where it belongs. */
export function recogniseFlac(head: Buffer): Container | undefined {
  if (head.toString('latin1', 0, 4) !== 'fLaC') return undefined;
  const info = readStreamInfo(head, 4);
  const searchable = info !== undefined && largestFrame(info) <= TAIL_BYTES;
  const blocks = walkMetadata();
  return {
    contentType: 'audio/flac',
    tailBytes: searchable ? TAIL_BYTES : 0,
    add: (chunk) => blocks.add(chunk),
    conclude(totalBytes, tail) {
      const frames = searchable ? findFrames(info, tail) : [];
      const lacking = blocks.nextAt - totalBytes;
      const isBegun = frames.length > 0 || blocks.nextAt === Number.POSITIVE_INFINITY;
      return {
        facts: { container: 'flac', codec: 'flac', ...describeStreamInfo(info), ...durationOf(info, frames) },
        ...(!isBegun && !blocks.stopped && lacking > 0
          ? { end: 'missing', notes: [`its metadata are cut: ${bytesText(lacking)} of them did not come`] }
          : searchable
            ? judge(info, frames, tail)
            : { end: 'open', notes: [] }),
      };
    },
  };
}

/** Through the blocks before the first frame: https://www.rfc-editor.org/rfc/rfc9639#section-8.1 */
function walkMetadata(): PartWalker {
  let isLast = false;
  return new PartWalker(4, 4, (header) => {
    if (isLast) return { bytes: Number.POSITIVE_INFINITY };
    isLast = (header.readUInt8(0) & 0x80) !== 0;
    return { bytes: 4 + header.readUIntBE(1, 3) };
  });
}

/** Reads the STREAMINFO block whose block header starts at `at`; `undefined` when there is none. */
export function readStreamInfo(buffer: Buffer, at: number): StreamInfo | undefined {
  const start = at + 4;
  if (buffer.length < start + STREAMINFO_BYTES || (buffer.readUInt8(at) & 0x7f) !== 0) return undefined;
  const packed = buffer.readBigUInt64BE(start + 10);
  return {
    maxBlockSamples: buffer.readUInt16BE(start + 2),
    maxFrameBytes: buffer.readUIntBE(start + 7, 3),
    sampleRate: Number(packed >> 44n),
    channels: Number((packed >> 41n) & 7n) + 1,
    bitsPerSample: Number((packed >> 36n) & 31n) + 1,
    totalSamples: Number(packed & 0xfffffffffn),
  };
}

/** Sample rate, channels and, where known, duration. */
export function describeStreamInfo(info: StreamInfo | undefined): Omit<AudioFacts, 'container'> {
  if (info === undefined || info.sampleRate === 0) return {};
  const { sampleRate, channels, totalSamples } = info;
  return {
    sampleRate,
    channels,
    ...(totalSamples === 0 ? {} : { durationSeconds: totalSamples / sampleRate }),
  };
}

/** A frame is never much larger than its samples uncompressed. */
function largestFrame(info: StreamInfo): number {
  const uncompressed = info.maxBlockSamples * info.channels * Math.ceil(info.bitsPerSample / 8) + 256;
  return info.maxFrameBytes === 0 ? uncompressed : info.maxFrameBytes;
}

/** A frame that was found in the last bytes. */
interface Frame {
  readonly at: number;
  /** The number of the first sample after it. */
  readonly lastSample: number;
}

/** The frames in the last bytes, as far as their headers tell. */
function findFrames(info: StreamInfo, tail: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let at = tail.indexOf(0xff); at !== -1; at = tail.indexOf(0xff, at + 1)) {
    const lastSample = readFrameEnd(info, tail, at);
    if (lastSample === undefined || (info.totalSamples > 0 && lastSample > info.totalSamples)) continue;
    frames.push({ at, lastSample });
  }
  return frames;
}

/** The duration of a stream whose header does not tell it: where its last frame ends. */
function durationOf(info: StreamInfo | undefined, frames: readonly Frame[]): { durationSeconds?: number } {
  const last = frames.at(-1);
  if (info === undefined || last === undefined || info.totalSamples > 0 || info.sampleRate === 0) return {};
  return { durationSeconds: last.lastSample / info.sampleRate };
}

/**
 * If no frame in the last bytes reaches the stream's last sample, the file is cut; if one does, and its checksum closes
 * exactly at the end, it is whole. If it closes earlier, something unknown was appended, which says nothing for
 * certain; if it closes nowhere, the last frame itself is cut. A stream that came from a pipe does not know its last
 * sample: then only a cut within a frame can be seen.
 */
function judge(info: StreamInfo, frames: readonly Frame[], tail: Buffer): EndOfAudio {
  if (frames.length === 0) return { end: 'open', notes: [] };
  const isEndKnown = info.totalSamples > 0;
  const last = isEndKnown ? frames.filter(({ lastSample }) => lastSample === info.totalSamples) : frames;
  if (last.length === 0) {
    return { end: 'missing', notes: ['its header says more samples than came'] };
  }
  const tagged = tail.toString('latin1', tail.length - ID3V1_BYTES, tail.length - ID3V1_BYTES + 3) === 'TAG';
  const end = tagged ? tail.length - ID3V1_BYTES : tail.length;
  const closings = last.slice(-CANDIDATES).map(({ at }) => checksumCloses(tail.subarray(at, end)));
  if (closings.includes('at the end')) return { end: isEndKnown ? 'confirmed' : 'open', notes: [] };
  const closesEarlier = isEndKnown ? closings.includes('earlier') : closings.at(-1) === 'earlier';
  if (!isEndKnown && last.slice(-CANDIDATES).some(({ at }) => isNextBegun(tail.subarray(at, end)))) {
    return { end: 'missing', notes: ['its last frame is cut'] };
  }
  if (closesEarlier) return { end: 'open', notes: ['something that is no frame follows its last frame'] };
  return { end: 'missing', notes: ['its last frame is cut'] };
}

/**
 * The number of the first sample after the frame whose header starts at `at`; `undefined` when no valid
 * header of this stream is there. See https://www.rfc-editor.org/rfc/rfc9639#section-9.1
 */
function readFrameEnd(info: StreamInfo, buffer: Buffer, at: number): number | undefined {
  if (at + 6 > buffer.length) return undefined;
  const sync = buffer.readUInt8(at + 1);
  if (sync !== 0xf8 && sync !== 0xf9) return undefined;
  const sizes = buffer.readUInt8(at + 2);
  const shape = buffer.readUInt8(at + 3);
  const blockCode = sizes >> 4;
  const rateCode = sizes & 15;
  const channelCode = shape >> 4;
  if (blockCode === 0 || rateCode === 15 || channelCode > 10 || (shape & 1) === 1) return undefined;
  if ((channelCode < 8 ? channelCode + 1 : 2) !== info.channels) return undefined;
  const coded = readCodedNumber(buffer, at + 4);
  if (coded === undefined) return undefined;
  const blockBytes = blockCode === 6 ? 1 : blockCode === 7 ? 2 : 0;
  const rateBytes = rateCode === 12 ? 1 : rateCode === 13 || rateCode === 14 ? 2 : 0;
  const checksumAt = coded.end + blockBytes + rateBytes;
  if (checksumAt >= buffer.length) return undefined;
  if (crc8(buffer.subarray(at, checksumAt)) !== buffer.readUInt8(checksumAt)) return undefined;
  const samples =
    blockBytes > 0 ? buffer.readUIntBE(coded.end, blockBytes) + 1 : blockSamplesOfCode(blockCode);
  // Frames of streams with a fixed block size are numbered, those of the others tell their first sample.
  // The fixed size is the largest: some writers count the shorter last block into the smallest.
  const first = sync === 0xf8 ? coded.value * info.maxBlockSamples : coded.value;
  return first + samples;
}

function blockSamplesOfCode(code: number): number {
  if (code === 1) return 192;
  return code <= 5 ? 576 << (code - 2) : 256 << (code - 8);
}

/** A number in the form of UTF-8, extended to 36 bits. */
function readCodedNumber(buffer: Buffer, at: number): { value: number; end: number } | undefined {
  const lead = buffer.readUInt8(at);
  const ones = Math.clz32(~(lead << 24));
  if (ones === 0) return { value: lead, end: at + 1 };
  const end = at + ones;
  if (ones === 1 || ones === 8 || end > buffer.length) return undefined;
  let value = ones === 7 ? 0 : lead & (0x7f >> ones);
  for (const byte of buffer.subarray(at + 1, end)) {
    if (byte >> 6 !== 2) return undefined;
    value = value * 64 + (byte & 63);
  }
  return { value, end };
}

function crc8(bytes: Buffer): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x80 ? 0x07 : 0)) & 0xff;
  }
  return crc;
}

/** The shortest frame: 6 bytes of header, one subframe of a header and a one-byte sample, the checksum. */
const LEAST_FRAME_BYTES = 10;

/** Where the checksum at the end of the frame that `bytes` begins with is right. */
function checksumCloses(bytes: Buffer): 'at the end' | 'earlier' | 'nowhere' {
  let crc = 0;
  let earlier = false;
  for (let index = 0; index < bytes.length; index++) {
    if (crc === 0 && index >= LEAST_FRAME_BYTES) earlier = true;
    crc = ((crc << 8) & 0xffff) ^ (CRC16[(crc >> 8) ^ (bytes[index] ?? 0)] ?? 0);
  }
  if (crc === 0) return 'at the end';
  return earlier ? 'earlier' : 'nowhere';
}

/** The longest header of a frame: 4 bytes, a number of 7, sizes of 4, the checksum. */
const MOST_HEADER_BYTES = 16;

/** Whether the frame that `bytes` begins with is whole, and followed by less than the header of another one. */
function isNextBegun(bytes: Buffer): boolean {
  for (let at = Math.max(LEAST_FRAME_BYTES, bytes.length - MOST_HEADER_BYTES + 1); at < bytes.length; at++) {
    if (!beginsWithSync(bytes.subarray(at), 0xfe, 0xf8)) continue;
    if (checksumCloses(bytes.subarray(0, at)) === 'at the end') return true;
  }
  return false;
}

/** CRC-16 of each byte, polynomial 0x8005: https://www.rfc-editor.org/rfc/rfc9639#section-9.3 */
const CRC16 = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x8000 ? 0x8005 : 0)) & 0xffff;
  return crc;
});
