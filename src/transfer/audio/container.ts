import type { AudioFacts } from '../../domain/recording.ts';

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
