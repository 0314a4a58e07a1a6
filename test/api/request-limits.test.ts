/** Requests that are refused, and those that are still served during an attack. */

import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createProbes } from '../../src/api/probes.ts';
import { limitConnections, WrongCredentials } from '../../src/api/request-limits.ts';
import { createLogger } from '../../src/util/log.ts';
import { type ApiSetup, apiTokens, ask, openApiSetup } from '../support/api-server.ts';
import { silent } from '../support/queues.ts';

let setup: ApiSetup;
beforeAll(async () => {
  setup = await openApiSetup();
});
afterAll(() => setup.close());

describe('web pages without credentials', () => {
  const foreign: readonly [string, Record<string, string>][] = [
    ['of a name that resolves to this machine', { host: 'rebound.example:8080' }],
    ['of another site', { 'sec-fetch-site': 'cross-site' }],
    ['of another origin', { origin: 'https://evil.example' }],
  ];
  const paths = ['/metrics', '/openapi.json', '/docs/', '/dashboard/queues/api/queues', '/v1/stats'];

  it.each(foreign)('web pages %s get nothing without credentials', async (_whose, headers) => {
    const url = await setup.serve();
    for (const path of paths) {
      const { status, body } = await ask(url, path, { headers });
      expect([path, status, body.code]).toEqual([path, 403, 'FORBIDDEN']);
    }
    // Probes and webhooks come by any name.
    expect((await ask(url, '/livez', { headers })).status).toBe(200);
    expect((await ask(url, '/readyz', { headers })).status).toBe(200);
  });

  it.each(foreign)('web pages %s get no metrics of a worker on this machine', async (_whose, headers) => {
    const metrics = { contentType: 'text/plain', render: async () => 'counts 1' };
    const worker = createProbes({
      check: async () => undefined,
      metrics,
      http: { host: '127.0.0.1', port: 0 },
      log: silent,
    });
    const { url } = await worker.listen();
    try {
      expect((await ask(url, '/metrics', { headers })).status).toBe(403);
      expect((await ask(url, '/livez', { headers })).status).toBe(200);
      expect((await ask(url, '/metrics')).text).toBe('counts 1');
    } finally {
      await worker.close();
    }
  });

  it('web pages of this machine and programs get everything without credentials', async () => {
    const url = await setup.serve();
    for (const headers of [{}, { 'sec-fetch-site': 'same-origin' }, { 'sec-fetch-site': 'none' }]) {
      for (const path of paths)
        expect([path, (await ask(url, path, { headers })).status]).toEqual([path, 200]);
    }
  });

  it('the origin of a web page does not matter where credentials are asked for', async () => {
    const url = await setup.serve({ tokens: apiTokens('a-token') });
    const { status } = await ask(url, '/metrics', { headers: { host: 'archiver.example' } });
    expect(status).toBe(200);
  });
});

describe('wrong credentials', () => {
  it('wrong credentials cost nothing at first, then a growing delay for their address, up to a limit', () => {
    const wrong = new WrongCredentials({ log: silent, now: () => 0 });
    const delays = Array.from({ length: 30 }, () => wrong.note('192.0.2.1', 'id'));
    expect(delays.slice(0, 10)).toEqual(Array(10).fill(0));
    expect(delays.slice(10, 14)).toEqual([100, 200, 400, 800]);
    expect(delays.at(-1)).toBe(5_000);
    expect(wrong.note('192.0.2.2', 'id')).toBe(0);
  });

  it('wrong credentials are forgotten after some time, and a limited number of addresses is kept', () => {
    let now = 0;
    const wrong = new WrongCredentials({ log: silent, now: () => now });
    for (let count = 0; count < 20; count += 1) wrong.note('192.0.2.1', 'id');
    now += 10 * 60_000;
    expect(wrong.note('192.0.2.1', 'id')).toBe(0);
    for (let count = 0; count < 12_000; count += 1) wrong.note(`address-${count}`, 'id');
    expect(wrong.size).toBe(10_000);
  });

  it('some wrong credentials are logged, with their address', async () => {
    const lines: { msg: string; address?: string }[] = [];
    const log = createLogger('warn', (line) => lines.push(JSON.parse(line)));
    const webhook = { secrets: ['the-secret-of-the-webhook'], sessionIdPaths: ['/sessionId'] };
    const url = await setup.serve({ tokens: apiTokens('a-token'), webhook }, { log });
    await ask(url, '/v1/stats', { headers: { authorization: 'Bearer hunter22-hunter22' } });
    await ask(url, '/dashboard/login', {
      body: 'token=hunter22-hunter22',
      headers: { 'content-type': 'application/x-www-form-urlencoded', 'sec-fetch-site': 'same-origin' },
    });
    for (const headers of [{ auth: 'hunter22-hunter22' }, { token: 'a.hunter22.b' }, {}]) {
      const answer = await ask(url, '/webhooks/voicemail', { json: {}, headers });
      expect(answer.status).toBe(401);
    }
    // Whoever shows nothing tries nothing.
    const line = { msg: 'wrong credentials', address: '127.0.0.1' };
    expect(lines).toMatchObject([line, line, line, line]);
    expect(JSON.stringify(lines)).not.toContain('hunter22');

    const many: string[] = [];
    const wrong = new WrongCredentials({
      log: createLogger('warn', (line) => many.push(line)),
      now: () => 0,
    });
    for (let count = 0; count < 1_000; count += 1) wrong.note(`address-${count}`, 'id');
    expect(many).toHaveLength(60);
    expect(many.at(-1)).toContain('more of them are not logged');
  });

  it('a wrong token is delayed while a right one is answered at once', async () => {
    const url = await setup.serve({ tokens: apiTokens('a-token') });
    const wrong = { headers: { authorization: 'Bearer wrong' } };
    for (let count = 0; count < 12; count += 1) await ask(url, '/v1/stats', wrong);
    const order: string[] = [];
    const slow = ask(url, '/v1/stats', wrong).then(({ status }) => order.push(`wrong ${status}`));
    const right = { headers: { authorization: 'Bearer a-token' } };
    const livez = await ask(url, '/livez', right);
    order.push(`right ${livez.status}`);
    await slow;
    expect(order).toEqual(['right 200', 'wrong 401']);
  });
});

describe('connections to the API', () => {
  let server: Server | undefined;
  const sockets: Socket[] = [];
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    server?.closeAllConnections();
    server?.close();
  });

  const open = async (port: number): Promise<Socket> => {
    const socket = connect(port, '127.0.0.1');
    sockets.push(socket);
    await once(socket, 'connect');
    return socket;
  };

  it('connections beyond the limit of an address are answered for probes alone', async () => {
    const limits = { total: 100, perAddress: 3, spare: 2, spareMs: 600_000 };
    server = createServer((request, response) => {
      response.setHeader('connection', 'close');
      response.end(limit.isSpare(request.socket) ? 'spare' : 'usual');
    }).listen(0, '127.0.0.1');
    const limit = limitConnections(server, silent, limits);
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const held = [await open(port), await open(port), await open(port)];
    const [oldest, ...newer] = [await open(port), await open(port), await open(port)];

    await once(oldest as Socket, 'close');
    expect(newer.map(({ destroyed }) => destroyed)).toEqual([false, false]);
    expect((await ask(`http://127.0.0.1:${port}`, '/')).text).toBe('spare');

    for (const socket of held) socket.destroy();
    await expect.poll(async () => (await ask(`http://127.0.0.1:${port}`, '/')).text).toBe('usual');
  });

  it('a client that holds all its connections does not keep /livez and /readyz from being answered', async () => {
    const url = await setup.serve();
    const { port } = new URL(url);
    for (let count = 0; count < 1_000; count += 1) void (await open(Number(port)));

    expect((await ask(url, '/livez')).status).toBe(200);
    expect((await ask(url, '/readyz')).status).toBe(200);
    const other = await ask(url, '/v1/stats');
    expect([other.status, other.body.code]).toEqual([503, 'TOO_MANY_CONNECTIONS']);
    expect(other.headers.connection).toBe('close');
  });
});
