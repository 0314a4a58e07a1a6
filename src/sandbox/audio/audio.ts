import { seededBytes } from '../seeded-values.ts';
import { makeFlac } from './flac.ts';
import { makeOgg } from './ogg.ts';
import { type AudioSource, bufferSource } from './source.ts';
import { makeWav, type WavCodec } from './wav.ts';

/**
 * What to make:
 * - `wav`: PCM, 16 bit, mono, 8 kHz: a beep and a tune; `wav-mulaw` the same as G.711 µ-law.
 * - `flac`: the same tune, uncompressed (verbatim subframes), with checksums and MD5.
 * - `ogg`: Opus in Ogg, silent, with page checksums, granule positions and the end-of-stream flag.
 * - `mp3`: MPEG-1 layer III, silent, behind an ID3v2 tag.
 * - `bin`: noise in no known container.
 */
export type AudioFormat = 'wav' | 'wav-mulaw' | 'flac' | 'ogg' | 'mp3' | 'bin';

/** The usual ending of a file's name, per format. */
export const FILE_EXTENSIONS: Readonly<Record<AudioFormat, string>> = {
  wav: 'wav',
  'wav-mulaw': 'wav',
  flac: 'flac',
  ogg: 'ogg',
  mp3: 'mp3',
  bin: 'dat',
};

/** How long, in one unit or the other. */
export interface AudioLength {
  /** Default 3. 0 gives a header without any samples (WAV alone). */
  readonly seconds?: number;
  /**
   * The exact size of the file instead, for `wav`, `wav-mulaw` and `bin`. A WAV's is even and not below its
   * header (44 bytes, µ-law 58), as RIFF wants it.
   */
  readonly bytes?: number;
}

const DEFAULT_SECONDS = 3;
/** FLAC, Ogg and MP3 are built in memory; this keeps a typing error from filling it. */
const MAX_BUILT_SECONDS = 3600;

/**
 * Makes audio that depends on format, seed and length alone. WAV and `bin` cost the same few kilobytes
 * whatever their size; the others are built in memory.
 *
 * @throws RangeError for a length that the format cannot have.
 *
 * @example
 * const source = makeAudio('wav', 'a caller', { bytes: 500_000_000 });
 * source.slice(499_999_000, 500_000_000);
 */
export function makeAudio(format: AudioFormat, seed: string, length: AudioLength = {}): AudioSource {
  switch (format) {
    case 'wav':
      return wav('pcm', seed, length);
    case 'wav-mulaw':
      return wav('mulaw', seed, length);
    case 'flac':
      return bufferSource(makeFlac(seed, builtSeconds(format, length)), 'audio/flac');
    case 'ogg':
      return bufferSource(makeOgg(seed, builtSeconds(format, length)), 'audio/ogg');
    case 'mp3':
      return bufferSource(makeMp3(seed, builtSeconds(format, length)), 'audio/mpeg');
    case 'bin':
      return noise(seed, length.bytes ?? (length.seconds ?? DEFAULT_SECONDS) * 16_000);
  }
}

function wav(codec: WavCodec, seed: string, length: AudioLength): AudioSource {
  return makeWav(
    codec,
    seed,
    length.bytes === undefined ? { seconds: length.seconds ?? DEFAULT_SECONDS } : length,
  );
}

function builtSeconds(format: AudioFormat, { seconds = DEFAULT_SECONDS, bytes }: AudioLength): number {
  if (bytes !== undefined) throw new RangeError(`${format} has no length in bytes: give seconds`);
  if (!(seconds > 0 && seconds <= MAX_BUILT_SECONDS)) {
    throw new RangeError(`${format} can be more than 0 and at most ${MAX_BUILT_SECONDS} seconds long`);
  }
  return seconds;
}

/** Bytes that never begin like a known container, each 32 of them naming their own position. */
function noise(seed: string, bytes: number): AudioSource {
  const block = 32;
  const key = seededBytes(`noise ${seed}`, block);
  return {
    contentType: 'application/octet-stream',
    bytes,
    slice(start, end) {
      const from = Math.max(0, start);
      const to = Math.max(from, Math.min(end, bytes));
      const first = Math.floor(from / block);
      const result = Buffer.alloc((Math.ceil(to / block) - first) * block);
      for (let at = 0; at < result.length; at += block) {
        key.copy(result, at);
        result.writeUInt32BE(0x80000000 + first + at / block, at);
      }
      return result.subarray(from - first * block, to - first * block);
    },
  };
}
/** MPEG-1, layer III, no CRC, 32 kbit/s, 32 kHz, mono: a frame is 144 bytes and 36 ms. */
const FRAME_HEADER = Buffer.from([0xff, 0xfb, 0x18, 0xc0]);
const FRAME_BYTES = 144;
const FRAME_SECONDS = 0.036;

/**
 * An MP3 file of silence behind an ID3v2.3 tag with the seed in its title. Side information of zeros means no
 * coded sound, so all the rest of a frame is ancillary: its last bytes hold the frame's number, so that no two
 * places in the file look the same.
 */
function makeMp3(seed: string, seconds: number): Buffer {
  const frames = Array.from({ length: Math.max(1, Math.round(seconds / FRAME_SECONDS)) }, (_, number) => {
    const frame = Buffer.alloc(FRAME_BYTES);
    FRAME_HEADER.copy(frame);
    frame.writeUIntBE(number, FRAME_BYTES - 3, 3);
    return frame;
  });
  return Buffer.concat([id3Tag(`Voicemail ${seed}`), ...frames]);
}

/** https://id3.org/id3v2.3.0 */
function id3Tag(title: string): Buffer {
  // Encoding 1: UTF-16 with a byte order mark.
  const text = Buffer.concat([Buffer.from([0x01, 0xff, 0xfe]), Buffer.from(title, 'utf16le')]);
  const frame = Buffer.alloc(10);
  frame.write('TIT2', 0, 'latin1');
  frame.writeUInt32BE(text.length, 4);
  const size = frame.length + text.length;
  const sevenBitBytes = [21, 14, 7, 0].map((shift) => (size >> shift) & 0x7f);
  return Buffer.concat([Buffer.from('ID3'), Buffer.from([3, 0, 0, ...sevenBitBytes]), frame, text]);
}
