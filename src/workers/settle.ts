/** Checks archived sessions again for what comes late: recordings, messages, and awaited transcripts. */

import { isVoicemailError, type VoicemailError } from '../domain/errors.ts';
import { beganAt, type SessionRef } from '../domain/session.ts';
import type { SessionResult, TranscriptState } from '../domain/views.ts';
import type { Voicemail } from '../domain/voicemail.ts';
import { CallLimitReached } from '../jobs/call-limit.ts';
import type { Polls } from '../jobs/session-job.ts';
import { type Manifest, readManifest, resultOf } from '../storage/documents.ts';
import type { ArchiveDeps } from './archive-session.ts';
import { growingPause, withJitter } from './failure-policy.ts';
import { isUncertain, recheckRecordings } from './recheck-recordings.ts';
import { rewriteManifest } from './rewrite-manifest.ts';
import { type FailedRecording, type SavedRecordings, saveRecordings } from './save-recordings.ts';

/** What {@link settleSession} needs of {@link ArchiveDeps}. */
export type SettleDeps = Pick<ArchiveDeps, 'fetchVoicemail' | 'store' | 'transfer' | 'now'>;

/** How long to look (milliseconds), from the archiving of the session on. */
export interface SettleWaits {
  /** For its transcript: `TRANSCRIPT_WAIT`. */
  readonly transcriptWaitMs: number;
  /** When to look for late recordings and messages: `SETTLE_WAIT`; 0 for never. */
  readonly settleWaitMs: number;
  /** The extra time while Kore is unavailable, or a late recording can't be downloaded. */
  readonly extraMs: number;
}

/** The result of a check. */
export interface SettleResult {
  readonly transcript: TranscriptState;
  /** It was awaited until this check, and is no longer. */
  readonly hasSettledTranscript: boolean;
  /** Nothing more is awaited. */
  readonly isSettled: boolean;
  /** The latest time of the next check; left out where only its pauses decide. */
  readonly nextCheckAt?: Date;
  /** Whether something is awaited, so that an earlier check makes sense. */
  readonly isAwaiting: boolean;
  /** What this check brought into the archive; `better` ones are now sure to be whole, and were in doubt. */
  readonly added: { readonly recordings: number; readonly messages: number; readonly better: number };
  /** Late recordings that could not be saved (yet). */
  readonly failed: readonly FailedRecording[];
  /** The session as it is archived now; left out of one that is no longer, like its manifest. */
  readonly result?: SessionResult;
  readonly manifest?: Manifest;
}

/** A session, by its manifest. */
export interface ArchivedAt extends SessionRef {
  /** When it began (unix milliseconds), where its id does not say. */
  readonly beganAt?: number;
  readonly archivedAt: Date;
  readonly transcript: TranscriptState;
  /** More bytes of one of its recordings may still come. */
  readonly isInDoubt: boolean;
}

/**
 * When to check an archived session for the first time.
 *
 * @param pollDelayMs the first pause of checks for a transcript.
 * @returns milliseconds from now; `undefined` where there is nothing to look for.
 */
export function firstSettleDelay(
  session: ArchivedAt,
  {
    settleWaitMs,
    pollDelayMs,
    transcriptWaitMs,
  }: Pick<SettleWaits, 'settleWaitMs' | 'transcriptWaitMs'> & { readonly pollDelayMs: number },
  now: Date,
): number | undefined {
  const settleAt = settleTime(session, settleWaitMs);
  const untilSettled = settleAt && settleAt.getTime() - now.getTime();
  if (session.transcript === 'pending') {
    // Who does not wait for transcripts has the settling check alone.
    if (transcriptWaitMs === 0 && untilSettled !== undefined) return Math.max(untilSettled, 0);
    return Math.min(pollDelayMs, Math.max(untilSettled ?? pollDelayMs, 0));
  }
  return untilSettled !== undefined && untilSettled > 0 ? untilSettled : undefined;
}

/**
 * Checks an archived session again, behind all live work: adds recordings and messages that have come since, and
 * rewrites the manifest as its next revision. A transcript that has not come in time is `absent`. What is archived is
 * never taken back: neither what the manifest names, nor what other processes wrote during the check.
 *
 * @throws VoicemailError with the reason why the check failed; it is tried again.
 */
export async function settleSession(
  session: SessionRef,
  waits: SettleWaits,
  deps: SettleDeps,
  signal: AbortSignal,
): Promise<SettleResult> {
  const { store } = deps;
  const before = await readManifest(session, store, signal);
  if (!before) return REMOVED;
  const times = timesOf(session, before, waits);
  const isPending = before.transcript.state === 'pending';
  if (!isPending && !times.settleAt)
    return settleResultOf(before, before, NOTHING_SAVED, times, { session, waits, deps });

  const isLast = times.last.getTime() <= deps.now().getTime();
  const voicemail = await askKore(session, times, waits, deps, signal).catch(async (error: unknown) => {
    signal.throwIfAborted();
    // Objects of a process that ended before it wrote the manifest are named now, also during an outage of Kore.
    await rewriteManifest(session, NOTHING_FOUND, { mode: 'add', now: deps.now() }, store, signal);
    throw error;
  });
  const isReady = voicemail?.readiness === 'ready';
  const listed = isReady ? voicemail.recordings : [];
  const relist = async () => (await deps.fetchVoicemail(session, 'background', signal)).recordings;
  const { saved, downloaded, alsoAt, failed } = await saveRecordings(
    {
      session,
      listed,
      withoutUrl: isReady ? voicemail.withoutUrl : [],
      archived: before.recordings,
      sameBytes: 'always',
      force: false,
      settleDoubt: isLast,
      relist,
    },
    { store, transfer: deps.transfer, now: deps.now },
    signal,
  );
  const late = saved.filter((entry) => downloaded.has(entry));
  const rechecked = await recheckRecordings(
    {
      session,
      listed: waits.settleWaitMs > 0 ? listed : [],
      archived: [...before.recordings, ...late],
      isLast,
      relist,
    },
    { store, transfer: deps.transfer, now: deps.now },
    signal,
  );
  const manifest = await rewriteManifest(
    session,
    { recordings: late, better: rechecked.better, alsoAt, messages: voicemail?.transcriptions ?? [] },
    {
      mode: 'add',
      now: deps.now(),
      // Asked of the manifest that is written over: a session that was archived again has its own time.
      isTranscriptGivenUp: (current) =>
        transcriptGivenUpAt(session, current, waits).getTime() <= deps.now().getTime(),
    },
    store,
    signal,
  );
  return settleResultOf(
    before,
    manifest,
    { downloaded, better: rechecked.better.length, failed: [...failed, ...rechecked.failed] },
    times,
    { session, waits, deps },
  );
}

/** The session was removed from the archive: there is nothing to add to. */
const REMOVED: SettleResult = {
  transcript: 'absent',
  hasSettledTranscript: false,
  isSettled: true,
  isAwaiting: false,
  added: { recordings: 0, messages: 0, better: 0 },
  failed: [],
};

const NOTHING_FOUND = { recordings: [], messages: [] };
const NOTHING_SAVED: SavedLate = { downloaded: new Set(), better: 0, failed: [] };

type SavedLate = Pick<SavedRecordings, 'downloaded' | 'failed'> & { readonly better: number };

interface SettleTimes {
  /** When the check for late recordings is due; `undefined` where there is none. */
  readonly settleAt: Date | undefined;
  /** When an awaited transcript is given up. */
  readonly transcriptUntil: Date;
  /** The later of those that matter: what a check at or after that time does not find does not come. */
  readonly last: Date;
}

function timesOf(session: SessionRef, manifest: Manifest, waits: SettleWaits): SettleTimes {
  const archivedAt = new Date(manifest.archivedAt);
  const doubt = manifest.recordings.some(isUncertain);
  const settleAt = settleTime({ ...session, archivedAt, isInDoubt: doubt }, waits.settleWaitMs);
  const transcriptUntil = transcriptGivenUpAt(session, manifest, waits);
  const isPending = manifest.transcript.state === 'pending';
  const last = isPending
    ? Math.max(transcriptUntil.getTime(), settleAt?.getTime() ?? 0)
    : settleAt?.getTime();
  return { settleAt, transcriptUntil, last: new Date(last ?? 0) };
}

function transcriptGivenUpAt(
  session: SessionRef,
  { archivedAt }: Pick<Manifest, 'archivedAt'>,
  { transcriptWaitMs }: SettleWaits,
): Date {
  return new Date(transcriptDeadline(beganAt(session), Date.parse(archivedAt), transcriptWaitMs));
}

/**
 * A session that began longer ago than the wait when it was archived needs no check: nothing comes that late. What was
 * cut may still come whole, whenever it began.
 */
function settleTime(session: Omit<ArchivedAt, 'transcript'>, settleWaitMs: number): Date | undefined {
  const { archivedAt, isInDoubt: hasDoubt } = session;
  const isOld = archivedAt.getTime() - (beganAt(session) ?? Number.POSITIVE_INFINITY) > settleWaitMs;
  if (settleWaitMs === 0 || (isOld && !hasDoubt)) return undefined;
  return new Date(archivedAt.getTime() + settleWaitMs);
}

/** What Kore has by now; `undefined` where it answers with an error that ends the check. */
async function askKore(
  session: SessionRef,
  { last }: SettleTimes,
  { extraMs }: SettleWaits,
  deps: SettleDeps,
  signal: AbortSignal,
): Promise<Voicemail | undefined> {
  const lateBy = deps.now().getTime() - last.getTime();
  const endsPolling = (error: VoicemailError) => {
    if (error.code === 'KORE_UNAUTHORIZED' || error instanceof CallLimitReached) return false;
    // Kore forgets sessions; but it also says so of one that it knows again a moment later.
    if (error.code === 'SESSION_NOT_FOUND') return lateBy >= 0;
    return lateBy >= (error.retryable ? extraMs : 0);
  };
  try {
    return await deps.fetchVoicemail(session, 'background', signal);
  } catch (error) {
    if (isVoicemailError(error) && endsPolling(error)) return undefined;
    throw error;
  }
}

function settleResultOf(
  before: Manifest,
  manifest: Manifest,
  { downloaded, better, failed }: SavedLate,
  { settleAt, transcriptUntil }: SettleTimes,
  { session, waits, deps }: { session: SessionRef; waits: SettleWaits; deps: SettleDeps },
): SettleResult {
  const now = deps.now().getTime();
  const transcript = manifest.transcript.state;
  const isPending = transcript === 'pending';
  const isSettlePending = settleAt !== undefined && settleAt.getTime() > now;
  // A late recording that can't be downloaded is tried for a while; then it is reported and given up.
  const retryUntil = new Date((settleAt ?? transcriptUntil).getTime() + waits.extraMs);
  const isRetrying = failed.length > 0 && retryUntil.getTime() > now;
  const due = [isPending && transcriptUntil, isSettlePending && settleAt, isRetrying && retryUntil]
    .filter((time) => time instanceof Date)
    .filter((time) => time.getTime() > now)
    .map((time) => time.getTime());
  return {
    transcript,
    hasSettledTranscript: before.transcript.state === 'pending' && !isPending,
    isSettled: !isPending && !isSettlePending && !isRetrying,
    isAwaiting: isPending || isRetrying,
    ...(due.length > 0 && { nextCheckAt: new Date(Math.min(...due)) }),
    added: {
      recordings: downloaded.size,
      messages: Math.max(0, (manifest.transcript.messages ?? 0) - (before.transcript.messages ?? 0)),
      better,
    },
    failed,
    result: resultOf(manifest, session, deps.store),
    manifest,
  };
}

const HOUR_MS = 60 * 60 * 1000;

/** How checks of archived sessions are spread over time. Simulations and documents take these numbers from here. */
export const SETTLE_TIMES = {
  /** The longest pause: Kore may forget within a day, so hours without a check could cost the transcript. */
  longestPauseMs: HOUR_MS,
  /** The number of doublings with each check. */
  doublings: 2,
  /** A check that is due within this part of its pause before a scheduled check is made together with that one. */
  sharedPart: 0.25,
  /**
   * How long a session is checked that began longer ago than `TRANSCRIPT_WAIT` when it was archived. Its transcript may
   * be made on the first request; if it is not made in that time, it never will be.
   */
  oldTranscriptWaitMs: 10 * 60 * 1000,
} as const;

/**
 * When an awaited transcript is given up (unix milliseconds): `waitMs` after the session was archived, and sooner for
 * one that began long before that.
 *
 * @param beganAt when the session began, where its id says so.
 */
export function transcriptDeadline(beganAt: number | undefined, archivedAt: number, waitMs: number): number {
  const sinceBegan = Math.min(beganAt ?? archivedAt, archivedAt) + waitMs;
  const isOld = sinceBegan <= archivedAt;
  return archivedAt + (isOld ? Math.min(waitMs, SETTLE_TIMES.oldTranscriptWaitMs) : waitMs);
}

/** The next check for what is awaited. */
export interface NextSettleCheck {
  /** Unix milliseconds. */
  readonly at: number;
  readonly polls: Polls;
}

/**
 * When to check again. Pauses grow fourfold from check to check.
 *
 * @param before the checks so far.
 * @param dueAt when a check is to be made in any case (unix milliseconds): one that would come shortly before is that
 *   one.
 */
export function nextSettleCheck(
  before: Polls | undefined,
  now: number,
  {
    pollDelayMs,
    dueAt = Number.POSITIVE_INFINITY,
  }: { readonly pollDelayMs: number; readonly dueAt?: number },
  random: () => number = Math.random,
): NextSettleCheck {
  const polls = before ? { ...before, count: before.count + 1 } : { since: now, count: 1 };
  const { doublings, longestPauseMs } = SETTLE_TIMES;
  const pause = withJitter(growingPause(pollDelayMs, doublings * polls.count, longestPauseMs), random);
  const isShared = now + pause * (1 + SETTLE_TIMES.sharedPart) >= dueAt;
  return { at: isShared ? Math.max(dueAt, now) : now + pause, polls };
}
