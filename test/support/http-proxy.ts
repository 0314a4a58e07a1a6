/** An HTTP proxy that resolves names which DNS does not, as inside a company's network. */

import { once } from 'node:events';
import { createServer, request as sendRequest } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';

/** A running proxy. */
export interface TestProxy {
  /** Its URL, with user and password where it wants them. */
  readonly url: string;
  /** What it was asked for so far, in order: `CONNECT kore.proxied.test:443`, `GET http://media.proxied.test/a`. */
  readonly requests: readonly string[];
  close(): Promise<void>;
}

export interface TestProxyOptions {
  /** Where names lead: ports on this machine, by `host:port`. All others are answered with 502. */
  readonly routes: Readonly<Record<string, number>>;
  /** `user:password`; without them it answers 407. */
  readonly credentials?: string;
}

/** Starts a proxy on a free port of 127.0.0.1: tunnels for `CONNECT`, and forwarding for plain http. */
export async function startProxy({ routes, credentials }: TestProxyOptions): Promise<TestProxy> {
  const requests: string[] = [];
  const sockets = new Set<Socket>();
  const wanted = credentials && `Basic ${Buffer.from(credentials).toString('base64')}`;
  const isWelcome = (given: string | undefined) => wanted === undefined || given === wanted;

  const server = createServer((incoming, outgoing) => {
    requests.push(`${incoming.method} ${incoming.url}`);
    const target = URL.canParse(incoming.url ?? '') ? new URL(incoming.url ?? '') : undefined;
    const port = target && routes[`${target.hostname}:${target.port || 80}`];
    if (!isWelcome(incoming.headers['proxy-authorization'])) return void outgoing.writeHead(407).end();
    if (target === undefined || port === undefined) return void outgoing.writeHead(502).end();
    const { 'proxy-authorization': _, 'proxy-connection': __, ...headers } = incoming.headers;
    const path = target.pathname + target.search;
    const forwarded = sendRequest({ host: '127.0.0.1', port, method: incoming.method, path, headers });
    forwarded.on('response', (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
      answer.pipe(outgoing);
    });
    forwarded.on('error', () => outgoing.destroy());
    incoming.pipe(forwarded);
  });
  server.on('connect', (incoming, client: Socket) => {
    requests.push(`CONNECT ${incoming.url}`);
    client.on('error', () => undefined);
    const port = routes[incoming.url ?? ''];
    if (!isWelcome(incoming.headers['proxy-authorization'])) {
      return void client.end('HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n');
    }
    if (port === undefined) return void client.end('HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n');
    const upstream = connect(port, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      client.pipe(upstream).pipe(client);
    });
    upstream.on('error', () => client.destroy());
    client.on('close', () => upstream.destroy());
  });
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${credentials === undefined ? '' : `${credentials}@`}127.0.0.1:${port}`,
    requests,
    async close() {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, 'close');
    },
  };
}
