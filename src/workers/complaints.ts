import type { VoicemailError } from '../domain/errors.ts';
import type { Logger } from '../util/log.ts';

/** How often a fault that lasts is said again. */
const REPEAT_MS = 60_000;
/** Causes that are remembered: hosts come from outside, so there may be any number of them. */
const MAX_CAUSES = 1_000;

interface Cause {
  readonly saidAt: number;
  /** Failures since then. */
  unsaid: number;
}

/**
 * Says loudly what a person has to put right: once for each cause, and once a minute while it lasts, with how often it
 * came meanwhile. Said for each of thousands of sessions it would bury everything else.
 */
export class Complaints {
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #causes = new Map<string, Cause>();

  /** @param now a steady clock (milliseconds). */
  constructor(log: Logger, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
  }

  /** @param whose tells causes with the same code apart, such as a bot. */
  say(error: VoicemailError, about: Readonly<Record<string, unknown>>, message: string, whose = ''): void {
    const { code, hint, host = '' } = error;
    const key = JSON.stringify([code, host, whose]);
    const cause = this.#causes.get(key);
    const now = this.#now();
    if (cause && now - cause.saidAt < REPEAT_MS) {
      cause.unsaid += 1;
      return;
    }
    if (this.#causes.size >= MAX_CAUSES) this.#causes.clear();
    this.#causes.set(key, { saidAt: now, unsaid: 0 });
    const since = cause && cause.unsaid > 0 ? { alsoSinceTheLastLine: cause.unsaid } : {};
    this.#log.error({ ...about, code, ...(hint !== undefined && { hint }), err: error, ...since }, message);
  }
}
