import type { Server } from 'node:http';
import type { Socket } from 'node:net';
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

/** Tells the connections beyond the limits from others. */
export interface ConnectionLimit {
  /** Whether this connection is for probes alone. */
  isSpare(socket: Socket): boolean;
}

/**
 * Bounds a server's connections. A client that holds as many as it may, or all there are, keeps nobody from asking
 * whether the process lives: some connections beyond the limits are taken for a few seconds each, the oldest making
 * room for the newest. What they may ask for is the caller's to decide.
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
