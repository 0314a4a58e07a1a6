/** Erases sessions for good, and holds them against that. */

import { setTimeout as sleep } from 'node:timers/promises';
import {
  type EraseOptions,
  type EraseResult,
  type ErasureView,
  type HoldResult,
  type HoldView,
  MAX_REASON_CHARACTERS,
  type ReleaseResult,
} from '../domain/custody.ts';
import { isVoicemailError } from '../domain/errors.ts';
import type { SessionRef } from '../domain/session.ts';
import type { SessionQueue } from '../jobs/session-queue.ts';
import { readHold, readTombstone, writeHold, writeTombstone } from '../storage/custody-records.ts';
import { deleteSession, type ProtectedVersion, planErasure, setLegalHolds } from '../storage/erase.ts';
import { holdKey, isHoldName, readSessionKey, tombstoneKey } from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';
import type { Logger } from '../util/log.ts';
import { printable } from '../util/text.ts';

/** What may be asked about the keeping of sessions. */
export interface CustodyOperations {
  /**
   * Deletes all that the archive and the queue have of a session, every version of it, and leaves a record that keeps
   * it from being archived again; also of a session that is not archived yet. One that was interrupted is ended by
   * asking for it again.
   *
   * @throws VoicemailError when the archive can't be asked, or refuses to delete; what was deleted until then is gone.
   */
  erase(session: SessionRef, options?: EraseOptions): Promise<EraseResult>;
  /** That a session was erased; `undefined` when it was not. */
  erasure(session: SessionRef): Promise<ErasureView | undefined>;
  /**
   * Keeps a session from being erased, until the hold is released. Setting it again changes nothing but new objects.
   * @param by who wants it, for its history.
   */
  setHold(session: SessionRef, reason?: string, by?: string): Promise<HoldResult>;
  /** Takes the hold off, S3's own on its objects included. @param by who wants it, for its history. */
  releaseHold(session: SessionRef, by?: string): Promise<ReleaseResult>;
  /** The hold on a session; `undefined` when there is none. */
  hold(session: SessionRef): Promise<HoldView | undefined>;
  /** All holds, or those of a bot. Lists the whole archive. */
  holds(botId?: string): Promise<HoldView[]>;
}

/** What {@link createCustodyOperations} works with. */
export interface CustodyOptions {
  readonly queue: SessionQueue;
  readonly store: ArchiveStore;
  /** Removes the notifications of a session, sent or not. */
  readonly forgetNotifications?: (session: SessionRef) => Promise<void>;
  readonly log: Logger;
  readonly now?: () => Date;
  /** How long a worker that works on the session may take to notice the erasure (milliseconds); default 30 s. */
  readonly workerWaitMs?: number;
}

/** As long as a killed worker's lock lasts, and a bit. */
const WORKER_WAIT_MS = 30_000;
const WORKER_POLL_MS = 100;

/** Custody of the sessions of a queue and an archive that this process has open. */
export function createCustodyOperations(options: CustodyOptions): CustodyOperations {
  const { queue, store, log, now = () => new Date(), workerWaitMs = WORKER_WAIT_MS } = options;
  const signal = new AbortController().signal; // the stores have timeouts of their own

  /** @returns whether no worker works on it any more. */
  async function takeOutOfQueue(session: SessionRef): Promise<boolean> {
    const giveUpAt = performance.now() + workerWaitMs;
    while (!(await queue.forget(session))) {
      if (performance.now() >= giveUpAt) return false;
      await sleep(WORKER_POLL_MS);
    }
    return true;
  }

  async function noteHold(session: SessionRef, event: 'held' | 'released', by?: string): Promise<void> {
    try {
      await queue.noteHold(session, event, by);
    } catch (error) {
      // It is done, whatever becomes of the session's history.
      log.warn(
        { ...about(session), err: error },
        `could not note in a session's history that it was ${event}`,
      );
    }
  }

  async function refusal(session: SessionRef): Promise<EraseResult | undefined> {
    const hold = await readHold(session, store, signal);
    return hold && { ...ids(session), outcome: 'refused', why: 'held', message: sayHeld(hold) };
  }

  return {
    async erase(session, { reason, dryRun } = {}) {
      const before = await readTombstone(session, store, signal);
      const held = await refusal(session);
      if (held) return held;
      const { forbidden, ...plan } = await planErasure(session, store, signal);
      if (forbidden) {
        return { ...ids(session), outcome: 'refused', why: whyOf(forbidden), message: sayLocked(forbidden) };
      }
      if (before?.state === 'erased' && plan.versions === 0) {
        if (!dryRun) {
          await queue.forget(session);
          await options.forgetNotifications?.(session);
        }
        return { ...ids(session), outcome: 'already-erased', ...plan, erasedAt: before.erasedAt };
      }
      if (dryRun) return { ...ids(session), outcome: 'would-erase', ...plan };

      const kept = reason === undefined ? before?.reason : cleanReason(reason);
      const record = { ...ids(session), ...(kept !== undefined && { reason: kept }) };
      await writeTombstone({ ...record, state: 'erasing', erasedAt: now().toISOString() }, store, signal);
      // A hold is recorded before the check for an erasure; so one of the two sees the other.
      const heldMeanwhile = await refusal(session);
      if (heldMeanwhile) {
        if (!before) await store.versions.hide(tombstoneKey(session), signal);
        return heldMeanwhile;
      }
      if (!(await takeOutOfQueue(session))) {
        log.warn(
          about(session),
          'a worker still works on the session: it deletes what it has written once it finds the erasure',
        );
      }
      const first = await deleteSession(session, store, signal);
      const erasedAt = now().toISOString();
      await writeTombstone({ ...record, state: 'erased', erasedAt }, store, signal);
      // What came while the first pass was under way.
      const second = await deleteSession(session, store, signal);
      await queue.forget(session);
      await options.forgetNotifications?.(session);
      const objects = first.objects + second.objects;
      const versions = first.versions + second.versions;
      log.info({ ...about(session), objects, versions }, 'a session was erased');
      return { ...ids(session), outcome: 'erased', objects, versions, erasedAt };
    },
    erasure: (session) => readTombstone(session, store, signal),
    async setHold(session, reason, by) {
      if (await readTombstone(session, store, signal)) return { ...ids(session), outcome: 'erased' };
      const before = await readHold(session, store, signal);
      const hold = before ?? (await recordHold(session, reason));
      if (!before && (await readTombstone(session, store, signal))) {
        await store.versions.hide(holdKey(session), signal);
        return { ...ids(session), outcome: 'erased' };
      }
      const held = await setLegalHolds(session, true, store, signal);
      log.info({ ...about(session), versions: held }, 'a session is held');
      if (!before) await noteHold(session, 'held', by);
      return { ...ids(session), outcome: before ? 'already-held' : 'held', hold, isLocked: held > 0 };
    },
    async releaseHold(session, by) {
      const hold = await readHold(session, store, signal);
      // First: a worker that finds no record puts no hold on what it writes.
      if (hold) await store.versions.hide(holdKey(session), signal);
      await setLegalHolds(session, false, store, signal);
      log.info(about(session), hold ? 'the hold on a session was released' : 'a session had no hold');
      if (hold) await noteHold(session, 'released', by);
      return { ...ids(session), outcome: hold ? 'released' : 'not-held' };
    },
    hold: (session) => readHold(session, store, signal),
    async holds(botId) {
      const holds: HoldView[] = [];
      for await (const { key } of store.list(botId === undefined ? '' : `bot_id=${botId}/`, signal)) {
        const place = readSessionKey(key);
        if (!place || !isHoldName(place.name) || key !== holdKey(place.session)) continue;
        const hold = await readHold(place.session, store, signal);
        if (hold) holds.push(hold);
      }
      return holds;
    },
  };

  async function recordHold(session: SessionRef, reason: string | undefined): Promise<HoldView> {
    const kept = reason === undefined ? undefined : cleanReason(reason);
    const hold = {
      ...ids(session),
      setAt: now().toISOString(),
      ...(kept !== undefined && { reason: kept }),
    };
    try {
      await writeHold(hold, store, signal);
      return hold;
    } catch (error) {
      // Another process set one at the same moment: that one counts.
      const other = isVoicemailError(error, 'ARCHIVE_CONFLICT') && (await readHold(session, store, signal));
      if (other) return other;
      throw error;
    }
  }
}

/** A reason as it is kept: on one line, without control characters and secrets, and bounded. */
function cleanReason(reason: string): string | undefined {
  return printable(reason, MAX_REASON_CHARACTERS) || undefined;
}

function ids({ sessionId, botId }: SessionRef): SessionRef {
  return { sessionId, botId };
}

function about({ sessionId, botId }: SessionRef) {
  return { session: sessionId, bot: botId };
}

function sayHeld({ sessionId, setAt, reason }: HoldView): string {
  const why = reason === undefined ? '' : ` (${reason})`;
  return `session ${sessionId} is under a legal hold since ${setAt}${why}, until it is released: nothing was deleted`;
}

function whyOf({ protection }: ProtectedVersion): 'held' | 'locked' {
  return protection.kind === 'hold' ? 'held' : 'locked';
}

function sayLocked({ key, protection }: ProtectedVersion): string {
  return protection.kind === 'hold'
    ? `${key} is under a legal hold of the bucket's, until it is released: nothing was deleted`
    : `${key} is locked by Object Lock (${protection.mode}) until ${protection.until.toISOString()}: nothing was deleted`;
}
