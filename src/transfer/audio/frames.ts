import { bytesText, type Container, type EndOfAudio } from './container.ts';
import { PartWalker } from './part-walker.ts';

/** Bytes of a frame by its type, its own byte included: RFC 4867, tables 1 and 2. */
const AMR_NB_BYTES = [13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1];
const AMR_WB_BYTES = [18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1];
const AMR_FRAME_SECONDS = 0.02;
/** Bits of a frame's first byte that are always 0. */
const AMR_PADDING = 0x83;

/** AMR of one channel, narrow band and wide band: https://www.rfc-editor.org/rfc/rfc4867#section-5 */
export function recogniseAmr(head: Buffer): Container | undefined {
  const line = head.toString('latin1', 0, 9);
  const isNarrow = line.startsWith('#!AMR\n');
  if (!isNarrow && line !== '#!AMR-WB\n') return undefined;
  const sizes = isNarrow ? AMR_NB_BYTES : AMR_WB_BYTES;
  let frames = 0;
  const walker = new PartWalker(isNarrow ? 6 : 9, 1, (header) => {
    const first = header.readUInt8(0);
    const bytes = sizes[(first >> 3) & 15];
    if (bytes === undefined || (first & AMR_PADDING) !== 0) return undefined;
    frames += 1;
    return { bytes };
  });
  return {
    contentType: isNarrow ? 'audio/amr' : 'audio/amr-wb',
    tailBytes: 0,
    add: (chunk) => walker.add(chunk),
    conclude: (totalBytes) => ({
      facts: {
        container: 'amr',
        codec: isNarrow ? 'amr_nb' : 'amr_wb',
        sampleRate: isNarrow ? 8000 : 16_000,
        channels: 1,
        durationSeconds: frames * AMR_FRAME_SECONDS,
      },
      ...judgeFrames(totalBytes, walker),
    }),
  };
}

const ADTS_RATES = [
  96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350,
];
const ADTS_HEADER_BYTES = 7;
const ADTS_FRAME_SAMPLES = 1024;

interface AdtsFrame {
  readonly bytes: number;
  readonly sampleRate: number;
  /** 0: the frame itself says it. */
  readonly channels: number;
  readonly samples: number;
}

/** AAC in ADTS (ISO 13818-7, 6.2): like MPEG audio known by a second frame where the first one says. */
export function recogniseAdts(head: Buffer): Container | undefined {
  const first = readAdtsFrame(head);
  if (first === undefined) return undefined;
  const isFollowed =
    first.bytes + ADTS_HEADER_BYTES > head.length || readAdtsFrame(head.subarray(first.bytes));
  if (!isFollowed) return undefined;
  let samples = 0;
  const walker = new PartWalker(0, ADTS_HEADER_BYTES, (header) => {
    const frame = readAdtsFrame(header);
    samples += frame?.samples ?? 0;
    return frame;
  });
  return {
    contentType: 'audio/aac',
    tailBytes: 0,
    add: (chunk) => walker.add(chunk),
    conclude: (totalBytes) => ({
      facts: {
        container: 'adts',
        codec: 'aac',
        sampleRate: first.sampleRate,
        ...(first.channels > 0 ? { channels: first.channels } : {}),
        durationSeconds: samples / first.sampleRate,
      },
      ...judgeFrames(totalBytes, walker, (bytes) => beginsWithSync(bytes, 0xf6, 0xf0)),
    }),
  };
}

function readAdtsFrame(header: Buffer): AdtsFrame | undefined {
  // Twelve bits set, and two of 0 that stand for the layer.
  if (header.length < ADTS_HEADER_BYTES || (header.readUInt16BE(0) & 0xfff6) !== 0xfff0) return undefined;
  const sampleRate = ADTS_RATES[(header.readUInt8(2) >> 2) & 15];
  const bytes = (header.readUIntBE(3, 3) >> 5) & 0x1fff;
  if (sampleRate === undefined || bytes < ADTS_HEADER_BYTES) return undefined;
  return {
    bytes,
    sampleRate,
    channels: (header.readUInt16BE(2) >> 6) & 7,
    samples: ((header.readUInt8(6) & 3) + 1) * ADTS_FRAME_SAMPLES,
  };
}

/**
 * Judges a file of frames that is without any size: it cannot tell where it ends, but that it was cut within a frame.
 * What stands behind the frames (tags, padding) is left alone.
 *
 * @param begins whether the first bytes of a frame's header may be these: fewer than the header has, at least one.
 */
export function judgeFrames(
  totalBytes: number,
  frames: PartWalker,
  begins: (bytes: Buffer) => boolean = () => false,
): EndOfAudio {
  if (frames.unread.length > 0 && begins(frames.unread)) {
    return {
      end: 'missing',
      notes: [`its last frame is cut: only ${bytesText(frames.unread.length)} of it came`],
    };
  }
  const lacking = frames.nextAt - totalBytes;
  if (frames.stopped || lacking <= 0) return { end: 'open', notes: [] };
  return { end: 'missing', notes: [`its last frame is cut: ${bytesText(lacking)} of it did not come`] };
}

/**
 * Whether bytes may be the beginning of a frame whose header starts with eight bits set, and a second byte of which
 * those of `mask` are `sync`.
 */
export function beginsWithSync(bytes: Buffer, mask: number, sync: number): boolean {
  const [first, second] = bytes;
  return first === 0xff && (second === undefined || (second & mask) === sync);
}
