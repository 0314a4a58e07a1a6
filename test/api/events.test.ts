import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Api } from '../../src/api/http-server.ts';
import { type ApiOptions, createApi } from '../../src/api/server.ts';
import type { SessionView } from '../../src/domain/views.ts';
import type { Backend } from '../../src/jobs/backends/backend.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { EventFeed } from '../../src/jobs/event-feed.ts';
import { SessionQueue } from '../../src/jobs/session-queue.ts';
import { createOperations } from '../../src/operations/operations.ts';
import { openStore } from '../../src/storage/open.ts';
import { createLogger } from '../../src/util/log.ts';
import { apiTokens } from '../support/api-server.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { temporaryDirectory } from '../support/services.ts';
import { ARCHIVED, workOff } from '../support/work-off.ts';

const BOT = 'st-events';
const TOKEN = 'a-token-of-the-api-0123456789';
const AUTHORIZED = { authorization: `Bearer ${TOKEN}` };

let testQueue: TestQueue;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let program: Program;

beforeEach(async () => {
  [testQueue, directory] = await Promise.all([createTestQueue('redis'), temporaryDirectory()]);
  program = await startProgram();
});

afterEach(async () => {
  await program.stop();
  await Promise.all([testQueue.remove(), directory.remove()]);
});

/** A process with an API, as far as events are concerned. */
interface Program {
  readonly url: string;
  readonly backend: Backend;
  readonly queue: SessionQueue;
  readonly feed: EventFeed;
  readonly api: Api;
  readonly log: readonly string[];
  stop(): Promise<void>;
}

async function startProgram(changes: Partial<ApiOptions> = {}): Promise<Program> {
  const log: string[] = [];
  const logger = createLogger('warn', (line) => log.push(line));
  const backend = await openBackend(testQueue.config, silent);
  const queue = new SessionQueue(backend, testQueue.config.name, silent);
  const feed = new EventFeed(backend, testQueue.config.name, silent, { lingerMs: 0 });
  const store = await openStore(
    { kind: 'file', directory: directory.path },
    { maxObjectBytes: 1_000_000, logger: silent },
  );
  const api = createApi({
    operations: createOperations(queue, store, silent),
    events: feed,
    check: async () => undefined,
    http: { host: '127.0.0.1', port: 0, tokens: apiTokens(TOKEN) },
    defaultBotId: BOT,
    log: logger,
    ...changes,
  });
  const { url } = await api.listen();
  return {
    url,
    backend,
    queue,
    feed,
    api,
    log,
    async stop() {
      await api.close();
      await feed.close();
      await queue.close();
      await backend.close();
      await store.close();
    },
  };
}

/** A client of the events. */
interface Client {
  readonly response: IncomingMessage;
  /** The next block of text, without the empty line that ends it; `undefined` at the end. */
  block(): Promise<string | undefined>;
  /** The next so many events. */
  events(count: number): Promise<{ id: string; event: string; data: Partial<SessionView> }[]>;
  leave(): void;
}

async function listen(
  url: string,
  headers: Readonly<Record<string, string>> = {},
  query = '',
): Promise<Client> {
  const asked = get(`${url}/v1/events${query}`, { agent: false, headers: { ...AUTHORIZED, ...headers } });
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.setEncoding('utf8');
  const blocks = readBlocks(response);
  const block = async () => (await blocks.next()).value;
  return {
    response,
    block,
    async events(count) {
      const events: Awaited<ReturnType<Client['events']>> = [];
      while (events.length < count) {
        const text = await block();
        if (text === undefined) throw new Error(`the stream ended after ${events.length} of ${count} events`);
        const [, id, event, data] = /^id: (.*)\nevent: (.*)\ndata: (.*)$/.exec(text) ?? [];
        if (id && event && data) events.push({ id, event, data: JSON.parse(data) });
      }
      return events;
    },
    leave: () => asked.destroy(),
  };
}

async function* readBlocks(response: IncomingMessage): AsyncGenerator<string, undefined> {
  let text = '';
  for await (const chunk of response) {
    text += chunk;
    const blocks = text.split('\n\n');
    text = blocks.pop() ?? '';
    yield* blocks;
  }
  return undefined;
}

const enqueue = (...sessionIds: string[]) =>
  program.queue.enqueue(sessionIds.map((sessionId) => ({ sessionId, botId: BOT })));

describe('the stream of events', () => {
  it('the stream of events reports what happens to sessions from then on, with ids', async () => {
    await enqueue('before');
    const client = await listen(program.url);
    expect(client.response.statusCode).toBe(200);
    expect(client.response.headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
    });
    expect(client.response.headers['x-request-id']).toBeDefined();
    expect(await client.block()).toBe('retry: 3000');

    await workOff(program.backend, testQueue.config.name, 1, () => ARCHIVED);

    const of = { sessionId: 'before', botId: BOT };
    expect(await client.events(2)).toEqual([
      { id: expect.stringMatching(/^\d+-\d+$/), event: 'active', data: { ...of, state: 'active' } },
      {
        id: expect.stringMatching(/^\d+-\d+$/),
        event: 'archived',
        data: expect.objectContaining({ ...of, state: 'archived', manifestKey: 'a/manifest.json' }),
      },
    ]);
    client.leave();
  });

  it('the stream of events sends the same to all clients', async () => {
    const clients = await Promise.all([listen(program.url), listen(program.url)]);
    await enqueue('one', 'two');
    const [first, second] = await Promise.all(clients.map((client) => client.events(2)));
    expect(first).toEqual(second);
    for (const client of clients) client.leave();
  });

  it('the stream of events sends a comment from time to time even if nothing happens', async () => {
    const other = await startProgram({ heartbeatMs: 10 });
    const client = await listen(other.url);
    await client.block();
    expect(await client.block()).toBe(': nothing new');
    expect(await client.block()).toBe(': nothing new');
    client.leave();
    await other.stop();
  });

  it('the stream of events goes on after the last event that a client saw, also after a restart', async () => {
    const client = await listen(program.url);
    await enqueue('a', 'b');
    const [first, second] = await client.events(2);
    client.leave();
    await program.stop();
    program = await startProgram();
    await enqueue('c');

    const byHeader = await listen(program.url, { 'last-event-id': first?.id ?? '' });
    const [missed, ...later] = await byHeader.events(2);
    expect(missed).toEqual(second);
    expect(later[0]?.data.sessionId).toBe('c');
    const byQuery = await listen(program.url, {}, `?lastEventId=${second?.id}`);
    expect(await byQuery.events(1)).toEqual(later);
    await enqueue('d');
    expect((await byQuery.events(1))[0]?.data.sessionId).toBe('d');
    byHeader.leave();
    byQuery.leave();
  });

  it('the stream of events needs credentials, and refuses an invalid id', async () => {
    const statusOf = async (headers: Readonly<Record<string, string>>, query = '') => {
      const { response, leave } = await listen(program.url, headers, query);
      leave();
      return response.statusCode;
    };
    expect(await statusOf({ authorization: 'Bearer wrong' })).toBe(401);
    expect(await statusOf({ 'last-event-id': 'yesterday' })).toBe(400);
    expect(await statusOf({}, '?lastEventId=1')).toBe(400);
    expect(await statusOf({}, '?from=1')).toBe(400);
    expect(program.feed.isReading).toBe(false);
  });

  it('the stream of events is not opened by a HEAD request', async () => {
    const asked = get(`${program.url}/v1/events`, { method: 'HEAD', agent: false, headers: AUTHORIZED });
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    expect(response.statusCode).toBeGreaterThanOrEqual(404);
    expect(program.feed.subscribers).toBe(0);
  });

  it('the stream of events ends when the API closes', async () => {
    const client = await listen(program.url);
    await client.block();
    const closing = program.api.close();
    expect(await client.block()).toBeUndefined();
    expect(client.response.complete).toBe(true);
    await closing;
  });

  it('the stream of events holds no resources for 200 clients that came and went', async () => {
    const first = await listen(program.url);
    first.leave();
    await expect.poll(() => program.feed.isReading).toBe(false);
    const before = await resources();
    for (let round = 0; round < 4; round += 1) {
      const clients = await Promise.all(Array.from({ length: 50 }, () => listen(program.url)));
      expect(program.feed.subscribers).toBe(50);
      await enqueue(`round-${round}`);
      await Promise.all(clients.map((client) => client.events(1)));
      for (const client of clients) client.leave();
      await expect.poll(() => program.feed.subscribers).toBe(0);
      await expect.poll(() => program.feed.isReading).toBe(false);
    }
    await expect.poll(async () => grown(before, await resources())).toEqual([]);
    expect(program.log).toEqual([]);
  });

  it('the stream of events drops a client that reads nothing, and no other', async () => {
    const other = await startProgram({ heartbeatMs: 500 });
    const [stuck, fine] = await Promise.all([listen(other.url), listen(other.url)]);
    // Nobody reads from it, so its buffers fill, those of the operating system included.
    stuck.response.pause();
    const recording = { key: 'k'.repeat(1_000), bytes: 1, sha256: '00', contentType: 'audio/wav' };
    const result = { ...ARCHIVED.result, recordings: Array.from({ length: 1_000 }, () => recording) };
    const ids = Array.from({ length: 20 }, (_, index) => `large-${index}`);

    await enqueue(...ids);
    const working = workOff(program.backend, testQueue.config.name, ids.length, () => ({
      kind: 'done',
      result,
    }));
    await fine.events(ids.length * 3);
    await working;

    await expect.poll(() => other.feed.subscribers).toBe(1);
    expect(other.log.join('')).toContain('a client of the events was dropped');
    await enqueue('one more');
    expect((await fine.events(1))[0]?.data.sessionId).toBe('one more');
    fine.leave();
    stuck.leave();
    await other.stop();
  });
});

/** The kinds of which there are more than before; what was still closing then may be gone by now. */
function grown(before: Readonly<Record<string, number>>, now: Readonly<Record<string, number>>): string[] {
  return Object.keys(now).filter((kind) => (now[kind] ?? 0) > (before[kind] ?? 0));
}

/** The sockets that this process has open, by their kind. */
async function resources(): Promise<Record<string, number>> {
  // What was closed a moment ago is gone after a turn of the event loop.
  await new Promise((resolve) => setImmediate(resolve));
  const counts: Record<string, number> = {};
  for (const name of process.getActiveResourcesInfo()) {
    if (name.startsWith('TCP')) counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}
