import type { Rate } from '../config/config.ts';
import { type ErrorCode, isErrorCode } from '../domain/errors.ts';
import type { WorkerView } from '../domain/requests.ts';
import type { BreakerView } from '../domain/views.ts';
import type { Backend } from './backends/backend.ts';
import { answered } from './backends/connection-errors.ts';

/** What a worker says of itself, for processes without one. */
export interface WorkerNote extends Omit<WorkerView, 'seenAt'> {
  /** `KORE_RATE_LIMIT` as this worker keeps it. */
  readonly rateLimit?: Rate;
  /** Why it takes no session at present, where all of them would fail the same way. */
  readonly heldFor?: ErrorCode;
  /** Its open breakers. */
  readonly away: readonly BreakerView[];
}

/** A worker as it last reported. */
export interface SeenWorker extends WorkerNote {
  /** By the clock of the queue's server. ISO 8601. */
  readonly seenAt: string;
}

/** The time without a report after which a worker counts as gone. */
const WORKER_GONE_MS = 60_000;
/** Since when the queue is paused is remembered for as long as anybody may want to know it. */
const PAUSE_REMEMBERED_MS = 365 * 24 * 60 * 60 * 1000;
const WORKERS = 'workers';
const PAUSE = 'pause';

/** What the processes on one queue share: which workers are alive, and since when the queue is paused. */
export class StatusBoard {
  readonly #backend: Backend;
  readonly #name: string;

  /** @param name of the queue (`QUEUE_NAME`). */
  constructor(backend: Backend, name: string) {
    this.#backend = backend;
    this.#name = name;
  }

  /** A worker is alive; to be reported again well within a minute. */
  async reportWorker({ id, ...note }: WorkerNote): Promise<void> {
    const text = JSON.stringify(note);
    await answered(this.#backend.post(this.#name, WORKERS, { id, text }, WORKER_GONE_MS));
  }

  /** A worker has ended. */
  async forgetWorker(id: string): Promise<void> {
    await answered(this.#backend.removeNote(this.#name, WORKERS, id));
  }

  /** The workers that have reported within the last minute, the oldest first. */
  async workers(): Promise<SeenWorker[]> {
    const notes = await answered(this.#backend.posts(this.#name, WORKERS));
    return notes
      .map(({ id, text, at }) => {
        const { heldFor, ...note }: Omit<WorkerNote, 'id'> = JSON.parse(text);
        // One of a later version may know codes that are not known here.
        const isKnown = heldFor !== undefined && isErrorCode(heldFor);
        return { id, ...note, ...(isKnown && { heldFor }), seenAt: new Date(at).toISOString() };
      })
      .sort((a, b) => (a.startedAt < b.startedAt ? -1 : 1));
  }

  /** The queue was paused just now. */
  async notePaused(): Promise<void> {
    await answered(this.#backend.post(this.#name, PAUSE, { id: PAUSE, text: '' }, PAUSE_REMEMBERED_MS));
  }

  /** The queue is paused no longer. */
  async noteResumed(): Promise<void> {
    await answered(this.#backend.removeNote(this.#name, PAUSE, PAUSE));
  }

  /** When the queue was last paused (ISO 8601), where that is known; it says nothing of whether it still is. */
  async pausedSince(): Promise<string | undefined> {
    const [note] = await answered(this.#backend.posts(this.#name, PAUSE));
    return note && new Date(note.at).toISOString();
  }
}
