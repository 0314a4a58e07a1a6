/** The three kinds of queue as tests want them: fresh, inspected past the code under test, and gone afterwards. */

import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { PGlite } from '@electric-sql/pglite';
import { Redis } from 'ioredis';
import { Client } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, inject } from 'vitest';
import type { QueueConfig } from '../../src/config/config.ts';
import type { Backend } from '../../src/jobs/backends/backend.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { SessionQueue } from '../../src/jobs/session-queue.ts';
import { createLogger } from '../../src/util/log.ts';

/** The kinds of queue that there are. */
export const QUEUE_KINDS = ['redis', 'postgres', 'embedded'] as const;
export type QueueKind = (typeof QUEUE_KINDS)[number];

/** A log that is discarded. */
export const silent = createLogger('silent');

/** A queue of its own for a test or a test file. */
export interface TestQueue {
  readonly kind: QueueKind;
  /** Whether several processes can open it at the same time. */
  readonly shared: boolean;
  readonly config: QueueConfig;
  /** Everything the server keeps for it, as text. An embedded queue must be closed before. */
  contents(): Promise<string>;
  /** Removes it; the caller closes it first. */
  remove(): Promise<void>;
}

/**
 * Defines a suite once per kind of queue. Where PostgreSQL is not installed its suite is skipped under a name
 * that says so.
 */
export function describeOnEachQueue(title: string, define: (kind: QueueKind) => void): void {
  for (const kind of QUEUE_KINDS) {
    const missing = whyMissing(kind);
    const name = `${title} on ${kind}`;
    if (missing) describe.skip(`${name} (${missing})`, () => define(kind));
    else describe(name, () => define(kind));
  }
}

const NEEDS_POSTGRES = 'needs PostgreSQL (Debian: apt-get install postgresql)';

/** Why a kind of queue can't be tested here; `undefined` when it can. */
export function whyMissing(kind: QueueKind): string | undefined {
  return kind === 'postgres' && !inject('postgresUrl') ? NEEDS_POSTGRES : undefined;
}

/** Makes an empty queue. */
export async function createTestQueue(kind: QueueKind): Promise<TestQueue> {
  switch (kind) {
    case 'redis':
      return createRedisQueue();
    case 'postgres':
      return createPostgresQueue();
    case 'embedded':
      return createEmbeddedQueue();
  }
}

/** A queue that is open for all tests of a suite. */
export interface OpenedQueue {
  readonly server: TestQueue;
  readonly backend: Backend;
}

/** Opens a queue before the tests of a suite, hands it over, and removes it after them. */
export function useBackend(kind: QueueKind, give: (opened: OpenedQueue) => void): void {
  let opened: OpenedQueue;
  beforeAll(async () => {
    const server = await createTestQueue(kind);
    opened = { server, backend: await openBackend(server.config, silent) };
    give(opened);
  });
  afterAll(async () => {
    await opened.backend.close();
    await opened.server.remove();
  });
}

/** A queue of sessions of one test. */
export interface OpenedSessionQueue extends OpenedQueue {
  readonly name: string;
  readonly queue: SessionQueue;
}

/** Like {@link useBackend}, and before each test hands over a queue of sessions of its own, closed after the test. */
export function useSessionQueue(kind: QueueKind, give: (opened: OpenedSessionQueue) => void): void {
  let opened: OpenedQueue;
  let queue: SessionQueue;
  useBackend(kind, (open) => {
    opened = open;
  });
  beforeEach(() => {
    const name = `queue-${randomUUID()}`;
    queue = new SessionQueue(opened.backend, name, silent);
    give({ ...opened, name, queue });
  });
  afterEach(() => queue.close());
}

/** Ends the pause of calls to Kore, as if its time had passed. */
export async function forgetCallPause(backend: Backend, name: string): Promise<void> {
  const { connection, prefix } = backend.options('producer');
  if (connection instanceof Redis) {
    await connection.del(`${prefix}:${name}:calls-paused`);
  } else {
    await (connection as Pick<Client, 'query'>).query(
      'update voicemail_archiver.call_limit set paused_until = 0 where name = $1',
      [name],
    );
  }
}

function createRedisQueue(): TestQueue {
  const prefix = `test-${randomUUID()}`;
  const url = inject('redisUrl');
  return {
    kind: 'redis',
    shared: true,
    config: { target: { kind: 'redis', url, cluster: false }, name: 'sessions', prefix },
    contents: () => withRedis(url, async (redis) => (await readKeys(redis, prefix)).join('\n')),
    remove: () =>
      withRedis(url, async (redis) => {
        const keys = await redis.keys(`${prefix}:*`);
        if (keys.length > 0) await redis.unlink(keys);
      }),
  };
}

async function withRedis<T>(url: string, use: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url);
  try {
    return await use(redis);
  } finally {
    await redis.quit();
  }
}

async function readKeys(redis: Redis, prefix: string): Promise<string[]> {
  const keys = await redis.keys(`${prefix}:*`);
  return Promise.all(keys.map(async (key) => `${key} ${JSON.stringify(await readKey(redis, key))}`));
}

async function readKey(redis: Redis, key: string): Promise<unknown> {
  const type = await redis.type(key);
  switch (type) {
    case 'string':
      return redis.get(key);
    case 'hash':
      return redis.hgetall(key);
    case 'list':
      return redis.lrange(key, 0, -1);
    case 'set':
      return redis.smembers(key);
    case 'zset':
      return redis.zrange(key, '0', '-1', 'WITHSCORES');
    case 'stream':
      return redis.xrange(key, '-', '+');
    case 'none':
      return null; // It expired just now.
    default:
      throw new Error(`a key of type ${type}, which this dump does not know: ${key}`);
  }
}

async function createPostgresQueue(): Promise<TestQueue> {
  const server = inject('postgresUrl');
  if (!server) throw new Error(NEEDS_POSTGRES);
  const database = `test_${randomUUID().replaceAll('-', '')}`;
  await withPostgres(server, (client) => client.query(`create database ${database}`));
  const url = Object.assign(new URL(server), { pathname: `/${database}` }).href;
  return {
    kind: 'postgres',
    shared: true,
    config: { target: { kind: 'postgres', url }, name: 'sessions', prefix: undefined },
    contents: () =>
      withPostgres(url, async (client) => readTables(async (sql) => (await client.query(sql)).rows)),
    async remove() {
      await withPostgres(server, (client) => client.query(`drop database ${database} with (force)`));
    },
  };
}

async function withPostgres<T>(url: string, use: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

const OUR_TABLES = `
select format('%I.%I', schemaname, tablename) as name from pg_tables
where schemaname in ('bullmq', 'voicemail_archiver')`;

async function readTables(query: (sql: string) => Promise<unknown[]>): Promise<string> {
  const lines: string[] = [];
  for (const table of (await query(OUR_TABLES)) as { name: string }[]) {
    for (const row of await query(`select * from ${table.name}`)) {
      lines.push(`${table.name} ${JSON.stringify(row)}`);
    }
  }
  return lines.join('\n');
}

/** Puts an empty embedded queue into a directory that is not there yet. @returns its URL. */
export async function embeddedQueue(directory: string): Promise<string> {
  await cp(await embeddedTemplate(), directory, { recursive: true });
  return `embedded:${directory}`;
}

/** What a service needs to hold an embedded queue below a directory: it has nobody to ask, and a free port. */
export async function embeddedServiceEnvironment(directory: string): Promise<Record<string, string>> {
  return {
    QUEUE_URL: await embeddedQueue(join(directory, 'queue')),
    KORE_HOST: 'http://127.0.0.1:9',
    KORE_CLIENT_ID: 'cs-1',
    KORE_CLIENT_SECRET: 'secret-of-the-app',
    HTTP_PORT: '0',
  };
}

async function createEmbeddedQueue(): Promise<TestQueue> {
  const top = await mkdtemp(join(tmpdir(), 'voicemail-archiver-queue-'));
  const directory = join(top, 'queue');
  await embeddedQueue(directory);
  return {
    kind: 'embedded',
    shared: false,
    config: { target: { kind: 'embedded', directory }, name: 'sessions', prefix: undefined },
    async contents() {
      const database = await PGlite.create(join(directory, 'pgdata'));
      try {
        return await readTables(async (sql) => (await database.query(sql)).rows);
      } finally {
        await database.close();
      }
    },
    remove: () => rm(top, { recursive: true }),
  };
}

/** Longer than making an embedded database takes on any machine. */
const TEMPLATE_WAIT_MS = 100_000;

/**
 * The directory of an empty embedded queue. Making one costs seconds of computing, so whichever test process
 * of a run is the first to want one makes it for all.
 */
async function embeddedTemplate(): Promise<string> {
  const directory = join(inject('runDirectory'), 'embedded-queue');
  const lock = new DatabaseSync(`${directory}.lock`);
  try {
    lock.exec(`pragma busy_timeout = ${TEMPLATE_WAIT_MS}; begin exclusive`);
    if (!existsSync(directory)) {
      const unfinished = `${directory}.unfinished`;
      const target = { kind: 'embedded', directory: unfinished } as const;
      const backend = await openBackend({ target, name: 'sessions', prefix: undefined }, silent);
      await backend.close();
      await rename(unfinished, directory);
    }
    return directory;
  } finally {
    lock.close();
  }
}
