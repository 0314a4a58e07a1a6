/** Saves the recordings of a session, each by itself: a failed one keeps none of the others waiting. */

import { createHash } from 'node:crypto';
import { isVoicemailError, type VoicemailError } from '../domain/errors.ts';
import type { Integrity } from '../domain/recording.ts';
import type { SessionRef } from '../domain/session.ts';
import type { TransferProgress } from '../domain/views.ts';
import type { KoreRecording, RecordingWithoutUrl } from '../domain/voicemail.ts';
import { urlExpiry } from '../kore/url-expiry.ts';
import { buildManifestRecording, type ManifestRecording } from '../storage/documents.ts';
import { recordingKeys, sessionPrefix } from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';
import type { Transfer } from '../transfer/transfer.ts';
import { forEachLimit } from '../util/async.ts';
import { presentableFileName } from '../util/file-name.ts';
import { asVoicemailError } from './failure-policy.ts';
import {
  followUrls,
  matchArchived,
  notListedYet,
  type RecordingUrls,
  uniquePaths,
} from './listed-recordings.ts';

/** What there is to be saved. */
export interface RecordingsTask {
  readonly session: SessionRef;
  /** As Kore lists them now. */
  readonly listed: readonly KoreRecording[];
  /** Listed, but without a URL so far. */
  readonly withoutUrl: readonly RecordingWithoutUrl[];
  /** Those that are in the archive already: they are not downloaded again, unless by `force`. */
  readonly archived: readonly ManifestRecording[];
  /** Download all, and put them in the place of what is there, unless that is whole and they may not be. */
  readonly force: boolean;
  /** Identifies this forced run (ISO 8601): what one attempt has downloaded, the next one does not download again. */
  readonly forcedAt?: string | undefined;
  /**
   * Whether a recording with the bytes of an archived one is that one: `always`, or only where no other listed one is
   * it by its place (`unclaimed`).
   */
  readonly sameBytes: 'always' | 'unclaimed';
  /** `fileName`s of those that could not be saved before: they come last. */
  readonly failedBefore?: ReadonlySet<string>;
  /** Save what the audio itself says is cut, with a note of that. */
  readonly settleDoubt?: boolean;
  /** Fetches the list again, with fresh URLs. */
  readonly relist: (signal: AbortSignal) => Promise<readonly KoreRecording[]>;
}

/** What saving works with. */
export interface RecordingsDeps {
  readonly store: ArchiveStore;
  readonly transfer: Transfer;
  readonly now: () => Date;
  readonly onProgress?: (progress: TransferProgress) => void;
}

/** A recording that could not be saved. */
export interface FailedRecording {
  readonly fileName: string;
  readonly error: VoicemailError;
  readonly at: Date;
  /** It is in the archive, and only in doubt: a better one was searched for. */
  readonly isArchived?: boolean;
}

/** What saving came to. */
export interface SavedRecordings {
  /** Those in the archive now, in the order listed. */
  readonly saved: readonly ManifestRecording[];
  /** Those of them that were downloaded. */
  readonly downloaded: ReadonlySet<ManifestRecording>;
  /** By full key: paths at which the bytes of archived recordings were found for the first time. */
  readonly alsoAt: ReadonlyMap<string, readonly string[]>;
  readonly failed: readonly FailedRecording[];
}

/** Recordings of a session at a time: recordings that hang keep only few others waiting. */
const RECORDINGS_AT_ONCE = 4;
/** Then the next recording would fail the same way, after a download in vain. */
const ARCHIVE_FAULTS = ['ARCHIVE_UNAVAILABLE', 'ARCHIVE_DENIED'] as const;

/**
 * Downloads the recordings that are not archived yet: those that did not fail before first, and of these those whose
 * URLs expire first.
 *
 * @returns also what failed, which is not thrown.
 * @throws the signal's reason when aborted.
 */
export async function saveRecordings(
  task: RecordingsTask,
  deps: RecordingsDeps,
  signal: AbortSignal,
): Promise<SavedRecordings> {
  const parts = planParts(task, deps.store);
  const isDone = (entry: ManifestRecording) =>
    !task.force || (task.forcedAt !== undefined && entry.forcedAt === task.forcedAt);
  const open = parts.filter(({ before }) => before === undefined || !isDone(before));
  const saved = new Map<Part, ManifestRecording>();
  for (const part of parts) if (!open.includes(part) && part.before) saved.set(part, part.before);
  const failed = new Map<Part, FailedRecording>();
  const downloaded = new Set<ManifestRecording>();
  const alsoAt = new Map<string, string[]>();
  const paths = uniquePaths(task.listed);
  const urls = followUrls(task, signal);
  const twins = possibleTwins(parts, task);

  const received = new Map<Part, number>();
  const recordings = parts.length + task.withoutUrl.length;
  const report = () => {
    const bytes = parts.reduce((sum, part) => sum + (saved.get(part)?.bytes ?? received.get(part) ?? 0), 0);
    deps.onProgress?.({ recordings, recordingsDone: saved.size, bytes });
  };
  report();

  const fail = (part: Part, error: VoicemailError) =>
    failed.set(part, { fileName: presentableFileName(part.recording), error, at: deps.now() });
  let archiveFault: VoicemailError | undefined;
  await forEachLimit(inOrder(open, task), RECORDINGS_AT_ONCE, async (part) => {
    // The first error that is no recording's ends the others by the signal that they all wait for.
    signal.throwIfAborted();
    if (archiveFault) {
      fail(part, archiveFault);
      return;
    }
    try {
      const entry = await save(part, { urls, twins, task, deps, signal }, (bytes) => {
        received.set(part, bytes);
        report();
      });
      saved.set(part, entry);
      const path = paths[part.index];
      const isNew = entry !== part.before && !twins.includes(entry);
      if (isNew) downloaded.add(entry);
      else if (path !== undefined && twins.includes(entry))
        alsoAt.set(entry.key, [...(alsoAt.get(entry.key) ?? []), path]);
      report();
    } catch (error) {
      signal.throwIfAborted();
      const known = asVoicemailError(error);
      fail(part, known);
      if (ARCHIVE_FAULTS.some((code) => isVoicemailError(known, code))) archiveFault = known;
    }
  });
  const withoutUrl = task.withoutUrl.map(({ fileName, message }) => ({
    fileName,
    error: notListedYet(message),
    at: deps.now(),
  }));
  const unseen = urls.unseen().map((recording) => ({
    fileName: presentableFileName(recording),
    error: notListedYet('Kore lists one more recording than a moment ago: requesting it again'),
    at: deps.now(),
  }));
  return {
    saved: [...new Set(parts.flatMap((part) => saved.get(part) ?? []))],
    downloaded,
    alsoAt,
    failed: [...parts.flatMap((part) => failed.get(part) ?? []), ...withoutUrl, ...unseen],
  };
}

/** A listed recording, and where it lies or is to lie. */
interface Part {
  /** Position in the list. */
  readonly index: number;
  readonly recording: KoreRecording;
  /** What the manifest says of it, where it is archived. */
  readonly before: ManifestRecording | undefined;
  /** Relative. */
  readonly key: string;
}

/** Archived recordings of which a downloaded one may turn out to have the bytes. */
function possibleTwins(parts: readonly Part[], { archived, sameBytes, force }: RecordingsTask) {
  // By force, the bytes in the archive are what is not believed.
  if (force) return [];
  if (sameBytes === 'always') return archived;
  const claimed = new Set(parts.map(({ before }) => before));
  return archived.filter((entry) => !claimed.has(entry));
}

/** What is archived keeps its key; the keys of others depend on nothing but the recordings themselves. */
function planParts({ session, listed, archived, force }: RecordingsTask, store: ArchiveStore): Part[] {
  const prefix = sessionPrefix(session);
  const ownKey = (entry: ManifestRecording | undefined) => entry && relativeKey(entry.key, prefix, store);
  // A manifest that names what lies elsewhere is not believed in that.
  const own = archived.filter((entry) => ownKey(entry) !== undefined);
  const matched = matchArchived(listed, own);
  // By force, what was found at another path is not believed either: nothing is downloaded into one key twice.
  const before = matched.map((entry, index) => (force && matched.indexOf(entry) < index ? undefined : entry));
  const fresh = listed.filter((_, index) => before[index] === undefined);
  const freshKeys = recordingKeys(
    fresh,
    session,
    own.flatMap((entry) => ownKey(entry) ?? []),
  ).values();
  return listed.map((recording, index) => ({
    index,
    recording,
    before: before[index],
    key: ownKey(before[index]) ?? freshKeys.next().value ?? prefix,
  }));
}

/** The relative key of an object that lies right in a session's directory; `undefined` for any other. */
export function relativeKey(fullKey: string, prefix: string, store: ArchiveStore): string | undefined {
  const directory = store.fullKey(`${prefix}-`).slice(0, -1);
  const name = fullKey.startsWith(directory) ? fullKey.slice(directory.length) : '';
  return /^[^/\\\p{Cc}]+$/u.test(name) && !/^\.{1,2}$/.test(name) ? prefix + name : undefined;
}

function inOrder(parts: readonly Part[], { failedBefore }: RecordingsTask): Part[] {
  const rank = ({ recording }: Part) => (failedBefore?.has(presentableFileName(recording)) ? 1 : 0);
  const expiry = ({ recording }: Part) => urlExpiry(recording.fileUrl)?.getTime() ?? Number.MAX_SAFE_INTEGER;
  return [...parts].sort((a, b) => rank(a) - rank(b) || expiry(a) - expiry(b));
}

interface SaveContext {
  readonly urls: RecordingUrls;
  readonly twins: readonly ManifestRecording[];
  readonly task: RecordingsTask;
  readonly deps: RecordingsDeps;
  readonly signal: AbortSignal;
}

async function save(
  part: Part,
  { urls, twins, task, deps, signal }: SaveContext,
  onProgress: (bytes: number) => void,
): Promise<ManifestRecording> {
  const recording = urls.of(part.index);
  const twinOf = (sha256: string, bytes: number) =>
    twins.find((twin) => twin.sha256 === sha256 && twin.bytes === bytes);
  const kept = whatForceKeeps(part, task, deps.store, signal);
  let isKept = false;
  const transferred = await deps.transfer(
    {
      key: part.key,
      recording,
      refresh: () => urls.renew(part.index),
      mode: task.force ? 'replace' : 'absent',
      settleDoubt: task.settleDoubt === true,
      // Set only where it makes a difference: each byte passes it.
      ...(twins.length > 0 && { isStored: (sha256, bytes) => twinOf(sha256, bytes) !== undefined }),
      ...(kept && {
        isWanted: async (found) => {
          isKept = await kept.isBetterThan(found.integrity);
          return !isKept;
        },
      }),
      onProgress,
    },
    signal,
  );
  if (kept && isKept) return kept.entry;
  const twin = twinOf(transferred.sha256, transferred.bytes);
  if (twin) return twin;
  const entry = buildManifestRecording(deps.store.fullKey(part.key), recording, transferred);
  return { ...entry, ...(task.forcedAt !== undefined && { forcedAt: task.forcedAt }) };
}

/** What stays in its place although a force has downloaded something else. */
interface Kept {
  readonly entry: ManifestRecording;
  /** Whether it is to stay, rather than a recording of that integrity take its place. */
  isBetterThan(integrity: Integrity): Promise<boolean>;
}

/**
 * A whole recording gives way to nothing that may be cut: archiving again never makes the archive worse. One that is
 * gone from the archive, or was changed there, is no reason to leave anything out.
 */
function whatForceKeeps(
  { before, key }: Part,
  { force }: RecordingsTask,
  store: ArchiveStore,
  signal: AbortSignal,
): Kept | undefined {
  if (!force || !before || !isWhole(before.integrity)) return undefined;
  return {
    entry: before,
    isBetterThan: async (integrity) => !isWhole(integrity) && (await isSound(before, key, store, signal)),
  };
}

/** Manifests without integrity are from versions that archived nothing in doubt. */
function isWhole(
  integrity: Pick<NonNullable<ManifestRecording['integrity']>, 'state' | 'end'> | undefined,
): boolean {
  return integrity?.state !== 'suspect' && integrity?.end !== 'missing';
}

async function isSound(
  { bytes, sha256 }: ManifestRecording,
  key: string,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<boolean> {
  // Most that are not are gone, or shorter.
  if ((await store.head(key, signal))?.bytes !== bytes) return false;
  const hash = createHash('sha256');
  return (await store.scan(key, (chunk) => hash.update(chunk), signal)) && hash.digest('hex') === sha256;
}
