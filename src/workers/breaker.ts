import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, isVoicemailError, type VoicemailError } from '../domain/errors.ts';
import type { BreakerView } from '../domain/views.ts';
import { withinTime } from '../util/async.ts';
import type { Logger } from '../util/log.ts';
import { withJitter } from './failure-policy.ts';

/** What a breaker works with. */
export interface BreakerOptions {
  /** Whom it watches: `kore`, `bucket`, `queue`, or `media:` and a host. */
  readonly dependency: string;
  /**
   * Finds out whether the dependency works: rejects when it does not. `signal` ends it when that is known otherwise.
   * `suspect` is the session whose failure is to be confirmed: asking about the same one would prove nothing.
   */
  readonly probe: (signal: AbortSignal, suspect?: string) => Promise<void>;
  /**
   * How many failures in a row, each of another session, open it. Without that, one failure is enough if a probe fails
   * as well: then it is no fault of the session's.
   */
  readonly failuresToOpen?: number;
  /** Nothing that needs the dependency is begun from now on. */
  readonly onOpen?: () => void;
  /** It works again. */
  readonly onClose?: () => void;
  /** It was a suspect, and works: whatever failed did so for reasons of its own. */
  readonly onCleared?: () => void;
  readonly log: Logger;
  readonly times?: Partial<BreakerTimes>;
}

/** Milliseconds. */
export interface BreakerTimes {
  /** How long the first probe may take before the dependency counts as unavailable. */
  readonly confirmMs: number;
  /** The first pause between two probes; pauses double each time. */
  readonly firstPauseMs: number;
  /**
   * The longest pause of an outage of minutes, and how long a probe may take before the next one is begun beside it.
   * Pauses of longer outages grow on, slowly.
   */
  readonly longestPauseMs: number;
  /** How long a dependency is not suspected again after a successful probe. */
  readonly trustMs: number;
}

/** How a breaker probes unless a test says otherwise. */
export const BREAKER_TIMES: BreakerTimes = {
  confirmMs: 5_000,
  firstPauseMs: 1_000,
  longestPauseMs: 2_000,
  trustMs: 1_000,
};
/**
 * The most probes at once. Unanswered probes are left to their own time limits; above this number the oldest is
 * aborted.
 */
const MAX_PENDING_PROBES = 8;
/** The end of an outage is found within this share of how long it lasted. */
const PAUSE_SHARE = 0.01;
const MAX_PAUSE_MS = 10_000;
/** How long a stop waits for aborted probes. */
const STOP_WAIT_MS = 2_000;

/**
 * A circuit breaker. While it is open nothing is begun that needs what it watches; probes, one every few seconds,
 * find out when that works again.
 */
export class Breaker {
  readonly #options: BreakerOptions;
  readonly #times: BreakerTimes;
  readonly #stopping = new AbortController();
  /** Sessions that failed since the last success. */
  readonly #failed = new Set<string>();
  #opening = new AbortController();
  #closing = Promise.withResolvers<void>();
  #openedAt: number | undefined;
  #reason: VoicemailError | undefined;
  #watching: Promise<void> | undefined;
  #confirming: Promise<void> | undefined;
  #trustedUntil = 0;

  constructor(options: BreakerOptions) {
    this.#options = options;
    this.#times = { ...BREAKER_TIMES, ...options.times };
  }

  get isOpen(): boolean {
    return this.#openedAt !== undefined;
  }

  /** Aborted, with the reason, when it opens; another one after each time that it closed. */
  get opened(): AbortSignal {
    return this.#opening.signal;
  }

  /** Resolves when it is not open, or no longer; never while an outage lasts to the end of the process. */
  get closed(): Promise<void> {
    return this.isOpen ? this.#closing.promise : Promise.resolve();
  }

  /** Resolves once it is known whether a suspicion is right; at once where there is none. */
  get confirmed(): Promise<void> {
    return this.#confirming ?? Promise.resolve();
  }

  /** Why it is open. */
  get reason(): VoicemailError | undefined {
    return this.isOpen ? this.#reason : undefined;
  }

  /** Its state, for people and programs. */
  view(): BreakerView {
    const { dependency } = this.#options;
    if (this.#openedAt === undefined) return { dependency, state: 'closed' };
    return {
      dependency,
      state: 'open',
      since: new Date(this.#openedAt).toISOString(),
      ...(this.#reason && { ...codeOf(this.#reason), reason: this.#reason.message }),
    };
  }

  /** Something that needs the dependency was done. */
  succeeded(): void {
    this.#failed.clear();
  }

  /** Work that needs the dependency failed for a session: the dependency may be unavailable. */
  suspect(session: string, error: VoicemailError): void {
    if (this.#watching || this.#stopping.signal.aborted) return;
    this.#failed.add(session);
    const { failuresToOpen } = this.#options;
    if (failuresToOpen === undefined) {
      if (performance.now() < this.#trustedUntil) return;
    } else if (this.#failed.size < failuresToOpen) {
      return;
    }
    this.#watching = this.#watch(error, failuresToOpen === undefined ? session : undefined).finally(() => {
      this.#watching = undefined;
    });
  }

  /** Ends the probing. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#watching;
  }

  /** Probes until the dependency works. Never rejects. */
  async #watch(error: VoicemailError, suspect: string | undefined): Promise<void> {
    const ending = new AbortController();
    const end = () => ending.abort();
    this.#stopping.signal.addEventListener('abort', end, { once: true });
    const probes = new Probes(this.#options.probe, ending.signal);
    const confirming = Promise.withResolvers<void>();
    this.#confirming = confirming.promise;
    try {
      if (suspect !== undefined && (await probes.try(this.#times.confirmMs, suspect))) {
        this.#trustedUntil = performance.now() + this.#times.trustMs;
        this.#options.onCleared?.();
        return;
      }
      this.#open(isVoicemailError(probes.lastError) ? probes.lastError : error);
      confirming.resolve();
      let pauseMs = this.#times.firstPauseMs;
      do {
        await probes.pause(withJitter(pauseMs));
        pauseMs = Math.min(pauseMs * 2, this.#longestPause());
      } while (!(await probes.try(this.#times.longestPauseMs)) && !ending.signal.aborted);
      if (!this.#stopping.signal.aborted) this.#close();
    } finally {
      this.#stopping.signal.removeEventListener('abort', end);
      ending.abort();
      this.#confirming = undefined;
      confirming.resolve();
      // What they use is about to be closed.
      if (this.#stopping.signal.aborted) await withinTime(probes.ended(), STOP_WAIT_MS);
    }
  }

  /** Probes of an outage of hours, or of what only looks like one, are not to cost more than they are worth. */
  #longestPause(): number {
    const lastedMs = Date.now() - (this.#openedAt ?? Date.now());
    return Math.max(this.#times.longestPauseMs, Math.min(lastedMs * PAUSE_SHARE, MAX_PAUSE_MS));
  }

  #open(error: VoicemailError): void {
    if (this.#stopping.signal.aborted) return;
    const { dependency, log, onOpen } = this.#options;
    this.#openedAt = Date.now();
    this.#reason = error;
    this.#closing = Promise.withResolvers<void>();
    const about = { dependency, ...codeOf(error), err: error.code === 'INTERNAL' ? error.cause : error };
    if (error.retryable && error.code !== 'ARCHIVE_DENIED') {
      log.warn(about, 'a dependency is unavailable: nothing that needs it is begun until it works again');
    } else {
      log.error(about, 'a dependency refuses: NO SESSION IS BEING ARCHIVED until that is fixed');
    }
    onOpen?.();
    this.#opening.abort(error);
  }

  #close(): void {
    const { dependency, log, onClose } = this.#options;
    const seconds = Math.round((Date.now() - (this.#openedAt ?? Date.now())) / 100) / 10;
    this.#openedAt = undefined;
    this.#reason = undefined;
    this.#failed.clear();
    this.#opening = new AbortController();
    log.info({ dependency, seconds }, 'a dependency works again');
    onClose?.();
    this.#closing.resolve();
  }
}

/** Faults of the queue's server have no code, and are none of this program. */
function codeOf({ code }: VoicemailError): { readonly code?: ErrorCode } {
  return code === 'INTERNAL' ? {} : { code };
}

/**
 * Probes of one outage. One that hangs does not keep the next one waiting, and the first that succeeds ends them all.
 */
class Probes {
  readonly #probe: BreakerOptions['probe'];
  readonly #signal: AbortSignal;
  readonly #works = Promise.withResolvers<void>();
  readonly #pending = new Map<Promise<void>, AbortController>();
  #isWorking = false;
  /** What the last one that failed failed of. */
  lastError: unknown;

  constructor(probe: BreakerOptions['probe'], signal: AbortSignal) {
    this.#probe = probe;
    this.#signal = signal;
    signal.addEventListener('abort', () => this.#works.resolve(), { once: true });
  }

  /** Begins one and waits for it, but no longer than that. @returns whether it, or one before it, has succeeded. */
  async try(milliseconds: number, suspect?: string): Promise<boolean> {
    if (!this.#signal.aborted) {
      if (this.#pending.size >= MAX_PENDING_PROBES) this.#pending.values().next().value?.abort();
      const ending = new AbortController();
      const run = this.#run(AbortSignal.any([this.#signal, ending.signal]), suspect).finally(() =>
        this.#pending.delete(run),
      );
      this.#pending.set(run, ending);
      await withinTime(Promise.race([run, this.#works.promise]), milliseconds);
    }
    return this.#isWorking;
  }

  /** Waits, unless one of those under way succeeds. */
  async pause(milliseconds: number): Promise<void> {
    const waiting = new AbortController();
    const slept = sleep(milliseconds, undefined, { signal: waiting.signal }).catch(() => undefined);
    await Promise.race([slept, this.#works.promise]);
    waiting.abort();
  }

  async #run(signal: AbortSignal, suspect: string | undefined): Promise<void> {
    try {
      await this.#probe(signal, suspect);
      if (signal.aborted) return;
      this.#isWorking = true;
      this.#works.resolve();
    } catch (error) {
      this.lastError = error;
    }
  }

  /** Resolves when none is under way. */
  async ended(): Promise<void> {
    await Promise.all(this.#pending.keys());
  }
}
