import { type Melody, makeMelody, melodySamples, positionInMelody, SAMPLE_RATE_HZ } from './melody.ts';
import type { AudioSource } from './source.ts';

/** `pcm`: signed 16 bit, little-endian. `mulaw`: G.711 µ-law, 8 bit. */
export type WavCodec = 'pcm' | 'mulaw';

const FORMAT_TAG = { pcm: 1, mulaw: 7 } as const;
const SAMPLE_BYTES = { pcm: 2, mulaw: 1 } as const;
/** The sizes in a WAV's header are 32 bit; a little below, so that no reader stumbles over the edge. */
const MAX_DATA_BYTES = 0xffff_ff00;
/** The last samples fade out, so that a tune that is cut off does not end with a click. */
const FADE_SAMPLES = 400;
/**
 * The melody repeats, so a part of the file in the wrong place could go unnoticed. Therefore each block of
 * samples carries its own number in the lowest bit of its first samples, far below what is audible.
 */
const MARK_BLOCK_SAMPLES = 4096;
const MARK_BITS = 24;

/**
 * A WAV file, mono, 8 kHz, whose parts are made on request: 500 MB cost no more than 50 KB.
 *
 * @param length `bytes`: the whole file's exact size; or `seconds`, 0 for a header alone.
 * @throws RangeError for a size that no WAV can have.
 */
export function makeWav(
  codec: WavCodec,
  seed: string,
  length: { seconds?: number; bytes?: number },
): AudioSource {
  const sampleBytes = SAMPLE_BYTES[codec];
  const headerBytes = wavHeader(codec, 0).length;
  const dataBytes =
    length.bytes === undefined
      ? Math.round((length.seconds ?? 0) * SAMPLE_RATE_HZ) * sampleBytes
      : length.bytes - headerBytes;
  if (!(dataBytes >= 0 && dataBytes <= MAX_DATA_BYTES) || (length.bytes ?? 0) % 2 !== 0) {
    throw new RangeError(`a WAV file has an even size between ${headerBytes} bytes and 4 GiB`);
  }
  const header = wavHeader(codec, dataBytes);
  const paddedBytes = dataBytes + (dataBytes % 2);
  const data = wavData(codec, seed, dataBytes / sampleBytes);

  return {
    contentType: 'audio/wav',
    bytes: headerBytes + paddedBytes,
    slice(start, end) {
      const to = Math.min(end, headerBytes + paddedBytes);
      const from = Math.min(Math.max(0, start), to);
      const dataFrom = Math.max(from, headerBytes) - headerBytes;
      const dataTo = Math.min(Math.max(to, headerBytes) - headerBytes, dataBytes);
      const parts = [header.subarray(from, to)];
      if (dataTo > dataFrom) {
        const first = Math.floor(dataFrom / sampleBytes);
        const encoded = data(first, Math.ceil(dataTo / sampleBytes));
        parts.push(encoded.subarray(dataFrom - first * sampleBytes, dataTo - first * sampleBytes));
      }
      if (paddedBytes > dataBytes && to > headerBytes + dataBytes && from < to) parts.push(Buffer.alloc(1));
      return parts.length === 1 ? header.subarray(from, to) : Buffer.concat(parts);
    },
  };
}

/** RIFF header with `fmt ` and, for all but PCM, an extended `fmt ` and a `fact` chunk, as the format asks. */
function wavHeader(codec: WavCodec, dataBytes: number): Buffer {
  const sampleBytes = SAMPLE_BYTES[codec];
  const format = Buffer.alloc(codec === 'pcm' ? 16 : 18);
  format.writeUInt16LE(FORMAT_TAG[codec], 0);
  format.writeUInt16LE(1, 2);
  format.writeUInt32LE(SAMPLE_RATE_HZ, 4);
  format.writeUInt32LE(SAMPLE_RATE_HZ * sampleBytes, 8);
  format.writeUInt16LE(sampleBytes, 12);
  format.writeUInt16LE(sampleBytes * 8, 14);
  const chunks = [Buffer.from('WAVE'), chunkHeader('fmt ', format.length), format];
  if (codec !== 'pcm') chunks.push(chunkHeader('fact', 4), uint32(dataBytes / sampleBytes));
  chunks.push(chunkHeader('data', dataBytes));
  const body = Buffer.concat(chunks);
  return Buffer.concat([chunkHeader('RIFF', body.length + dataBytes + (dataBytes % 2)), body]);
}

function chunkHeader(name: string, bytes: number): Buffer {
  return Buffer.concat([Buffer.from(name, 'latin1'), uint32(bytes)]);
}

function uint32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

/** Gives the encoded samples from `first` (inclusive) to `last` (exclusive). */
function wavData(codec: WavCodec, seed: string, total: number): (first: number, last: number) => Buffer {
  const width = SAMPLE_BYTES[codec];
  const encode = codec === 'pcm' ? encodePcm : encodeMulaw;
  let tune: { readonly melody: Melody; readonly table: Buffer } | undefined;

  return (first, last) => {
    if (tune === undefined) {
      const made = makeMelody(seed);
      tune = { melody: made, table: encode(made.samples) };
    }
    const { melody, table } = tune;
    const result = Buffer.allocUnsafe((last - first) * width);
    for (let at = first; at < last; ) {
      const source = positionInMelody(melody, at);
      const count = Math.min(last - at, melody.samples.length - source);
      table.copy(result, (at - first) * width, source * width, (source + count) * width);
      at += count;
    }
    const fadeFrom = Math.max(first, total - FADE_SAMPLES);
    if (fadeFrom < last) {
      const faded = melodySamples(melody, fadeFrom, last).map((sample, i) =>
        Math.round((sample * (total - fadeFrom - i)) / FADE_SAMPLES),
      );
      encode(faded).copy(result, (fadeFrom - first) * width);
    }
    mark(result, first, last, width);
    return result;
  };
}

/** Writes each block's number into the lowest bits of its first samples. */
function mark(encoded: Buffer, first: number, last: number, width: number): void {
  const firstBlock = Math.floor(first / MARK_BLOCK_SAMPLES);
  for (let block = firstBlock; block * MARK_BLOCK_SAMPLES < last; block++) {
    for (let bit = 0; bit < MARK_BITS; bit++) {
      const sample = block * MARK_BLOCK_SAMPLES + bit;
      if (sample < first || sample >= last) continue;
      const at = (sample - first) * width;
      encoded.writeUInt8((encoded.readUInt8(at) & 0xfe) | ((block >>> bit) & 1), at);
    }
  }
}

function encodePcm(samples: Int16Array): Buffer {
  const encoded = Buffer.allocUnsafe(samples.length * 2);
  samples.forEach((sample, i) => {
    encoded.writeInt16LE(sample, i * 2);
  });
  return encoded;
}

/** G.711 µ-law: https://www.itu.int/rec/T-REC-G.711 */
function encodeMulaw(samples: Int16Array): Buffer {
  const bias = 0x84;
  const clip = 32_635;
  return Buffer.from(
    Uint8Array.from(samples, (sample) => {
      const sign = sample < 0 ? 0x80 : 0;
      const magnitude = Math.min(Math.abs(sample), clip) + bias;
      const exponent = 31 - Math.clz32(magnitude) - 7;
      const mantissa = (magnitude >> (exponent + 3)) & 0x0f;
      return ~(sign | (exponent << 4) | mantissa) & 0xff;
    }),
  );
}
