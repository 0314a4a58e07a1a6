import { hash } from 'node:crypto';
import { isVoicemailError, VoicemailError } from '../domain/errors.ts';
import { creationTime, type SessionRef } from '../domain/session.ts';
import type { SessionResult, TransferProgress } from '../domain/views.ts';
import type { CallClass, KoreDocument, KoreRecording, Voicemail } from '../domain/voicemail.ts';
import { urlExpiry } from '../kore/url-expiry.ts';
import {
  buildManifest,
  buildTranscript,
  type Manifest,
  type ManifestRecording,
  type ManifestTranscript,
  manifestRecording,
  parseTranscript,
  readManifest,
  resultOf,
  serialize,
} from '../storage/documents.ts';
import { manifestKey, recordingKeys, transcriptKey } from '../storage/layout.ts';
import type { ArchiveStore, ObjectInfo, WriteMode } from '../storage/store.ts';
import type { Transfer } from '../transfer/transfer.ts';

/** A session to be archived. */
export interface SessionTask extends SessionRef {
  /** Archive again although the archive has it, taking the place of what is there. */
  readonly force: boolean;
  /** Live sessions go first where calls to Kore are scarce. */
  readonly callClass: CallClass;
  /** Nobody knows whether it has a voicemail. */
  readonly isMaybe?: boolean;
}

/** Everything archiving depends on. */
export interface ArchiveDeps {
  readonly fetchVoicemail: (
    session: SessionRef,
    callClass: CallClass,
    signal: AbortSignal,
  ) => Promise<Voicemail>;
  readonly store: ArchiveStore;
  readonly transfer: Transfer;
  readonly now: () => Date;
  /** Called as bytes arrive and recordings are done. */
  readonly onProgress: (progress: TransferProgress) => void;
}

/** What a session came to. */
export interface ArchivedSession extends SessionResult {
  /** The archive had it before, so nothing was transferred. */
  readonly alreadyArchived: boolean;
}

const JSON_INFO: ObjectInfo = { contentType: 'application/json' };

/**
 * Archives one session: fetch its metadata, stream each recording into the archive, write the transcript,
 * write the manifest last. A session that has a manifest is left alone, unless forced.
 *
 * May be called any number of times and by several workers at once: nothing that is there is overwritten, what
 * is already there with the same bytes counts as done, and the first manifest stays.
 *
 * @throws VoicemailError with the code of whatever kept the session from being archived.
 */
export async function archiveSession(
  task: SessionTask,
  deps: ArchiveDeps,
  signal: AbortSignal,
): Promise<ArchivedSession> {
  const archived = await (task.force ? readOldManifest : readManifest)(task, deps.store, signal);
  if (archived && !task.force) {
    return { ...resultOf(archived, task, deps.store), alreadyArchived: true };
  }

  const voicemail = await fetchReady(task, deps, signal);
  const recordings = await archiveRecordings(task, voicemail.recordings, deps, signal);
  const [withoutUrl] = voicemail.withoutUrl;
  if (withoutUrl) throw new VoicemailError('RECORDING_NOT_READY', withoutUrl.message);
  const mode = task.force ? 'replace' : 'absent';
  const transcript = await archiveTranscript(task, voicemail.transcriptions, mode, deps.store, signal);
  const manifest = buildManifest({
    session: task,
    archivedAt: deps.now(),
    recordings,
    // Archiving again must not lose a transcript that Kore no longer has.
    transcript: transcript.state === 'pending' && archived ? archived.transcript : transcript,
  });
  const written = await archiveManifest(task, manifest, mode, deps.store, signal);
  return { ...resultOf(written, task, deps.store), alreadyArchived: false };
}

/**
 * The manifest whose place is to be taken. One that is broken, or of another session, tells nothing of this one, and is
 * no reason to leave the session broken.
 */
async function readOldManifest(
  session: SessionRef,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<Manifest | undefined> {
  try {
    const manifest = await readManifest(session, store, signal);
    const isOwn = manifest?.sessionId === session.sessionId && manifest.botId === session.botId;
    return isOwn ? manifest : undefined;
  } catch (error) {
    if (isVoicemailError(error, 'ARCHIVE_CONFLICT')) return undefined;
    throw error;
  }
}

/**
 * Writes `transcript.json` and returns what the manifest is to say of it: `pending` while there are no
 * messages.
 */
export async function archiveTranscript(
  session: SessionRef,
  messages: readonly KoreDocument[],
  mode: WriteMode,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<ManifestTranscript> {
  if (messages.length === 0) return { state: 'pending' };
  const key = transcriptKey(session);
  const transcript = buildTranscript(session, messages);
  const bytes = serialize(transcript);
  try {
    await store.write(key, bytes, JSON_INFO, mode, signal);
    return describeTranscript(bytes, transcript.messages.length, store.fullKey(key));
  } catch (error) {
    if (!isVoicemailError(error, 'ARCHIVE_CONFLICT') || mode === 'replace') throw error;
    // An attempt before this one, or a worker beside it, saw other messages. Its transcript is whole, and it may
    // be about to be named in a manifest, so it stays and this manifest names it as well.
    const existing = await store.read(key, signal);
    if (!existing) throw error;
    return describeTranscript(
      existing,
      parseTranscript(existing, store.fullKey(key)).messages.length,
      store.fullKey(key),
    );
  }
}

function describeTranscript(bytes: Buffer, messages: number, key: string): ManifestTranscript {
  return { state: 'archived', key, bytes: bytes.length, sha256: hash('sha256', bytes), messages };
}

/** The metadata of a session whose recordings can be had now. */
async function fetchReady(task: SessionTask, deps: ArchiveDeps, signal: AbortSignal): Promise<Voicemail> {
  const voicemail = await deps.fetchVoicemail(task, task.callClass, signal);
  switch (voicemail.readiness) {
    case 'ready':
      return voicemail;
    case 'later':
      if (task.isMaybe && /^success$/i.test(voicemail.status.trim()) && isLongOver(task, deps.now())) {
        throw new VoicemailError('RECORDING_UNAVAILABLE', 'the session has no voicemail', {
          retryable: false,
        });
      }
      throw new VoicemailError(
        'RECORDING_NOT_READY',
        `Kore has no recording yet (status "${voicemail.status}")`,
      );
    case 'never':
      throw new VoicemailError(
        'RECORDING_UNAVAILABLE',
        `Kore has no recording of this session (status "${voicemail.status}")`,
        // In the first minutes it says so of recordings that come all the same.
        { retryable: !(task.isMaybe && isLongOver(task, deps.now())) },
      );
  }
}

/** Kore has recordings within 10 minutes of a call's end, and a call that goes on has another status. */
const EMPTY_FOR_GOOD_MS = 60 * 60 * 1000;

/**
 * Whether a session that lists no recordings has none, rather than none yet: it began more than an hour ago, as far as
 * its id tells. Looking again for `RECORDING_WAIT` would cost each of the many sessions without a voicemail dozens of
 * calls; one whose recording comes later still is found by a later backfill.
 */
function isLongOver(session: SessionRef, now: Date): boolean {
  const beganAt = creationTime(session.sessionId)?.getTime();
  return beganAt !== undefined && now.getTime() - beganAt > EMPTY_FOR_GOOD_MS;
}

/** Streams every recording into the archive, those whose URLs expire first first. */
async function archiveRecordings(
  task: SessionTask,
  listed: readonly KoreRecording[],
  deps: ArchiveDeps,
  signal: AbortSignal,
): Promise<ManifestRecording[]> {
  const mode = task.force ? 'replace' : 'absent';
  // A refresh renews the URLs of all recordings, so those still to come profit from it as well.
  let current = byKey(listed, task);
  const keys = [...current.keys()];
  const refresh = async (key: string): Promise<KoreRecording> => {
    const fresh = byKey((await fetchReady(task, deps, signal)).recordings, task);
    if (fresh.size !== keys.length) throw otherRecordings();
    current = fresh;
    return recordingAt(current, key);
  };

  const done = new Map<string, ManifestRecording>();
  let bytesDone = 0;
  const report = (bytes: number) =>
    deps.onProgress({ recordings: keys.length, recordingsDone: done.size, bytes: bytesDone + bytes });
  report(0);
  for (const key of expiringFirst(current)) {
    const recording = recordingAt(current, key);
    const transferred = await deps.transfer(
      { key, recording, refresh: () => refresh(key), mode, onProgress: report },
      signal,
    );
    done.set(key, manifestRecording(deps.store.fullKey(key), recording, transferred));
    bytesDone += transferred.bytes;
    report(0);
  }
  return keys.flatMap((key) => done.get(key) ?? []);
}

/** Recordings by their keys, in the order listed. */
function byKey(recordings: readonly KoreRecording[], session: SessionRef): Map<string, KoreRecording> {
  const keys = recordingKeys(recordings, session);
  return new Map(recordings.map((recording, index) => [keys[index] ?? '', recording]));
}

/** The keys of recordings, those that expire first first, those of unknown expiry last. */
function expiringFirst(recordings: ReadonlyMap<string, KoreRecording>): string[] {
  const expiry = ({ fileUrl }: KoreRecording) => urlExpiry(fileUrl)?.getTime() ?? Number.MAX_SAFE_INTEGER;
  return [...recordings].sort(([, a], [, b]) => expiry(a) - expiry(b)).map(([key]) => key);
}

function recordingAt(recordings: ReadonlyMap<string, KoreRecording>, key: string): KoreRecording {
  const recording = recordings.get(key);
  if (!recording) throw otherRecordings();
  return recording;
}

/** Then the session is started over, so that its manifest names them all. */
function otherRecordings(): VoicemailError {
  return new VoicemailError(
    'RECORDING_NOT_READY',
    'Kore lists other recordings than a moment ago: looking again from the start',
  );
}

/** Writes the manifest, unless somebody else was first: then theirs counts. */
async function archiveManifest(
  session: SessionRef,
  manifest: Manifest,
  mode: WriteMode,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<Manifest> {
  try {
    await store.write(manifestKey(session), serialize(manifest), JSON_INFO, mode, signal);
    return manifest;
  } catch (error) {
    if (!isVoicemailError(error, 'ARCHIVE_CONFLICT')) throw error;
    const existing = await readManifest(session, store, signal);
    if (!existing) throw error;
    return existing;
  }
}
