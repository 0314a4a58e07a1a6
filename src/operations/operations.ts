import { isErrorCode, isVoicemailError } from '../domain/errors.ts';
import type {
  ArchiverStats,
  CancelOutcome,
  CancelQuery,
  EnqueueRequest,
  EnqueueResult,
  ListQuery,
  RetryOutcome,
  SessionPage,
} from '../domain/requests.ts';
import type { SessionRef } from '../domain/session.ts';
import type { SessionView } from '../domain/views.ts';
import { historyOfArchived } from '../jobs/session-history.ts';
import { jobId, transferOf } from '../jobs/session-job.ts';
import type { SessionQueue } from '../jobs/session-queue.ts';
import { isErased } from '../storage/custody-records.ts';
import {
  type Manifest,
  type PartialManifest,
  readManifest,
  readPartialManifest,
  resultOf,
  revisionOf,
  viewOfMissing,
  viewOfRecording,
} from '../storage/documents.ts';
import { manifestKey, partialManifestKey } from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';
import type { Logger } from '../util/log.ts';
import { type ProcessFacts, readStats } from './stats.ts';

/**
 * What people and programs may ask of the archiver. The commands and the HTTP API are two ways to say it;
 * where another process holds the embedded queue, the commands say it to that one's API.
 */
export interface Operations {
  /** Queues sessions; when it returns the queue holds them. */
  enqueue(requests: readonly EnqueueRequest[]): Promise<EnqueueResult[]>;
  /** A session by its ids, also long after its job has gone from the queue; `undefined` when it is unknown. */
  view(session: SessionRef): Promise<SessionView | undefined>;
  list(query: ListQuery): Promise<SessionPage>;
  /** Runs a failed session again. @param by who wants it, for its history. */
  retry(session: SessionRef, by?: string): Promise<RetryOutcome>;
  /** Retries all failed sessions, or those with a code. @returns how many. */
  retryAll(code?: string, by?: string): Promise<number>;
  /** Takes a session out of the queue that is queued or waiting; what is archived stays. */
  cancel(session: SessionRef): Promise<CancelOutcome>;
  /** Cancels all queued and waiting sessions, or those that the query names. @returns how many. */
  cancelAll(query: CancelQuery): Promise<number>;
  /** No worker takes a session until {@link Operations.resume}; those in work go on. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  stats(): Promise<ArchiverStats>;
}

/**
 * Sessions the queue does not know are looked up in the archive one by one, which is right for a handful; of
 * more, the worker finds out which are archived.
 */
const MAX_ARCHIVE_LOOKUPS = 100;
/**
 * A session whose transcript is awaited, and that the queue has lost, is checked again after this time (milliseconds).
 */
const RECHECK_DELAY_MS = 1_000;
/** All of them together take no longer than this: who sends sessions waits for the queue, not for the archive. */
const ARCHIVE_LOOKUPS_MS = 5_000;

/**
 * Operations on a queue and an archive that this process has open.
 *
 * @param store may be missing: then sessions that the queue has forgotten are unknown.
 * @param own what this process knows besides the queue, for stats. Without breakers of its own, those of workers in
 *   other processes are shown.
 */
export function createOperations(
  queue: SessionQueue,
  store: ArchiveStore | undefined,
  log: Logger,
  own: ProcessFacts = {},
): Operations {
  /** What the archive knows of a session: by force, only whether it was erased matters. */
  const lookUp = async (
    session: EnqueueRequest,
    signal: AbortSignal,
  ): Promise<'archived' | 'erased' | 'unknown'> => {
    // The lookup that used up the time has logged it.
    if (!store || signal.aborted) return 'unknown';
    try {
      const [wasErased, manifest] = await Promise.all([
        isErased(session, store, signal),
        session.force ? undefined : readManifest(session, store, signal),
      ]);
      if (wasErased) return 'erased';
      // The queue has lost it, and with it that its transcript is awaited.
      if (manifest?.transcript.state === 'pending') await queue.awaitTranscript(session, RECHECK_DELAY_MS);
      return manifest ? 'archived' : 'unknown';
    } catch (error) {
      // It is there, whatever it says.
      if (isVoicemailError(error, 'ARCHIVE_CONFLICT')) return session.force ? 'unknown' : 'archived';
      // Taking sessions in must not depend on the archive: the worker checks again.
      log.warn(
        { session: session.sessionId, err: error },
        'could not find out whether a session is archived: queued',
      );
      return 'unknown';
    }
  };
  return {
    async enqueue(requests) {
      if (requests.length > MAX_ARCHIVE_LOOKUPS) return queue.enqueue(requests);
      let time: AbortSignal | undefined;
      const erased = new Set<string>();
      const results = await queue.enqueue(requests, async (session) => {
        time ??= AbortSignal.timeout(ARCHIVE_LOOKUPS_MS);
        const found = await lookUp(session, time);
        if (found === 'erased') erased.add(jobId(session));
        return found !== 'unknown';
      });
      return results.map((result) => (erased.has(jobId(result)) ? { ...result, erased: true } : result));
    },
    async view(session) {
      const view = await queue.view(session);
      if (!store || (view && view.state !== 'failed')) return view;
      if (!view) {
        const manifest = await readManifest(session, store, neverAborted());
        if (manifest) return viewOfManifest(manifest, session, store);
      }
      const partial = await readPartial(session, store, log);
      return partial ? { ...(view ?? failedView(partial, session)), ...partsOf(partial) } : view;
    },
    list: (query) => queue.list(query),
    async retry(session, by) {
      const outcome = await queue.retry(session, by);
      if (outcome !== 'unknown' || !store) return outcome;
      // One that the queue has forgotten has not failed if it is archived; if only a part of it is, it has.
      if (await store.head(manifestKey(session), neverAborted())) return 'not-failed';
      if (!(await store.head(partialManifestKey(session), neverAborted()))) return 'unknown';
      await queue.enqueue([{ ...session, ...(by !== undefined && { by }) }]);
      return 'requeued';
    },
    retryAll: (code, by) => queue.retryAll(code, by),
    cancel: (session) => queue.cancel(session),
    cancelAll: (query) => queue.cancelAll(query),
    pause: () => queue.pause(),
    resume: () => queue.resume(),
    stats: () => readStats(queue, own),
  };
}

/** What is saved of a failed session. A view must not fail for it. */
async function readPartial(
  session: SessionRef,
  store: ArchiveStore,
  log: Logger,
): Promise<PartialManifest | undefined> {
  try {
    return await readPartialManifest(session, store, neverAborted());
  } catch (error) {
    log.warn({ session: session.sessionId, err: error }, 'could not look what was saved of a failed session');
    return undefined;
  }
}

function partsOf({ recordings, missing }: PartialManifest): Pick<SessionView, 'recordings' | 'missing'> {
  return {
    recordings: recordings.map(viewOfRecording),
    missing: missing.map(viewOfMissing),
  };
}

/** The view of a failed session whose job has gone from the queue. */
function failedView({ archivedAt, missing }: PartialManifest, { sessionId, botId }: SessionRef): SessionView {
  const [first] = missing;
  const code = first && isErrorCode(first.code) ? first.code : 'INTERNAL';
  return {
    sessionId,
    botId,
    state: 'failed',
    attempts: 0,
    enqueuedAt: archivedAt,
    finishedAt: first?.at ?? archivedAt,
    error: { code, message: first?.message ?? '', retryable: true, at: first?.at ?? archivedAt },
  };
}

/** The view of a session whose job has gone from the queue. The archive does not remember when it was queued. */
function viewOfManifest(manifest: Manifest, session: SessionRef, store: ArchiveStore): SessionView {
  const { sessionId, botId } = session;
  const result = resultOf(manifest, session, store);
  return {
    sessionId,
    botId,
    state: 'archived',
    attempts: 0,
    enqueuedAt: manifest.archivedAt,
    finishedAt: manifest.archivedAt,
    progress: transferOf(result),
    ...result,
    history: historyOfArchived(manifest.archivedAt, revisionOf(manifest), result.recordings),
  };
}

/** The stores have timeouts of their own. */
function neverAborted(): AbortSignal {
  return new AbortController().signal;
}
