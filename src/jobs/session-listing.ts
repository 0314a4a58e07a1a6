import type { JobState } from 'bullmq';
import type { ListQuery, SessionPage } from '../domain/requests.ts';
import type { SessionRef } from '../domain/session.ts';
import { SESSION_STATES, type SessionState, type SessionView } from '../domain/views.ts';
import type { JobQueue } from './backends/backend.ts';
import { BULLMQ_STATES, jobId, type SessionJob, sessionState, viewOfJob } from './session-job.ts';

/** A cursor that no list has given out, or that belongs to a list of other states. */
export class InvalidCursorError extends Error {
  constructor() {
    super('the cursor is not one of this list: start again without one');
    this.name = 'InvalidCursorError';
  }
}

const DEFAULT_PAGE_SIZE = 100;
const MAX_PAGE_SIZE = 1_000;
/** Jobs read at once when a list is filtered by error code. */
const SCAN_SIZE = 500;
/** A job that changes state while it is read is read again, at most so often. */
const MAX_READS = 5;

/** The view of a session, or `undefined` when the queue does not know it. */
export async function readView(queue: JobQueue, session: SessionRef): Promise<SessionView | undefined> {
  const id = jobId(session);
  let view: SessionView | undefined;
  for (let read = 0; read < MAX_READS; read += 1) {
    // BullMQ reads a job and its state one after the other.
    const state = sessionState(await queue.getJobState(id));
    const job = state && ((await queue.getJob(id)) as SessionJob | undefined);
    if (!job) return undefined;
    view = viewOfJob(job, state);
    const isFinished = state === 'archived' || state === 'failed';
    if (isFinished === Boolean(job.finishedOn)) break;
  }
  return view;
}

/** A page of sessions, newest first within each state. @throws InvalidCursorError */
export async function listSessions(queue: JobQueue, query: ListQuery = {}): Promise<SessionPage> {
  const limit = Math.min(query.limit ?? DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE);
  const states = query.state ? [query.state] : SESSION_STATES;
  const kinds = states.flatMap((state) => BULLMQ_STATES[state]);
  let { kind, offset } = parseCursor(query.cursor, kinds);
  const sessions: SessionView[] = [];
  while (kind < kinds.length) {
    const size = query.code ? SCAN_SIZE : limit - sessions.length;
    const bullmqState = kinds[kind] as JobState;
    const jobs = (await queue.getJobs([bullmqState], offset, offset + size - 1, false)) as SessionJob[];
    for (const job of jobs) {
      offset += 1;
      const view = viewOfJob(job, sessionState(bullmqState) ?? 'queued');
      if (query.code && view.error?.code !== query.code) continue;
      sessions.push(view);
      if (sessions.length === limit) return { sessions, nextCursor: `${kinds[kind]}:${offset}` };
    }
    // Not at the first short page: BullMQ leaves out jobs that went away between its two reads.
    if (jobs.length === 0) {
      kind += 1;
      offset = 0;
    }
  }
  return { sessions };
}

/** All sessions in some states that a predicate accepts; each of them once, even if jobs move meanwhile. */
export async function findSessions(
  queue: JobQueue,
  states: readonly SessionState[],
  accepts: (view: SessionView, job: SessionJob) => boolean,
): Promise<SessionRef[]> {
  const found = new Map<string, SessionRef>();
  for (const state of states) {
    for (const kind of BULLMQ_STATES[state]) {
      for (let offset = 0; ; ) {
        const end = offset + MAX_PAGE_SIZE - 1;
        const jobs = (await queue.getJobs([kind], offset, end, false)) as SessionJob[];
        if (jobs.length === 0) break;
        for (const job of jobs) {
          const { sessionId, botId } = job.data;
          if (accepts(viewOfJob(job, state), job)) found.set(jobId(job.data), { sessionId, botId });
        }
        offset += jobs.length;
      }
    }
  }
  return [...found.values()];
}

function parseCursor(
  cursor: string | undefined,
  kinds: readonly JobState[],
): { kind: number; offset: number } {
  if (cursor === undefined) return { kind: 0, offset: 0 };
  const [, name = '', offset = ''] = /^([a-z]+):(\d{1,9})$/.exec(cursor) ?? [];
  const kind = kinds.indexOf(name as JobState);
  if (kind === -1) throw new InvalidCursorError();
  return { kind, offset: Number(offset) };
}
