import type {
  HistoryEntry,
  HistoryEvent,
  RecordingView,
  SessionError,
  SessionState,
} from '../domain/views.ts';
import { parseFailureReason, type SessionJob } from './session-job.ts';

/**
 * An event of a session, as its job stores it. What the other fields of the job say (when it was queued, taken,
 * archived) is not stored a second time: see {@link historyOf}.
 */
export interface NotedEvent extends Pick<HistoryEntry, 'at' | 'by' | 'code' | 'message' | 'detail'> {
  readonly event: HistoryEvent;
  /** Of a wait: until when. ISO 8601. */
  readonly until?: string;
  /** How often the same event happened in a row, first at `since`. */
  readonly times?: number;
  readonly since?: string;
}

/** How many of the latest events are kept. */
const MAX_EVENTS = 50;
/** Full messages are with the error; here a short one is enough. */
const MAX_MESSAGE_CHARACTERS = 200;

/** The events with one more; waits for the same reason, one after the other, are one. */
export function noteEvent(events: readonly NotedEvent[], event: NotedEvent): NotedEvent[] {
  const short = event.message === undefined ? event : { ...event, message: cut(event.message) };
  const last = events.at(-1);
  // The same event again: a worker ended before it could report the end of its attempt to the queue.
  if (last?.event === event.event && last.at === event.at) return [...events.slice(0, -1), short];
  if (last && last.event === 'waiting' && event.event === 'waiting' && last.code === event.code) {
    const merged = { ...short, times: (last.times ?? 1) + 1, since: last.since ?? last.at };
    return [...events.slice(0, -1), merged];
  }
  return [...events, short].slice(-MAX_EVENTS);
}

/** What a job that has ended is to remember when it is put back into the queue. */
export function historyBefore(job: SessionJob, state: SessionState, again: NotedEvent): NotedEvent[] {
  return noteEvent(happened(job, state), again);
}

/**
 * The history of a session, the oldest first: recorded events, and those that follow from the other fields of the job.
 */
export function historyOf(job: SessionJob, state: SessionState): HistoryEntry[] {
  const { by } = job.data;
  const queued: NotedEvent = { at: iso(job.timestamp), event: 'enqueued', ...(by !== undefined && { by }) };
  return [queued, ...happened(job, state)].slice(-MAX_EVENTS).map(entryOf);
}

/** The history of an archived session that the queue has forgotten. */
export function historyOfArchived(
  at: string,
  revision: number,
  recordings: readonly RecordingView[],
): HistoryEntry[] {
  return [...transfers(at, recordings), archived(at, revision)].slice(-MAX_EVENTS).map(entryOf);
}

function happened(job: SessionJob, state: SessionState): NotedEvent[] {
  const { history = [] } = typeof job.progress === 'object' ? (job.progress ?? {}) : {};
  const derived: NotedEvent[] = [];
  const wasTaken = state === 'active' || state === 'archived' || state === 'failed';
  if (wasTaken && job.processedOn) derived.push({ at: iso(job.processedOn), event: 'attempt' });
  if (state === 'archived' && job.finishedOn && job.returnvalue) {
    const at = iso(job.finishedOn);
    const { recordings, revision } = job.returnvalue;
    derived.push(...transfers(at, recordings), archived(at, revision));
  }
  // An error that no worker recorded, as of an older version.
  if (state === 'failed' && job.finishedOn && !history.some(isEnd)) {
    const { code, message } = parseFailureReason(job.failedReason);
    derived.push({ at: iso(job.finishedOn), event: 'failed', code, message: cut(message) });
  }
  // Both are in their order; of the same moment, what a worker notes comes after the attempt.
  return [...derived, ...history].sort((a, b) => Date.parse(a.at) - Date.parse(b.at)).slice(-MAX_EVENTS);
}

function isEnd({ event }: NotedEvent): boolean {
  return event === 'failed' || event === 'partial';
}

function transfers(at: string, recordings: readonly RecordingView[]): NotedEvent[] {
  return recordings.map(({ key, bytes }) => ({
    at,
    event: 'transferred',
    detail: `${key} (${bytes} bytes)`,
  }));
}

function archived(at: string, revision: number | undefined): NotedEvent {
  return { at, event: 'archived', ...(revision !== undefined && { detail: `revision ${revision}` }) };
}

function entryOf({ until, times, since, detail, ...entry }: NotedEvent): HistoryEntry {
  const details = [
    ...(detail === undefined ? [] : [detail]),
    ...(times === undefined ? [] : [`${times} times since ${since}`]),
    ...(until === undefined ? [] : [`until ${until}`]),
  ];
  return { ...entry, ...(details.length > 0 && { detail: details.join('; ') }) };
}

function cut(message: string): string {
  return message.length > MAX_MESSAGE_CHARACTERS ? `${message.slice(0, MAX_MESSAGE_CHARACTERS)}…` : message;
}

function iso(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}

/**
 * A failed attempt, as an event. @param end until when it waits, or what is saved of a session that failed for good.
 */
export function failureEvent(
  { code, message, at }: Pick<SessionError, 'code' | 'message' | 'at'>,
  end: { readonly until: string } | { readonly saved: number; readonly missing: number } | undefined,
): NotedEvent {
  if (end === undefined) return { at, event: 'failed', code, message };
  if ('until' in end) return { at, event: 'waiting', code, message, until: end.until };
  const detail = `${end.saved} ${end.saved === 1 ? 'recording' : 'recordings'} archived, ${end.missing} missing`;
  return { at, event: 'partial', code, message, detail };
}
