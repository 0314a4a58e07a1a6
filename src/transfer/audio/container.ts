import type { AudioFacts } from '../../domain/recording.ts';

/**
 * What a container says about the completeness of a body: all there, certainly cut short, or nothing either
 * way.
 */
export type AudioVerdict = 'whole' | 'short' | 'unknown';

/** What is known of a recording once all its bytes have passed. */
export interface Conclusion {
  readonly facts: AudioFacts;
  readonly verdict: AudioVerdict;
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
