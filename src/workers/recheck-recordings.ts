/** Downloads archived recordings again that may be cut, in case Kore has the whole ones by now. */

import { isVoicemailError } from '../domain/errors.ts';
import type { SessionRef } from '../domain/session.ts';
import type { KoreRecording } from '../domain/voicemail.ts';
import { buildManifestRecording, type ManifestRecording } from '../storage/documents.ts';
import { recordingKeys, sessionPrefix } from '../storage/layout.ts';
import type { FoundRecording } from '../transfer/transfer.ts';
import { forEachLimit } from '../util/async.ts';
import { asVoicemailError } from './failure-policy.ts';
import { followUrls, matchArchived, type UrlSource } from './listed-recordings.ts';
import type { BetterRecording } from './manifest-recordings.ts';
import { type FailedRecording, type RecordingsDeps, relativeKey } from './save-recordings.ts';

/** What there is to be downloaded again. */
export interface RecheckTask extends UrlSource {
  readonly session: SessionRef;
  /** As the manifest names them, together with those that are about to be added to it. */
  readonly archived: readonly ManifestRecording[];
  /** What does not come now does not come: recordings of any size are downloaded again. */
  readonly isLast: boolean;
}

/** What came of it. */
export interface RecheckedRecordings {
  /** Those of which something better is in the archive now. */
  readonly better: readonly BetterRecording[];
  /** Those that could not be downloaded again, and may be the next time. */
  readonly failed: readonly FailedRecording[];
}

/** No session waits for it. */
const AT_ONCE = 2;
/** So much of a session is downloaded again in each check but the last one: there may be dozens of checks. */
const BYTES_A_CHECK = 128 * 1024 * 1024;

/** Whether more bytes of an archived recording may still come. */
export function isUncertain({ integrity, supersededBy }: ManifestRecording): boolean {
  if (!integrity || supersededBy !== undefined) return false;
  return integrity.end !== undefined || integrity.state === 'unverified';
}

/**
 * Downloads the recordings again that are in doubt and still listed. What comes is stored, under a key of its own, only
 * where it is better than what is there: its end is confirmed, and it is sound or longer.
 *
 * @returns also what failed, which is not thrown.
 * @throws the signal's reason when aborted.
 */
export async function recheckRecordings(
  task: RecheckTask,
  { store, transfer, now }: RecordingsDeps,
  signal: AbortSignal,
): Promise<RecheckedRecordings> {
  const { session, archived } = task;
  const parts = withKeys(doubtfulParts(task), session, archived, (entry) =>
    relativeKey(entry.key, sessionPrefix(session), store),
  );
  const urls = followUrls(task, signal);
  const better: BetterRecording[] = [];
  const failed: FailedRecording[] = [];
  await forEachLimit(parts, AT_ONCE, async ({ index, before, key }) => {
    signal.throwIfAborted();
    const recording = urls.of(index);
    try {
      const found = await transfer(
        {
          key,
          recording,
          refresh: () => urls.renew(index),
          mode: 'absent',
          isStored: (sha256, bytes) =>
            archived.some((entry) => entry.sha256 === sha256 && entry.bytes === bytes),
          isWanted: (candidate) => isBetter(candidate, before),
        },
        signal,
      );
      const { sha256, integrity } = found;
      if (sha256 === before.sha256) {
        const confirmed = { ...integrity, notes: [...integrity.notes] };
        if (integrity.end === undefined) better.push({ before, now: { ...before, integrity: confirmed } });
      } else if (!archived.some((entry) => entry.sha256 === sha256) && isBetter(found, before)) {
        better.push({ before, now: buildManifestRecording(store.fullKey(key), recording, found) });
      }
    } catch (error) {
      signal.throwIfAborted();
      // It is still cut, or never the same: that is what the manifest says.
      if (isVoicemailError(error, 'RECORDING_TRUNCATED')) return;
      failed.push({ fileName: before.fileName, error: asVoicemailError(error), at: now(), isArchived: true });
    }
  });
  return { better, failed };
}

function isBetter({ bytes, integrity }: FoundRecording, before: ManifestRecording): boolean {
  return integrity.end === undefined && (integrity.state === 'verified' || bytes > before.bytes);
}

interface DoubtfulPart {
  /** Position in the list. */
  readonly index: number;
  readonly recording: KoreRecording;
  readonly before: ManifestRecording;
}

function doubtfulParts({ listed, archived, isLast }: RecheckTask): DoubtfulPart[] {
  const matched = matchArchived(listed, archived);
  const parts = listed.flatMap((recording, index) => {
    const before = matched[index];
    return before && isUncertain(before) ? [{ index, recording, before }] : [];
  });
  // One that is listed at two places is downloaded from the first one.
  const distinct = parts.filter(({ before }, at) => parts.findIndex((part) => part.before === before) === at);
  if (isLast) return distinct;
  let bytes = 0;
  return distinct
    .toSorted((a, b) => a.before.bytes - b.before.bytes)
    .filter((part) => {
      bytes += part.before.bytes;
      return bytes <= BYTES_A_CHECK;
    });
}

/** With a relative key for each that no archived recording has. */
function withKeys(
  parts: readonly DoubtfulPart[],
  session: SessionRef,
  archived: readonly ManifestRecording[],
  keyOf: (entry: ManifestRecording) => string | undefined,
): (DoubtfulPart & { readonly key: string })[] {
  const taken = archived.flatMap((entry) => keyOf(entry) ?? []);
  const keys = recordingKeys(
    parts.map(({ recording }) => recording),
    session,
    taken,
  ).values();
  return parts.map((part) => ({ ...part, key: keys.next().value ?? sessionPrefix(session) }));
}
