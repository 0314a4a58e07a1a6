/** The recordings of a manifest's next revision: what the one before named stays named. */

import type { ManifestRecording } from '../storage/documents.ts';

/** An archived recording of which something better has been found. */
export interface BetterRecording {
  readonly before: ManifestRecording;
  /** With the same key where its bytes are the same, and only its integrity is better. */
  readonly now: ManifestRecording;
}

/** What is to be brought into a list of recordings. */
export interface RecordingChanges {
  readonly recordings: readonly ManifestRecording[];
  readonly better?: readonly BetterRecording[] | undefined;
  /** By full key: other paths at which archived recordings were listed. */
  readonly alsoAt?: ReadonlyMap<string, readonly string[]> | undefined;
}

/** How many other paths of a recording are stored. */
const MAX_PATHS = 16;

/** The list with what is new added to it; `before` itself where nothing is. */
export function withAdded(
  before: readonly ManifestRecording[],
  { recordings, better = [], alsoAt = new Map() }: RecordingChanges,
): readonly ManifestRecording[] {
  const improved = better.reduce(withBetter, before);
  const added = newRecordings(improved, recordings);
  const all = added.length > 0 ? [...improved, ...added] : improved;
  return alsoAt.size > 0 ? withPaths(all, alsoAt) : all;
}

/** What was found, and behind it what it does not take the place of. */
export function withReplaced(
  before: readonly ManifestRecording[],
  found: readonly ManifestRecording[],
): ManifestRecording[] {
  const keys = new Set(found.map(({ key }) => key));
  return [...found, ...before.filter(({ key }) => !keys.has(key))];
}

/** Those that are not named yet, by key or by their bytes. */
function newRecordings(
  before: readonly ManifestRecording[],
  found: readonly ManifestRecording[],
): ManifestRecording[] {
  const keys = new Set(before.map(({ key }) => key));
  const contents = new Set(before.map(({ sha256, bytes }) => `${sha256} ${bytes}`));
  return found.filter(({ key, sha256, bytes }) => !keys.has(key) && !contents.has(`${sha256} ${bytes}`));
}

/** The better one takes the place of the earlier one, which is named behind all others. */
function withBetter(
  recordings: readonly ManifestRecording[],
  { before, now }: BetterRecording,
): readonly ManifestRecording[] {
  const at = recordings.findIndex(({ key }) => key === before.key);
  const there = recordings[at];
  const isAsItWas = there?.sha256 === before.sha256 && there.supersededBy === undefined;
  if (now.key === before.key) {
    return there && isAsItWas ? recordings.with(at, { ...there, integrity: now.integrity }) : recordings;
  }
  if (recordings.some(({ key }) => key === now.key)) return recordings;
  if (there && isAsItWas) return [...recordings.with(at, now), { ...there, supersededBy: now.key }];
  // Another process has replaced it meanwhile: its recording stays, and the one stored here is named as well.
  return [...recordings, there ? { ...now, supersededBy: there.supersededBy ?? there.key } : now];
}

function withPaths(
  recordings: readonly ManifestRecording[],
  alsoAt: ReadonlyMap<string, readonly string[]>,
): readonly ManifestRecording[] {
  let isChanged = false;
  const changed = recordings.map((entry) => {
    const { source, key } = entry;
    const known = source.alsoAt ?? [];
    const paths = [...new Set(alsoAt.get(key))].filter(
      (path) => path !== source.path && !known.includes(path),
    );
    const room = paths.slice(0, Math.max(0, MAX_PATHS - known.length));
    if (room.length === 0) return entry;
    isChanged = true;
    return { ...entry, source: { ...source, alsoAt: [...known, ...room] } };
  });
  return isChanged ? changed : recordings;
}
