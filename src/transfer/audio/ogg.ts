import type { AudioFacts } from '../../domain/recording.ts';
import { bytesText, type Container, type EndOfAudio } from './container.ts';
import { describeStreamInfo, readStreamInfo } from './flac.ts';

/** Page layout: https://www.rfc-editor.org/rfc/rfc3533#section-6 */
const PAGE_HEADER_BYTES = 27;
const CAPTURE_PATTERN = 'OggS';
const BEGINNING_OF_STREAM = 2;
const END_OF_STREAM = 4;

/** A whole page fits: 27 bytes of header, 255 of lengths, 255 x 255 of content. */
const TAIL_BYTES = 64 * 1024;

/** "No packet ends on this page." */
const NO_POSITION = 0xffffffffffffffffn;

/** What the first packet tells of the codec. */
interface Stream {
  readonly facts: Omit<AudioFacts, 'container'>;
  /** Units of a page's position that make a second. */
  readonly positionsPerSecond?: number;
  /** Positions at the start that are not played (Opus). */
  readonly skippedPositions: number;
  readonly serial: number;
}

interface Page {
  readonly at: number;
  readonly end: number;
  readonly flags: number;
  /** Of the logical stream that the page belongs to; several may be interleaved. */
  readonly serial: number;
  readonly position: bigint;
}

/** Ogg with Opus, Vorbis, Speex or FLAC in it. The last page says whether it is the last. */
export function recogniseOgg(head: Buffer): Container | undefined {
  const first = readPage(head, 0);
  if (first === undefined) return undefined;
  const stream = findAudio(head, first);
  return {
    contentType: 'audio/ogg',
    tailBytes: TAIL_BYTES,
    conclude(_totalBytes, tail) {
      const lastOfAudio = lastPage(tail, stream.serial);
      return {
        facts: { container: 'ogg', ...stream.facts, ...duration(stream, lastOfAudio) },
        ...judge(lastPage(tail), lastOfAudio, tail),
      };
    },
  };
}

function readPage(buffer: Buffer, at: number): Page | undefined {
  if (buffer.toString('latin1', at, at + 4) !== CAPTURE_PATTERN || at + PAGE_HEADER_BYTES > buffer.length) {
    return undefined;
  }
  const flags = buffer.readUInt8(at + 5);
  if (buffer.readUInt8(at + 4) !== 0 || flags > 7) return undefined;
  const lengths = buffer.subarray(at + PAGE_HEADER_BYTES, at + PAGE_HEADER_BYTES + buffer.readUInt8(at + 26));
  const content = lengths.reduce((sum, length) => sum + length, 0);
  const end = at + PAGE_HEADER_BYTES + buffer.readUInt8(at + 26) + content;
  return {
    at,
    end,
    flags,
    position: buffer.readBigUInt64LE(at + 6),
    serial: buffer.readUInt32LE(at + 14),
  };
}

/** The last page, or the last one of a logical stream. */
function lastPage(tail: Buffer, serial?: number): Page | undefined {
  for (
    let at = tail.lastIndexOf(CAPTURE_PATTERN);
    at !== -1;
    at = at === 0 ? -1 : tail.lastIndexOf(CAPTURE_PATTERN, at - 1)
  ) {
    const page = readPage(tail, at);
    if (page !== undefined && (serial === undefined || page.serial === serial)) return page;
  }
  return undefined;
}

/**
 * A page that reaches beyond the end is cut. Without the mark of the audio's last page nothing is sure: some omit
 * it, and other streams (Skeleton's description of them all) have ends of their own.
 */
function judge(last: Page | undefined, lastOfAudio: Page | undefined, tail: Buffer): EndOfAudio {
  if (last === undefined) return { end: 'open', notes: ['no Ogg page stands near its end'] };
  if (last.end > tail.length) {
    const lacking = bytesText(last.end - tail.length);
    return { end: 'missing', notes: [`its last page is cut: ${lacking} of it did not come`] };
  }
  if (last.end < tail.length) {
    const rest = tail.subarray(last.end);
    if (rest.length < PAGE_HEADER_BYTES && CAPTURE_PATTERN.startsWith(rest.toString('latin1', 0, 4))) {
      return { end: 'missing', notes: [`its last page is cut: only ${bytesText(rest.length)} of it came`] };
    }
    return { end: 'open', notes: [`${bytesText(rest.length)} follow the last page`] };
  }
  const ended = lastOfAudio !== undefined && (lastOfAudio.flags & END_OF_STREAM) !== 0;
  return ended
    ? { end: 'confirmed', notes: [] }
    : { end: 'open', notes: ['no page is marked as the last one of the audio'] };
}

function duration(stream: Stream, last: Page | undefined): { durationSeconds?: number } {
  if (last === undefined || last.position === NO_POSITION || !stream.positionsPerSecond) return {};
  const played = Number(last.position) - stream.skippedPositions;
  return { durationSeconds: Math.max(0, played) / stream.positionsPerSecond };
}

/** The first stream of a codec known here; they all begin before anything else. */
function findAudio(head: Buffer, first: Page): Stream {
  for (
    let page: Page | undefined = first;
    page !== undefined && (page.flags & BEGINNING_OF_STREAM) !== 0;
    page = readPage(head, page.end)
  ) {
    const stream = readStream(head, page.at + PAGE_HEADER_BYTES + head.readUInt8(page.at + 26));
    if (stream !== undefined) return { ...stream, serial: page.serial };
  }
  return { facts: {}, skippedPositions: 0, serial: first.serial };
}

function readStream(head: Buffer, at: number): Omit<Stream, 'serial'> | undefined {
  const packet = head.subarray(at);
  const starts = (magic: string): boolean => packet.toString('latin1', 0, magic.length) === magic;
  if (starts('OpusHead') && packet.length >= 16) {
    // Positions of Opus always count in 48 kHz, whatever was recorded: RFC 7845, sections 4 and 5.1.
    const facts = { codec: 'opus', sampleRate: packet.readUInt32LE(12), channels: packet.readUInt8(9) };
    return { facts, positionsPerSecond: 48_000, skippedPositions: packet.readUInt16LE(10) };
  }
  if (starts('\x01vorbis') && packet.length >= 16) {
    const sampleRate = packet.readUInt32LE(12);
    const facts = { codec: 'vorbis', sampleRate, channels: packet.readUInt8(11) };
    return { facts, positionsPerSecond: sampleRate, skippedPositions: 0 };
  }
  if (starts('Speex   ') && packet.length >= 52) {
    const sampleRate = packet.readUInt32LE(36);
    const facts = { codec: 'speex', sampleRate, channels: packet.readUInt32LE(48) };
    return { facts, positionsPerSecond: sampleRate, skippedPositions: 0 };
  }
  if (starts('\x7fFLAC') && packet.toString('latin1', 9, 13) === 'fLaC') {
    const info = readStreamInfo(packet, 13);
    const positionsPerSecond = info?.sampleRate ?? 0;
    return { facts: { codec: 'flac', ...describeStreamInfo(info) }, positionsPerSecond, skippedPositions: 0 };
  }
  return undefined;
}
