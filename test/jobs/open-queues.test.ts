import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, type TestContext, vi } from 'vitest';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { EventFeed } from '../../src/jobs/event-feed.ts';
import { openQueues } from '../../src/jobs/open-queues.ts';
import { createLogger } from '../../src/util/log.ts';
import { startCli } from '../support/cli.ts';
import { silent } from '../support/queues.ts';
import { startOwnRedis } from '../support/redis-server.ts';
import { temporaryDirectory } from '../support/services.ts';

/** A command without an answer fails after some seconds. */
const TIMEOUT_MS = 120_000;
const SESSION = { sessionId: '67ab573f3685d1ba99541234', botId: 'st-1' };

// At once: they wait until a command has gone without an answer for long enough.
describe.concurrent('Redis that is suspended while a process starts', () => {
  /** A server of the test's own. */
  const startRedis = async ({ onTestFinished }: TestContext) => {
    const redis = await startOwnRedis();
    onTestFinished(() => {
      redis.goOn();
      return redis.stop();
    });
    const target = { kind: 'redis', url: redis.url, cluster: false } as const;
    return { redis, backend: await openBackend({ target, name: 'sessions', prefix: undefined }, silent) };
  };

  it('queues that lose their first command to a suspended Redis are built anew', {
    timeout: TIMEOUT_MS,
  }, async (context) => {
    const lines: string[] = [];
    const log = createLogger('warn', (line) => lines.push(line));
    const { redis, backend } = await startRedis(context);
    redis.suspend();
    const opening = openQueues({ backend, name: 'sessions', log });
    await vi.waitUntil(() => lines.some((line) => line.includes('did not answer at the start')), {
      timeout: TIMEOUT_MS,
      interval: 50,
    });
    redis.goOn();

    const { sessions, backfills } = await opening;
    await sessions.check();
    expect(await sessions.enqueue([SESSION])).toMatchObject([{ outcome: 'queued' }]);
    expect(await sessions.view(SESSION)).toMatchObject({ state: 'queued' });
    expect(await backfills.list(10)).toEqual([]);
    await Promise.all([sessions.close(), backfills.close()]);
    await backend.close();
  });

  it('the feed of events closes although Redis was suspended while it opened', {
    timeout: TIMEOUT_MS,
  }, async (context) => {
    const { redis, backend } = await startRedis(context);
    const feed = new EventFeed(backend, 'sessions', silent);
    redis.suspend();
    const subscribing = feed.subscribe();
    const refused = expect(subscribing).rejects.toThrow();
    await feed.close();
    await refused;
    expect(feed.subscribers).toBe(0);
    await backend.close();
  });
});

describe('a service whose Redis never answers', () => {
  let server: Server;
  const sockets = new Set<Socket>();

  beforeEach(async () => {
    server = createServer((socket) => sockets.add(socket)).listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });

  it('a service whose Redis never answers ends when it gets a stop signal before it is ready', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const directory = await temporaryDirectory();
    const connected = once(server, 'connection');
    const worker = startCli(['worker'], {
      env: {
        KORE_HOST: 'http://127.0.0.1:9',
        KORE_BOT_ID: 'st-1',
        KORE_CLIENT_ID: 'cs-1',
        KORE_CLIENT_SECRET: 'not much of a secret',
        QUEUE_URL: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
        ARCHIVE_URL: `file:${directory.path}`,
        HTTP_PORT: '0',
      },
    });
    await connected;
    worker.kill('SIGTERM');
    // Nothing kills it: that it ends at all is what is shown.
    expect((await worker.ended).stderr).not.toContain('taking sessions');
    await directory.remove();
  });
});
