import { seededRandom } from '../seeded-values.ts';

/** Samples a second of everything the sandbox plays: telephone quality. */
export const SAMPLE_RATE_HZ = 8000;

/** Endless sound: `samples` once, and from its end over and over again from `loopStart`. */
export interface Melody {
  readonly samples: Int16Array;
  readonly loopStart: number;
}

const BEEP_HZ = 1000;
const BEEP_SECONDS = 0.35;
const PAUSE_SECONDS = 0.25;
const NOTE_SECONDS = 0.22;
const NOTES_IN_LOOP = 12;
/** Leaves headroom: the partials together stay below full scale. */
const LOUDNESS = 9000;
/** Semitones above the lowest note: any order of a pentatonic scale sounds like a tune. */
const PENTATONIC = [0, 2, 4, 7, 9, 12, 14, 16] as const;

/**
 * What a caller leaves on the sandbox's machine: a beep, and then a little tune that no other seed has.
 * Deterministic per seed.
 */
export function makeMelody(seed: string): Melody {
  const random = seededRandom(`melody ${seed}`);
  const lowestHz = 220 * 2 ** (Math.floor(random() * 8) / 12);
  const notes: number[] = [...beep(), ...new Array<number>(PAUSE_SECONDS * SAMPLE_RATE_HZ).fill(0)];
  const loopStart = notes.length;
  for (let n = 0; n < NOTES_IN_LOOP; n++) {
    const step = PENTATONIC[Math.floor(random() * PENTATONIC.length)] ?? 0;
    const length = random() < 0.3 ? 2 : 1;
    notes.push(...pluck(lowestHz * 2 ** (step / 12), NOTE_SECONDS * length));
  }
  return { samples: Int16Array.from(notes), loopStart };
}

function beep(): number[] {
  const count = BEEP_SECONDS * SAMPLE_RATE_HZ;
  return Array.from({ length: count }, (_, i) => {
    const edge = Math.min(1, i / 80, (count - i) / 80);
    return Math.round(LOUDNESS * edge * Math.sin((2 * Math.PI * BEEP_HZ * i) / SAMPLE_RATE_HZ));
  });
}

/** A note like a plucked string: quick to rise, slow to fade, with two overtones. */
function pluck(hertz: number, seconds: number): number[] {
  const count = Math.round(seconds * SAMPLE_RATE_HZ);
  return Array.from({ length: count }, (_, i) => {
    const edge = Math.min(1, i / 60, (count - i) / 60);
    const fade = Math.exp((-3 * i) / count);
    const phase = (2 * Math.PI * hertz * i) / SAMPLE_RATE_HZ;
    const wave = Math.sin(phase) + 0.4 * Math.sin(2 * phase) + 0.15 * Math.sin(3 * phase);
    return Math.round(LOUDNESS * edge * fade * wave);
  });
}

/** The samples from `first` (inclusive) to `last` (exclusive), as signed 16-bit numbers. */
export function melodySamples(melody: Melody, first: number, last: number): Int16Array {
  const { samples } = melody;
  const result = new Int16Array(last - first);
  for (let at = first; at < last; ) {
    const source = positionInMelody(melody, at);
    const count = Math.min(last - at, samples.length - source);
    result.set(samples.subarray(source, source + count), at - first);
    at += count;
  }
  return result;
}

/** Where in the melody's table the sample of that number lies. */
export function positionInMelody(melody: Melody, sample: number): number {
  const { samples, loopStart } = melody;
  return sample < loopStart ? sample : loopStart + ((sample - loopStart) % (samples.length - loopStart));
}
