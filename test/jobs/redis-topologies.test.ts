import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { QueueUnavailableError } from '../../src/jobs/backends/backend.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { SessionQueue } from '../../src/jobs/session-queue.ts';
import { createLogger } from '../../src/util/log.ts';
import { findProgram, freePort, searchPath, startServer } from '../setup/process.ts';
import { createTestQueue, whyMissing } from '../support/queues.ts';
import { startCluster, startSentinels } from '../support/redis-topologies.ts';
import { startRelay } from '../support/tcp-relay.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
const tls = { certificate: fixture('tls-localhost.crt'), key: fixture('tls-localhost.key') };
const trusted = getCACertificates('default');
beforeAll(async () => setDefaultCACertificates([...trusted, await readFile(tls.certificate, 'utf8')]));
afterAll(() => setDefaultCACertificates(trusted));

const SOON = { timeout: 60_000, interval: 50 };
const queueConfig = (url: string) => loadConfig({ QUEUE_URL: url }, { needs: [] }).queue;
const session = (number: number) => ({ botId: 'st-1', sessionId: `67aa38026e199c8f470e${number}` });

/** A queue by its URL, with what it logs. */
async function open(url: string) {
  const lines: { msg: string }[] = [];
  const log = createLogger('info', (line) => lines.push(JSON.parse(line)));
  const config = queueConfig(url);
  const backend = await openBackend(config, log);
  const queue = new SessionQueue(backend, config.name, log);
  cleanups.push(async () => {
    await queue.close();
    await backend.close();
  });
  return { queue, backend, messages: () => lines.map(({ msg }) => msg) };
}

const deadPort = freePort;

describe('a Redis cluster', () => {
  it('a Redis cluster is reached through any seed, with a password, and later through the nodes that it named', async () => {
    const cluster = await startCluster('pass-of-the-cluster');
    cleanups.push(() => cluster.stop());
    const [first, owner, third] = cluster.nodes;
    const url = `redis://:pass-of-the-cluster@127.0.0.1:${await deadPort()},127.0.0.1:${first?.port}?cluster=true`;
    const { queue, backend } = await open(url);
    expect(await queue.enqueue([session(1001)])).toMatchObject([{ outcome: 'queued' }]);
    expect(backend.location).not.toContain('pass-of-the-cluster');

    // Both seeds are stopped now, and so is the connection to the one that is left.
    await first?.kill();
    await third?.kill();
    const admin = new Redis({ port: owner?.port ?? 0, host: '127.0.0.1', password: 'pass-of-the-cluster' });
    cleanups.push(async () => admin.disconnect());
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await vi.waitFor(async () => {
      expect(await queue.enqueue([session(1002)])).toMatchObject([
        { outcome: expect.stringMatching(/queued/) },
      ]);
    }, SOON);
    expect((await queue.stats()).states.queued).toBe(2);
  });
});

describe('a master that Sentinels watch', () => {
  it('a master that Sentinels watch is reached with passwords and TLS on both, with one Sentinel dead', async () => {
    const passwords = { server: 'pass-of-the-server', sentinel: 'pass-of-sentinel' };
    const sentinels = await startSentinels(passwords, tls);
    cleanups.push(() => sentinels.stop());
    await sentinels.nodes[1]?.kill();
    const { queue, backend } = await open(
      `rediss+sentinel://:${passwords.server}@${sentinels.hosts}/main?sentinelPassword=${passwords.sentinel}`,
    );
    expect(await queue.enqueue([session(1001)])).toMatchObject([{ outcome: 'queued' }]);
    expect(backend.location).not.toContain('pass-of');
  });
});

describe('Redis at the start', () => {
  /** A server with so many keys on disk that loading them takes a while. */
  async function startLoading(port: number) {
    const program = findProgram('redis-server', searchPath()) ?? '';
    const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-loading-'));
    const base = ['--port', String(port), '--bind', '127.0.0.1', '--dir', directory];
    const before = await startServer(program, base, 'Ready to accept connections');
    const client = new Redis(port);
    await client.mset(Object.fromEntries(Array.from({ length: 3_000 }, (_, key) => [`key-${key}`, '1'])));
    await client.save();
    client.disconnect();
    await before.stop('SIGKILL');
    const slow = [...base, '--key-load-delay', '1000', '--loading-process-events-interval-bytes', '1024'];
    const server = await startServer(program, slow, 'Server initialized');
    cleanups.push(async () => {
      await server.stop('SIGKILL');
      await rm(directory, { recursive: true });
    });
  }

  async function openWaiting(url: string, waitMs: number) {
    const lines: { msg: string }[] = [];
    const log = createLogger('info', (line) => lines.push(JSON.parse(line)));
    const opening = openBackend(queueConfig(url), log, { waitMs });
    opening.catch(() => undefined);
    return { opening, messages: () => lines.map(({ msg }) => msg) };
  }

  it('the start waits for a Redis that is not there yet, which is logged once', async () => {
    const port = await freePort();
    const { opening, messages } = await openWaiting(`redis://127.0.0.1:${port}`, 60_000);
    await vi.waitFor(() => expect(messages().join()).toContain('waiting for the queue'), SOON);
    await startLoading(port);
    const backend = await opening;
    await backend.close();
    expect(messages().filter((message) => message.startsWith('waiting for the queue'))).toHaveLength(1);
  });

  it('the start fails where Redis does not come in time', async () => {
    const { opening } = await openWaiting(`redis://127.0.0.1:${await deadPort()}`, 1);
    await expect(opening).rejects.toThrow(QueueUnavailableError);
    await expect(opening).rejects.toThrow(/cannot reach the queue at redis:.*check QUEUE_URL/);
  });

  it('the start does not wait for Redis where the password is wrong', async () => {
    const port = await freePort();
    const program = findProgram('redis-server', searchPath()) ?? '';
    const args = [
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--save',
      '',
      '--requirepass',
      'right-password',
    ];
    const server = await startServer(program, args, 'Ready to accept connections');
    cleanups.push(() => server.stop('SIGKILL'));
    const { opening } = await openWaiting(`redis://:wrong-password@127.0.0.1:${port}`, 600_000);
    await expect(opening).rejects.toThrow(/WRONGPASS/);
  });
});

describe('a Redis that hangs', () => {
  it('a Redis that hangs makes an enqueue fail within seconds, and is logged once', async () => {
    const port = await freePort();
    const program = findProgram('redis-server', searchPath()) ?? '';
    const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', ''];
    const server = await startServer(program, args, 'Ready to accept connections');
    cleanups.push(() => server.stop('SIGKILL'));
    const relay = await startRelay({ host: '127.0.0.1', port });
    cleanups.push(() => relay.close());
    const { queue, messages } = await open(`redis://127.0.0.1:${relay.port}`);
    expect(await queue.enqueue([session(1001)])).toMatchObject([{ outcome: 'queued' }]);

    relay.hold();
    await expect(queue.enqueue([session(1002)])).rejects.toThrow(QueueUnavailableError);
    relay.release();
    await vi.waitFor(async () => {
      expect(await queue.enqueue([session(1002)])).toMatchObject([
        { outcome: expect.stringMatching(/queued/) },
      ]);
    }, SOON);

    relay.refuse();
    await vi.waitFor(() => expect(relay.refused).toBeGreaterThan(5), SOON);
    const failures = messages().filter((message) => message.startsWith('queue connection failed'));
    expect(failures.length).toBeLessThanOrEqual(2);
    relay.release();
    await vi.waitFor(() => expect(messages()).toContain('the queue can be reached again'), SOON);
  });
});

describe('a PostgreSQL that hangs', () => {
  const missing = whyMissing('postgres');

  it.skipIf(missing !== undefined)(
    `a PostgreSQL that hangs makes an enqueue fail within seconds${missing ? ` (${missing})` : ''}`,
    async () => {
      const own = await createTestQueue('postgres');
      cleanups.push(() => own.remove());
      if (own.config.target.kind !== 'postgres') throw new Error('the queue is none on PostgreSQL');
      const url = new URL(own.config.target.url);
      const relay = await startRelay({ host: url.hostname, port: Number(url.port) });
      cleanups.push(() => relay.close());
      url.port = String(relay.port);
      const { queue } = await open(url.href);
      expect(await queue.enqueue([session(1001)])).toMatchObject([{ outcome: 'queued' }]);

      relay.hold();
      await expect(queue.enqueue([session(1002)])).rejects.toThrow(QueueUnavailableError);
      relay.release();
      await vi.waitFor(async () => {
        expect(await queue.enqueue([session(1003)])).toMatchObject([{ outcome: 'queued' }]);
      }, SOON);
    },
    60_000,
  );
});
