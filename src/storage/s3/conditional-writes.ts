/** Whether a store keeps the conditions of writes. Amazon S3 does; of any other store, only a trial shows it. */

import type { Logger } from '../../util/log.ts';
import { isNotImplemented, isPreconditionFailed } from './errors.ts';

/** The largest object that is sent twice for the sake of knowing: a transcript or a manifest. */
const PROOF_MAX_BYTES = 64 * 1024;

/**
 * Whether a host is Amazon S3, which keeps the condition in every region.
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
 */
export function isAmazonS3(hostname: string): boolean {
  return /(^|\.)amazonaws\.com(\.cn)?$/i.test(hostname);
}

/**
 * Many S3-compatible stores pass over headers they do not know, and would overwrite without a word. So as long
 * as nothing is known of a store, and for good where it does not keep the condition, callers look before they
 * write.
 */
export interface ConditionalWrites {
  /** Whether to look for an existing object before a write. */
  readonly needsLookup: boolean;
  /** Whether to send conditions. */
  readonly send: boolean;
  /** Whether the store is known to keep `If-Match` as well. */
  readonly keepsIfMatch: boolean;
  /** The store is Amazon's. */
  isAmazon(): void;
  /** The store refused a conditional write as it should. */
  works(): void;
  /** The store said that it does not know the condition. */
  missing(): void;
  /**
   * Settles the question once in a process, after the first conditional write of a small object has succeeded: the
   * same write again must be refused, and then changes nothing. Where it is not, the bytes are the same, and only a
   * bucket with versioning shows that there was a second write. The price of not asking would be a check before each
   * write for ever.
   * @param bytes the object's size.
   */
  prove(bytes: number, writeAgain: () => Promise<unknown>): Promise<void>;
}

/** Begins with nothing known. */
export function createConditionalWrites(logger: Logger | undefined): ConditionalWrites {
  let state: 'unknown' | 'works' | 'missing' = 'unknown';
  let proving = false;
  let keepsIfMatch = false;

  function missing(): void {
    if (state === 'missing') return;
    state = 'missing';
    logger?.warn(
      'this store does not know conditional writes: existing objects are looked up before each write, and two workers ' +
        'on the same session at the same moment may write both',
    );
  }

  function works(): void {
    if (state === 'unknown') state = 'works';
  }

  return {
    get needsLookup() {
      return state !== 'works';
    },
    get send() {
      return state !== 'missing';
    },
    get keepsIfMatch() {
      return keepsIfMatch;
    },
    isAmazon() {
      keepsIfMatch = true;
      works();
    },
    works,
    missing,
    async prove(bytes, writeAgain) {
      if (state !== 'unknown' || proving || bytes > PROOF_MAX_BYTES) return;
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
