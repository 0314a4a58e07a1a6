import type { AudioFacts } from '../../domain/recording.ts';

/** Format tags of RIFF and ASF, see https://www.iana.org/assignments/wave-avi-codec-registry */
const CODECS: Readonly<Record<number, string>> = {
  2: 'adpcm_ms',
  6: 'pcm_alaw',
  7: 'pcm_mulaw',
  17: 'adpcm_ima_wav',
  20: 'g723_adpcm',
  49: 'gsm_ms',
  64: 'g721_adpcm',
  66: 'g723_1',
  69: 'g726',
  80: 'mp2',
  85: 'mp3',
  87: 'amr_nb',
  88: 'amr_wb',
  100: 'g726',
  101: 'g722',
  131: 'g729',
  132: 'g729',
  255: 'aac',
  304: 'sipr',
  352: 'wmav1',
  353: 'wmav2',
  354: 'wmapro',
  655: 'g722',
  26447: 'vorbis',
  28751: 'opus',
  5376: 'gsm',
  5632: 'aac',
  5648: 'aac',
  41225: 'speex',
  61868: 'flac',
};
const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;

/** The shortest form, without a size of its own. */
export const WAVE_FORMAT_BYTES = 16;
/** As much as is looked at: up to the tag in the sub-format of the extensible form. */
export const WAVE_FORMAT_LOOK_BYTES = 26;

/** What a WAVEFORMATEX says. */
export interface WaveFormat {
  readonly codec?: string;
  readonly sampleRate: number;
  readonly channels: number;
  readonly bytesPerSecond: number;
}

/**
 * Reads a WAVEFORMATEX, which RIFF and ASF share.
 *
 * @param bytes from its first byte on, at least {@link WAVE_FORMAT_BYTES} of it.
 */
export function readWaveFormat(bytes: Buffer, bigEndian = false): WaveFormat {
  const u16 = (at: number) => (bigEndian ? bytes.readUInt16BE(at) : bytes.readUInt16LE(at));
  const u32 = (at: number) => (bigEndian ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at));
  const tag = u16(0);
  // The extensible format holds the real tag in the first two bytes of its sub-format.
  const isExtended = tag === EXTENSIBLE && bytes.length >= WAVE_FORMAT_LOOK_BYTES;
  const codec = codecName(isExtended ? u16(24) : tag, u16(14), bigEndian);
  return {
    ...(codec === undefined ? {} : { codec }),
    channels: u16(2),
    sampleRate: u32(4),
    bytesPerSecond: u32(8),
  };
}

function codecName(tag: number, bits: number, bigEndian: boolean): string | undefined {
  const order = bigEndian ? 'be' : 'le';
  if (tag === PCM) return bits <= 8 ? 'pcm_u8' : `pcm_s${bits}${order}`;
  if (tag === FLOAT) return `pcm_f${bits}${order}`;
  return CODECS[tag];
}

/** What a format and its samples say of the audio. */
export function waveFacts(
  container: string,
  format: WaveFormat | undefined,
  data: { readonly start: number; readonly end: number | undefined } | undefined,
  totalBytes: number,
): AudioFacts {
  if (format === undefined) return { container };
  const { bytesPerSecond, ...known } = format;
  if (data === undefined || bytesPerSecond === 0) return { container, ...known };
  const end = Math.min(data.end ?? totalBytes, totalBytes);
  return { container, ...known, durationSeconds: Math.max(0, end - data.start) / bytesPerSecond };
}
