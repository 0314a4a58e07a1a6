import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { get, type IncomingMessage } from 'node:http';
import { basename } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { createLastingRedis, type RestartableRedis } from '../setup/redis.ts';
import { type Answer, ask } from '../support/api-server.ts';
import { hasLogged, type RunningCli, startCli } from '../support/cli.ts';
import { sandboxEnvironment, temporaryDirectory } from '../support/services.ts';

const SECRET = 'the-secret-of-the-webhook';
const SENDERS = 20;
/** Sessions before the outage, and as many again after it. */
const SESSIONS = 100;
/** Whoever gets no answer within this time takes it for none. */
const TIMEOUT_MS = 60_000;
const SOON = { timeout: TIMEOUT_MS, interval: 20 };
/** Jobs that ran when the queue became unavailable are locked for 20 seconds, and found by a check every 5 seconds. */
const TAKEOVER = { timeout: 60_000, interval: 200 };

let redis: RestartableRedis;
let sandbox: Sandbox;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let service: RunningCli;
let url: string;

beforeAll(async () => {
  [redis, sandbox, directory] = await Promise.all([
    createLastingRedis(),
    startSandbox(),
    temporaryDirectory(),
  ]);
  await redis.start();
  service = startCli(['start'], {
    env: {
      ...sandboxEnvironment(sandbox),
      QUEUE_URL: redis.url,
      ARCHIVE_URL: `file:${directory.path}`,
      WEBHOOK_SECRET: SECRET,
      SHUTDOWN_GRACE: '1s',
    },
  });
  await service.waitFor(hasLogged('taking sessions'));
  url = `http://127.0.0.1:${service.log.find(({ msg }) => msg === 'listening')?.port}`;
});

afterAll(async () => {
  service.kill('SIGTERM');
  await service.ended;
  await redis.stop('SIGTERM');
  await Promise.all([redis.remove(), directory.remove(), sandbox.close()]);
});

it('no accepted session is lost when Redis is killed under load and comes back', async () => {
  const events = await listenToEvents();
  const senders = startSenders();
  await vi.waitFor(() => expect(senders.accepted.length).toBeGreaterThan(SESSIONS), SOON);

  await redis.stop('SIGKILL');
  await vi.waitFor(async () => expect((await ask(url, '/readyz')).status).toBe(503), SOON);
  await vi.waitFor(() => expect(senders.refused.length).toBeGreaterThanOrEqual(SENDERS), SOON);
  const acceptedBefore = senders.accepted.length;
  await expectAway();

  await redis.start();
  await vi.waitFor(async () => expect((await ask(url, '/readyz')).status).toBe(200), SOON);
  await vi.waitFor(() => expect(senders.accepted.length).toBeGreaterThan(acceptedBefore + SESSIONS), SOON);
  await senders.stop();

  for (const { status, body, headers } of senders.refused) {
    expect([status, body.code]).toEqual([503, 'QUEUE_UNAVAILABLE']);
    expect(headers['content-type']).toBe('application/problem+json; charset=utf-8');
    expect(Number(headers['retry-after'])).toBeGreaterThan(0);
  }
  const { accepted } = senders;
  await vi.waitFor(async () => {
    const { body } = await ask(url, '/v1/stats');
    expect(body.states).toEqual({ queued: 0, active: 0, waiting: 0, failed: 0, archived: accepted.length });
  }, TAKEOVER);
  expect(await archivedSessions()).toEqual(accepted.toSorted());
  expect((await ask(url, '/livez')).status).toBe(200);
  // The same connection as before, on which nothing was missed.
  await vi.waitFor(() => expect(events.archived()).toEqual(accepted.toSorted()), SOON);
  expect(events.response.complete).toBe(false);
  events.leave();
  expect(service.log.filter(({ level }) => level === 'fatal')).toEqual([]);
}, 120_000);

it('the service can be stopped while Redis is unavailable and a client listens to the events', async () => {
  await listenToEvents();
  await redis.stop('SIGTERM');

  service.kill('SIGTERM');

  expect((await service.ended).code).toBe(0);
});

/** Every route reports that the queue is unavailable, and none hangs or answers 500. */
async function expectAway(): Promise<void> {
  const session = { sessionIds: ['67ab573f3685d1ba99541234'] };
  const routes: readonly (readonly [string, unknown?])[] = [
    ['/v1/sessions'],
    ['/v1/sessions/67ab573f3685d1ba99541234'],
    ['/v1/sessions/67ab573f3685d1ba99541234/retry', {}],
    ['/v1/sessions', session],
    ['/v1/retries', {}],
    ['/v1/stats'],
    ['/v1/backfills'],
    ['/v1/backfills', { from: '2026-01-01T00:00:00Z' }],
    ['/v1/schedules'],
    ['/dashboard/queues/api/queues'],
  ];
  const answers = await Promise.all(routes.map(([path, json]) => ask(url, path, { json })));
  for (const [index, { status, body }] of answers.entries()) {
    expect([routes[index]?.[0], status, body.code]).toEqual([routes[index]?.[0], 503, 'QUEUE_UNAVAILABLE']);
  }
  // To start the process again would fix nothing.
  expect((await ask(url, '/livez')).status).toBe(200);
  expect((await ask(url, '/metrics')).text).toMatch(/^voicemail_queue_up 0$/m);
}

/** Senders as they should be: each sends a notification again until it is answered 202, then the next one. */
function startSenders() {
  const accepted: string[] = [];
  const refused: Answer[] = [];
  let isStopped = false;
  const notify = async (sessionId: string): Promise<void> => {
    const answer = await ask(url, '/webhooks/voicemail', {
      json: { sessionId },
      headers: { auth: SECRET },
    });
    if (answer.status === 202) {
      accepted.push(sessionId);
    } else {
      refused.push(answer);
      await notify(sessionId);
    }
  };
  const send = async (): Promise<void> => {
    while (!isStopped) {
      await notify(sandbox.addSession({ recordings: [{ bytes: 2_000, seed: 'one for all' }] }));
    }
  };
  const sending = Promise.all(Array.from({ length: SENDERS }, send));
  // Reported by stop(), or by the caller that waits for them.
  sending.catch(() => undefined);
  return {
    accepted,
    refused,
    /** A request that is never answered makes this, and so the test, never end. */
    async stop() {
      isStopped = true;
      await sending;
    },
  };
}

/** A client of the events that stays through it all. */
async function listenToEvents() {
  const asked = get(`${url}/v1/events`, { agent: false });
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  let text = '';
  response.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  return {
    response,
    /** The sessions that events reported as archived. */
    archived: () =>
      [...text.matchAll(/^event: archived\ndata: (.*)$/gm)]
        .map(([, data]) => String(JSON.parse(String(data)).sessionId))
        .sort(),
    leave: () => asked.destroy(),
  };
}

/** The sessions with a manifest. */
async function archivedSessions(): Promise<string[]> {
  const entries = await readdir(directory.path, { recursive: true, withFileTypes: true });
  return entries
    .filter(({ name }) => name === 'manifest.json')
    .map(({ parentPath }) => basename(parentPath).replace('session_id=', ''))
    .sort();
}
