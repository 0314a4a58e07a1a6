import type { AudioFacts } from '../../domain/recording.ts';
import { bytesText, type Container, type EndOfAudio, known64 } from './container.ts';
import { isChunkId, MAX_HEADER_BYTES, type PartLength, PartWalker } from './part-walker.ts';

const BOX_HEADER_BYTES = 8;
const LARGE_BOX_HEADER_BYTES = 16;

/** Sample entries, in the words used here; others are named by their four letters. */
const CODECS: Readonly<Record<string, string>> = {
  mp4a: 'aac',
  samr: 'amr_nb',
  sawb: 'amr_wb',
  Opus: 'opus',
  fLaC: 'flac',
  ulaw: 'pcm_mulaw',
  alaw: 'pcm_alaw',
  '.mp3': 'mp3',
};

/** What the boxes on the outermost level tell. */
interface Boxes {
  /** Whether there is one that describes the samples, ones that hold samples, ones of a fragment, and its index. */
  moov: boolean;
  mdat: boolean;
  moof: boolean;
  mfra: boolean;
}

/** MP4, M4A, 3GP and QuickTime: boxes of ISO 14496-12, the first of which is `ftyp` (or `styp`, of a segment). */
export function recogniseMp4(head: Buffer): Container | undefined {
  const first = head.toString('latin1', 4, 8);
  if (first !== 'ftyp' && first !== 'styp') return undefined;
  const brand = head.toString('latin1', 8, 12);
  const seen: Boxes = { moov: false, mdat: false, moof: false, mfra: false };
  let facts: Omit<AudioFacts, 'container'> = {};

  function readBox(header: Buffer): PartLength | undefined {
    const type = header.toString('latin1', 4, 8);
    if (!isChunkId(header.subarray(4, 8))) return undefined;
    const size = header.readUInt32BE(0);
    const isLarge = size === 1;
    if (isLarge && header.length < LARGE_BOX_HEADER_BYTES) return { need: LARGE_BOX_HEADER_BYTES };
    // A size of 0: up to the end of the file.
    const bytes = isLarge ? known64(header.readBigUInt64BE(8)) : size === 0 ? Number.POSITIVE_INFINITY : size;
    if (bytes === undefined || bytes < BOX_HEADER_BYTES) return undefined;
    if (type === 'moov') {
      const wanted = Math.min(bytes, MAX_HEADER_BYTES);
      if (header.length < wanted) return { need: wanted };
      facts = describeMovie(header);
    }
    if (type in seen) seen[type as keyof Boxes] = true;
    return { bytes };
  }

  const boxes = new PartWalker(0, BOX_HEADER_BYTES, readBox);
  return {
    ...kindOf(brand),
    tailBytes: 0,
    add: (chunk) => boxes.add(chunk),
    conclude: (totalBytes) => ({
      facts: { container: kindOf(brand).container, ...facts },
      ...judge(totalBytes, boxes, seen),
    }),
  };
}

function kindOf(brand: string): { readonly container: string; readonly contentType: string } {
  if (brand.startsWith('3gp')) return { container: '3gp', contentType: 'audio/3gpp' };
  if (brand.startsWith('3g2')) return { container: '3gp', contentType: 'audio/3gpp2' };
  if (brand === 'qt  ') return { container: 'mov', contentType: 'video/quicktime' };
  return { container: 'mp4', contentType: 'audio/mp4' };
}

function judge(totalBytes: number, boxes: PartWalker, seen: Boxes): EndOfAudio {
  const { nextAt, stopped } = boxes;
  if (nextAt === Number.POSITIVE_INFINITY) {
    return seen.moov || seen.moof
      ? { end: 'open', notes: [] }
      : { end: 'missing', notes: ['the description of its samples (moov) did not come'] };
  }
  if (!stopped && nextAt > totalBytes) {
    return { end: 'missing', notes: [`its boxes say ${bytesText(nextAt - totalBytes)} more than came`] };
  }
  if (!seen.moov && !seen.moof) {
    return { end: 'missing', notes: ['the description of its samples (moov) did not come'] };
  }
  if (!seen.mdat) return { end: 'missing', notes: ['its samples (mdat) did not come'] };
  if (nextAt < totalBytes) {
    return {
      end: 'open',
      notes: [`${bytesText(totalBytes - nextAt)} that belong to no box stand at its end`],
    };
  }
  // A recording in fragments may have been cut between two of them, unless their index has come.
  return { end: seen.moof && !seen.mfra ? 'open' : 'confirmed', notes: [] };
}

/** Length and codec, from as much of `moov` as was looked at. */
function describeMovie(movie: Buffer): Omit<AudioFacts, 'container'> {
  return { ...readDuration(movie), ...readSampleEntry(movie) };
}

function readDuration(movie: Buffer): { durationSeconds?: number } {
  const at = movie.indexOf('mvhd', 0, 'latin1') + 4;
  if (at < 4 || at + 32 > movie.length) return {};
  const isLong = movie.readUInt8(at) === 1;
  const timescale = movie.readUInt32BE(at + (isLong ? 20 : 12));
  const duration = isLong ? known64(movie.readBigUInt64BE(at + 24)) : movie.readUInt32BE(at + 16);
  // All bits set: not known. Recordings in fragments say 0.
  const isKnown = duration !== undefined && duration !== 0 && duration !== 0xffffffff && timescale > 0;
  return isKnown ? { durationSeconds: duration / timescale } : {};
}

function readSampleEntry(movie: Buffer): Omit<AudioFacts, 'container'> {
  const entry = movie.indexOf('stsd', 0, 'latin1') + 12;
  if (entry < 12 || entry + 36 > movie.length || !isChunkId(movie.subarray(entry + 4, entry + 8))) return {};
  const type = movie.toString('latin1', entry + 4, entry + 8);
  const codec = CODECS[type] ?? type.trim().toLowerCase();
  const channels = movie.readUInt16BE(entry + 24);
  // In 16.16 fixed point; 0 where the codec's own header tells it.
  const sampleRate = movie.readUInt16BE(entry + 32);
  return { codec, ...(channels > 0 ? { channels } : {}), ...(sampleRate > 0 ? { sampleRate } : {}) };
}
