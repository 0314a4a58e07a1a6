/** A store that answers too slowly: each of its answers ends, or is aborted. */

import { once } from 'node:events';
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { boundTime, steadily } from '../../src/storage/s3/slow-answers.ts';

let answer: (response: ServerResponse) => void;
const server = createServer((_request, response) => answer(response));
beforeEach(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterEach(async () => {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
});

const ask = async (): Promise<IncomingMessage> => {
  const request = get({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false });
  // The server notices as well when its answer is aborted.
  request.on('error', () => undefined);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return response;
};

/** Some bytes at a time, until the client disconnects. */
const sendSlowly = (response: ServerResponse, bytes: number) => {
  const timer = setInterval(() => response.write('x'.repeat(bytes)), 20);
  response.once('close', () => clearInterval(timer));
};

async function bytesOf(body: AsyncIterable<Buffer>): Promise<number> {
  let bytes = 0;
  for await (const chunk of body) bytes += chunk.length;
  return bytes;
}

test('an object that arrives too slowly is aborted, with its connection', async () => {
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  answer = (response) => {
    response.once('close', resolve);
    sendSlowly(response, 5);
  };
  await expect(bytesOf(steadily(await ask(), 200))).rejects.toMatchObject({
    code: 'ARCHIVE_UNAVAILABLE',
    message: expect.stringContaining('too slow'),
  });
  await closed;
});

test('an object that is read slowly is not the fault of the store', async () => {
  answer = (response) => response.end('x'.repeat(50));
  const answered = await ask();
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  let bytes = 0;
  for await (const chunk of steadily(answered, 60_000)) {
    // An hour, of which none is spent on waiting for the store.
    vi.advanceTimersByTime(3_600_000);
    bytes += chunk.length;
  }
  expect(bytes).toBe(50);
});

test('another answer that does not end is aborted', async () => {
  answer = (response) => sendSlowly(response, 5_000);
  const response = await ask();
  boundTime(response, 200);
  await expect(bytesOf(response)).rejects.toMatchObject({ name: 'TimeoutError' });
});
