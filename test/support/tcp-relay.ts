import { once } from 'node:events';
import { createConnection, createServer, type Socket } from 'node:net';

/** A way to a server, on a port of its own of 127.0.0.1. */
export interface Relay {
  readonly port: number;
  /** Connections that it refused so far. */
  readonly refused: number;
  /** From now on what is sent never arrives, as if the server hung. */
  hold(): void;
  /** From now on connections end at once. */
  refuse(): void;
  /** From now on all is as at first. */
  release(): void;
  close(): Promise<void>;
}

/** A way to a server on which bytes can be held up, as if it hung, or connections refused. */
export async function startRelay(target: { readonly host: string; readonly port: number }): Promise<Relay> {
  const sockets = new Set<Socket>();
  let state: 'open' | 'held' | 'refusing' = 'open';
  let refused = 0;
  const server = createServer((client) => {
    sockets.add(client);
    client.on('error', () => undefined);
    if (state === 'refusing') {
      refused += 1;
      client.resetAndDestroy();
      return;
    }
    const upstream = createConnection(target);
    upstream.on('error', () => client.destroy());
    client.on('close', () => upstream.destroy());
    upstream.on('close', () => client.destroy());
    client.on('data', (bytes) => {
      if (state !== 'held') upstream.write(bytes);
    });
    upstream.pipe(client);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the relay has no port');
  const drop = () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  return {
    port: address.port,
    get refused() {
      return refused;
    },
    hold() {
      state = 'held';
    },
    refuse() {
      state = 'refusing';
      drop();
    },
    /** Connections that were held have lost bytes, so they end. */
    release() {
      if (state === 'held') drop();
      state = 'open';
    },
    async close() {
      server.close();
      drop();
      await once(server, 'close');
    },
  };
}
