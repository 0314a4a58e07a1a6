import type { Redis } from 'ioredis';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { ErrorCode } from '../../src/domain/errors.ts';
import type { ListQuery } from '../../src/domain/requests.ts';
import type { Backend } from '../../src/jobs/backends/backend.ts';
import { failureReason, jobId } from '../../src/jobs/session-job.ts';
import type { SessionQueue } from '../../src/jobs/session-queue.ts';
import { describeOnEachQueue, type QueueKind, useSessionQueue } from '../support/queues.ts';
import { ARCHIVED, type Decide, workOff } from '../support/work-off.ts';

const BOT = 'st-1';
const session = (sessionId: string) => ({ botId: BOT, sessionId });
const numbered = (count: number) => Array.from({ length: count }, (_, index) => `s-${100 + index}`);

let backend: Backend;
let name: string;
let queue: SessionQueue;

function prepare(kind: QueueKind): void {
  useSessionQueue(kind, (opened) => {
    ({ backend, name, queue } = opened);
  });
  afterEach(() => {
    vi.useRealTimers();
  });
}

const enqueue = (...sessionIds: string[]) => queue.enqueue(sessionIds.map(session));
const work = (count: number, decide: Decide) => workOff(backend, name, count, decide);
const failWith = (code: ErrorCode): Decide => {
  const at = new Date().toISOString();
  return async (job) => {
    await job.saveProgress({ error: { code, message: 'broken', retryable: false, at } });
    return { kind: 'fail', reason: failureReason(code, 'broken') };
  };
};
const wait: Decide = async (job) => {
  const at = new Date().toISOString();
  await job.saveProgress({ error: { code: 'KORE_UNAVAILABLE', message: 'away', retryable: true, at } });
  return { kind: 'wait', until: Date.now() + 3_600_000 };
};

/** The ids of a list, page by page; `between` is done after each page. */
async function listed(query: ListQuery, between: (page: string[]) => Promise<void> = async () => undefined) {
  const found: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await queue.list({ ...query, ...(cursor && { cursor }) });
    const ids = page.sessions.map(({ sessionId }) => sessionId);
    found.push(...ids);
    cursor = page.nextCursor;
    await between(ids);
  } while (cursor);
  return found;
}

describeOnEachQueue('lists of sessions', (kind) => {
  prepare(kind);

  it('listings find sessions by a part of their id, by bot, by state, by code and by time', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const start = Date.parse('2030-05-06T12:00:00.000Z');
    const at = (minute: number) => new Date(start + minute * 60_000).toISOString();
    for (const [minute, id] of ['aaa111', 'bbb222', 'ccc111', 'ddd333'].entries()) {
      vi.setSystemTime(start + minute * 60_000);
      await enqueue(id);
    }
    await queue.enqueue([{ botId: 'st-111', sessionId: 'eee444' }]);
    await work(1, failWith('RECORDING_EMPTY'));
    await work(1, wait);
    await work(1, () => ARCHIVED);

    expect(await listed({ q: '111' })).toEqual(['ccc111', 'aaa111']);
    expect(await listed({ q: 'BB2' })).toEqual(['bbb222']);
    expect(await listed({ q: '1.b' })).toEqual([]);
    expect(await listed({ botId: 'st-111' })).toEqual(['eee444']);
    expect(await listed({ botId: 'st-11' })).toEqual([]);
    expect(await listed({ from: at(1), to: at(2) })).toEqual(['ccc111', 'bbb222']);
    expect(await listed({ from: at(1), state: 'queued' })).toEqual(['eee444', 'ddd333']);
    expect(await listed({ code: 'RECORDING_EMPTY' })).toEqual(['aaa111']);
    expect(await listed({ code: 'KORE_UNAVAILABLE' })).toEqual(['bbb222']);
    expect(await listed({ code: 'KORE_UNAVAILABLE', state: 'failed' })).toEqual([]);
    expect(await listed({ state: 'archived', q: '111' })).toEqual(['ccc111']);
    expect(await listed({ state: 'partial' })).toEqual([]);
    expect(await listed({ limit: 2 })).toEqual(['eee444', 'ddd333', 'ccc111', 'bbb222', 'aaa111']);
  });

  it('listings include sessions that are being worked on', async () => {
    await enqueue('a', 'b');
    const seen: string[] = [];
    await work(1, async () => {
      seen.push(...(await listed({ state: 'active' })));
      return ARCHIVED;
    });
    expect(seen).toHaveLength(1);
    expect(await listed({ state: 'active' })).toEqual([]);
  });

  it('listings skip and repeat nothing while sessions are retried, fail again, end and arrive', async () => {
    const ids = numbered(12);
    await enqueue(...ids);
    await work(12, failWith('RECORDING_EMPTY'));
    const newestFirst = [...ids].reverse();
    let page = 0;
    const all = await listed({ limit: 3 }, async (shown) => {
      page += 1;
      await enqueue(`later-${page}`);
      // One that was shown and one that is still to come, which now fails later than all others.
      const next = newestFirst[newestFirst.indexOf(shown.at(-1) ?? '') + 2];
      for (const id of [shown[0], next]) {
        if (id === undefined) continue;
        await queue.retry(session(id));
      }
      const { queued } = (await queue.stats()).states;
      await work(queued, (job) =>
        job.data.sessionId.startsWith('later') ? ARCHIVED : failWith('KORE_BAD_RESPONSE')(job),
      );
    });
    expect(all).toEqual(newestFirst);
    expect((await queue.stats()).states).toMatchObject({ failed: 12, archived: page });

    // All sessions of one code that are there all the time are listed, whatever the others do.
    const before = await listed({ code: 'RECORDING_EMPTY' });
    const [last = ''] = before.slice(-1);
    const during = await listed({ code: 'RECORDING_EMPTY', limit: 1 }, async ([shown = '']) => {
      if (shown === last) return;
      await queue.retry(session(shown));
      await work(1, () => ARCHIVED);
    });
    expect(during).toEqual(before);
    expect(await listed({ code: 'RECORDING_EMPTY' })).toEqual([last]);
  });

  it('listings continue after a session that is gone, or that was queued again', async () => {
    await enqueue('a', 'b', 'c', 'd');
    const { nextCursor = '' } = await queue.list({ limit: 2 });
    await queue.cancel(session('c'));
    await queue.cancel(session('d'));
    expect((await queue.list({ cursor: nextCursor })).sessions.map(({ sessionId }) => sessionId)).toEqual([
      'b',
      'a',
    ]);
    await enqueue('c');
    expect((await queue.list({ cursor: nextCursor })).sessions.map(({ sessionId }) => sessionId)).toEqual([
      'b',
      'a',
    ]);
  });

  it('listings return a page of the requested size, also among many sessions with few that match', async () => {
    const ids = numbered(40);
    await enqueue(...ids);
    const { sessions, nextCursor } = await queue.list({ q: 's-1', limit: 7 });
    expect(sessions).toHaveLength(7);
    expect(nextCursor).toBeDefined();
    expect((await queue.list({ limit: 40 })).nextCursor).toBeUndefined();
  });
});

describe('the index of sessions in Redis', () => {
  prepare('redis');

  const redis = () => backend.options('producer').connection as Redis;
  const key = (part: string) => `${backend.options('producer').prefix}:${name}:${part}`;

  it('the index of sessions in Redis adds jobs of a version that kept no index, with their codes', async () => {
    await enqueue(...numbered(6));
    await work(2, failWith('RECORDING_EMPTY'));
    await work(1, wait);
    await work(1, () => ARCHIVED);
    await redis().del(key('session-index'), key('session-errors:RECORDING_EMPTY'));

    expect((await listed({})).sort()).toEqual(numbered(6));
    expect((await listed({ code: 'RECORDING_EMPTY' })).sort()).toEqual(['s-100', 's-101']);
    expect(await listed({ code: 'KORE_UNAVAILABLE' })).toEqual(['s-102']);
  });

  it('the index of sessions in Redis drops missing jobs when it meets them, and by sweeps', async () => {
    await enqueue(...numbered(6));
    await work(2, failWith('RECORDING_EMPTY'));
    for (const id of ['s-102', 's-103']) await queue.cancel(session(id));
    await redis().zadd(key('session-index'), 1, jobId(session('never-added')));
    expect((await listed({})).sort()).toEqual(['s-100', 's-101', 's-104', 's-105']);
    expect(await redis().zcard(key('session-index'))).toBe(4);

    await queue.retry(session('s-100'));
    await queue.cancel(session('s-100'));
    await queue.tidy();
    expect(await redis().zcard(key('session-index'))).toBe(3);
    expect(await redis().zrange(key('session-errors:RECORDING_EMPTY'), '0', '-1')).toEqual([
      jobId(session('s-101')),
    ]);
    expect(await redis().keys(key('session-narrowed'))).toEqual([]);
  });
});
