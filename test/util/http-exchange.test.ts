import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { Agent } from 'undici';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { AnswerTooLarge, AnswerTooLate, exchange } from '../../src/util/http-exchange.ts';

const never = new AbortController().signal;
const LIMITS = { maxBytes: 1_000_000, totalTimeoutMs: 60_000 };

let answer: (request: IncomingMessage, response: ServerResponse) => void;
const server = createServer((request, response) => answer(request, response));
const agent = new Agent({ connections: 1 });
let origin: string;
beforeAll(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  await agent.destroy();
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
});

const get = (limits = LIMITS, signal = never) =>
  exchange(agent, { origin, method: 'GET', path: '/', headers: {} }, limits, signal);

test('an exchange sends a body and returns the whole answer, whatever its status', async () => {
  answer = async (request, response) => {
    response.writeHead(418, { 'X-Said': request.method ?? '' });
    response.write(await text(request));
    setImmediate(() => response.end(request.headers['x-asked']));
  };
  const asked = {
    origin,
    method: 'PUT',
    path: '/a?b=c',
    headers: { 'x-asked': 'yes' },
    body: 'hello ',
  } as const;
  const { status, headers, body } = await exchange(agent, asked, LIMITS, never);
  expect([status, headers['x-said'], body.toString()]).toEqual([418, 'PUT', 'hello yes']);
});

test('an exchange skips informational answers (1xx)', async () => {
  answer = (_, response) => response.writeEarlyHints({ link: '</a>' }, () => response.end('done'));
  const { status, body } = await get();
  expect([status, body.toString()]).toEqual([200, 'done']);
});

test('an exchange aborts an answer that is too large, and the next request works', async () => {
  answer = (_, response) => response.end('x'.repeat(11));
  await expect(get({ ...LIMITS, maxBytes: 10 })).rejects.toBeInstanceOf(AnswerTooLarge);
  expect((await get({ ...LIMITS, maxBytes: 11 })).body).toHaveLength(11);
});

test('an exchange aborts an answer that does not end in time', async () => {
  answer = (_, response) => response.write('and so on');
  await expect(get({ ...LIMITS, totalTimeoutMs: 50 })).rejects.toBeInstanceOf(AnswerTooLate);
});

test('an exchange throws the error of a connection that is lost', async () => {
  answer = (request) => request.socket.destroy();
  await expect(get()).rejects.toMatchObject({ code: 'UND_ERR_SOCKET' });
});

test('an exchange ends with the reason of the signal, also while it waits for a connection', async () => {
  const arrived = Promise.withResolvers<void>();
  const heard: string[] = [];
  answer = (request) => {
    heard.push(request.url ?? '');
    arrived.resolve();
  };
  const ending = new AbortController();
  const [first, second] = [get(LIMITS, ending.signal), get(LIMITS, ending.signal)];
  await arrived.promise;
  ending.abort(new Error('enough'));
  await expect(first).rejects.toThrow('enough');
  await expect(second).rejects.toThrow('enough');
  await expect(get(LIMITS, ending.signal)).rejects.toThrow('enough');
  expect(heard).toHaveLength(1);
});
