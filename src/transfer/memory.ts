/** Releases reserved bytes; calling it again does nothing. */
export type Release = () => void;

/** Who asks for memory. */
export interface MemoryRequest {
  /** When waiting loses its sense (unix milliseconds): the expiry of the recording's URL. */
  readonly deadline?: number | undefined;
  /** Its source is known to be slow: it has held memory before, and had to give way. */
  readonly slow?: boolean;
  /** It is larger than what is held of it at once: it takes all that a transfer may hold, and takes it for longer. */
  readonly inParts?: boolean;
}

/**
 * The bound on audio held in memory by all transfers of this process together.
 *
 * A transfer asks once for all that it may come to hold, and whoever waits holds nothing: so nobody ever waits for
 * one that waits, and the sum never exceeds the bound. What is held for long without need are the shares of slow
 * sources and of recordings that come in parts. Three rules keep those from holding up the others: a transfer whose
 * source is slow gives its share back while others wait (see `slow-source-guard.ts`) and asks again behind them; those
 * known to be slow have at most half of the budget together, and so have those in parts; and who fits into what is left
 * passes a larger one that waits, for some seconds.
 */
export interface MemoryBudget {
  readonly limitBytes: number;
  readonly usedBytes: number;
  /** How many transfers wait for their turn. */
  readonly waiting: number;
  /** Whether somebody waits for what one such transfer holds: those in parts may wait for others of their kind alone. */
  isWanted(holder: Pick<MemoryRequest, 'inParts'>): boolean;
  /**
   * Reserves bytes if that is possible at once, otherwise `undefined`. Not for the slow while others wait, and for
   * nobody while somebody has been passed for long enough.
   */
  tryAcquire(bytes: number, request?: MemoryRequest): Release | undefined;
  /**
   * Waits until so many bytes are free. Who has the earliest deadline goes first, unless it is over: then fresh
   * metadata is needed anyway. A request beyond the whole budget counts as all of it.
   *
   * @throws the signal's reason, having reserved nothing.
   */
  acquire(bytes: number, request: MemoryRequest, signal: AbortSignal): Promise<Release>;
}

/** Who has no deadline of its own is treated as if it had one so long after it came, and so is never starved. */
const DEFAULT_DEADLINE_MS = 60 * 60 * 1000;

/** For how long smaller requests may pass a waiting one. */
const MAX_PASSED_MS = 10_000;

/** What decides which halves a request counts in. */
interface Kind {
  readonly slow: boolean;
  readonly inParts: boolean;
}

interface Waiter extends Kind {
  readonly bytes: number;
  readonly deadline: number | undefined;
  /** Where it stands without a deadline: compared with the deadlines of others. */
  readonly rank: number;
  readonly since: number;
  readonly grant: (release: Release) => void;
}

/** Creates a budget of so many bytes. */
export function createMemoryBudget(limitBytes: number): MemoryBudget {
  let usedBytes = 0;
  let slowBytes = 0;
  let inPartsBytes = 0;
  const waiters: Waiter[] = [];

  function count(bytes: number, { slow, inParts }: Kind): void {
    usedBytes += bytes;
    if (slow) slowBytes += bytes;
    if (inParts) inPartsBytes += bytes;
  }

  function reserve(bytes: number, kind: Kind): Release {
    count(bytes, kind);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      count(-bytes, kind);
      serve();
    };
  }

  const fits = (bytes: number): boolean => usedBytes + bytes <= limitBytes;

  /** Whether those who hold so much already have their half; one of them may always go on, however large. */
  const isHalfTaken = (heldBytes: number, bytes: number): boolean =>
    heldBytes > 0 && heldBytes + bytes > limitBytes / 2;

  const isHalfOfPartsTaken = (bytes: number, { inParts }: Kind): boolean =>
    inParts && isHalfTaken(inPartsBytes, bytes);

  const isHeldBack = (bytes: number, kind: Kind): boolean =>
    (kind.slow && isHalfTaken(slowBytes, bytes)) || isHalfOfPartsTaken(bytes, kind);

  const mayBePassed = (waiter: Waiter): boolean =>
    isHeldBack(waiter.bytes, waiter) || performance.now() - waiter.since < MAX_PASSED_MS;

  function serve(): void {
    const now = Date.now();
    waiters.sort((one, other) => rankOf(one, now) - rankOf(other, now));
    for (const waiter of [...waiters]) {
      if (fits(waiter.bytes) && !isHeldBack(waiter.bytes, waiter)) {
        waiters.splice(waiters.indexOf(waiter), 1);
        waiter.grant(reserve(waiter.bytes, waiter));
      } else if (!mayBePassed(waiter)) {
        return;
      }
    }
  }

  function tryAcquire(bytes: number, request: MemoryRequest = {}): Release | undefined {
    const wanted = Math.min(bytes, limitBytes);
    const kind = kindOf(request);
    const mayPass = kind.slow ? waiters.length === 0 : waiters.every(mayBePassed);
    return mayPass && fits(wanted) && !isHeldBack(wanted, kind) ? reserve(wanted, kind) : undefined;
  }

  return {
    limitBytes,
    get usedBytes() {
      return usedBytes;
    },
    get waiting() {
      return waiters.length;
    },
    isWanted: ({ inParts = false }) =>
      waiters.some((waiter) => inParts || !isHalfOfPartsTaken(waiter.bytes, waiter)),
    tryAcquire,
    async acquire(bytes, request, signal) {
      signal.throwIfAborted();
      const immediate = tryAcquire(bytes, request);
      if (immediate !== undefined) return immediate;
      const { promise, resolve, reject } = Promise.withResolvers<Release>();
      const now = Date.now();
      const { slow, inParts } = kindOf(request);
      const ranks = slow ? waiters.map((waiter) => rankOf(waiter, now)) : [];
      const waiter: Waiter = {
        bytes: Math.min(bytes, limitBytes),
        slow,
        inParts,
        deadline: slow ? undefined : request.deadline,
        rank: Math.max(now + DEFAULT_DEADLINE_MS, ...ranks),
        since: performance.now(),
        grant: resolve,
      };
      waiters.push(waiter);
      const giveUp = (): void => {
        const index = waiters.indexOf(waiter);
        if (index === -1) return;
        waiters.splice(index, 1);
        reject(signal.reason);
        // Whoever stood behind a large request may fit now.
        serve();
      };
      signal.addEventListener('abort', giveUp, { once: true });
      try {
        return await promise;
      } finally {
        signal.removeEventListener('abort', giveUp);
      }
    },
  };
}

function kindOf({ slow = false, inParts = false }: MemoryRequest): Kind {
  return { slow, inParts };
}

function rankOf({ deadline, rank }: Waiter, now: number): number {
  return deadline !== undefined && deadline > now ? deadline : rank;
}

/** One transfer's share of the memory budget. */
export interface Reservation {
  /** Holds so many bytes if that is possible at once; tells whether it does. */
  tryHold(bytes: number, request: MemoryRequest): boolean;
  /**
   * Waits until it holds so many bytes. What it held is given back first: who waits holds nothing, so
   * transfers never wait for each other.
   */
  hold(bytes: number, request: MemoryRequest, signal: AbortSignal): Promise<void>;
  /** Whether others wait for what it holds. */
  isWanted(): boolean;
  /** Gives everything back. */
  release(): void;
}

/** Starts with nothing held. */
export function createReservation(budget: MemoryBudget): Reservation {
  let heldBytes = 0;
  let heldFor: MemoryRequest = {};
  let giveBack: Release | undefined;

  function release(): void {
    giveBack?.();
    giveBack = undefined;
    heldBytes = 0;
  }

  function take(bytes: number, request: MemoryRequest, granted: Release): void {
    giveBack = granted;
    heldBytes = bytes;
    heldFor = request;
  }

  return {
    tryHold(bytes, request) {
      if (heldBytes >= bytes) return true;
      release();
      const granted = budget.tryAcquire(bytes, request);
      if (granted !== undefined) take(bytes, request, granted);
      return granted !== undefined;
    },
    async hold(bytes, request, signal) {
      release();
      take(bytes, request, await budget.acquire(bytes, request, signal));
    },
    isWanted: () => giveBack !== undefined && budget.isWanted(heldFor),
    release,
  };
}
