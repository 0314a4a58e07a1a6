import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../util/log.ts';

/** How many connections there may be. */
export interface ConnectionLimits {
  /** All together: descriptors are left for the queue, the downloads and the archive. */
  readonly total: number;
  /** Of one address. */
  readonly perAddress: number;
  /** Beyond these limits, for probes alone. */
  readonly spare: number;
  /** How long a connection beyond the limits stays, in milliseconds. */
  readonly spareMs: number;
}

const LIMITS: ConnectionLimits = { total: 2_000, perAddress: 1_000, spare: 64, spareMs: 10_000 };
const QUIET_MS = 10_000;

/** Finds the connections beyond the limits. */
export interface ConnectionLimit {
  /** Whether this connection is for probes alone. */
  isSpare(socket: Socket): boolean;
}

/**
 * Bounds a server's connections. A client that holds as many as it may, or all there are, keeps no other client from
 * asking whether the process lives: some connections beyond the limits are taken for a few seconds each, the oldest
 * making room for the newest. What they may ask for is the caller's to decide.
 */
export function limitConnections(
  server: Server,
  log: Logger,
  { total, perAddress, spare, spareMs }: ConnectionLimits = LIMITS,
): ConnectionLimit {
  const byAddress = new Map<string, number>();
  /** In the order in which they came. */
  const spares = new Set<Socket>();
  let open = 0;
  let quietUntil = 0;

  const warn = (address: string): void => {
    if (performance.now() < quietUntil) return;
    quietUntil = performance.now() + QUIET_MS;
    log.warn(
      { address, connections: open },
      'too many connections: new ones may only ask for /livez and /readyz',
    );
  };

  const addSpare = (socket: Socket): void => {
    const [oldest] = spares;
    if (oldest && spares.size >= spare) {
      spares.delete(oldest);
      oldest.destroy();
    }
    spares.add(socket);
    const deadline = setTimeout(() => socket.destroy(), spareMs);
    deadline.unref();
    socket.once('close', () => {
      clearTimeout(deadline);
      spares.delete(socket);
    });
  };

  server.on('connection', (socket: Socket) => {
    const address = socket.remoteAddress ?? '';
    const ofAddress = byAddress.get(address) ?? 0;
    if (open >= total || ofAddress >= perAddress) {
      warn(address);
      addSpare(socket);
      return;
    }
    open += 1;
    byAddress.set(address, ofAddress + 1);
    socket.once('close', () => {
      open -= 1;
      const left = (byAddress.get(address) ?? 1) - 1;
      if (left === 0) byAddress.delete(address);
      else byAddress.set(address, left);
    });
  });
  return { isSpare: (socket) => spares.has(socket) };
}

/** Wrong credentials that cost nothing: a typing error, a token that was just rotated. */
const FREE_TRIES = 10;
const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 5_000;
/** The time without wrong credentials after which an address starts again without a pause. */
const FORGET_MS = 10 * 60_000;
/** Addresses that are remembered; of more, those that were seen least recently are forgotten. */
const MAX_ADDRESSES = 10_000;
/** Lines about wrong credentials in a minute; the last of them says that there may be more. */
const MAX_LINES = 60;
const LINES_WINDOW_MS = 60_000;
/** Answers that are held back at a time, over all addresses. */
const MAX_DELAYED = 500;

interface Tries {
  count: number;
  lastAt: number;
}

/** Options of {@link WrongCredentials}. */
export interface WrongCredentialsOptions {
  readonly log: Logger;
  /** Milliseconds on a clock that never goes back; for tests. */
  readonly now?: () => number;
}

/**
 * Slows down clients that try credentials, and logs them. The pause grows with each wrong try from one address. Right
 * credentials are never slowed, since many clients may come from one address (a proxy, NAT).
 */
export class WrongCredentials {
  readonly #log: Logger;
  readonly #now: () => number;
  /** By address, the one seen least recently first. */
  readonly #tries = new Map<string, Tries>();
  #lines = { since: Number.NEGATIVE_INFINITY, count: 0 };
  #delayed = 0;

  constructor({ log, now = () => performance.now() }: WrongCredentialsOptions) {
    this.#log = log;
    this.#now = now;
  }

  /** How many addresses are remembered. */
  get size(): number {
    return this.#tries.size;
  }

  /** Notes a wrong try. @returns how long its answer is to be held back, in milliseconds. */
  note(address: string, requestId: string): number {
    const now = this.#now();
    const known = this.#tries.get(address);
    const tries = known && now - known.lastAt < FORGET_MS ? known : { count: 0, lastAt: now };
    tries.count += 1;
    tries.lastAt = now;
    this.#tries.delete(address);
    this.#tries.set(address, tries);
    if (this.#tries.size > MAX_ADDRESSES) {
      for (const oldest of this.#tries.keys()) {
        this.#tries.delete(oldest);
        break;
      }
    }
    this.#write(address, requestId, tries.count, now);
    const paid = tries.count - FREE_TRIES;
    return paid <= 0 ? 0 : Math.min(FIRST_DELAY_MS * 2 ** Math.min(paid - 1, 10), MAX_DELAY_MS);
  }

  /** Notes a wrong try and resolves when it may be answered. */
  async slow(address: string, requestId: string): Promise<void> {
    const delayMs = this.note(address, requestId);
    // Delayed answers take memory as well: above this number, wrong credentials are only logged and counted.
    if (delayMs === 0 || this.#delayed >= MAX_DELAYED) return;
    this.#delayed += 1;
    try {
      await sleep(delayMs, undefined, { ref: false });
    } finally {
      this.#delayed -= 1;
    }
  }

  #write(address: string, requestId: string, count: number, now: number): void {
    if (now - this.#lines.since >= LINES_WINDOW_MS) this.#lines = { since: now, count: 0 };
    this.#lines.count += 1;
    if (this.#lines.count > MAX_LINES) return;
    const isLast = this.#lines.count === MAX_LINES;
    this.#log.warn(
      { requestId, address, wrongTries: count },
      isLast ? 'wrong credentials; more of them are not logged for a while' : 'wrong credentials',
    );
  }
}
