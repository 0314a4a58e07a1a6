import { Client } from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { QueueUnavailableError } from '../../src/jobs/backends/backend.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { createTestQueue, silent, type TestQueue, whyMissing } from '../support/queues.ts';
import { startRelay } from '../support/tcp-relay.ts';

const missing = whyMissing('postgres');
const STARTERS = 12;

// Whoever holds the lock under which the tables are made makes the starters wait in the middle of it.
const HOLD = 'select pg_advisory_lock(1482916034)';
const LET_GO = 'select pg_advisory_unlock(1482916034)';
const WAITING = `
select count(*)::int as starters from pg_stat_activity
where datname = current_database() and wait_event = 'advisory'`;

describe.skipIf(missing !== undefined)(`processes that start${missing ? ` (${missing})` : ''}`, () => {
  let queue: TestQueue;
  let url: string;
  let client: Client;

  beforeEach(async () => {
    queue = await createTestQueue('postgres');
    if (queue.config.target.kind !== 'postgres') throw new Error('PostgreSQL was asked for');
    url = queue.config.target.url;
    client = new Client(url);
    await client.connect();
    await client.query(HOLD);
  });
  afterEach(async () => {
    await client.end();
    await queue.remove();
  });

  const waitFor = (count: number) =>
    vi.waitUntil(
      async () => (await client.query<{ starters: number }>(WAITING)).rows[0]?.starters === count,
      {
        timeout: 60_000,
      },
    );

  it('processes that start at the same moment can all open an empty PostgreSQL database', async () => {
    const opening = Promise.allSettled(
      Array.from({ length: STARTERS }, () => openBackend(queue.config, silent)),
    );
    await waitFor(STARTERS);
    await client.query(LET_GO);
    const outcomes = await opening;
    await Promise.all(outcomes.map((outcome) => outcome.status === 'fulfilled' && outcome.value.close()));
    expect(outcomes.filter(({ status }) => status === 'rejected')).toEqual([]);
  });

  it('a process that loses PostgreSQL while it starts reports that, and does not crash', async () => {
    const relay = await startRelay({ host: '127.0.0.1', port: Number(new URL(url).port) });
    const throughRelay = Object.assign(new URL(url), { port: String(relay.port) }).href;
    const config = { ...queue.config, target: { kind: 'postgres', url: throughRelay } } as const;
    const failure = expect(openBackend(config, silent)).rejects.toThrow(QueueUnavailableError);
    await waitFor(1);
    await relay.close();
    await failure;
  });
});
