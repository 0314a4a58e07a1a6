/** The URLs of a session's recordings, which expire and are listed anew. */

import { VoicemailError } from '../domain/errors.ts';
import type { KoreRecording } from '../domain/voicemail.ts';
import { shareResult } from '../util/async.ts';
import { matchAnswers } from './recording-match.ts';

/** A list of recordings, and how to get a later one. */
export interface UrlSource {
  readonly listed: readonly KoreRecording[];
  /** Fetches the list anew, with fresh URLs. */
  readonly relist: (signal: AbortSignal) => Promise<readonly KoreRecording[]>;
}

/** The newest URLs of listed recordings, which are told by their positions in the list. */
export interface RecordingUrls {
  of(index: number): KoreRecording;
  /**
   * Fetches new ones, once for all who ask at the same time.
   * @throws VoicemailError `RECORDING_NOT_READY` when the recording is no longer listed.
   */
  renew(index: number): Promise<KoreRecording>;
  /** What newer lists have that the first one had not. */
  unseen(): readonly KoreRecording[];
}

/** Follows the URLs of listed recordings from list to list. */
export function followUrls({ listed, relist }: UrlSource, signal: AbortSignal): RecordingUrls {
  let latest: readonly (KoreRecording | undefined)[] = listed;
  let unseen: readonly KoreRecording[] = [];
  const relistOnce = shareResult(async () => {
    const later = await relist(signal);
    latest = matchAnswers(listed, later);
    unseen = later.length > listed.length ? later.filter((recording) => !latest.includes(recording)) : [];
  }, 0);
  return {
    of(index) {
      const recording = latest[index] ?? listed[index];
      if (!recording) throw new Error(`no recording is listed at position ${index}`);
      return recording;
    },
    async renew(index) {
      await relistOnce();
      const fresh = latest[index];
      if (!fresh) throw notListedYet('Kore no longer lists the recording: looking again');
      return fresh;
    },
    unseen: () => unseen,
  };
}

/** A recording that can't be had now, because of what Kore lists. */
export function notListedYet(message: string): VoicemailError {
  return new VoicemailError('RECORDING_NOT_READY', message);
}
