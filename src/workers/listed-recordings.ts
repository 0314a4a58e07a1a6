/** The recordings that Kore lists: which ones they are, whatever they are called by now, and their newest URLs. */

import { VoicemailError } from '../domain/errors.ts';
import type { KoreRecording } from '../domain/voicemail.ts';
import type { ManifestRecording } from '../storage/documents.ts';
import { shareResult } from '../util/async.ts';
import { presentableFileName } from '../util/file-name.ts';

/** What identifies a recording: its path and its name. */
interface RecordingIdentity {
  /** Of its URL; `undefined` where that has none. */
  readonly path: string | undefined;
  readonly fileName: string;
}

/**
 * Which of the recordings in a manifest each listed one is; `undefined` for those that only their bytes can identify.
 *
 * The path identifies a recording: host, query and `fileName` change from answer to answer. Where several share a path
 * (a host that selects files by the query), path and `fileName` together must be unique. A recording may be listed
 * twice: at its path, and at another one at which its bytes were found before.
 */
export function matchArchived(
  listed: readonly KoreRecording[],
  archived: readonly ManifestRecording[],
): (ManifestRecording | undefined)[] {
  const current = archived.filter(({ supersededBy }) => supersededBy === undefined);
  const pairs = pair(listed.map(identityOf), current.map(identityOfArchived), [byPath, byPathAndName]);
  const owners = ownersOfPaths(archived);
  const paths = uniquePaths(listed);
  return pairs.map((index, position) => {
    if (index !== undefined) return current[index];
    const path = paths[position];
    return path === undefined ? undefined : owners.get(path);
  });
}

/** The paths of listed recordings; `undefined` for those that share theirs and differ only by the query. */
export function uniquePaths(listed: readonly KoreRecording[]): (string | undefined)[] {
  const paths = listed.map(({ fileUrl }) => pathOf(fileUrl));
  return paths.map((path) => (paths.indexOf(path) === paths.lastIndexOf(path) ? path : undefined));
}

/** By the other paths at which their bytes were found; without those that several have. */
function ownersOfPaths(archived: readonly ManifestRecording[]): ReadonlyMap<string, ManifestRecording> {
  const owners = new Map<string, ManifestRecording>();
  const shared = new Set(archived.map(({ source }) => source.path));
  for (const entry of archived) {
    for (const path of entry.source.alsoAt ?? []) {
      if (owners.has(path)) shared.add(path);
      owners.set(path, entry);
    }
  }
  for (const path of shared) owners.delete(path);
  return owners;
}

/**
 * The position of each recording of an earlier answer in a later one. Both answers are of the same session, moments
 * apart. Where paths change with each answer, the `fileName` decides. Where nothing identifies them and there are as
 * many as before, the position does.
 */
function matchAnswers(
  earlier: readonly KoreRecording[],
  later: readonly KoreRecording[],
): (KoreRecording | undefined)[] {
  const found = pair(earlier.map(identityOf), later.map(identityOf), [byPath, byPathAndName, byName]);
  const isHopeless = earlier.length === later.length && found.every((index) => index === undefined);
  return found.map((index, position) => later[isHopeless ? position : (index ?? later.length)]);
}

/** What two recordings must have in common; `undefined` where one of them does not have it. */
type Criterion = (identity: RecordingIdentity) => string | undefined;

const byPath: Criterion = ({ path }) => path;
const byPathAndName: Criterion = ({ path, fileName }) => path && JSON.stringify([path, fileName]);
const byName: Criterion = ({ fileName }) => fileName || undefined;

/** The index of the partner of each of `ones`: by the first criterion that is unique among all of both sides. */
function pair(
  ones: readonly RecordingIdentity[],
  others: readonly RecordingIdentity[],
  criteria: readonly Criterion[],
): (number | undefined)[] {
  const partners: (number | undefined)[] = ones.map(() => undefined);
  const isPaired = new Set<number>();
  for (const criterion of criteria) {
    const ofOnes = indexesBy(ones, criterion);
    const ofOthers = indexesBy(others, criterion);
    for (const [value, [one, ...moreOnes]] of ofOnes) {
      const [other, ...moreOthers] = ofOthers.get(value) ?? [];
      if (one === undefined || other === undefined || moreOnes.length > 0 || moreOthers.length > 0) continue;
      if (partners[one] !== undefined || isPaired.has(other)) continue;
      partners[one] = other;
      isPaired.add(other);
    }
  }
  return partners;
}

function indexesBy(identities: readonly RecordingIdentity[], criterion: Criterion): Map<string, number[]> {
  const indexes = new Map<string, number[]>();
  for (const [index, identity] of identities.entries()) {
    const value = criterion(identity);
    if (value === undefined) continue;
    const before = indexes.get(value);
    if (before) before.push(index);
    else indexes.set(value, [index]);
  }
  return indexes;
}

function identityOf(recording: KoreRecording): RecordingIdentity {
  return { path: pathOf(recording.fileUrl), fileName: presentableFileName(recording) };
}

function identityOfArchived({ source, fileName }: ManifestRecording): RecordingIdentity {
  return { path: source.path === '' ? undefined : source.path, fileName };
}

/** The path of a URL as in manifests: without query, and percent-encoded where a request line needs it. */
function pathOf(fileUrl: string): string | undefined {
  const path = /^https?:\/\/[^/?#]+([^?#]*)/i.exec(fileUrl)?.[1];
  if (path === undefined) return undefined;
  return (path || '/').replace(/[^\x21-\x7e]+/g, (text) => encodeURIComponent(text.toWellFormed()));
}

/** A list of recordings, and how to get a later one. */
export interface UrlSource {
  readonly listed: readonly KoreRecording[];
  /** Fetches the list again, with fresh URLs. */
  readonly relist: (signal: AbortSignal) => Promise<readonly KoreRecording[]>;
}

/** The newest URLs of listed recordings, by their positions in the list. */
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
      if (!fresh) throw notListedYet('Kore no longer lists the recording: requesting it again');
      return fresh;
    },
    unseen: () => unseen,
  };
}

/** A recording that can't be downloaded now, because of Kore's listing. */
export function notListedYet(message: string): VoicemailError {
  return new VoicemailError('RECORDING_NOT_READY', message);
}
