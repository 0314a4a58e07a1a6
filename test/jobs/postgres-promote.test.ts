import { Client } from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Backend } from '../../src/jobs/backends/backend.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { SessionQueue } from '../../src/jobs/session-queue.ts';
import { createTestQueue, silent, type TestQueue, whyMissing } from '../support/queues.ts';

const missing = whyMissing('postgres');
const SESSION = { sessionId: '6b07287687570cc55e982d64', botId: 'st-1' };
const DELAY = `
update bullmq.job set state = 'delayed', process_at_ms = (extract(epoch from now()) * 1000)::bigint + 3600000`;
const TAKE = `update bullmq.job set state = 'active', lock_token = 'of-a-worker'`;
const STATE = 'select state::text as state, lock_token as token from bullmq.job';
const WAITING = `
select count(*)::int as waiting from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'`;

describe.skipIf(missing !== undefined)(`a session on PostgreSQL${missing ? ` (${missing})` : ''}`, () => {
  let server: TestQueue;
  let backend: Backend;
  let queue: SessionQueue;
  let worker: Client;
  let onlooker: Client;

  beforeEach(async () => {
    server = await createTestQueue('postgres');
    if (server.config.target.kind !== 'postgres') throw new Error('PostgreSQL was asked for');
    backend = await openBackend(server.config, silent);
    queue = new SessionQueue(backend, server.config.name, silent);
    worker = new Client(server.config.target.url);
    onlooker = new Client(server.config.target.url);
    await Promise.all([worker.connect(), onlooker.connect()]);
    await queue.enqueue([SESSION]);
    await worker.query(DELAY);
  });
  afterEach(async () => {
    await Promise.all([worker.end(), onlooker.end()]);
    await queue.close();
    await backend.close();
    await server.remove();
  });

  it('a session on PostgreSQL that waits for its time is made due', async () => {
    expect(await queue.makeDue([SESSION])).toBe(1);
    expect((await onlooker.query(STATE)).rows).toEqual([{ state: 'waiting', token: null }]);
  });

  it('a session on PostgreSQL that a worker takes while it is made due stays with that worker', async () => {
    await worker.query('begin');
    await worker.query(TAKE);
    const made = queue.makeDue([SESSION]);
    await vi.waitUntil(
      async () => (await onlooker.query<{ waiting: number }>(WAITING)).rows[0]?.waiting === 1,
      { timeout: 60_000 },
    );
    await worker.query('commit');

    expect(await made).toBe(0);
    expect((await onlooker.query(STATE)).rows).toEqual([{ state: 'active', token: 'of-a-worker' }]);
  });
});
