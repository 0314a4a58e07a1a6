import { once } from 'node:events';
import { createServer, connect as dial, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/config/settings.ts';
import type { Archiver, ArchiverOptions } from '../../src/library/archiver.ts';
import { createArchiver } from '../../src/library/create-archiver.ts';
import { ArchiverError } from '../../src/library/errors.ts';
import { buildManifest, serialize } from '../../src/storage/documents.ts';
import { manifestKey } from '../../src/storage/layout.ts';
import { openTestArchive } from '../support/archive-stores.ts';
import { createTestQueue, type TestQueue } from '../support/queues.ts';
import { temporaryDirectory } from '../support/services.ts';

const BOT = 'st-1';

describe('createArchiver', () => {
  it.each<[string, unknown, Record<string, RegExp>]>([
    ['no options', undefined, { options: /object/ }],
    ['no queue', {}, { queueUrl: /required; for example redis:/ }],
    ['a blank queue, as of an unset variable', { queueUrl: ' ' }, { queueUrl: /required/ }],
    [
      'a queue of another kind',
      { queueUrl: 'mysql://u:pass-word@db/q' },
      { queueUrl: /begins with none of/ },
    ],
    [
      'a cluster without braces',
      { queueUrl: 'redis://db?cluster=true', queuePrefix: 'x' },
      { queuePrefix: /braces/ },
    ],
    [
      'several that are wrong',
      {
        queueUrl: 'redis://db',
        queueName: 'a:b',
        botId: 'a b',
        archiveUrl: 'ftp://x',
        s3ExpectedBucketOwner: '1',
      },
      {
        queueName: /no queue name/,
        botId: /no id/,
        archiveUrl: /neither with s3/,
        s3ExpectedBucketOwner: /account/,
      },
    ],
    [
      'what is no option, and values of another type',
      {
        queueUrl: 'redis://db',
        queueNam: 'x',
        botId: 'a b',
        timeoutMs: 0,
        s3ForcePathStyle: 'yes',
        logger: () => undefined,
      },
      {
        queueNam: /no option/,
        botId: /no id/,
        timeoutMs: /at least 1/,
        s3ForcePathStyle: /true or false/,
        logger: /methods debug/,
      },
    ],
  ])('createArchiver refuses %s, and names each option', (_name, options, faults) => {
    const error = thrownBy(() => createArchiver(options as { queueUrl: string }));

    expect(error).toBeInstanceOf(ConfigError);
    const found = error instanceof ConfigError ? error.faults : [];
    expect(Object.fromEntries(found.map(({ variable, message }) => [variable, message]))).toEqual(
      Object.fromEntries(Object.entries(faults).map(([name, text]) => [name, expect.stringMatching(text)])),
    );
    expect(String(error)).not.toMatch(/pass-word|[A-Z]{2,}_[A-Z]+/);
  });

  it('createArchiver connects to nothing before it is used, and to nothing for an invalid call', async () => {
    const { server, port, sockets } = await listen(() => undefined);
    const archiver = createArchiver({ queueUrl: `redis://127.0.0.1:${port}` });

    for (const call of [
      archiver.enqueue('a'),
      archiver.enqueue('a b', { botId: BOT }),
      archiver.enqueue([], { botId: BOT }),
      archiver.enqueue(
        Array.from({ length: 10_001 }, (_, index) => `a${index}`),
        { botId: BOT },
      ),
      archiver.enqueue('a', { botId: BOT, priorty: 'live' } as object),
      archiver.get('a', { botId: 'b:c' }),
      archiver.retry('../a', { botId: BOT }),
      archiver.list({ limit: 0 }),
    ]) {
      await expect(call).rejects.toMatchObject({ name: 'ArchiverError', code: 'INVALID_REQUEST' });
    }
    expect(sockets.size).toBe(0);

    await archiver.close();
    server.close();
  });

  it('createArchiver reports that the embedded queue is held by another process', async () => {
    const directory = await temporaryDirectory();
    const holder = new DatabaseSync(join(directory.path, 'lock'));
    holder.exec('BEGIN EXCLUSIVE');
    const archiver = createArchiver({ queueUrl: `embedded:${directory.path}`, botId: BOT });

    await expect(archiver.enqueue('a')).rejects.toMatchObject({
      code: 'QUEUE_HELD',
      message: expect.stringMatching(/in use by another process/),
      hint: expect.stringMatching(/Redis or PostgreSQL/),
    });

    await archiver.close();
    holder.close();
    await directory.remove();
  });

  it('createArchiver gives up on a queue that never answers', async () => {
    const { server, port, sockets } = await listen(() => undefined);
    const archiver = createArchiver({ queueUrl: `redis://127.0.0.1:${port}`, botId: BOT, timeoutMs: 100 });

    await expect(archiver.enqueue('a')).rejects.toMatchObject({ code: 'TIMEOUT', retryable: true });

    for (const socket of sockets) socket.destroy();
    server.close();
    await archiver.close();
  });
});

describe('an archiver', () => {
  let queue: TestQueue;
  let redisUrl: URL;
  const open: Archiver[] = [];
  const create = (changes: Partial<ArchiverOptions> = {}): Archiver => {
    const { name, prefix } = queue.config;
    const archiver = createArchiver({
      queueUrl: redisUrl.href,
      queueName: name,
      queuePrefix: prefix,
      botId: BOT,
      ...changes,
    });
    open.push(archiver);
    return archiver;
  };

  beforeAll(async () => {
    queue = await createTestQueue('redis');
    if (queue.config.target.kind !== 'redis') throw new Error('the queue is on Redis');
    redisUrl = new URL(queue.config.target.url);
  });
  afterAll(async () => {
    await Promise.all(open.map((archiver) => archiver.close()));
    await queue.remove();
  });

  it('an archiver queues sessions of any bot once, and returns each outcome in the order given', async () => {
    const archiver = create();

    expect(await archiver.enqueue(['q-1', 'q-2', 'q-1'])).toEqual([
      { sessionId: 'q-1', botId: BOT, outcome: 'queued' },
      { sessionId: 'q-2', botId: BOT, outcome: 'queued' },
      { sessionId: 'q-1', botId: BOT, outcome: 'already-queued' },
    ]);
    expect(await archiver.enqueue('q-1', { botId: 'st-2', priority: 'backfill' })).toEqual([
      { sessionId: 'q-1', botId: 'st-2', outcome: 'queued' },
    ]);
    expect(await archiver.get('q-1', { botId: 'st-2' })).toMatchObject({ state: 'queued', botId: 'st-2' });
    expect(await archiver.get('q-3')).toBeUndefined();
    expect([await archiver.retry('q-1'), await archiver.retry('q-3')]).toEqual(['not-failed', 'unknown']);
    await archiver.check();
  });

  it('an archiver lists sessions in pages', async () => {
    const archiver = create();
    await archiver.enqueue(['p-1', 'p-2', 'p-3']);

    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await archiver.list({ state: 'queued', limit: 2, cursor });
      seen.push(...page.sessions.map(({ sessionId }) => sessionId));
      cursor = page.nextCursor;
    } while (cursor);

    expect(seen).toEqual(expect.arrayContaining(['p-1', 'p-2', 'p-3']));
    expect((await archiver.stats()).states.queued).toBe(seen.length);
    await expect(archiver.list({ cursor: 'elsewhere' })).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });

  it('an archiver erases and holds sessions, where it has the archive', async () => {
    const archive = await openTestArchive('file');
    if (archive.target.kind !== 'file') throw new Error('a directory was asked for');
    const archiver = create({ archiveUrl: `file:${archive.target.directory}` });
    const sessionId = '67ab573f3685d1ba99540002';
    const session = { botId: BOT, sessionId };
    const manifest = buildManifest({
      session,
      archivedAt: new Date(),
      recordings: [],
      transcript: { state: 'absent' },
    });
    await archive.store.write(
      manifestKey(session),
      serialize(manifest),
      { contentType: 'application/json' },
      'absent',
      new AbortController().signal,
    );

    expect(await archiver.setHold(sessionId, { reason: 'case 7' })).toMatchObject({ outcome: 'held' });
    expect(await archiver.hold(sessionId)).toMatchObject({ ...session, reason: 'case 7' });
    expect(await archiver.erase(sessionId)).toMatchObject({ outcome: 'refused', why: 'held' });
    expect(await archiver.releaseHold(sessionId)).toEqual({ ...session, outcome: 'released' });
    expect(await archiver.erase(sessionId, { dryRun: true })).toMatchObject({ outcome: 'would-erase' });
    expect(await archiver.erase(sessionId, { reason: 'asked' })).toMatchObject({
      outcome: 'erased',
      objects: 1,
    });
    expect(await archive.list()).toEqual([expect.stringMatching(/tombstone\.json$/)]);
    expect(await archiver.enqueue(sessionId, { force: true })).toMatchObject([{ erased: true }]);

    await expect(archiver.erase(sessionId, { reason: 'x'.repeat(501) })).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
    });
    await expect(create().erase(sessionId)).rejects.toThrow(/archiveUrl/);
    await archive.close();
  });

  it('an archiver finds what the queue has forgotten only if it may read the archive', async () => {
    const archive = await openTestArchive('file');
    const session = { botId: BOT, sessionId: '67ab573f3685d1ba99541234' };
    const manifest = buildManifest({
      session,
      archivedAt: new Date(),
      recordings: [],
      transcript: { state: 'absent' },
    });
    const info = { contentType: 'application/json' };
    const { signal } = new AbortController();
    await archive.store.write(manifestKey(session), serialize(manifest), info, 'absent', signal);
    const [seeing, blind] = [create({ archiveUrl: archive.store.location }), create()];

    expect(await seeing.get(session.sessionId)).toMatchObject({ ...session, state: 'archived' });
    expect(await seeing.enqueue(session.sessionId)).toMatchObject([{ outcome: 'already-archived' }]);
    expect(await blind.get(session.sessionId)).toBeUndefined();
    expect(await blind.enqueue(session.sessionId)).toMatchObject([{ outcome: 'queued' }]);

    await archive.close();
  });

  it('an archiver reports that the queue is unavailable, logs no password, and works once it is back', async () => {
    const relay = (socket: Socket) => {
      const other = dial(Number(redisUrl.port), redisUrl.hostname);
      socket.pipe(other).pipe(socket);
      for (const [one, two] of [
        [socket, other],
        [other, socket],
      ] as const) {
        one.on('error', () => two.destroy());
        one.on('close', () => two.destroy());
      }
    };
    const { server, port, sockets } = await listen(relay);
    const cut = async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, 'close');
    };
    const lines: unknown[] = [];
    const log = (fields: object, message: string) => lines.push([fields, message]);
    const archiver = create({
      queueUrl: `redis://default:a-pass-word@127.0.0.1:${port}`,
      logger: { debug: log, info: log, warn: log, error: log },
    });

    await cut();
    const [first, second] = await Promise.all([failure(archiver.enqueue('r-1')), failure(archiver.stats())]);
    expect(first).toBeInstanceOf(ArchiverError);
    expect(first).toMatchObject({ code: 'QUEUE_UNAVAILABLE', retryable: true });
    expect(String(first)).toMatch(/127\.0\.0\.1.*ECONNREFUSED.*queueUrl/);
    expect(second).toMatchObject({ code: 'QUEUE_UNAVAILABLE' });
    await once(server.listen(port, '127.0.0.1'), 'listening');
    expect(await archiver.enqueue('r-1')).toMatchObject([{ outcome: 'queued' }]);

    await cut();
    expect(await failure(archiver.enqueue('r-2'))).toMatchObject({ code: 'QUEUE_UNAVAILABLE' });
    await once(server.listen(port, '127.0.0.1'), 'listening');
    expect(await archiver.enqueue('r-2')).toMatchObject([{ outcome: 'queued' }]);

    expect(lines).toContainEqual([
      expect.objectContaining({ queue: `redis://127.0.0.1:${port}`, err: expect.anything() }),
      expect.stringMatching(/^queue connection failed/),
    ]);
    expect(JSON.stringify([lines, first, second])).not.toContain('a-pass-word');
    await archiver.close();
    await cut();
  });

  it('an archiver reports what happens to sessions, and continues after a given event', async () => {
    const archiver = create();
    await archiver.enqueue('e-0');
    const stop = new AbortController();
    const events = archiver.events({ signal: stop.signal });
    const first = events.next();
    // Once the first event is read, the reading has begun; earlier events are not reported.
    const earlier = create().events({ after: '0-0' });
    await archiver.enqueue(['e-1', 'e-2']);
    const { value } = await first;
    expect(value).toMatchObject({
      name: 'queued',
      session: { sessionId: 'e-1', botId: BOT, state: 'queued' },
    });
    for await (const { session } of earlier) if (session.sessionId === 'e-0') break;

    const later = create().events({ after: value?.id ?? '' });
    expect((await later.next()).value).toMatchObject({ session: { sessionId: 'e-2' } });
    await later.return?.();

    const reason = new Error('enough');
    expect((await events.next()).value).toMatchObject({ session: { sessionId: 'e-2' } });
    const waiting = failure(events.next());
    stop.abort(reason);
    expect(await waiting).toBe(reason);
    expect(await failure(archiver.events({ after: 'nonsense' }).next())).toMatchObject({
      code: 'INVALID_REQUEST',
    });
  });

  it('an archiver misses no event however slowly they are read', async () => {
    const archiver = create();
    const ids = Array.from({ length: 3_000 }, (_, index) => `many-${index}`);
    const [slow, quick] = [archiver.events(), archiver.events()];
    // The first is read back, the second comes in while it is waited for.
    for (const sessionId of ['many-a', 'many-b']) {
      const read = Promise.all([slow.next(), quick.next()]);
      await archiver.enqueue(sessionId);
      await read;
    }
    await archiver.enqueue(ids);
    for await (const { session } of quick) if (session.sessionId === ids.at(-1)) break;

    // By now all of them have come in, far more than are kept for one reader.
    const seen: string[] = [];
    for await (const { session } of slow) {
      seen.push(session.sessionId);
      if (session.sessionId === ids.at(-1)) break;
    }
    expect(seen).toEqual(ids);
  });

  it('an archiver that is closed lets calls finish, ends the reading of events, and refuses new calls', async () => {
    const archiver = create();
    await archiver.check();
    const reading = archiver.events().next();
    const call = archiver.enqueue('c-1');

    await archiver[Symbol.asyncDispose]();

    expect(await call).toMatchObject([{ outcome: 'queued' }]);
    expect(await reading).toEqual({ done: true, value: undefined });
    await archiver.close();
    for (const late of [archiver.enqueue('c-2'), archiver.check(), archiver.events().next()]) {
      await expect(late).rejects.toMatchObject({ code: 'CLOSED', retryable: false });
    }
  });
});

function thrownBy(act: () => unknown): unknown {
  try {
    act();
    return undefined;
  } catch (error) {
    return error;
  }
}

/** What a promise rejects with. */
async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    (value) => new Error(`it did not fail: ${JSON.stringify(value)}`),
    (error: unknown) => error,
  );
}

/** A server on a free port that handles connections with the given function. */
async function listen(
  onConnection: (socket: Socket) => void,
): Promise<{ server: Server; port: number; sockets: Set<Socket> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    onConnection(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the system gave no port');
  return { server, port: address.port, sockets };
}
