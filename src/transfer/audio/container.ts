import type { AudioFacts } from '../../domain/recording.ts';
import type { PartWalker } from './part-walker.ts';

/**
 * What a container says about the end of a body. `confirmed`: the container itself shows that all of it is there;
 * `missing`: it claims more bytes than came; `open`: it cannot tell where it ends.
 */
export type AudioEnd = 'confirmed' | 'missing' | 'open';

/** What a container says about its end, and where it disagrees with the bytes that came. */
export interface EndOfAudio {
  readonly end: AudioEnd;
  /**
   * Short remarks in plain English, one for each place where the audio disagrees with itself or with the number of
   * bytes that came. Whatever `end` is, audio without notes is sound as far as its container tells.
   */
  readonly notes: readonly string[];
}

/** What is known of a recording once all its bytes have passed. */
export interface Conclusion extends EndOfAudio {
  readonly facts: AudioFacts;
}

/** A recognised audio container. */
export interface Container {
  readonly contentType: string;
  /** How many of the body's last bytes {@link Container.conclude} needs, at most 64 KiB. */
  readonly tailBytes: number;
  /** Takes note of the next bytes, from the body's first one on; for containers that are walked through. */
  add?(chunk: Buffer): void;
  /**
   * What the bytes so far say, were they all.
   *
   * @param totalBytes the length of the body.
   * @param tail the body's last bytes: `tailBytes` of them, or the whole body if that is shorter.
   */
  conclude(totalBytes: number, tail: Buffer): Conclusion;
}

/** `1 byte`, `960,000 bytes`. */
export function bytesText(count: number): string {
  return count === 1 ? '1 byte' : `${count.toLocaleString('en-US')} bytes`;
}

/** Where the samples lie, counted from the file's first byte. */
export interface SampleData {
  readonly start: number;
  /** `undefined` where the writer did not know it. */
  readonly end: number | undefined;
}

/** What a file's header says of sizes. */
export interface SizeClaims {
  /** `undefined` where no samples were found. */
  readonly data: SampleData | undefined;
  /** Where the whole file ends, by a size that stands at its beginning. */
  readonly fileEnd: number | undefined;
}

/**
 * Some writers count the file's own header (8 bytes in RIFF) into its size, or the byte that pads an odd number of
 * samples and then leave it away. A file with all its samples disagrees with nothing because of those.
 */
const MISCOUNTED_BYTES = 9;

/** Wave64's chunks begin at positions that 8 divides; all others at even ones. */
const MAX_ALIGNMENT_BYTES = 8;

/**
 * Judges a file of chunks, one of which holds the samples, by the sizes that it claims. The samples decide: chunks
 * that may be lost behind them, and the size of the file as a whole, are only remarked on.
 *
 * @param parts the file's chunks as far as the bytes went.
 */
export function judgeSizes(totalBytes: number, claims: SizeClaims, parts: PartWalker): EndOfAudio {
  const { data, fileEnd } = claims;
  if (data === undefined) return judgeWithoutSamples(totalBytes, fileEnd, parts);
  if (data.end === undefined) return judgeUnknownSize(totalBytes, data, fileEnd);
  if (totalBytes < data.end) return missing(data.end - totalBytes);
  const surplus = totalBytes - data.end;
  // The bytes that pad the samples to the next chunk's position may be left away at the very end.
  const endsInPadding = parts.nextAt >= totalBytes && parts.nextAt - data.end < MAX_ALIGNMENT_BYTES;
  const wellFormed = !parts.stopped && (parts.nextAt === totalBytes || endsInPadding);
  const notes = fileEnd === undefined ? [] : noteFileEnd(totalBytes, fileEnd, data);
  if (wellFormed) return { end: 'confirmed', notes };
  if (!parts.stopped && fileEnd !== undefined && totalBytes < fileEnd) return { end: 'missing', notes };
  const isRightOtherwise = totalBytes === fileEnd;
  return {
    end: isRightOtherwise ? 'confirmed' : 'open',
    notes: [...notes, `${bytesText(surplus)} that its header does not name follow the samples`],
  };
}

function judgeWithoutSamples(totalBytes: number, fileEnd: number | undefined, parts: PartWalker): EndOfAudio {
  if (fileEnd !== undefined && totalBytes < fileEnd) return missing(fileEnd - totalBytes);
  if (totalBytes === fileEnd && parts.nextAt === totalBytes) return { end: 'confirmed', notes: [] };
  // Its chunks go on and none of them holds samples, or it was cut within its header.
  if (!parts.stopped) return { end: 'missing', notes: ['it ends before its samples begin'] };
  return { end: 'open', notes: ['its header names no samples'] };
}

/** The writer did not know how many samples there would be: only the size of the file can tell. */
function judgeUnknownSize(totalBytes: number, data: SampleData, fileEnd: number | undefined): EndOfAudio {
  if (fileEnd === undefined) return { end: 'open', notes: [] };
  if (totalBytes < fileEnd) return missing(fileEnd - totalBytes);
  if (totalBytes === fileEnd) return { end: 'confirmed', notes: [] };
  return { end: 'open', notes: noteFileEnd(totalBytes, fileEnd, data) };
}

function missing(bytes: number): EndOfAudio {
  return { end: 'missing', notes: [`its header says ${bytesText(bytes)} more than came`] };
}

function noteFileEnd(totalBytes: number, fileEnd: number, data: SampleData): string[] {
  // Written before the samples, and never again: it is no claim.
  if (fileEnd === data.start) return [];
  const difference = fileEnd - totalBytes;
  if (difference >= -1 && difference <= MISCOUNTED_BYTES) return [];
  const what = difference > 0 ? 'more' : 'less';
  return [`its header says ${bytesText(Math.abs(difference))} ${what} than came, for the file as a whole`];
}

/**
 * A size of 32 bits as its writer knew it. Writers that stream cannot know a size beforehand and leave 0, or something
 * near 2 or 4 GiB: the largest number there is, rounded down to whole frames or blocks, with a header's length added
 * or taken away.
 */
export function known32(bytes: number): number | undefined {
  const unknown = bytes === 0 || (bytes >= 0x7ff00000 && bytes <= 0x80000fff) || bytes >= 0xfff00000;
  return unknown ? undefined : bytes;
}

/** The same for 64 bits: what is larger than all disks is no size. */
export function known64(bytes: bigint): number | undefined {
  return bytes <= 0n || bytes >= 1n << 56n ? undefined : Number(bytes);
}
