/** Writing a session's documents, over nothing but what was read: what they named before stays named. */

import { hash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { CallMetadata } from '../domain/call.ts';
import { isVoicemailError, VoicemailError } from '../domain/errors.ts';
import type { SessionRef } from '../domain/session.ts';
import {
  buildManifest,
  buildTranscript,
  type Manifest,
  type ManifestTranscript,
  type MissingRecording,
  nextRevision,
  type PartialManifest,
  parseManifest,
  parsePartialManifest,
  parseTranscript,
  readMessage,
  serialize,
  type TranscriptMessage,
} from '../storage/documents.ts';
import { manifestKey, partialManifestKey, transcriptKey } from '../storage/layout.ts';
import type { ArchiveStore, ObjectInfo, OverVersion, ReadObject, WriteMode } from '../storage/store.ts';
import { type RecordingChanges, withAdded, withReplaced } from './manifest-recordings.ts';

const JSON_INFO: ObjectInfo = { contentType: 'application/json' };

/** What has been found of a session. */
export interface ManifestChanges extends RecordingChanges {
  /** As received from Kore; empty where there are none (yet). */
  readonly messages: readonly unknown[];
  /** What is known of the call; what a manifest says of it stays unless it is written again by force. */
  readonly call?: CallMetadata | undefined;
}

/** What becomes of a manifest that is there. */
export interface RewriteOptions {
  /**
   * `add`: what is new is added, all else stays. `replace`: what was found takes the place of what has the same key,
   * the manifest counts as archived again, and one that can't be read is replaced.
   */
  readonly mode: 'add' | 'replace';
  readonly now: Date;
  /** Whether the transcript that this manifest awaits is given up. */
  readonly isTranscriptGivenUp?: (manifest: Manifest) => boolean;
  /** There is no manifest, as far as the caller knows: nothing is read unless there turns out to be one. */
  readonly isNew?: boolean;
}

/** Others write the same manifest at the same time as often as a session has writers: two or three. */
const MAX_TRIES = 10;

/**
 * Brings what was found into the session's transcript and manifest, the manifest last and as its next revision. Where
 * they have all of that already, nothing is written.
 *
 * A manifest that another process changes meanwhile is read again. So a stale read can neither undo what `--force`
 * wrote, nor say `absent` of a transcript that has come.
 *
 * @returns the manifest as it is now.
 * @throws VoicemailError `ARCHIVE_CONFLICT` when a document is there that can't be read; `ARCHIVE_UNAVAILABLE` when
 * others keep changing it; what the store throws.
 */
export async function rewriteManifest(
  session: SessionRef,
  found: ManifestChanges,
  options: RewriteOptions,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<Manifest> {
  const key = manifestKey(session);
  for (let tries = 0; tries < MAX_TRIES; tries += 1) {
    const isNew = options.isNew === true && tries === 0;
    const read = isNew ? undefined : await store.readVersion(key, signal);
    const before = read && readBefore(session, read, options, store);
    const transcript = await archiveTranscript(session, before, found.messages, options, store, signal);
    // Another process was faster with the transcript.
    if (!transcript) continue;
    const next = changedManifest(session, before, { ...found, transcript }, options);
    if (next === before) return next;
    const mode = read ? { over: read.version } : ('absent' as const);
    if (await wrote(key, serialize(next), mode, store, signal)) return next;
  }
  throw changedMeanwhile(store.fullKey(key));
}

/**
 * Notes what is saved of a session and what is not, in its partial manifest. Nothing is written where it says so
 * already.
 *
 * @throws as {@link rewriteManifest}.
 */
export async function rewritePartialManifest(
  session: SessionRef,
  found: ManifestChanges & { readonly missing: readonly MissingRecording[] },
  { mode, now }: Pick<RewriteOptions, 'mode' | 'now'>,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<void> {
  const key = partialManifestKey(session);
  for (let tries = 0; tries < MAX_TRIES; tries += 1) {
    const read = await store.readVersion(key, signal);
    const before = read && readPartial(session, read, store);
    const adding: RewriteOptions = { mode: 'add', now };
    const transcript = await archiveTranscript(session, before, found.messages, adding, store, signal);
    if (!transcript) continue;
    const next = changedPartial(session, before, { ...found, transcript }, { mode, now });
    if (next === before) return;
    const over = read ? { over: read.version } : ('absent' as const);
    if (await wrote(key, serialize(next), over, store, signal)) return;
  }
  throw changedMeanwhile(store.fullKey(key));
}

function changedMeanwhile(key: string): VoicemailError {
  return new VoicemailError('ARCHIVE_UNAVAILABLE', `${key} is changed by other processes all the time`);
}

/** @returns whether it was written; not when it is no longer what it was when it was read. */
async function wrote(
  key: string,
  bytes: Buffer,
  mode: WriteMode | OverVersion,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await store.write(key, bytes, JSON_INFO, mode, signal);
    return true;
  } catch (error) {
    if (isVoicemailError(error, 'ARCHIVE_CONFLICT')) return false;
    throw error;
  }
}

/**
 * The manifest as it was read. By force, a manifest that is broken or of another session is ignored, so that the
 * session can be repaired.
 */
function readBefore(
  session: SessionRef,
  { bytes }: ReadObject,
  { mode }: RewriteOptions,
  store: ArchiveStore,
): Manifest | undefined {
  const parse = () => parseManifest(bytes, store.fullKey(manifestKey(session)));
  return mode === 'add' ? parse() : ignoreForeign(session, parse);
}

function readPartial(
  session: SessionRef,
  { bytes }: ReadObject,
  store: ArchiveStore,
): PartialManifest | undefined {
  return ignoreForeign(session, () =>
    parsePartialManifest(bytes, store.fullKey(partialManifestKey(session))),
  );
}

/** What `parse` returns, unless it can't be read or is of another session. */
function ignoreForeign<Document extends SessionRef>(
  session: SessionRef,
  parse: () => Document,
): Document | undefined {
  try {
    const document = parse();
    const isOwn = document.sessionId === session.sessionId && document.botId === session.botId;
    return isOwn ? document : undefined;
  } catch (error) {
    if (isVoicemailError(error, 'ARCHIVE_CONFLICT')) return undefined;
    throw error;
  }
}

interface Contents extends RecordingChanges {
  readonly transcript: ManifestTranscript;
  readonly call?: CallMetadata | undefined;
}

/** The next revision; `before` itself where it says all that already. */
function changedManifest(
  session: SessionRef,
  before: Manifest | undefined,
  found: Contents,
  { mode, now }: RewriteOptions,
): Manifest {
  const { recordings, transcript, call } = found;
  if (!before) return buildManifest({ session, archivedAt: now, recordings, transcript, call });
  const isSameTranscript = sameTranscript(before.transcript, transcript);
  const changes = { ...(!isSameTranscript && { transcript }), ...(call && { call }) };
  if (mode === 'replace') {
    const replaced = withReplaced(before.recordings, recordings);
    return nextRevision(before, {
      ...before,
      ...changes,
      archivedAt: now.toISOString(),
      recordings: replaced,
    });
  }
  const all = withAdded(before.recordings, found);
  if (all === before.recordings && isSameTranscript) return before;
  return nextRevision(before, { ...before, ...changes, recordings: [...all] });
}

function changedPartial(
  session: SessionRef,
  before: PartialManifest | undefined,
  found: Contents & { readonly missing: readonly MissingRecording[] },
  { mode, now }: Pick<RewriteOptions, 'mode' | 'now'>,
): PartialManifest {
  const { recordings, transcript, call } = found;
  if (!before) {
    return {
      ...buildManifest({ session, archivedAt: now, recordings, transcript, call }),
      missing: [...found.missing],
    };
  }
  const missing = found.missing.map(
    (one) =>
      before.missing.find(({ fileName, code }) => one.fileName === fileName && one.code === code) ?? one,
  );
  const all =
    mode === 'replace' ? withReplaced(before.recordings, recordings) : withAdded(before.recordings, found);
  const isSameMissing =
    missing.length === before.missing.length && missing.every((one, at) => one === before.missing[at]);
  const isSameTranscript = sameTranscript(before.transcript, transcript);
  if (isDeepStrictEqual(all, before.recordings) && isSameMissing && isSameTranscript) return before;
  return nextRevision(before, {
    ...before,
    ...(!isSameTranscript && { transcript }),
    recordings: [...all],
    missing,
  });
}

function sameTranscript(a: ManifestTranscript, b: ManifestTranscript): boolean {
  return a.state === b.state && a.sha256 === b.sha256 && a.key === b.key;
}

/**
 * Brings messages into `transcript.json`.
 *
 * @returns what the manifest is to say of it; `undefined` when another process changed it meanwhile.
 */
async function archiveTranscript(
  session: SessionRef,
  before: Manifest | undefined,
  messages: readonly unknown[],
  options: RewriteOptions,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<ManifestTranscript | undefined> {
  const named = before?.transcript ?? { state: 'pending' as const };
  if (messages.length === 0) {
    const unnamed = before && (await readUnnamedTranscript(session, named, store, signal));
    if (unnamed) return unnamed;
    const isGivenUp = named.state === 'pending' && before && options.isTranscriptGivenUp?.(before);
    return isGivenUp ? { state: 'absent' } : named;
  }
  const key = transcriptKey(session);
  const fullKey = store.fullKey(key);
  const received = serialize(buildTranscript(session, messages));
  const archivedAs = (bytes: Buffer, count: number) => archivedTranscript(fullKey, bytes, count);
  // Most sessions have none yet, and a write without a check is one request.
  if (named.state !== 'archived' && (await wrote(key, received, 'absent', store, signal))) {
    return archivedAs(received, messages.length);
  }
  const existing = await store.readVersion(key, signal);
  if (!existing) {
    const isWritten = await wrote(key, received, 'absent', store, signal);
    return isWritten ? archivedAs(received, messages.length) : undefined;
  }
  if (existing.bytes.equals(received)) return archivedAs(received, messages.length);
  const merged = mergeInto(session, existing, messages, named, options, store);
  if (merged === 'keep') return archivedAs(existing.bytes, countOf(named, existing, fullKey));
  const bytes = serialize(buildTranscript(session, merged));
  const isWritten = await wrote(key, bytes, { over: existing.version }, store, signal);
  return isWritten ? archivedAs(bytes, merged.length) : undefined;
}

/**
 * The transcript in the archive, where it is whole and not the one that the manifest names. The process that wrote it
 * ended before it wrote the manifest, and Kore may list no messages any more.
 */
async function readUnnamedTranscript(
  session: SessionRef,
  named: ManifestTranscript,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<ManifestTranscript | undefined> {
  const key = transcriptKey(session);
  const bytes = await store.read(key, signal);
  if (!bytes || named.sha256 === hash('sha256', bytes)) return undefined;
  const fullKey = store.fullKey(key);
  const transcript = ignoreForeign(session, () => parseTranscript(bytes, fullKey));
  return transcript && archivedTranscript(fullKey, bytes, transcript.messages.length);
}

/** What a manifest says of an archived transcript. */
function archivedTranscript(key: string, bytes: Buffer, messages: number): ManifestTranscript {
  return { state: 'archived', key, bytes: bytes.length, sha256: hash('sha256', bytes), messages };
}

/** All messages, those that are there and those received; `keep` where nothing is to be changed. */
function mergeInto(
  session: SessionRef,
  existing: ReadObject,
  messages: readonly unknown[],
  named: ManifestTranscript,
  { mode }: RewriteOptions,
  store: ArchiveStore,
): readonly unknown[] | 'keep' {
  try {
    const transcript = parseTranscript(existing.bytes, store.fullKey(transcriptKey(session)));
    const isOwn = transcript.sessionId === session.sessionId && transcript.botId === session.botId;
    if (!isOwn && mode === 'replace') return messages;
    return mergeMessages(transcript.source, messages) ?? 'keep';
  } catch (error) {
    if (!isVoicemailError(error, 'ARCHIVE_CONFLICT')) throw error;
    // What the manifest names stays, whether it can be read here or not.
    if (named.sha256 === hash('sha256', existing.bytes)) return 'keep';
    if (mode === 'replace') return messages;
    throw error;
  }
}

function countOf(named: ManifestTranscript, existing: ReadObject, key: string): number {
  const isNamed = named.sha256 === hash('sha256', existing.bytes);
  return (isNamed ? named.messages : undefined) ?? parseTranscript(existing.bytes, key).messages.length;
}

/**
 * All messages of a transcript, in the order in which they were first seen. One that Kore has changed takes the place
 * of its earlier form, unless it has lost its text; none is removed because Kore no longer lists it.
 *
 * @returns `undefined` when nothing is new.
 */
function mergeMessages(
  before: readonly unknown[],
  received: readonly unknown[],
): readonly unknown[] | undefined {
  const merged = [...before];
  const places = new Map(named(before).map(({ name }, index) => [name, index]));
  let isChanged = false;
  for (const { name, message, document } of named(received)) {
    const place = places.get(name);
    if (place === undefined) {
      merged.push(document);
      isChanged = true;
      continue;
    }
    const earlier = readMessage(before[place]);
    // Fields that change with each answer are no reason to write it again.
    if (JSON.stringify(earlier) === JSON.stringify(message)) continue;
    if (message.text === null && earlier.text !== null) continue;
    merged[place] = document;
    isChanged = true;
  }
  return isChanged ? merged : undefined;
}

interface Named {
  /** The same for the same message in every answer. */
  readonly name: string;
  readonly message: TranscriptMessage;
  readonly document: unknown;
}

/** Messages by their ids, or by what they say; of several alike, each has a name of its own. */
function named(documents: readonly unknown[]): Named[] {
  const counts = new Map<string, number>();
  return documents.map((document) => {
    const message = readMessage(document);
    const base = message.id === null ? JSON.stringify(message) : `id ${message.id}`;
    const count = (counts.get(base) ?? 0) + 1;
    counts.set(base, count);
    return { name: `${base} ${count}`, message, document };
  });
}
