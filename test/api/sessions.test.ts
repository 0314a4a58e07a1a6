import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createRemoteOperations, type RemoteOperations } from '../../src/api/client.ts';
import { type Api, ListenError } from '../../src/api/http-server.ts';
import { type ApiOptions, createApi } from '../../src/api/server.ts';
import type { Config } from '../../src/config/config.ts';
import { QueueUnavailableError } from '../../src/jobs/backends/backend.ts';
import { jobId } from '../../src/jobs/session-job.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { createLogger } from '../../src/util/log.ts';
import type { SessionWorker } from '../../src/workers/worker.ts';
import { apiTokens } from '../support/api-server.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';

const LOOPBACK_TOKEN = 'the-token-in-owner-json';
const TOKENS = ['first-token-of-two', 'second-token-of-two'];

let sandbox: Sandbox;
let queue: TestQueue;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let config: Config;
let runtime: Runtime;
let worker: SessionWorker;
const open: Api[] = [];

beforeAll(async () => {
  sandbox = await startSandbox();
  queue = await createTestQueue('redis');
  directory = await temporaryDirectory();
  const environment = { ...sandboxEnvironment(sandbox), ARCHIVE_URL: `file:${directory.path}` };
  const { config: loaded, kore } = testConfig(environment, queue.config);
  config = loaded;
  runtime = await openRuntime(config, silent);
  worker = await runtime.startWorker(kore);
  await worker.ready();
});

afterAll(async () => {
  await Promise.all(open.map((api) => api.close()));
  await worker.stop();
  await runtime.close();
  await queue.remove();
  await directory.remove();
  await sandbox.close();
});

/** Serves the API on a free port. */
async function serve(changes: Partial<ApiOptions> = {}): Promise<string> {
  const api = createApi({
    operations: runtime.operations,
    check: (signal) => runtime.check(signal),
    http: { host: '127.0.0.1', port: 0, tokens: [] },
    defaultBotId: config.defaultBotId,
    loopbackToken: LOOPBACK_TOKEN,
    log: silent,
    ...changes,
  });
  open.push(api);
  return (await api.listen()).url;
}

interface Ask {
  readonly method?: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly json?: unknown;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** One request, and its answer with a parsed body. */
async function ask(url: string, path: string, { method, json, body, headers = {} }: Ask = {}) {
  const text = json === undefined ? body : JSON.stringify(json);
  const response = await request(`${url}${path}`, {
    method: method ?? (text === undefined ? 'GET' : 'POST'),
    headers: { ...(json !== undefined && { 'content-type': 'application/json' }), ...headers },
    ...(text !== undefined && { body: text }),
  });
  const answer = await response.body.text();
  return {
    status: response.statusCode,
    headers: response.headers,
    body: (answer === '' ? undefined : JSON.parse(answer)) as Record<string, unknown>,
  };
}

/** Waits until a session has ended, and returns its view. */
async function ended(url: string, sessionId: string) {
  return vi.waitFor(
    async () => {
      const { body } = await ask(url, `/v1/sessions/${sessionId}`);
      expect(['archived', 'failed']).toContain(body.state);
      return body;
    },
    { timeout: 60_000, interval: 50 },
  );
}

/** An id that the sandbox does not know: it fails at once, with SESSION_NOT_FOUND. */
function unknownId(): string {
  return randomBytes(12).toString('hex');
}

describe('sessions over HTTP', () => {
  let url: string;
  beforeAll(async () => {
    url = await serve();
  });

  it('POST /v1/sessions names the outcome for each session in the order given, and GET shows them archived', async () => {
    const id = sandbox.addSession({ transcription: 'Hello.' });

    const first = await ask(url, '/v1/sessions', { json: { sessionIds: [id, id] } });

    expect(first.status).toBe(202);
    expect(first.body).toEqual({
      results: [
        { sessionId: id, outcome: 'queued' },
        { sessionId: id, outcome: 'already-queued' },
      ],
    });
    const view = await ended(url, id);
    expect(view).toMatchObject({
      sessionId: id,
      botId: sandbox.botId,
      state: 'archived',
      transcript: 'archived',
    });
    expect(view.recordings).toHaveLength(1);
    const again = await ask(url, '/v1/sessions', { json: { sessionIds: [id], botId: sandbox.botId } });
    expect(again.body).toEqual({ results: [{ sessionId: id, outcome: 'already-archived' }] });
    const forced = await ask(url, '/v1/sessions', {
      json: { sessionIds: [id], priority: 'backfill', force: true },
    });
    expect(forced.body).toEqual({ results: [{ sessionId: id, outcome: 'requeued' }] });
    expect(await ended(url, id)).toMatchObject({ state: 'archived' });
  });

  it('the API answers 404 for a session that neither queue nor archive knows', async () => {
    const answer = await ask(url, '/v1/sessions/nobody-knows-it?botId=st-other');

    expect(answer.status).toBe(404);
    expect(answer.headers['content-type']).toBe('application/problem+json; charset=utf-8');
    expect(answer.body).toEqual({
      type: 'about:blank',
      title: 'Not Found',
      status: 404,
      detail: 'neither the queue nor the archive knows session nobody-knows-it of bot st-other',
      code: 'SESSION_NOT_FOUND',
    });
  });

  it('the API lists failed sessions by code, page by page, and retries one or all of a code, and no others', async () => {
    const lost = [unknownId(), unknownId(), unknownId()];
    const refused = sandbox.addSession({ statuses: ['media_unavailable'] });
    await ask(url, '/v1/sessions', { json: { sessionIds: [...lost, refused] } });
    for (const id of [...lost, refused]) await ended(url, id);

    const listed: string[] = [];
    let cursor = '';
    do {
      const page = await ask(url, `/v1/sessions?state=failed&code=SESSION_NOT_FOUND&limit=2${cursor}`);
      expect(page.status).toBe(200);
      const { sessions, nextCursor } = page.body as {
        sessions: { sessionId: string }[];
        nextCursor?: string;
      };
      listed.push(...sessions.map(({ sessionId }) => sessionId));
      cursor = nextCursor === undefined ? '' : `&cursor=${nextCursor}`;
    } while (cursor !== '');
    expect(listed.sort()).toEqual(lost.sort());

    const [one] = lost;
    const retried = await ask(url, `/v1/sessions/${one}/retry`, { method: 'POST' });
    expect(retried.status).toBe(202);
    expect(retried.body).toEqual({ sessionId: one, outcome: 'requeued' });
    expect(await ended(url, String(one))).toMatchObject({ state: 'failed' });

    const byCode = await ask(url, '/v1/retries', { json: { code: 'SESSION_NOT_FOUND' } });
    expect(byCode.status).toBe(202);
    expect(byCode.body).toEqual({ requeued: 3 });
    for (const id of lost) await ended(url, id);
    const everything = await ask(url, '/v1/retries', { method: 'POST' });
    expect(everything.body).toEqual({ requeued: 4 });
    for (const id of [...lost, refused]) await ended(url, id);

    const fine = sandbox.addSession();
    await ask(url, '/v1/sessions', { json: { sessionIds: [fine] } });
    await ended(url, fine);
    const notFailed = await ask(url, `/v1/sessions/${fine}/retry`, { method: 'POST' });
    expect([notFailed.status, notFailed.body.code]).toEqual([409, 'NOT_FAILED']);
    const unknown = await ask(url, '/v1/sessions/never-seen/retry', { method: 'POST' });
    expect([unknown.status, unknown.body.code]).toEqual([404, 'SESSION_NOT_FOUND']);
  });

  it('the API finds an archived session whose job has left the queue by its manifest', async () => {
    const sessionId = sandbox.addSession();
    await ask(url, '/v1/sessions', { json: { sessionIds: [sessionId] } });
    const { recordings, progress, manifestKey, transcript } = await ended(url, sessionId);
    await runtime.queue.bullmq.sessions.remove(jobId({ sessionId, botId: sandbox.botId }));

    const { status, body } = await ask(url, `/v1/sessions/${sessionId}`);
    expect(status).toBe(200);
    expect(body).toMatchObject({ state: 'archived', recordings, progress, manifestKey, transcript });
    const again = await ask(url, '/v1/sessions', { json: { sessionIds: [sessionId] } });
    expect(again.body).toEqual({ results: [{ sessionId, outcome: 'already-archived' }] });
    const retried = await ask(url, `/v1/sessions/${sessionId}/retry`, { method: 'POST' });
    expect([retried.status, retried.body.code]).toEqual([409, 'NOT_FAILED']);
  });

  it('the API counts sessions by state', async () => {
    const { status, body } = await ask(url, '/v1/stats');

    expect(status).toBe(200);
    expect(Object.keys(body.states as object)).toEqual(['queued', 'active', 'waiting', 'archived', 'failed']);
    expect(body.transcriptsPending).toBeTypeOf('number');
  });

  it('the API accepts a retry that announces JSON and sends no body', async () => {
    const answer = await ask(url, '/v1/sessions/never-seen/retry', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '',
    });
    expect(answer.body.code).toBe('SESSION_NOT_FOUND');
  });
});

describe('an invalid request', () => {
  let url: string;
  beforeAll(async () => {
    url = await serve();
  });

  it('an invalid request is answered with the name of the field that is wrong', async () => {
    const { body } = await ask(url, '/v1/sessions', { json: { sessionIds: ['a', 'b c'], force: 'yes' } });

    expect(body.detail).toMatch(/sessionIds\[1\]: .*1 to 128/);
    expect(body.detail).toMatch(/force: /);
  });

  it('a request without a bot is refused where there is no default', async () => {
    const withoutBot = await serve({ defaultBotId: undefined });

    const { status, body } = await ask(withoutBot, '/v1/sessions/a');

    expect([status, body.code]).toEqual([400, 'INVALID_REQUEST']);
    expect(body.detail).toContain('KORE_BOT_ID');
  });

  it('a request with 10,000 ids of the longest kind is accepted', async () => {
    const sessionIds = Array.from({ length: 10_000 }, (_, index) => String(index).padStart(128, 'x'));
    const seen: number[] = [];
    const counting = await serve({
      operations: {
        ...runtime.operations,
        enqueue: async (requests) => {
          seen.push(requests.length);
          return requests.map(({ sessionId, botId }) => ({ sessionId, botId, outcome: 'queued' as const }));
        },
      },
    });

    const { status, body } = await ask(counting, '/v1/sessions', { json: { sessionIds } });

    expect(status).toBe(202);
    expect(body.results).toHaveLength(10_000);
    expect(seen).toEqual([10_000]);
  });
});

describe('access to sessions', () => {
  const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });

  it('requests for sessions need one of the tokens, or the loopback token, where tokens are configured', async () => {
    const url = await serve({ http: { host: '127.0.0.1', port: 0, tokens: apiTokens(...TOKENS) } });

    for (const token of [...TOKENS, LOOPBACK_TOKEN]) {
      expect((await ask(url, '/v1/stats', bearer(token))).status).toBe(200);
    }
    const refused: Ask[] = [
      {},
      bearer('another-token'),
      bearer(''),
      bearer(`${TOKENS[0]}x`),
      { headers: { authorization: String(TOKENS[0]) } },
      { headers: { authorization: `Basic ${TOKENS[0]}` } },
    ];
    for (const options of refused) {
      const { status, body, headers } = await ask(url, '/v1/stats', options);
      expect([status, body.code]).toEqual([401, 'UNAUTHORIZED']);
      expect(headers['www-authenticate']).toMatch(/^Bearer realm="voicemail-archiver"/);
      expect(JSON.stringify(body)).not.toContain('token-of-two');
    }
  });

  it('the API is open on loopback without tokens, but not to web pages and not with a wrong token', async () => {
    const url = await serve();
    const { port } = new URL(url);
    const status = async (headers: Record<string, string>) =>
      (await ask(url, '/v1/stats', { headers })).status;

    expect(await status({})).toBe(200);
    expect(await status({ host: `localhost:${port}` })).toBe(200);
    expect(await status({ host: '[::1]' })).toBe(200);
    expect(await status({ origin: `http://localhost:${port}` })).toBe(200);
    expect(await status({ host: `rebound.example:${port}` })).toBe(403);
    expect(await status({ host: '127.0.0.1.example' })).toBe(403);
    expect(await status({ origin: 'https://evil.example' })).toBe(403);
    expect(await status({ origin: 'null' })).toBe(403);
    expect(await status({ authorization: 'Bearer of-another-process' })).toBe(401);
  });

  it('the health routes never need credentials', async () => {
    const url = await serve({ http: { host: '127.0.0.1', port: 0, tokens: apiTokens(...TOKENS) } });

    for (const path of ['/livez', '/readyz']) {
      const { status, body } = await ask(url, path);
      expect([status, body]).toEqual([200, { status: 'ok' }]);
    }
  });
});

describe('serving the API', () => {
  it('the API logs the port on which it listens', async () => {
    const lines: string[] = [];

    const url = await serve({ log: createLogger('info', (line) => lines.push(line)) });

    expect(lines.map((line) => JSON.parse(line))).toContainEqual(
      expect.objectContaining({ msg: 'listening', host: '127.0.0.1', port: Number(new URL(url).port) }),
    );
  });

  it('the API names the request in every line that is logged for it', async () => {
    const lines: string[] = [];
    const log = createLogger('debug', (line) => lines.push(line));
    const enqueue: Runtime['operations']['enqueue'] = async (requests) => {
      await new Promise((resolve) => setImmediate(resolve));
      log.warn('looked up in vain');
      return runtime.operations.enqueue(requests);
    };
    const url = await serve({ log, operations: { ...runtime.operations, enqueue } });

    const answers = await Promise.all(
      [unknownId(), unknownId()].map((id) => ask(url, '/v1/sessions', { json: { sessionIds: [id] } })),
    );

    const ids = answers.map(({ headers }) => String(headers['x-request-id']));
    const logged = lines.map((line) => JSON.parse(line) as { msg: string; requestId?: string });
    for (const msg of ['looked up in vain', 'answered']) {
      const named = logged.filter((line) => line.msg === msg).map(({ requestId }) => requestId);
      expect(named.sort(), msg).toEqual(ids.toSorted());
    }
    expect(logged.find(({ msg }) => msg === 'listening')).not.toHaveProperty('requestId');
  });

  it('the API cancels one queued session or all, and leaves those that have ended', async () => {
    const unworked = await openRuntime({ ...config, queue: { ...queue.config, name: 'cancelled' } }, silent);
    const url = await serve({ operations: unworked.operations });
    const ids = [unknownId(), unknownId(), unknownId()];
    await ask(url, '/v1/sessions', { json: { sessionIds: ids } });

    const one = await ask(url, `/v1/sessions/${ids[0]}`, { method: 'DELETE' });
    expect([one.status, one.body]).toEqual([200, { sessionId: ids[0], outcome: 'cancelled' }]);
    const again = await ask(url, `/v1/sessions/${ids[0]}`, { method: 'DELETE' });
    expect([again.status, again.body.code]).toEqual([404, 'SESSION_NOT_FOUND']);
    const dry = await ask(url, '/v1/cancellations', { json: { dryRun: true } });
    expect(dry.body).toEqual({ cancelled: 2 });
    expect((await ask(url, '/v1/cancellations', { json: { backfills: true } })).body).toEqual({
      cancelled: 0,
    });
    expect((await ask(url, '/v1/cancellations', { method: 'POST' })).body).toEqual({ cancelled: 2 });
    expect((await ask(url, '/v1/cancellations', { json: { all: true } })).status).toBe(400);
    await unworked.close();

    const done = sandbox.addSession();
    const working = await serve();
    await ask(working, '/v1/sessions', { json: { sessionIds: [done] } });
    await ended(working, done);
    const late = await ask(working, `/v1/sessions/${done}`, { method: 'DELETE' });
    expect([late.status, late.body.code]).toEqual([409, 'NOT_WAITING']);
  });

  it('the API pauses the queue, reports the pause, and resumes it', async () => {
    const url = await serve();
    expect((await ask(url, '/v1/pause', { method: 'PUT' })).body).toEqual({ paused: true });
    const id = sandbox.addSession();
    await ask(url, '/v1/sessions', { json: { sessionIds: [id] } });
    expect((await ask(url, '/v1/stats')).body).toMatchObject({ paused: true, states: { queued: 1 } });
    expect((await ask(url, '/v1/pause', { method: 'DELETE' })).body).toEqual({ paused: false });
    expect(await ended(url, id)).toMatchObject({ state: 'archived' });
    expect((await ask(url, '/v1/stats')).body).toMatchObject({ paused: false });
  });

  it('the API names the variable to change when the port is taken', async () => {
    const { port } = new URL(await serve());

    const second = serve({ http: { host: '127.0.0.1', port: Number(port), tokens: [] } });

    await expect(second).rejects.toThrow(ListenError);
    await expect(second).rejects.toThrow(/HTTP_PORT/);
  });

  it('the API answers 503 while the queue is unavailable, and 202 again when it is back', async () => {
    const gate = await openGate(queue);
    const gated = await openRuntime({ ...config, queue: gate.config }, silent);
    const url = await serve({ operations: gated.operations, check: (signal) => gated.check(signal) });
    const body = () => ({ json: { sessionIds: [unknownId()] } });
    expect((await ask(url, '/v1/sessions', body())).status).toBe(202);

    await gate.shut();
    const away = await ask(url, '/v1/sessions', body());
    expect([away.status, away.body.code]).toEqual([503, 'QUEUE_UNAVAILABLE']);
    expect(Number(away.headers['retry-after'])).toBeGreaterThan(0);
    const notReady = await ask(url, '/readyz');
    expect([notReady.status, notReady.body.code]).toEqual([503, 'NOT_READY']);
    expect((await ask(url, '/livez')).status).toBe(200);

    await gate.open();
    await vi.waitFor(async () => expect((await ask(url, '/v1/sessions', body())).status).toBe(202), {
      timeout: 60_000,
    });
    await vi.waitFor(async () => expect((await ask(url, '/readyz')).status).toBe(200), { timeout: 60_000 });
    await gated.close();
    await gate.close();
  });
});

describe('operations over the API of another process', () => {
  let url: string;
  let remote: RemoteOperations;
  beforeAll(async () => {
    url = await serve({ http: { host: '127.0.0.1', port: 0, tokens: apiTokens(...TOKENS) } });
    remote = createRemoteOperations(url, LOOPBACK_TOKEN);
  });
  afterAll(() => remote.close());

  it('operations over HTTP enqueue sessions of several bots and priorities, and name the outcomes in the order given', async () => {
    const unworked = await openRuntime({ ...config, queue: { ...queue.config, name: 'unworked' } }, silent);
    const there = createRemoteOperations(await serve({ operations: unworked.operations }), LOOPBACK_TOKEN);
    const requests = [
      { botId: 'st-1', sessionId: 'a' },
      { botId: 'st-2', sessionId: 'b' },
      { botId: 'st-1', sessionId: 'c', priority: 'backfill' as const },
      { botId: 'st-1', sessionId: 'd' },
    ];

    const first = await there.enqueue(requests);
    const again = await there.enqueue([{ botId: 'st-1', sessionId: 'e' }, ...requests]);

    expect(first).toEqual(requests.map(({ botId, sessionId }) => ({ botId, sessionId, outcome: 'queued' })));
    expect(again.map(({ sessionId, outcome }) => [sessionId, outcome])).toEqual([
      ['e', 'queued'],
      ...requests.map(({ sessionId }) => [sessionId, 'already-queued']),
    ]);
    await there.close();
    await unworked.close();
  });

  it('operations over HTTP cancel sessions, pause the queue and resume it', async () => {
    const unworked = await openRuntime({ ...config, queue: { ...queue.config, name: 'remote' } }, silent);
    const there = createRemoteOperations(await serve({ operations: unworked.operations }), LOOPBACK_TOKEN);
    const session = { botId: sandbox.botId, sessionId: unknownId() };
    await there.enqueue([session]);
    await there.pause();
    expect(await there.stats()).toMatchObject({ paused: true });
    await there.resume();
    expect(await there.stats()).toMatchObject({ paused: false });
    expect(await there.cancelAll({ dryRun: true })).toBe(1);
    expect(await there.cancel(session)).toBe('cancelled');
    expect(await there.cancel(session)).toBe('unknown');
    expect(await there.cancelAll({})).toBe(0);
    await there.close();
    await unworked.close();
  });

  it('operations over HTTP return the same as the operations on the queue itself', async () => {
    const lost = unknownId();
    const failed = { sessionId: lost, botId: sandbox.botId };
    await remote.enqueue([failed]);
    await vi.waitFor(async () => expect((await remote.view(failed))?.state).toBe('failed'), {
      timeout: 60_000,
    });

    expect(await remote.view(failed)).toEqual(await runtime.operations.view(failed));
    expect(await remote.view({ ...failed, sessionId: 'never-seen' })).toBeUndefined();
    const query = { state: 'failed', code: 'SESSION_NOT_FOUND', limit: 1 } as const;
    expect(await remote.list(query)).toEqual(await runtime.operations.list(query));
    expect(await remote.stats()).toEqual(await runtime.operations.stats());
    expect(await remote.retry({ ...failed, sessionId: 'never-seen' })).toBe('unknown');
    expect(await remote.retry(failed)).toBe('requeued');
    await vi.waitFor(async () => expect((await remote.view(failed))?.state).toBe('failed'), {
      timeout: 60_000,
    });
    expect(await remote.retryAll('RECORDING_EMPTY')).toBe(0);
  });

  it('operations over HTTP report that nobody answers, or that the token is wrong', async () => {
    const closed = createServer().listen(0, '127.0.0.1');
    await once(closed, 'listening');
    const { port } = closed.address() as AddressInfo;
    closed.close();
    const nobody = createRemoteOperations(`http://127.0.0.1:${port}`, 'x');
    await expect(nobody.stats()).rejects.toThrow(QueueUnavailableError);
    await nobody.close();

    const stranger = createRemoteOperations(url, 'not-the-token');
    await expect(stranger.stats()).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    await stranger.close();
  });
});

/** A relay to a Redis queue that can be closed and opened again, as if the server were unavailable. */
async function openGate({ config: { target, ...rest } }: TestQueue) {
  if (target.kind !== 'redis') throw new Error('only for Redis');
  const { hostname, port } = new URL(target.url);
  const sockets = new Set<Socket>();
  let server: Server;
  const listen = async (at: number) => {
    server = createServer((client) => {
      const upstream = connect(Number(port), hostname);
      for (const socket of [client, upstream]) {
        sockets.add(socket);
        socket.on('close', () => sockets.delete(socket));
        socket.on('error', () => socket.destroy());
      }
      client.pipe(upstream).pipe(client);
    }).listen(at, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  };
  const gatePort = await listen(0);
  const shut = async () => {
    server.close();
    for (const socket of sockets) socket.destroy();
    if (server.listening) await once(server, 'close');
  };
  return {
    config: { ...rest, target: { ...target, url: `redis://127.0.0.1:${gatePort}` } },
    shut,
    open: () => listen(gatePort),
    close: shut,
  };
}
