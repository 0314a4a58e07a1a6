/** Erasing sessions and holding them: what may be asked, and what is answered. */

import type { SessionRef } from './session.ts';

/** That a session was erased, or is being erased. */
export interface ErasureView extends SessionRef {
  /** `erasing` until everything is gone; an interrupted erasure stays so until it is requested again. */
  readonly state: 'erasing' | 'erased';
  /** When the erasure began, or once it is done, when it was done. ISO 8601. */
  readonly erasedAt: string;
  readonly reason?: string;
}

/** How a session is to be erased. */
export interface EraseOptions {
  /** For the record that stays; not to name persons. */
  readonly reason?: string;
  /** Only say what would be deleted. */
  readonly dryRun?: boolean;
}

/**
 * What became of the erasure of a session. `refused`: it is under a legal hold or an object of it is locked, as
 * `message` says, and nothing was deleted.
 */
export type EraseResult = SessionRef &
  (
    | {
        readonly outcome: 'erased' | 'would-erase' | 'already-erased';
        /** Objects that were deleted, or would be. */
        readonly objects: number;
        /** Their versions, delete markers among them. */
        readonly versions: number;
        /** Left out in a dry run. ISO 8601. */
        readonly erasedAt?: string;
      }
    | { readonly outcome: 'refused'; readonly why: 'held' | 'locked'; readonly message: string }
  );

/** A legal hold on a session. */
export interface HoldView extends SessionRef {
  /** ISO 8601 */
  readonly setAt: string;
  readonly reason?: string;
}

/** What became of setting a hold. `isLocked`: the bucket holds the objects as well. */
export type HoldResult = SessionRef &
  (
    | {
        readonly outcome: 'held' | 'already-held';
        readonly hold: HoldView;
        readonly isLocked: boolean;
      }
    | { readonly outcome: 'erased' }
  );

/** What became of taking a hold off. */
export interface ReleaseResult extends SessionRef {
  readonly outcome: 'released' | 'not-held';
}

/** The longest reason that is kept (characters). */
export const MAX_REASON_CHARACTERS = 500;
