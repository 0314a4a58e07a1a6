import type { AudioFacts } from '../types.ts';
import { recogniseFlac } from './flac.ts';
import { recogniseMpeg } from './mpeg.ts';
import { recogniseOgg } from './ogg.ts';
import { recogniseWav } from './wav.ts';

/**
 * What a container says about the completeness of a body: all there, certainly cut short, or nothing either
 * way.
 */
export type Verdict = 'whole' | 'short' | 'unknown';

/** What is known of a recording once all its bytes have passed. */
export interface Conclusion {
  readonly facts: AudioFacts;
  readonly verdict: Verdict;
}

/** A recognised audio container. */
export interface Container {
  readonly contentType: string;
  /** The shortest body that its header allows, where it tells a size. */
  readonly minimumBytes?: number;
  /** How many of the body's last bytes {@link Container.conclude} needs. */
  readonly tailBytes: number;
  /**
   * @param totalBytes the length of the body.
   * @param tail the body's last bytes: `tailBytes` of them, or the whole body if that is shorter.
   */
  conclude(totalBytes: number, tail: Buffer): Conclusion;
}

/** How many first bytes are looked at; headers, with the tags that may stand before them, rarely need more. */
export const HEAD_BYTES = 64 * 1024;

/**
 * Recognises a container by a body's first bytes, never by its name or content type.
 *
 * @param head the first {@link HEAD_BYTES} of the body, or all of it if that is shorter.
 */
export function recognise(head: Buffer): Container | undefined {
  return recogniseWav(head) ?? recogniseFlac(head) ?? recogniseOgg(head) ?? recogniseMpeg(head);
}
