/** A receiver of notifications on a real socket, which behaves as a test wants. */

import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { NotifyConfig } from '../../src/config/config.ts';
import { NOTIFICATION_EVENTS, type Notification } from '../../src/domain/notifications.ts';

/** One request, as it came. */
export interface Received {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly raw: Buffer;
  readonly body: Notification;
  /** Whether it was answered with a status from 200 to 299. */
  readonly isTaken: boolean;
}

/** What becomes of a request: its status, or nothing at all. */
export type Answer = number | 'hang' | 'drop' | ((response: ServerResponse) => void);

export interface Receiver {
  readonly url: string;
  /** All requests so far, in their order. */
  readonly received: readonly Received[];
  /** Those that were taken, the first of each id. */
  taken(): Map<string, Received>;
  /** How requests are answered from now on; the number counts all requests, from 0. */
  behave(answer: (request: { readonly id: string }, index: number) => Answer): void;
  /** Resolves once the condition holds. */
  until(holds: (receiver: Receiver) => boolean): Promise<void>;
  /** Takes no connections, and breaks off those that are there. */
  goAway(): Promise<void>;
  /** Listens on the same port as before. */
  comeBack(): Promise<void>;
  close(): Promise<void>;
}

export const SECRET = 'a long random text for tests';

export async function startReceiver(): Promise<Receiver> {
  const received: Received[] = [];
  const watchers = new Set<() => void>();
  let answer: (request: { readonly id: string }, index: number) => Answer = () => 204;
  let port = 0;
  let server: Server | undefined;

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      // Its sender was killed: nothing came.
      return;
    }
    const raw = Buffer.concat(chunks);
    const body = JSON.parse(raw.toString()) as Notification;
    const chosen = answer({ id: body.id }, received.length);
    const isTaken = typeof chosen === 'number' && chosen >= 200 && chosen < 300;
    received.push({ path: request.url ?? '', headers: request.headers, raw, body, isTaken });
    if (typeof chosen === 'function') chosen(response);
    else if (typeof chosen === 'number') response.writeHead(chosen).end(`answer ${chosen}`);
    else if (chosen === 'drop') request.socket.destroy();
    for (const watch of watchers) watch();
  };
  const listen = async () => {
    server = createServer((request, response) => void handle(request, response));
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    port = (server.address() as AddressInfo).port;
  };
  const goAway = async () => {
    const closing = server;
    server = undefined;
    if (!closing) return;
    closing.close();
    closing.closeAllConnections();
    await once(closing, 'close');
  };
  await listen();

  const receiver: Receiver = {
    url: `http://127.0.0.1:${port}/hooks/voicemail?key=hook-key`,
    received,
    taken() {
      const first = new Map<string, Received>();
      for (const one of received) if (one.isTaken && !first.has(one.body.id)) first.set(one.body.id, one);
      return first;
    },
    behave(next) {
      answer = next;
    },
    async until(holds) {
      const met = Promise.withResolvers<void>();
      const watch = () => {
        if (holds(receiver)) met.resolve();
      };
      watchers.add(watch);
      watch();
      await met.promise;
      watchers.delete(watch);
    },
    goAway,
    comeBack: listen,
    close: goAway,
  };
  return receiver;
}

/** The configuration of notifications for a receiver. */
export function notifyConfig(
  receiver: Pick<Receiver, 'url'>,
  changes: Partial<NotifyConfig> = {},
): NotifyConfig {
  return { url: receiver.url, secret: SECRET, events: NOTIFICATION_EVENTS, allowPrivate: true, ...changes };
}

/** Whether a request is signed, by the documentation and not by the code. */
export function isSigned({ headers, raw }: Pick<Received, 'headers' | 'raw'>, secret = SECRET): boolean {
  const right = createHmac('sha256', secret).update(raw).digest('hex');
  return headers['x-signature'] === `sha256=${right}`;
}
