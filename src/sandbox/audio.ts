import { type AudioSource, bufferSource } from './audio-source.ts';
import { makeFlac } from './flac.ts';
import { makeMp3 } from './mp3.ts';
import { makeOgg } from './ogg.ts';
import { seededBytes } from './seeded.ts';
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
  if (bytes !== undefined)
    throw new RangeError(`a length in bytes cannot be had for ${format}: give seconds`);
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
