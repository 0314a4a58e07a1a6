import { bytesText, type Container, type EndOfAudio } from './container.ts';
import { beginsWithSync, judgeFrames } from './frames.ts';
import { PartWalker } from './part-walker.ts';

/** Tables of the frame header, by its bits: http://www.mp3-tech.org/programmer/frame_header.html */
const KBITS_V1_LAYER3 = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const KBITS_V1_LAYER2 = [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384];
const KBITS_V2 = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
const RATES_V1 = [44_100, 48_000, 32_000];
const FRAME_HEADER_BYTES = 4;
const ID3V1_BYTES = 128;
/** Where Fraunhofer's summary stands, whatever the frame. */
const VBRI_AT = 36;

interface Frame {
  readonly layer: 2 | 3;
  readonly sampleRate: number;
  readonly channels: number;
  readonly samples: number;
  /** 0 for free-format frames, whose length the header does not tell. */
  readonly bytes: number;
  /** Where an encoder's own summary would start. */
  readonly summaryAt: number;
}

/** The encoder's summary in the first frame ("Xing", "Info" or "VBRI"), which not every file has. */
interface Summary {
  readonly frames?: number;
  /** Of all frames, its own included. */
  readonly bytes?: number;
}

/**
 * MPEG audio, layers III and II. (Layer I is left out: nobody records with it, and its first bytes are also
 * those of UTF-16 text.) The second frame must be where the first one says, since eleven set bits alone are
 * also the start of much else.
 */
export function recogniseMpeg(head: Buffer): Container | undefined {
  const frame = readFrame(head, 0);
  if (frame === undefined || !isFollowed(head, frame)) return undefined;
  const summary = readSummary(head, frame.summaryAt);
  let frames = 0;
  const walker = new PartWalker(0, FRAME_HEADER_BYTES, (header) => {
    const next = readFrame(header, 0);
    if (next !== undefined) frames += 1;
    return next;
  });
  return {
    contentType: 'audio/mpeg',
    tailBytes: 0,
    add: (chunk) => walker.add(chunk),
    conclude(totalBytes) {
      const { layer, sampleRate, channels, samples } = frame;
      // Frames behind something else were not counted; a tag at the very end is no such thing.
      const isCounted = walker.nextAt + ID3V1_BYTES >= totalBytes;
      const counted = summary.frames ?? (isCounted ? frames : undefined);
      const duration = counted === undefined ? {} : { durationSeconds: (counted * samples) / sampleRate };
      return {
        facts: { container: 'mp3', codec: `mp${layer}`, sampleRate, channels, ...duration },
        ...judge(totalBytes, summary, walker),
      };
    },
  };
}

/** The summary tells the size, where there is one; otherwise only a cut within a frame can be seen. */
function judge(totalBytes: number, { bytes }: Summary, frames: PartWalker): EndOfAudio {
  if (bytes === undefined) {
    return judgeFrames(totalBytes, frames, (begun) => beginsWithSync(begun, 0xe0, 0xe0));
  }
  if (totalBytes >= bytes) return { end: 'confirmed', notes: [] };
  const note = `its encoder's summary says ${bytesText(bytes - totalBytes)} more than came`;
  return { end: 'missing', notes: [note] };
}

function readFrame(head: Buffer, at: number): Frame | undefined {
  if (at + FRAME_HEADER_BYTES > head.length) return undefined;
  const header = head.readUInt32BE(at);
  const version = (header >>> 19) & 3;
  const layer = 4 - ((header >>> 17) & 3);
  const kbitsIndex = (header >>> 12) & 15;
  const baseRate = RATES_V1[(header >>> 10) & 3];
  if (header >>> 21 !== 0x7ff || version === 1 || (layer !== 2 && layer !== 3)) return undefined;
  const v1 = version === 3;
  const kbits = (v1 ? (layer === 3 ? KBITS_V1_LAYER3 : KBITS_V1_LAYER2) : KBITS_V2)[kbitsIndex];
  if (kbits === undefined || baseRate === undefined) return undefined;
  const sampleRate = v1 ? baseRate : version === 2 ? baseRate / 2 : baseRate / 4;
  const samples = layer === 3 && !v1 ? 576 : 1152;
  const padding = (header >>> 9) & 1;
  const channels = ((header >>> 6) & 3) === 3 ? 1 : 2;
  const sideInfoBytes = v1 ? (channels === 1 ? 17 : 32) : channels === 1 ? 9 : 17;
  return {
    layer,
    sampleRate,
    channels,
    samples,
    bytes: kbits === 0 ? 0 : Math.floor((samples / 8) * ((kbits * 1000) / sampleRate)) + padding,
    summaryAt: 4 + sideInfoBytes,
  };
}

function isFollowed(head: Buffer, frame: Frame): boolean {
  if (frame.bytes === 0) return false;
  return frame.bytes + 4 > head.length || readFrame(head, frame.bytes) !== undefined;
}

function readSummary(head: Buffer, at: number): Summary {
  if (head.toString('latin1', VBRI_AT, VBRI_AT + 4) === 'VBRI' && VBRI_AT + 18 <= head.length) {
    return summaryOf(head.readUInt32BE(VBRI_AT + 14), head.readUInt32BE(VBRI_AT + 10));
  }
  const magic = head.toString('latin1', at, at + 4);
  if ((magic !== 'Xing' && magic !== 'Info') || at + 16 > head.length) return {};
  const flags = head.readUInt32BE(at + 4);
  const hasFrames = (flags & 1) !== 0;
  const hasBytes = (flags & 2) !== 0;
  return summaryOf(
    hasFrames ? head.readUInt32BE(at + 8) : 0,
    hasBytes ? head.readUInt32BE(at + (hasFrames ? 12 : 8)) : 0,
  );
}

/** Writers that stream leave the numbers at 0. */
function summaryOf(frames: number, bytes: number): Summary {
  return { ...(frames === 0 ? {} : { frames }), ...(bytes === 0 ? {} : { bytes }) };
}
