/** Whether a store keeps `If-None-Match: *`, which only trying tells. */

import type { Logger } from '../log.ts';
import { isNotImplemented, isPreconditionFailed } from './s3-errors.ts';

/**
 * Many S3-compatible stores pass over headers they do not know, and would overwrite without a word. So as long
 * as nothing is known of a store, and for good where it does not keep the condition, callers look before they
 * write.
 */
export interface ConditionalWrites {
  /** Whether to look for an existing object before a write. */
  readonly mustLook: boolean;
  /** Whether to send the condition. */
  readonly send: boolean;
  /** The store refused a conditional write as it should. */
  works(): void;
  /** The store said that it does not know the condition. */
  missing(): void;
  /**
   * Settles the question once, after a first conditional write has succeeded: the same write again must be
   * refused. The bytes are the same, so nothing is lost where it is not.
   */
  prove(writeAgain: () => Promise<unknown>): Promise<void>;
}

/** Begins with nothing known. */
export function createConditionalWrites(logger: Logger | undefined): ConditionalWrites {
  let state: 'unknown' | 'works' | 'missing' = 'unknown';
  let proving = false;

  function missing(): void {
    if (state === 'missing') return;
    state = 'missing';
    logger?.warn(
      'this store does not know If-None-Match: existing objects are looked up before each write, and two workers ' +
        'on the same session at the same moment may write both',
    );
  }

  function works(): void {
    state = 'works';
  }

  return {
    get mustLook() {
      return state !== 'works';
    },
    get send() {
      return state !== 'missing';
    },
    works,
    missing,
    async prove(writeAgain) {
      if (state !== 'unknown' || proving) return;
      proving = true;
      try {
        await writeAgain();
        missing();
      } catch (error) {
        if (isPreconditionFailed(error)) works();
        else if (isNotImplemented(error)) missing();
        // Anything else proves nothing. The object itself is stored, so the next write settles it.
      } finally {
        proving = false;
      }
    },
  };
}
