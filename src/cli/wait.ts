import { setTimeout as sleep } from 'node:timers/promises';
import type { SessionView } from '../jobs/view.ts';
import type { Operations } from '../operations/operations.ts';
import type { SessionRef } from '../session.ts';

/** A session that ended otherwise than archived. */
export interface Failure extends SessionRef {
  readonly code: string;
  readonly message: string;
}

/** How sessions have ended so far. */
export interface Ended {
  archived: number;
  readonly failures: Failure[];
}

/** Sessions asked about at once. */
const LOOKS_AT_ONCE = 16;
/** Sessions looked at before the next pause. */
const LOOKS_PER_ROUND = 256;
/** While nothing happens, the pause between two rounds grows. */
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;

/**
 * Waits until all sessions have ended, archived or failed. One whose recordings are archived has ended, even if
 * its transcript is still to come.
 *
 * @param onNews is called with what has ended so far.
 * @throws the signal's reason when aborted.
 */
export async function waitForEnd(
  sessions: readonly SessionRef[],
  operations: Operations,
  signal: AbortSignal,
  onNews: (ended: Ended) => void,
): Promise<Ended> {
  const ended: Ended = { archived: 0, failures: [] };
  const open = [...sessions];
  let pauseMs = FIRST_PAUSE_MS;
  while (open.length > 0) {
    signal.throwIfAborted();
    // Those that have not ended go to the back, so that a few that take long hide nothing.
    const round = open.splice(0, LOOKS_PER_ROUND);
    const unfinished = await lookAt(round, operations, ended);
    open.push(...unfinished);
    onNews(ended);
    if (unfinished.length < round.length) pauseMs = FIRST_PAUSE_MS;
    else {
      await sleep(pauseMs, undefined, { signal });
      pauseMs = Math.min(pauseMs * 1.5, LONGEST_PAUSE_MS);
    }
  }
  return ended;
}

/** Notes how those of the sessions that have ended did so. @returns the others. */
async function lookAt(sessions: SessionRef[], operations: Operations, ended: Ended): Promise<SessionRef[]> {
  const unfinished: SessionRef[] = [];
  for (let from = 0; from < sessions.length; from += LOOKS_AT_ONCE) {
    const some = sessions.slice(from, from + LOOKS_AT_ONCE);
    const views = await Promise.all(some.map((session) => operations.view(session)));
    for (const [index, session] of some.entries()) {
      const view = views[index];
      const failure = failureOf(session, view);
      if (failure) ended.failures.push(failure);
      else if (view?.state === 'archived') ended.archived += 1;
      else unfinished.push(session);
    }
  }
  return unfinished;
}

function failureOf({ sessionId, botId }: SessionRef, view: SessionView | undefined): Failure | undefined {
  if (!view) return { sessionId, botId, code: 'SESSION_NOT_FOUND', message: 'it was removed from the queue' };
  if (view.state !== 'failed') return undefined;
  return {
    sessionId,
    botId,
    code: view.error?.code ?? 'INTERNAL',
    message: view.error?.message ?? 'no reason was kept',
  };
}
