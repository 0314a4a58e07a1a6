import type { SessionState } from '../../domain/views.ts';
import type { SessionJob } from '../session-job.ts';

/**
 * A place in the list of all jobs: newest first, by when they were first added (unix milliseconds), then by their ids.
 * A job keeps its place whatever becomes of it, so a list that goes on from a place skips nothing and repeats nothing.
 */
export interface JobPlace {
  readonly at: number;
  readonly id: string;
}

/** Which jobs are looked for. */
export interface JobFilter {
  readonly state?: SessionState;
  /** Only failed ones of which a part is archived. */
  readonly isPartial?: boolean;
  /** Of their last error; of jobs that are not done. */
  readonly code?: string;
  readonly botId?: string;
  /** A part of the session id, as it stands there or with capital letters. */
  readonly text?: string;
  /** Added then or later, and then or earlier (unix milliseconds). */
  readonly from?: number;
  readonly to?: number;
}

/** A job that was found, with its state at that moment. */
export interface FoundJob extends JobPlace {
  readonly state: SessionState;
  readonly job: SessionJob;
}

/** Finds the jobs of sessions without looking at all of them. */
export interface JobIndex {
  /** The first `limit` jobs after a place; fewer only at the end. @param name our name of the queue. */
  find(name: string, filter: JobFilter, after: JobPlace | undefined, limit: number): Promise<FoundJob[]>;
  /** Notes jobs that are about to be added. */
  adding(name: string, ids: readonly string[], at: number): Promise<void>;
  /** Drops what is noted of some of the jobs that are gone, and notes those of older versions; to be called now and then. */
  sweep(name: string): Promise<void>;
}
