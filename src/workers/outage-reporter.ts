import type { BreakerView } from '../domain/views.ts';
import { isSharedDependency, type SessionQueue } from '../jobs/session-queue.ts';
import type { Logger } from '../util/log.ts';

/** How often the queue is told who is away. Well below the time for which it believes it. */
const TELL_EVERY_MS = 2_000;

/**
 * Tells the queue while Kore or the bucket is away, so that processes without a worker (`api`, `status`) can show it:
 * breakers are in the memory of the workers alone.
 */
export class OutageReporter {
  readonly #timer: NodeJS.Timeout;
  #telling: Promise<void> = Promise.resolve();
  #isTelling = false;

  /**
   * @param views how the breakers of this process stand.
   * @param queue is told. While it is away itself, nobody asks it either.
   */
  constructor(views: () => readonly BreakerView[], queue: Pick<SessionQueue, 'tellAway'>, log: Logger) {
    this.#timer = setInterval(() => {
      const away = views().flatMap(({ dependency, state }) =>
        state === 'open' && isSharedDependency(dependency) ? [dependency] : [],
      );
      if (away.length === 0 || this.#isTelling) return;
      this.#isTelling = true;
      this.#telling = Promise.all(away.map((dependency) => queue.tellAway(dependency)))
        .then(
          () => undefined,
          (error: unknown) => log.debug({ err: error }, 'the queue did not hear who is away'),
        )
        .finally(() => {
          this.#isTelling = false;
        });
    }, TELL_EVERY_MS);
    this.#timer.unref();
  }

  /** Tells nothing any more. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#telling;
  }
}
