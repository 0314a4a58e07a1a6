import type { CallMetadata } from '../domain/call.ts';
import { isVoicemailError, VoicemailError } from '../domain/errors.ts';
import { beganAt, type SessionRef } from '../domain/session.ts';
import type { SessionResult, TransferProgress } from '../domain/views.ts';
import type { CallClass, Voicemail } from '../domain/voicemail.ts';
import {
  type Manifest,
  type ManifestRecording,
  type MissingRecording,
  type PartialManifest,
  readManifest,
  readPartialManifest,
  resultOf,
} from '../storage/documents.ts';
import { MANIFEST_NAME, PARTIAL_MANIFEST_NAME, sessionPrefix } from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';
import type { Transfer } from '../transfer/transfer.ts';
import { redact } from '../util/redact.ts';
import { isFinal, isLongOver, isOutage } from './failure-policy.ts';
import { rewriteManifest, rewritePartialManifest } from './rewrite-manifest.ts';
import { type FailedRecording, relativeKey, saveRecordings } from './save-recordings.ts';

/** A session to be archived. */
export interface SessionTask extends SessionRef {
  /** Archive again although the archive has it, taking the place of what is there. */
  readonly force: boolean;
  /** When that was requested (unix ms): attempts of the same request continue each other. */
  readonly forcedAt?: number | undefined;
  /** Live sessions go first where calls to Kore are scarce. */
  readonly callClass: CallClass;
  /** It may have no voicemail. */
  readonly isMaybe?: boolean;
  /** Archive recordings that the container says are cut, as `suspect`: waiting for whole ones is over. */
  readonly settleDoubt?: boolean;
  /** When it began (unix milliseconds), where its id does not say. */
  readonly beganAt?: number;
  /** What is known of the call, for the manifest. */
  readonly call?: CallMetadata;
  /**
   * The names in the session's directory as of a moment ago: a document that is not among them is not requested. Left
   * out where they were not listed. Nothing rests on it afterwards: what is written since is met by the conditions of
   * writes.
   */
  readonly names?: ReadonlySet<string>;
}

/** Everything archiving depends on. */
export interface ArchiveDeps {
  readonly fetchVoicemail: (
    session: SessionRef,
    callClass: CallClass,
    signal: AbortSignal,
  ) => Promise<Voicemail>;
  /**
   * Whether a session has a voicemail, from a source that answers for many sessions with one call; `undefined` where
   * only a request for the voicemail can show it. Used for sessions that may have none. Left out where there is no such
   * source.
   */
  readonly hasVoicemail?:
    | ((
        session: SessionRef & { readonly beganAt: number },
        signal: AbortSignal,
      ) => Promise<boolean | undefined>)
    | undefined;
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
  /** When, by its manifest. */
  readonly archivedAt: Date;
  readonly manifest: Manifest;
}

/**
 * Archives one session: fetch its metadata, stream each recording into the archive, write the transcript,
 * write the manifest last. A session that has a manifest is left alone, unless forced.
 *
 * Every recording is saved by itself. Where some can't be downloaded, the others are in the archive when this throws,
 * and `manifest.partial.json` names them: the next attempt goes on from there. It stays when the session fails for
 * good, and a later `manifest.json` replaces it.
 *
 * May be called any number of times and by several workers at once: nothing that is there is overwritten, what is
 * already there with the same bytes counts as done, and the first manifest stays. By force, the next revision of the
 * manifest takes its place; what it named stays named, also what Kore no longer lists, and whole recordings stay where
 * only doubtful ones come. Where a part of it fails, the next attempt of the same force downloads only what is left.
 *
 * @throws VoicemailError with the code of whatever kept the session, or one of its recordings, from being archived.
 */
export async function archiveSession(
  task: SessionTask,
  deps: ArchiveDeps,
  signal: AbortSignal,
): Promise<ArchivedSession> {
  const { store } = deps;
  const archived = await readArchived(task, store, signal);
  if (archived && !task.force) return summary(archived, task, store, true);

  const forcedAt = task.forcedAt === undefined ? undefined : new Date(task.forcedAt).toISOString();
  const [voicemail, partial] = await Promise.all([
    fetchReady(task, deps, signal),
    archived ? undefined : readPartial(task, store, signal),
  ]);
  const known = (archived ?? partial)?.recordings ?? [];
  const there = await present(task.force ? known.filter(isOf(forcedAt)) : known, task, store, signal);
  const { saved, downloaded, alsoAt, failed } = await saveRecordings(
    {
      session: task,
      listed: voicemail.recordings,
      withoutUrl: voicemail.withoutUrl,
      archived: task.force
        ? known.map((entry) => (isOf(forcedAt)(entry) && !there.includes(entry) ? unforced(entry) : entry))
        : there,
      sameBytes: 'unclaimed',
      force: task.force,
      forcedAt,
      failedBefore: new Set(partial?.missing.map(({ fileName }) => fileName)),
      settleDoubt: task.settleDoubt === true,
      relist: async () => (await fetchReady(task, deps, signal)).recordings,
    },
    deps,
    signal,
  );
  const missing = [...failed, ...vanished(voicemail, saved, failed, partial, deps.now())];
  const recordings = [...saved, ...known.filter((entry) => !saved.some(({ key }) => key === entry.key))];
  const found = { recordings, alsoAt, messages: voicemail.transcriptions, call: task.call };
  const mode = task.force ? 'replace' : 'add';
  const isNew = !archived && !task.force;
  if (missing.length === 0) {
    const written = await rewriteManifest(task, found, { mode, now: deps.now(), isNew }, store, signal);
    return summary(written, task, store, false);
  }
  if (archived) {
    // What was put into the place of archived recordings has to be named; the others stay as they are.
    const replaced = saved.filter((entry) => downloaded.has(entry));
    if (replaced.length > 0) {
      await rewriteManifest(
        task,
        { ...found, recordings: replaced },
        { mode, now: deps.now() },
        store,
        signal,
      );
    }
  } else if (recordings.length > 0) {
    const entries = missing.map(describeMissing);
    await rewritePartialManifest(
      task,
      { ...found, missing: entries },
      { mode, now: deps.now() },
      store,
      signal,
    );
  }
  throw mostRelevant(missing);
}

function summary(
  manifest: Manifest,
  session: SessionRef,
  store: ArchiveStore,
  alreadyArchived: boolean,
): ArchivedSession {
  return {
    ...resultOf(manifest, session, store),
    alreadyArchived,
    archivedAt: new Date(manifest.archivedAt),
    manifest,
  };
}

/**
 * The session's manifest. By force, a manifest that is broken or of another session is ignored, so that the session can
 * be repaired.
 */
async function readArchived(
  task: SessionTask,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<Manifest | undefined> {
  if (task.names && !task.names.has(MANIFEST_NAME)) return undefined;
  if (!task.force) return readManifest(task, store, signal);
  return ignoreForeign(task, () => readManifest(task, store, signal));
}

/** A partial manifest is only for this program: one that can't be read is written again. */
async function readPartial(
  session: Pick<SessionTask, 'botId' | 'sessionId' | 'names'>,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<PartialManifest | undefined> {
  if (session.names && !session.names.has(PARTIAL_MANIFEST_NAME)) return undefined;
  return ignoreForeign(session, () => readPartialManifest(session, store, signal));
}

async function ignoreForeign<Document extends Manifest>(
  session: SessionRef,
  read: () => Promise<Document | undefined>,
): Promise<Document | undefined> {
  try {
    const manifest = await read();
    const isOwn = manifest?.sessionId === session.sessionId && manifest.botId === session.botId;
    return isOwn ? manifest : undefined;
  } catch (error) {
    if (isVoicemailError(error, 'ARCHIVE_CONFLICT')) return undefined;
    throw error;
  }
}

/** Whether a recording was downloaded by that force. */
function isOf(forcedAt: string | undefined): (entry: ManifestRecording) => boolean {
  return (entry) => forcedAt !== undefined && entry.forcedAt === forcedAt;
}

/** As if no force had downloaded it. */
function unforced({ forcedAt: _any, ...entry }: ManifestRecording): ManifestRecording {
  return entry;
}

/** Those of the recordings that really are in the archive. */
async function present(
  recordings: readonly ManifestRecording[],
  session: SessionRef,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<ManifestRecording[]> {
  const looked = await Promise.all(
    recordings.map(async (recording) => {
      const key = relativeKey(recording.key, sessionPrefix(session), store);
      const object = key === undefined ? undefined : await store.head(key, signal);
      const isSame =
        object?.bytes === recording.bytes &&
        (object.sha256 === undefined || object.sha256 === recording.sha256);
      return isSame ? [recording] : [];
    }),
  );
  return looked.flat();
}

/**
 * Recordings that an earlier attempt could not save, and that Kore does not list any more. The session is still
 * incomplete without them. A recording may have got another name, so only their number counts.
 */
function vanished(
  { recordings, withoutUrl }: Voicemail,
  saved: readonly ManifestRecording[],
  failed: readonly FailedRecording[],
  partial: PartialManifest | undefined,
  now: Date,
): FailedRecording[] {
  if (!partial) return [];
  const before = partial.recordings.length + partial.missing.length;
  const isListed = new Set([...saved, ...failed].map(({ fileName }) => fileName));
  return partial.missing
    .filter(({ fileName }) => !isListed.has(fileName))
    .slice(0, Math.max(0, before - recordings.length - withoutUrl.length))
    .map(({ fileName }) => ({
      fileName,
      at: now,
      error: new VoicemailError(
        'RECORDING_NOT_READY',
        'Kore no longer lists the recording: requesting it again',
      ),
    }));
}

function describeMissing({ fileName, error, at }: FailedRecording): MissingRecording {
  return { fileName, code: error.code, message: redact(error.message), at: at.toISOString() };
}

/**
 * What can still change comes first: the session is tried on for its sake, although time is up for another recording.
 * A recording that looks cut is archived as it is in a moment, but only where its session remembers that it looked so;
 * outages are waited for the longest.
 */
function mostRelevant(failed: readonly FailedRecording[]): VoicemailError {
  const rank = ({ error }: FailedRecording) => {
    if (isFinal(error)) return 3;
    if (error.code === 'RECORDING_TRUNCATED') return 0;
    return isOutage(error) ? 1 : 2;
  };
  const [first] = failed.toSorted((a, b) => rank(a) - rank(b));
  if (!first) throw new Error('nothing failed');
  return first.error;
}

/** The metadata of a session whose recordings can be downloaded now. */
async function fetchReady(task: SessionTask, deps: ArchiveDeps, signal: AbortSignal): Promise<Voicemail> {
  await unlessListedWithout(task, deps, signal);
  const voicemail = await deps.fetchVoicemail(task, task.callClass, signal);
  switch (voicemail.readiness) {
    case 'ready':
      return voicemail;
    case 'later':
      if (
        task.isMaybe &&
        /^success$/i.test(voicemail.status.trim()) &&
        isLongOver(beganAt(task), deps.now().getTime())
      ) {
        throw noVoicemail('the session has no voicemail');
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
        { retryable: !(task.isMaybe && isLongOver(beganAt(task), deps.now().getTime())) },
      );
  }
}

/**
 * Asks the source for many sessions first, before a voicemail is requested that most such sessions do not have.
 * @throws VoicemailError where the source says that there is none, or none so far.
 */
async function unlessListedWithout(task: SessionTask, deps: ArchiveDeps, signal: AbortSignal): Promise<void> {
  const startedAt = beganAt(task);
  if (!task.isMaybe || startedAt === undefined || !deps.hasVoicemail) return;
  const { botId, sessionId } = task;
  const isThere = await deps.hasVoicemail({ botId, sessionId, beganAt: startedAt }, signal);
  if (isThere !== false) return;
  if (isLongOver(beganAt(task), deps.now().getTime()))
    throw noVoicemail('the session has no voicemail by call details');
  throw new VoicemailError('RECORDING_NOT_READY', 'call details have no voicemail so far');
}

function noVoicemail(message: string): VoicemailError {
  return new VoicemailError('RECORDING_UNAVAILABLE', message, { retryable: false });
}
