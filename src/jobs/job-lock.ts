/**
 * The worker's lock on a job has run out or gone to another worker: whatever it would write now is not its to write.
 */
export class LockLostError extends Error {
  constructor(id: string) {
    super(`the lock of job ${id} is lost: another worker may have taken it`);
    this.name = 'LockLostError';
  }
}

/**
 * A time by both clocks of the machine. The monotonic clock stops while the machine sleeps, the wall clock may
 * be set back: so of the times that they say have passed, the longer one counts.
 */
export interface ClockReading {
  readonly steadyMs: number;
  readonly wallMs: number;
}

/** Now, by both clocks. */
export function readClocks(): ClockReading {
  return { steadyMs: performance.now(), wallMs: Date.now() };
}

/** Milliseconds since a moment, by the clock that says more. */
function since({ steadyMs, wallMs }: ClockReading): number {
  return Math.max(performance.now() - steadyMs, Date.now() - wallMs);
}

/**
 * The part of a lock's duration after its last renewal during which it is taken to be held without asking. BullMQ
 * renews it after half of the duration at the latest; what is left is for the write that follows.
 */
const TRUSTED_SHARE = 0.75;

/** What {@link JobLock} works with. */
export interface JobLockOptions {
  readonly jobId: string;
  /** How long the lock lasts after it was taken or renewed. */
  readonly durationMs: number;
  /** When the job was taken (unix milliseconds, by this machine's clock). */
  readonly takenAtMs: number;
  /** Asks the queue to prolong the lock. @returns whether it was still held. */
  readonly renew: () => Promise<boolean>;
  /** Called once, when the lock is known to be lost. */
  readonly onLost: (error: LockLostError) => void;
}

/**
 * A worker's lock on an active job. It is lost when the queue says so. A worker that was suspended asks the queue
 * before it writes.
 */
export class JobLock {
  readonly #options: JobLockOptions;
  #lost: LockLostError | undefined;
  #renewedAt: ClockReading;

  constructor(options: JobLockOptions) {
    this.#options = options;
    const ageMs = Math.max(0, Date.now() - options.takenAtMs);
    this.#renewedAt = { steadyMs: performance.now() - ageMs, wallMs: options.takenAtMs };
  }

  /** Whether the lock is known to be lost. */
  get isLost(): boolean {
    return this.#lost !== undefined;
  }

  /** The queue prolonged the lock, as it was asked to at `askedAt`. */
  renewed(askedAt: ClockReading): void {
    if (askedAt.steadyMs > this.#renewedAt.steadyMs) this.#renewedAt = askedAt;
  }

  /** The queue said that the lock is no longer held. */
  lose(): void {
    if (this.#lost) return;
    this.#lost = new LockLostError(this.#options.jobId);
    this.#options.onLost(this.#lost);
  }

  /** @throws LockLostError when the lock is known to be lost; the queue is not asked. */
  throwIfLost(): void {
    if (this.#lost) throw this.#lost;
  }

  /**
   * Makes sure that the lock is held, asking the queue where that is not certain.
   * @throws LockLostError
   */
  async assertHeld(): Promise<void> {
    this.throwIfLost();
    if (since(this.#renewedAt) < this.#options.durationMs * TRUSTED_SHARE) return;
    const askedAt = readClocks();
    if (await this.#options.renew()) this.renewed(askedAt);
    else this.lose();
    this.throwIfLost();
  }
}
