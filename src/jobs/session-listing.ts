import type { ListQuery, SessionPage } from '../domain/requests.ts';
import type { SessionRef } from '../domain/session.ts';
import type { SessionState, SessionView } from '../domain/views.ts';
import type { FoundJob, JobFilter, JobIndex, JobPlace, JobQueue } from './backends/backend.ts';
import { historyOf } from './session-history.ts';
import { jobId, type SessionJob, sessionOfJob, stateOfJob, viewOfJob } from './session-job.ts';

/** A cursor that no list has given out. */
export class InvalidCursorError extends Error {
  constructor() {
    super('the cursor is not one of a list: start again without one');
    this.name = 'InvalidCursorError';
  }
}

const DEFAULT_PAGE_SIZE = 100;
const MAX_PAGE_SIZE = 1_000;
/** How often a job is read again that changes its state while it is read. */
const MAX_READS = 5;

/** The view of a session, or `undefined` when the queue does not know it. */
export async function readView(queue: JobQueue, session: SessionRef): Promise<SessionView | undefined> {
  const id = jobId(session);
  let view: SessionView | undefined;
  for (let read = 0; read < MAX_READS; read += 1) {
    // BullMQ reads a job and its state one after the other.
    const state = stateOfJob(await queue.getJobState(id));
    const job = state && ((await queue.getJob(id)) as SessionJob | undefined);
    if (!job) return undefined;
    view = { ...viewOfJob(job, state), history: historyOf(job, state) };
    const isFinished = state === 'archived' || state === 'failed';
    if (isFinished === Boolean(job.finishedOn)) break;
  }
  return view;
}

/**
 * A page of sessions, newest first by when they were queued. Whatever becomes of sessions between two pages, none is
 * skipped or repeated that is there all the time.
 * @throws InvalidCursorError
 */
export async function listSessions(
  index: JobIndex,
  name: string,
  query: ListQuery = {},
): Promise<SessionPage> {
  const { state, code, botId, from, to, q } = query;
  const limit = Math.min(query.limit ?? DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE);
  const filter: JobFilter = {
    ...(state === 'partial' ? { state: 'failed', isPartial: true } : state && { state }),
    ...(code !== undefined && { code }),
    ...(botId !== undefined && { botId }),
    ...(q !== undefined && { text: q }),
    ...(from !== undefined && { from: Date.parse(from) }),
    ...(to !== undefined && { to: Date.parse(to) }),
  };
  // One more than requested shows whether there is another page.
  const found = await index.find(name, filter, parseCursor(query.cursor), limit + 1);
  const sessions = found.slice(0, limit).map((one) => viewOfJob(one.job, one.state));
  const last = found.length > limit ? found[limit - 1] : undefined;
  return { sessions, ...(last && { nextCursor: `${last.at}.${last.id}` }) };
}

/**
 * All sessions in some states, or those of them with an error code, that a predicate accepts; each of them once, even
 * if jobs move meanwhile.
 */
export async function findSessions(
  index: JobIndex,
  name: string,
  { states, code }: { readonly states: readonly SessionState[]; readonly code: string | undefined },
  accepts: (job: SessionJob) => boolean = () => true,
): Promise<SessionRef[]> {
  const found = new Map<string, SessionRef>();
  for (const state of states) {
    const filter: JobFilter = { state, ...(code !== undefined && { code }) };
    let page: readonly FoundJob[] = [];
    do {
      page = await index.find(name, filter, page.at(-1), MAX_PAGE_SIZE);
      for (const { id, job } of page) {
        const { sessionId, botId } = job.data;
        if (accepts(job)) found.set(id, { sessionId, botId });
      }
    } while (page.length === MAX_PAGE_SIZE);
  }
  return [...found.values()];
}

/** A cursor is the place of the last session that was listed: when it was queued, and the id of its job. */
function parseCursor(cursor: string | undefined): JobPlace | undefined {
  if (cursor === undefined) return undefined;
  const [, at = '', id = ''] = /^(\d{1,15})\.(.+)$/.exec(cursor) ?? [];
  if (!sessionOfJob(id)) throw new InvalidCursorError();
  return { at: Number(at), id };
}
