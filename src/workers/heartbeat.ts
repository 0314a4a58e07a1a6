import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { isDeepStrictEqual } from 'node:util';
import type { Rate } from '../config/config.ts';
import type { ErrorCode } from '../domain/errors.ts';
import type { BreakerView } from '../domain/views.ts';
import { isSharedDependency, type SessionQueue } from '../jobs/session-queue.ts';
import type { StatusBoard } from '../jobs/status-board.ts';
import type { Logger } from '../util/log.ts';
import { VERSION } from '../util/process.ts';

/** The state of a worker at that moment. */
export interface WorkerState {
  readonly concurrency: number;
  readonly active: number;
  readonly heldFor: ErrorCode | undefined;
  readonly breakers: readonly BreakerView[];
}

/** What {@link startHeartbeat} works with. */
export interface HeartbeatOptions {
  readonly board: StatusBoard;
  /** Done with each beat; it need not succeed. */
  readonly tidy: () => Promise<void>;
  readonly state: () => WorkerState;
  readonly rateLimit: Rate | undefined;
  readonly log: Logger;
}

/** How often a worker sends its state. It counts as gone after a minute without. */
const HEARTBEAT_MS = 10_000;
/** A reason that keeps all sessions waiting is sent sooner. */
const CHECK_INTERVAL_MS = 2_000;

/** A worker that says of itself, again and again, that it is alive and how it is. */
export interface Heartbeat {
  /** Says that the worker has ended. */
  stop(): Promise<void>;
}

/** Starts to publish this worker's state on the queue's board. While the queue is unreachable, nothing is published. */
export function startHeartbeat({ board, tidy, state, rateLimit, log }: HeartbeatOptions): Heartbeat {
  const self = {
    id: randomUUID(),
    host: hostname(),
    pid: process.pid,
    version: VERSION,
    startedAt: new Date().toISOString(),
    ...(rateLimit && { rateLimit: { calls: rateLimit.calls, windowMs: rateLimit.windowMs } }),
  };
  let latest: { readonly trouble: object; readonly at: number } | undefined;
  let sending: Promise<void> | undefined;

  const beat = () => {
    const { breakers, heldFor, ...numbers } = state();
    const trouble = {
      away: breakers.filter((breaker) => breaker.state === 'open'),
      ...(heldFor && { heldFor }),
    };
    const isDue = !latest || performance.now() - latest.at >= HEARTBEAT_MS;
    if (sending || !(isDue || !isDeepStrictEqual(trouble, latest?.trouble))) return;
    latest = { trouble, at: performance.now() };
    sending = board
      .reportWorker({ ...self, ...numbers, ...trouble })
      .then(tidy)
      .catch((error: unknown) =>
        log.debug(
          { err: error },
          'could not report to the queue that this worker is alive, or tidy the queue',
        ),
      )
      .finally(() => {
        sending = undefined;
      });
  };
  beat();
  const timer = setInterval(beat, CHECK_INTERVAL_MS);
  timer.unref();
  return {
    async stop() {
      clearInterval(timer);
      await sending;
      await board
        .forgetWorker(self.id)
        .catch((error: unknown) =>
          log.debug({ err: error }, 'could not report to the queue that this worker has ended'),
        );
    },
  };
}

/** How often outages are reported. Well below the time for which a report counts. */
const REPORT_EVERY_MS = 2_000;

/**
 * Reports an outage of Kore or the bucket to the queue while it lasts, so that processes without a worker (`api`,
 * `status`) can show it. Breakers are only in the memory of workers.
 */
export class OutageReporter {
  readonly #timer: NodeJS.Timeout;
  #reporting: Promise<void> = Promise.resolve();
  #isReporting = false;

  /**
   * @param views the breakers of this process.
   * @param queue receives the reports. While it is unreachable, nobody reads them either.
   */
  constructor(views: () => readonly BreakerView[], queue: Pick<SessionQueue, 'reportOutage'>, log: Logger) {
    this.#timer = setInterval(() => {
      const unavailable = views().flatMap(({ dependency, state }) =>
        state === 'open' && isSharedDependency(dependency) ? [dependency] : [],
      );
      if (unavailable.length === 0 || this.#isReporting) return;
      this.#isReporting = true;
      this.#reporting = Promise.all(unavailable.map((dependency) => queue.reportOutage(dependency)))
        .then(
          () => undefined,
          (error: unknown) => log.debug({ err: error }, 'could not report outages to the queue'),
        )
        .finally(() => {
          this.#isReporting = false;
        });
    }, REPORT_EVERY_MS);
    this.#timer.unref();
  }

  /** Ends the reports. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#reporting;
  }
}
