import { isVoicemailError, type VoicemailError } from '../domain/errors.ts';
import type { SessionRef } from '../domain/session.ts';
import type { TranscriptState } from '../domain/views.ts';
import type { KoreDocument } from '../domain/voicemail.ts';
import { CallLimitReached } from '../jobs/call-limit.ts';
import { type ManifestTranscript, readManifest, serialize } from '../storage/documents.ts';
import { manifestKey } from '../storage/layout.ts';
import { type ArchiveDeps, archiveTranscript } from './archive-session.ts';

/** What {@link awaitTranscript} needs of {@link ArchiveDeps}. */
export type TranscriptDeps = Pick<ArchiveDeps, 'fetchVoicemail' | 'store' | 'now'>;

/** How long to look for a transcript (milliseconds). */
export interface TranscriptWait {
  /** From the archiving of the session on. */
  readonly waitMs: number;
  /** So much longer while Kore can't be asked. */
  readonly extraMs: number;
}

/** What a look for a transcript came to. */
export interface TranscriptPoll {
  readonly state: TranscriptState;
  /** When to stop looking; a look at or after that time settles it. */
  readonly deadline: Date;
}

/**
 * Looks once more for the transcript of an archived session. Rewrites the manifest when the transcript has
 * come, or when it has not come in time; otherwise nothing changes.
 *
 * @throws VoicemailError with what kept it from looking, to be tried again.
 */
export async function awaitTranscript(
  session: SessionRef,
  { waitMs, extraMs }: TranscriptWait,
  deps: TranscriptDeps,
  signal: AbortSignal,
): Promise<TranscriptPoll> {
  const manifest = await readManifest(session, deps.store, signal);
  // Removed from the archive in the meantime: there is nothing to add a transcript to.
  if (!manifest) return { state: 'absent', deadline: deps.now() };
  const deadline = new Date(Date.parse(manifest.archivedAt) + waitMs);
  if (manifest.transcript.state !== 'pending') return { state: manifest.transcript.state, deadline };

  const lateBy = deps.now().getTime() - deadline.getTime();
  const messages = await lookForMessages(session, deps, signal, (error) => {
    // Kore forgetting the session means that there will be none.
    if (error.code === 'SESSION_NOT_FOUND') return true;
    return lateBy >= (error.retryable ? extraMs : 0) && error.code !== 'KORE_UNAUTHORIZED';
  });
  const isLastLook = deps.now() >= deadline;
  if (messages.length === 0 && !isLastLook) return { state: 'pending', deadline };

  // What lies there without being named in the manifest is the rest of a look that was cut short.
  const transcript: ManifestTranscript =
    messages.length === 0
      ? { state: 'absent' }
      : await archiveTranscript(session, messages, 'replace', deps.store, signal);
  const rewritten = serialize({ ...manifest, transcript });
  await deps.store.write(
    manifestKey(session),
    rewritten,
    { contentType: 'application/json' },
    'replace',
    signal,
  );
  return { state: transcript.state, deadline };
}

/** The messages there are by now; none where Kore answers with an error that ends the looking. */
async function lookForMessages(
  session: SessionRef,
  deps: TranscriptDeps,
  signal: AbortSignal,
  endsLooking: (error: VoicemailError) => boolean,
): Promise<readonly KoreDocument[]> {
  try {
    return (await deps.fetchVoicemail(session, 'background', signal)).transcriptions;
  } catch (error) {
    if (isVoicemailError(error) && !(error instanceof CallLimitReached) && endsLooking(error)) return [];
    throw error;
  }
}
