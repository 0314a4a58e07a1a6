import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Backend } from '../../src/jobs/backends/backend.ts';
import { openRedisBackend } from '../../src/jobs/backends/redis.ts';
import { luaScript, runScript } from '../../src/jobs/backends/redis-client.ts';
import { failureReason, jobId } from '../../src/jobs/session-job.ts';
import { SessionQueue } from '../../src/jobs/session-queue.ts';
import { createLastingRedis, type RestartableRedis } from '../setup/redis.ts';
import { silent } from '../support/queues.ts';
import { ARCHIVED, workOff } from '../support/work-off.ts';

const NAME = 'sessions';
const CODE = 'DOWNLOAD_FAILED';
const session = (sessionId: string) => ({ botId: 'st-1', sessionId });
const [DONE, FAILS] = [session('s-100'), session('s-101')];
const error = { code: CODE, message: 'broken', retryable: true, at: '2026-01-01T00:00:00.000Z' } as const;

let redis: RestartableRedis;
let client: Redis;
let backend: Backend;
let queue: SessionQueue;

beforeAll(async () => {
  redis = await createLastingRedis();
  await redis.start();
  client = new Redis(redis.url, { maxRetriesPerRequest: null });
  // Lost connections are what the tests are about.
  client.on('error', () => undefined);
  backend = openRedisBackend({ kind: 'redis', url: redis.url, cluster: false }, undefined, silent);
  queue = new SessionQueue(backend, NAME, silent);
});
afterAll(async () => {
  await queue.close();
  await backend.close();
  client.disconnect();
  await redis.stop('SIGTERM');
  await redis.remove();
});

/** How a server comes to know no scripts any more. */
const FORGETTING = {
  'had its scripts flushed': async () => {
    await client.script('FLUSH');
  },
  'was killed and started again': async () => {
    await redis.stop('SIGKILL');
    await redis.start();
    await client.ping();
  },
};

describe.each(Object.entries(FORGETTING))('a Redis server that %s', (_how, forget) => {
  /** Uses the queue as if for the first time since. */
  const anew = async <Result>(use: () => Promise<Result>): Promise<Result> => {
    await forget();
    return use();
  };

  it('a script is sent by its text once, and by its hash from then on', async () => {
    const count = luaScript("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    const run = () => runScript(client, count, ['counter'], [2]);
    await client.del('counter');
    expect(await run()).toBe(2);
    expect(await anew(run)).toBe(4);
    await client.config('RESETSTAT');
    expect(await run()).toBe(6);
    const stats = await client.info('commandstats');
    expect(stats).toContain('cmdstat_evalsha:calls=1,');
    expect(stats).not.toContain('cmdstat_eval:');
  });

  it('the queue loses nothing when the server has lost its scripts', async () => {
    await Promise.all([queue.forget(DONE), queue.forget(FAILS)]);
    const outcomes = async () => (await queue.enqueue([DONE, FAILS])).map(({ outcome }) => outcome);
    expect(await anew(outcomes)).toEqual(['queued', 'queued']);
    expect(await anew(outcomes)).toEqual(['already-queued', 'already-queued']);
    await workOff(backend, NAME, 2, async (job) => {
      if (job.id === jobId(DONE)) {
        await anew(() => queue.awaitTranscript(DONE, 3_600_000));
        return ARCHIVED;
      }
      await anew(() => job.saveProgress({ error }));
      return { kind: 'fail', reason: failureReason(CODE, 'broken') };
    });
    expect(await anew(() => queue.statuses([DONE, FAILS, session('s-102')]))).toEqual(
      new Map([
        [jobId(DONE), 'completed'],
        [jobId(FAILS), 'failed'],
      ]),
    );
    // Asked for once more, it stays one check.
    await anew(() => queue.awaitTranscript(DONE, 3_600_000));
    expect(await queue.bullmq.transcripts.getJobCounts('delayed', 'waiting')).toEqual({
      delayed: 1,
      waiting: 0,
    });
    expect(await anew(() => queue.noteTranscript(DONE, 'archived'))).toBe(true);
    await anew(() => queue.tidy());
    const listed = async (query: Parameters<SessionQueue['list']>[0]) =>
      (await anew(() => queue.list(query))).sessions.map(({ sessionId, state }) => `${sessionId} ${state}`);
    expect((await listed({})).toSorted()).toEqual(['s-100 archived', 's-101 failed']);
    expect(await listed({ code: CODE })).toEqual(['s-101 failed']);
    expect((await queue.view(DONE))?.transcript).toBe('archived');
  });

  it('the call limit counts all calls when the server has lost its scripts', async () => {
    const take = () => backend.takeCall('limited', 3, 3_600_000);
    await client.del('bull:limited:calls');
    const taken = [await anew(take), await anew(take), await anew(take)];
    expect(taken).toEqual([0, 0, 0]);
    expect(await anew(take)).toBeGreaterThan(0);
    expect((await anew(() => backend.callUsage('limited', 3_600_000))).used).toBe(3);
  });
});
