import type { Integrity } from '../domain/recording.ts';
import type { Conclusion } from './audio/container.ts';

/** How a download ended, as far as its integrity is concerned. */
export interface DownloadEnd {
  /** A length, the end of its chunks or a complete range told where the body ends, and every byte came. */
  readonly isLengthKnown: boolean;
  /** What the container says; `undefined` where none was recognised. */
  readonly conclusion: Conclusion | undefined;
  /** An earlier download brought the very same bytes, and none brought more. */
  readonly isRepeated: boolean;
  /** Remarks on how the bytes came, in plain English. */
  readonly notes?: readonly string[];
}

/** What is to be said of a download, and whether more of the recording may still be had. */
export interface IntegrityJudgement {
  /** What the manifest says if the bytes are archived as they are. */
  readonly integrity: Integrity;
  /**
   * `cut`: the container claims more bytes than came, so another download may bring them. `unconfirmed`: nothing told
   * where the body ends, and no second download has brought the same bytes yet. `undefined`: nothing speaks against
   * archiving it at once.
   */
  readonly doubt: 'cut' | 'unconfirmed' | undefined;
}

const UNKNOWN_CONTAINER = 'it is in no audio container known here';
const UNKNOWN_END = 'nothing told where it ends, and repeated downloads did not bring the same bytes';

/** Judges a download that ended without an error. The one place that decides the manifest's `integrity`. */
export function judgeIntegrity(download: DownloadEnd): IntegrityJudgement {
  const { isLengthKnown, conclusion, isRepeated } = download;
  const isCut = conclusion?.end === 'missing';
  const isConfirmed = isLengthKnown || conclusion?.end === 'confirmed';
  const notes = [
    ...(download.notes ?? []),
    ...(conclusion === undefined ? [UNKNOWN_CONTAINER] : conclusion.notes),
    ...(isCut || isConfirmed || isRepeated ? [] : [UNKNOWN_END]),
  ];
  const sound = isConfirmed ? 'verified' : 'unverified';
  const unsure = isConfirmed ? undefined : 'unconfirmed';
  const end = isCut ? 'missing' : unsure;
  return {
    integrity: { state: isCut || notes.length > 0 ? 'suspect' : sound, notes, ...(end && { end }) },
    doubt: isCut ? 'cut' : isConfirmed || isRepeated ? undefined : 'unconfirmed',
  };
}
