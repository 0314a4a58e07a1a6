import type { SessionError, SessionEvent } from '../domain/views.ts';
import {
  type JobResult,
  parseFailureReason,
  type SessionJobProgress,
  sessionOfJob,
  transferOf,
} from './session-job.ts';

/** An event of a queue as the backend keeps it: a name under `event`, and what goes with it, as text. */
export interface StoredEvent {
  readonly id: string;
  readonly fields: Readonly<Record<string, string>>;
}

/** An event of BullMQ that concerns sessions. */
export type JobEvent = { readonly id: string; readonly jobId: string } & (
  | { readonly name: 'waiting' | 'active' }
  | { readonly name: 'progress'; readonly data: SessionJobProgress }
  | { readonly name: 'delayed'; readonly until: number }
  | { readonly name: 'completed'; readonly result: JobResult }
  | { readonly name: 'failed'; readonly reason: string }
);

/** Errors are remembered from an attempt's last progress to its end, which follows at once: more are none. */
const MAX_ERRORS_REMEMBERED = 1_000;

/** A stored event; `undefined` where it does not concern a session. */
export function readJobEvent({ id, fields }: StoredEvent): JobEvent | undefined {
  const { event: name, jobId, data, delay, returnvalue, failedReason } = fields;
  if (jobId === undefined) return undefined;
  switch (name) {
    case 'waiting':
    case 'active':
      return { id, jobId, name };
    case 'progress':
      return { id, jobId, name, data: JSON.parse(data ?? 'null') };
    case 'delayed':
      return { id, jobId, name, until: Number(delay) };
    case 'completed':
      return { id, jobId, name, result: JSON.parse(returnvalue ?? 'null') };
    case 'failed':
      return { id, jobId, name, reason: failedReason ?? '' };
    default:
      return undefined;
  }
}

/** Turns BullMQ's events, one after the other, into what happened to sessions. */
export class EventReader {
  /** By job. BullMQ's event for the end of an attempt has no error; the progress event before it has. */
  readonly #errors = new Map<string, SessionError>();

  /** @returns `undefined` when nothing happened that anybody outside would see. */
  read(event: JobEvent): SessionEvent | undefined {
    const session = sessionOfJob(event.jobId);
    // A job of another program in this queue.
    if (!session) return undefined;
    const { id, jobId } = event;
    switch (event.name) {
      case 'waiting':
        this.#errors.delete(jobId);
        return { id, name: 'queued', session: { ...session, state: 'queued' } };
      case 'active':
        return { id, name: 'active', session: { ...session, state: 'active' } };
      case 'progress': {
        const { transfer, error, transcript } = event.data ?? {};
        if (error) this.#remember(jobId, error);
        // Only archived sessions have one; it came, or was given up, after the session was archived.
        if (transcript)
          return { id, name: 'progress', session: { ...session, state: 'archived', transcript } };
        if (!transfer) return undefined;
        return { id, name: 'progress', session: { ...session, state: 'active', progress: transfer } };
      }
      case 'delayed': {
        const error = this.#recall(jobId);
        const nextAttemptAt = new Date(event.until).toISOString();
        return {
          id,
          name: 'waiting',
          session: { ...session, state: 'waiting', nextAttemptAt, ...(error && { error }) },
        };
      }
      case 'completed': {
        this.#errors.delete(jobId);
        // A maybe that turned out to have no voicemail: the queue has forgotten it.
        if (!event.result) return undefined;
        const { revision: _ours, ...result } = event.result;
        return {
          id,
          name: 'archived',
          session: { ...session, state: 'archived', ...result, progress: transferOf(result) },
        };
      }
      case 'failed':
        return {
          id,
          name: 'failed',
          session: {
            ...session,
            state: 'failed',
            error: this.#recall(jobId) ?? parseFailureReason(event.reason),
          },
        };
    }
  }

  #remember(jobId: string, error: SessionError): void {
    this.#errors.delete(jobId);
    this.#errors.set(jobId, error);
    const [oldest] = this.#errors.keys();
    if (this.#errors.size > MAX_ERRORS_REMEMBERED && oldest !== undefined) this.#errors.delete(oldest);
  }

  #recall(jobId: string): SessionError | undefined {
    const error = this.#errors.get(jobId);
    this.#errors.delete(jobId);
    return error;
  }
}

/** Whether the event with the first id came after the one with the second. */
export function isAfter(id: string, other: string): boolean {
  const others = other.split('-');
  for (const [index, part] of id.split('-').entries()) {
    const difference = BigInt(part) - BigInt(others[index] ?? '0');
    if (difference !== 0n) return difference > 0n;
  }
  return false;
}
