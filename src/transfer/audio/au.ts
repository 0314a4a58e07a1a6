import { type Container, judgeSizes, known32 } from './container.ts';
import { PartWalker } from './part-walker.ts';

/** Encodings of Sun's header whose samples have a fixed size: codec and bytes. */
const ENCODINGS: Readonly<Record<number, readonly [string, number]>> = {
  1: ['pcm_mulaw', 1],
  2: ['pcm_s8', 1],
  3: ['pcm_s16be', 2],
  4: ['pcm_s24be', 3],
  5: ['pcm_s32be', 4],
  6: ['pcm_f32be', 4],
  7: ['pcm_f64be', 8],
  27: ['pcm_alaw', 1],
};
const HEADER_BYTES = 24;

/** Sun's and NeXT's format: a header, and samples up to the end. */
export function recogniseAu(head: Buffer): Container | undefined {
  if (head.toString('latin1', 0, 4) !== '.snd' || head.length < HEADER_BYTES) return undefined;
  const start = head.readUInt32BE(4);
  if (start < HEADER_BYTES) return undefined;
  const size = known32(head.readUInt32BE(8));
  const [codec, sampleBytes] = ENCODINGS[head.readUInt32BE(12)] ?? [];
  const sampleRate = head.readUInt32BE(16);
  const channels = head.readUInt32BE(20);
  const bytesPerSecond = sampleRate * channels * (sampleBytes ?? 0);
  const data = { start, end: size === undefined ? undefined : start + size };
  // Header and samples are one part, behind which nothing has a place.
  const file = new PartWalker(0, 1, (_header, at) =>
    at === 0 ? { bytes: data.end ?? Infinity } : undefined,
  );
  return {
    contentType: 'audio/basic',
    tailBytes: 0,
    add: (chunk) => file.add(chunk),
    conclude(totalBytes) {
      const samples = Math.max(0, Math.min(data.end ?? totalBytes, totalBytes) - start);
      return {
        facts: {
          container: 'au',
          ...(codec === undefined ? {} : { codec }),
          sampleRate,
          channels,
          ...(bytesPerSecond > 0 ? { durationSeconds: samples / bytesPerSecond } : {}),
        },
        ...judgeSizes(totalBytes, { data, fileEnd: undefined }, file),
      };
    },
  };
}
