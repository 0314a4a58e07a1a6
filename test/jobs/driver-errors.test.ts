import { Redis } from 'ioredis';
import { Client } from 'pg';
import { describe, expect, inject, it } from 'vitest';
import { QueueUnavailableError } from '../../src/jobs/backends/backend.ts';
import { asQueueError } from '../../src/jobs/backends/connection-errors.ts';
import { whyMissing } from '../support/queues.ts';

/** What a promise rejects with. */
async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** Nothing listens there. */
const NOWHERE = '127.0.0.1:1';

describe('errors of a driver', () => {
  it('a Redis error while the server is unavailable becomes QueueUnavailableError, without the password', async () => {
    const redis = new Redis(`redis://:hunter22-secret@${NOWHERE}`, {
      maxRetriesPerRequest: 0,
      retryStrategy: () => null,
    });
    redis.on('error', () => undefined);
    const error = asQueueError(await failureOf(redis.ping()));
    redis.disconnect();
    expect(error).toBeInstanceOf(QueueUnavailableError);
    expect(`${(error as Error).message} ${(error as Error).cause}`).not.toContain('hunter22');
  });

  it('a Redis error for an unknown command stays as it is: a fault of this program', async () => {
    const redis = new Redis(inject('redisUrl'));
    const error = await failureOf(redis.call('NOSUCHCOMMAND'));
    await redis.quit();
    expect(error).toBeInstanceOf(Error);
    expect(asQueueError(error)).toBe(error);
  });

  it('a PostgreSQL error while the server is unavailable becomes QueueUnavailableError', async () => {
    const client = new Client(`postgres://user:hunter22-secret@${NOWHERE}/db`);
    expect(asQueueError(await failureOf(client.connect()))).toBeInstanceOf(QueueUnavailableError);
  });

  const missing = whyMissing('postgres');
  it.skipIf(missing !== undefined)(
    `the end of a PostgreSQL server is distinguished from a wrong statement${missing ? ` (${missing})` : ''}`,
    async () => {
      const client = new Client(inject('postgresUrl') as string);
      client.on('error', () => undefined);
      await client.connect();
      const wrong = await failureOf(client.query('select * from there_is_no_such_table'));
      const ended = await failureOf(client.query('select pg_terminate_backend(pg_backend_pid())'));
      await client.end();
      expect(asQueueError(wrong)).toBe(wrong);
      expect(asQueueError(ended)).toBeInstanceOf(QueueUnavailableError);
    },
  );

  it('an error caused by a mistake in this program stays as it is', () => {
    const bug = new TypeError('x is not a function');
    expect(asQueueError(bug)).toBe(bug);
    expect(asQueueError('text')).toBe('text');
  });
});
