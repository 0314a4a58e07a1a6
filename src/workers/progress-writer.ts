import type { TransferProgress } from '../domain/views.ts';
import type { TakenJob } from '../jobs/consumer.ts';
import { LockLostError } from '../jobs/job-lock.ts';
import type { SessionJobProgress } from '../jobs/session-job.ts';
import type { Logger } from '../util/log.ts';

/** A session's progress is written to the queue this often at most. */
const PROGRESS_INTERVAL_MS = 1_000;

/** Writes a session's progress to its job, not more often than makes sense: most are done before the first time. */
export class ProgressWriter {
  readonly #job: TakenJob;
  readonly #log: Logger;
  #writing = Promise.resolve();
  #wroteAt = Date.now();

  constructor(job: TakenJob, log: Logger) {
    this.#job = job;
    this.#log = log;
  }

  update(transfer: TransferProgress): void {
    if (Date.now() - this.#wroteAt < PROGRESS_INTERVAL_MS) return;
    this.#wroteAt = Date.now();
    const progress: SessionJobProgress = { ...this.#job.progress, transfer };
    this.#writing = this.#writing
      .then(() => this.#job.saveProgress(progress))
      .catch((error: unknown) => {
        // The job is broken off for that.
        if (error instanceof LockLostError) return;
        // Progress is for onlookers: the transfer goes on without it.
        this.#log.warn({ err: error }, 'could not write the progress of a session');
      });
  }

  /** Waits until nothing is being written, so that what is written next stays. */
  async end(): Promise<void> {
    await this.#writing;
  }
}
