import { Client } from 'pg';
import { describe, expect, it, vi } from 'vitest';
import type { ErrorCode } from '../../src/domain/errors.ts';
import type { EnqueueRequest, ListQuery } from '../../src/domain/requests.ts';
import type { SessionView } from '../../src/domain/views.ts';
import type { Backend } from '../../src/jobs/backends/backend.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { failureReason, jobId } from '../../src/jobs/session-job.ts';
import { InvalidCursorError } from '../../src/jobs/session-listing.ts';
import { SessionQueue, transcriptQueueName } from '../../src/jobs/session-queue.ts';
import {
  createTestQueue,
  describeOnEachQueue,
  silent,
  type TestQueue,
  useSessionQueue,
} from '../support/queues.ts';
import { ARCHIVED, type Decide, workOff } from '../support/work-off.ts';

const BOT = 'st-1';
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

describeOnEachQueue('the queue of sessions', (kind) => {
  let server: TestQueue;
  let backend: Backend;
  let name: string;
  let queue: SessionQueue;

  useSessionQueue(kind, (opened) => {
    ({ server, backend, name, queue } = opened);
  });

  const session = (sessionId: string): EnqueueRequest => ({ botId: BOT, sessionId });
  const enqueue = async (...requests: EnqueueRequest[]) =>
    (await queue.enqueue(requests)).map(({ outcome }) => outcome);
  const work = (count: number, decide: Decide) => workOff(backend, name, count, decide);
  const archive = (count: number) => work(count, () => ARCHIVED);
  const fail = (count: number, codeOf: (sessionId: string) => ErrorCode = () => 'RECORDING_EMPTY') =>
    work(count, async (job) => {
      const code = codeOf(job.data.sessionId);
      const at = '2026-01-02T03:04:05.006Z';
      await job.saveProgress({ error: { code, message: 'broken', retryable: false, at } });
      return { kind: 'fail', reason: failureReason(code, 'broken') };
    });
  const viewOf = async (sessionId: string): Promise<SessionView> => {
    const view = await queue.view(session(sessionId));
    if (!view) throw new Error(`no view of ${sessionId}`);
    // See history.test.ts.
    const { history: _, ...rest } = view;
    return rest;
  };

  describe('enqueueing', () => {
    it('enqueueing a session returns queued, and already-queued the second time', async () => {
      expect(await enqueue(session('a'))).toEqual(['queued']);
      expect(await enqueue(session('a'))).toEqual(['already-queued']);
      expect((await queue.stats()).states.queued).toBe(1);
    });

    it('enqueueing names each session with its outcome, in the order given', async () => {
      await enqueue(session('b'));
      expect(await queue.enqueue([session('c'), session('b'), session('a')])).toEqual([
        { sessionId: 'c', botId: BOT, outcome: 'queued' },
        { sessionId: 'b', botId: BOT, outcome: 'already-queued' },
        { sessionId: 'a', botId: BOT, outcome: 'queued' },
      ]);
    });

    it('enqueueing queues the same session once however often one request names it', async () => {
      const outcomes = await enqueue(session('a'), session('a'), session('a'));
      expect(outcomes).toEqual(['queued', 'already-queued', 'already-queued']);
      expect((await queue.stats()).states.queued).toBe(1);
    });

    it('enqueueing queues the same session once when a hundred requests name it at the same time', async () => {
      const outcomes = await Promise.all(Array.from({ length: 100 }, () => enqueue(session('a'))));
      expect(outcomes.flat().filter((outcome) => outcome === 'queued')).toHaveLength(1);
      expect((await queue.stats()).states).toMatchObject({ queued: 1, waiting: 0 });
      await archive(1);
      expect((await queue.stats()).states).toEqual({
        queued: 0,
        active: 0,
        waiting: 0,
        archived: 1,
        failed: 0,
      });
    });

    it.runIf(kind === 'postgres')(
      'enqueueing works while another process inserts the same sessions in another order',
      async () => {
        const { target } = server.config;
        if (target.kind !== 'postgres') throw new Error('not on PostgreSQL');
        const other = new Client(target.url);
        await other.connect();
        const insert = (sessionId: string) =>
          other.query(
            `insert into bullmq.job (queue, id, seq, name, state, data, opts, added_at_ms)
          values ($1, $2, nextval('bullmq.job_seq'), 'session', 'waiting', '{}', '{}', 0)`,
            [name, jobId(session(sessionId))],
          );
        try {
          // So that it is our statement that PostgreSQL takes back.
          await other.query(`set deadlock_timeout = '1min'`);
          await other.query('begin');
          await insert('b');
          const enqueued = enqueue(session('a'), session('b'));
          await vi.waitFor(
            async () => {
              const { rows } = await other.query(
                'select from pg_locks where not granted and transactionid = pg_current_xact_id()::xid',
              );
              expect(rows).toHaveLength(1);
            },
            { timeout: 60_000 },
          );
          await insert('a');
          await other.query('rollback');

          expect(await enqueued).toEqual(['queued', 'queued']);
          expect((await queue.stats()).states.queued).toBe(2);
        } finally {
          await other.end();
        }
      },
    );

    it('a session that is being worked on or waits for its next poll is already-queued', async () => {
      await enqueue(session('a'));
      await work(1, async () => {
        expect(await enqueue(session('a'))).toEqual(['already-queued']);
        return { kind: 'wait', until: Date.now() + 3_600_000 };
      });
      expect(await enqueue(session('a'))).toEqual(['already-queued']);
      expect((await queue.stats()).states).toMatchObject({ queued: 0, active: 0, waiting: 1 });
    });

    it('an archived session is not queued again', async () => {
      await enqueue(session('a'));
      await archive(1);
      expect(await enqueue(session('a'))).toEqual(['already-archived']);
      expect((await viewOf('a')).state).toBe('archived');
    });

    it('a forced session is archived again, and the worker learns that it is forced', async () => {
      await enqueue(session('a'));
      await archive(1);
      expect(await enqueue({ ...session('a'), force: true })).toEqual(['requeued']);
      expect(await viewOf('a')).toEqual({
        sessionId: 'a',
        botId: BOT,
        state: 'queued',
        attempts: 0,
        enqueuedAt: expect.stringMatching(ISO),
      });
      await work(1, (job) => {
        expect(job.data).toEqual({ ...session('a'), force: true, forcedAt: expect.any(Number) });
        return ARCHIVED;
      });
    });

    it('a session that is still queued can be forced later', async () => {
      await enqueue(session('a'));
      expect(await enqueue({ ...session('a'), force: true })).toEqual(['already-queued']);
      await work(1, (job) => {
        expect(job.data.force).toBe(true);
        return ARCHIVED;
      });
    });

    it('a failed session that is enqueued runs again, without its failure', async () => {
      await enqueue(session('a'));
      await fail(1);
      expect((await viewOf('a')).state).toBe('failed');
      expect(await enqueue(session('a'))).toEqual(['requeued']);
      expect(await viewOf('a')).toEqual({
        sessionId: 'a',
        botId: BOT,
        state: 'queued',
        attempts: 0,
        enqueuedAt: expect.stringMatching(ISO),
      });
      await work(1, (job) => {
        expect(job).toMatchObject({ attemptsMade: 0, progress: {} });
        return ARCHIVED;
      });
    });

    it('a failed session that is enqueued many times at once runs again once', async () => {
      await enqueue(session('a'));
      await fail(1);
      const outcomes = (await Promise.all(Array.from({ length: 20 }, () => enqueue(session('a'))))).flat();
      expect(new Set(outcomes)).toEqual(new Set(['requeued', 'already-queued']));
      expect((await queue.stats()).states).toMatchObject({ queued: 1, failed: 0 });
    });

    it('enqueueing asks the archive about sessions that the queue does not know', async () => {
      const asked: string[] = [];
      const isDone = async ({ sessionId, force }: EnqueueRequest) => {
        asked.push(`${sessionId}${force ? ' by force' : ''}`);
        return sessionId === 'old' || sessionId === 'erased';
      };
      await enqueue(session('known'));
      const results = await queue.enqueue(
        [
          session('old'),
          session('new'),
          session('known'),
          { ...session('forced'), force: true },
          { ...session('erased'), force: true },
        ],
        isDone,
      );
      expect(results.map(({ outcome }) => outcome)).toEqual([
        'already-archived',
        'queued',
        'already-queued',
        'queued',
        'already-archived',
      ]);
      expect(asked).toEqual(['old', 'new', 'forced by force', 'erased by force']);
      expect(await queue.view(session('old'))).toBeUndefined();
    });

    it('one request can enqueue 10,000 sessions, and the same ones again', async () => {
      const requests = Array.from({ length: 10_000 }, (_, index) => session(`id-${index}`));
      expect(new Set(await enqueue(...requests))).toEqual(new Set(['queued']));
      expect((await queue.stats()).states.queued).toBe(10_000);
      expect(new Set(await enqueue(...requests))).toEqual(new Set(['already-queued']));
      expect((await queue.stats()).states.queued).toBe(10_000);
    });

    it.each([
      ['of digits alone', ['1', '42', '000']],
      ['that differ in case alone', ['abc', 'ABC', 'aBc']],
      ['of 128 characters', ['x'.repeat(128), 'y'.repeat(128)]],
      ['with the other characters an id may have', ['-', '_', '__proto__', '-1', 'a-b_c']],
    ])('session ids %s are kept apart', async (_, ids) => {
      expect(await enqueue(...ids.map(session))).toEqual(ids.map(() => 'queued'));
      expect((await archive(ids.length)).sort()).toEqual([...ids].sort());
      for (const id of ids) expect(await viewOf(id)).toMatchObject({ sessionId: id, state: 'archived' });
    });

    it('the same session id of two bots is two sessions', async () => {
      const other = { botId: 'st-2', sessionId: 'a' };
      expect(await enqueue(session('a'), other)).toEqual(['queued', 'queued']);
      await archive(1);
      expect((await queue.view(session('a')))?.state).toBe('archived');
      expect((await queue.view(other))?.state).toBe('queued');
    });
  });

  describe('the order of sessions', () => {
    const backfill = (sessionId: string): EnqueueRequest => ({ ...session(sessionId), priority: 'backfill' });

    it('sessions are taken in the order they were enqueued', async () => {
      for (const id of ['a', 'b', 'c', 'd']) await enqueue(session(id));
      expect(await archive(4)).toEqual(['a', 'b', 'c', 'd']);
    });

    it('sessions of one request are taken in its order', async () => {
      await enqueue(session('d'), session('a'), session('c'), session('b'));
      expect(await archive(4)).toEqual(['d', 'a', 'c', 'b']);
    });

    it('live sessions are taken before those of a backfill', async () => {
      await enqueue(backfill('old-1'), backfill('old-2'), session('new-1'));
      await enqueue(backfill('old-3'), session('new-2'));
      expect(await archive(5)).toEqual(['new-1', 'new-2', 'old-1', 'old-2', 'old-3']);
    });

    it('a session of a backfill is taken before the others once it is enqueued as live', async () => {
      await enqueue(backfill('old-1'), backfill('old-2'), backfill('old-3'));
      expect(await enqueue(session('old-3'))).toEqual(['already-queued']);
      const data: unknown[] = [];
      expect(
        await work(3, (job) => {
          data.push(job.data);
          return ARCHIVED;
        }),
      ).toEqual(['old-3', 'old-1', 'old-2']);
      expect(data).toEqual([
        { ...session('old-3'), backfill: false },
        { ...session('old-1'), backfill: true },
        { ...session('old-2'), backfill: true },
      ]);
    });

    it('a live session keeps its place when a backfill names it as well', async () => {
      await enqueue(session('new-1'), session('new-2'));
      expect(await enqueue(backfill('new-1'))).toEqual(['already-queued']);
      expect(await archive(2)).toEqual(['new-1', 'new-2']);
    });

    it('a failed session of a backfill is taken before the others once it is enqueued as live', async () => {
      await enqueue(backfill('old-1'));
      await fail(1);
      await enqueue(backfill('old-2'));
      expect(await enqueue(session('old-1'))).toEqual(['requeued']);
      expect(await archive(2)).toEqual(['old-1', 'old-2']);
    });

    it('a failed live session is taken behind live ones once a backfill names it', async () => {
      await enqueue(session('again'));
      await fail(1);
      expect(await enqueue(backfill('again'))).toEqual(['requeued']);
      await enqueue(session('new'));
      expect(await archive(2)).toEqual(['new', 'again']);
    });
  });

  describe('the view of a session', () => {
    it('an unknown session has no view', async () => {
      expect(await queue.view(session('nobody'))).toBeUndefined();
    });

    it.each(['live', 'backfill'] as const)('a queued session is shown as queued (%s)', async (priority) => {
      const before = new Date().toISOString();
      await enqueue({ ...session('a'), priority });
      const view = await viewOf('a');
      expect(view).toEqual({
        sessionId: 'a',
        botId: BOT,
        state: 'queued',
        attempts: 0,
        enqueuedAt: expect.stringMatching(ISO),
      });
      expect(view.enqueuedAt >= before).toBe(true);
      expect(view.enqueuedAt <= new Date().toISOString()).toBe(true);
    });

    it('a session that is being worked on is shown with its progress', async () => {
      const transfer = { recordings: 3, recordingsDone: 1, bytes: 12_345 };
      await enqueue(session('a'));
      await work(1, async (job) => {
        await job.saveProgress({ transfer });
        expect(await viewOf('a')).toEqual({
          sessionId: 'a',
          botId: BOT,
          state: 'active',
          attempts: 0,
          enqueuedAt: expect.stringMatching(ISO),
          startedAt: expect.stringMatching(ISO),
          progress: transfer,
        });
        return ARCHIVED;
      });
    });

    it('a session that waits is shown with the reason and the time of its next poll', async () => {
      const until = Date.now() + 3_600_000;
      const nextAttemptAt = new Date(until).toISOString();
      const error = {
        code: 'RECORDING_NOT_READY',
        message: 'not yet',
        retryable: true,
        at: '2026-01-02T03:04:05.006Z',
      } as const;
      await enqueue(session('a'));
      await work(1, async (job) => {
        await job.saveProgress({ error, nextAttemptAt });
        return { kind: 'wait', until };
      });
      expect(await viewOf('a')).toEqual({
        sessionId: 'a',
        botId: BOT,
        state: 'waiting',
        attempts: 0,
        enqueuedAt: expect.stringMatching(ISO),
        startedAt: expect.stringMatching(ISO),
        nextAttemptAt,
        error,
      });
    });

    it('an archived session is shown with what was archived', async () => {
      await enqueue(session('a'));
      await archive(1);
      expect(await viewOf('a')).toEqual({
        sessionId: 'a',
        botId: BOT,
        state: 'archived',
        transcript: 'pending',
        attempts: 1,
        enqueuedAt: expect.stringMatching(ISO),
        startedAt: expect.stringMatching(ISO),
        finishedAt: expect.stringMatching(ISO),
        progress: { recordings: 1, recordingsDone: 1, bytes: 3 },
        recordings: [
          { key: 'a/b.wav', bytes: 3, sha256: '00', contentType: 'audio/wav', durationSeconds: 1 },
        ],
        manifestKey: 'a/manifest.json',
      });
    });

    it('an archived session is shown with the later state of its transcript', async () => {
      await enqueue(session('a'));
      await archive(1);
      await queue.noteTranscript(session('a'), 'absent');
      expect(await viewOf('a')).toMatchObject({ state: 'archived', transcript: 'absent' });
    });

    it('a failed session is shown with its error', async () => {
      await enqueue(session('a'));
      await fail(1);
      expect(await viewOf('a')).toEqual({
        sessionId: 'a',
        botId: BOT,
        state: 'failed',
        attempts: 1,
        enqueuedAt: expect.stringMatching(ISO),
        startedAt: expect.stringMatching(ISO),
        finishedAt: expect.stringMatching(ISO),
        error: {
          code: 'RECORDING_EMPTY',
          message: 'broken',
          retryable: false,
          at: '2026-01-02T03:04:05.006Z',
        },
      });
    });
  });

  describe('lists of sessions', () => {
    /** All pages of a list, by session id. */
    const pages = async (query: ListQuery): Promise<string[][]> => {
      const found: string[][] = [];
      let cursor: string | undefined;
      do {
        const page = await queue.list({ ...query, ...(cursor && { cursor }) });
        found.push(page.sessions.map(({ sessionId }) => sessionId));
        cursor = page.nextCursor;
      } while (cursor);
      return found;
    };

    it('queued sessions are listed page by page, the newest first', async () => {
      for (const id of ['a', 'b', 'c', 'd', 'e']) await enqueue(session(id));
      expect(await pages({ state: 'queued', limit: 2 })).toEqual([['e', 'd'], ['c', 'b'], ['a']]);
      expect(await pages({ state: 'queued' })).toEqual([['e', 'd', 'c', 'b', 'a']]);
      expect(await pages({ state: 'failed' })).toEqual([[]]);
    });

    it('failed sessions are listed by code, the latest first', async () => {
      const ids = ['a', 'b', 'c', 'd', 'e', 'f'];
      for (const id of ids) await enqueue(session(id));
      await fail(6, (id) => (id < 'd' ? 'RECORDING_EMPTY' : 'SESSION_NOT_FOUND'));
      expect((await pages({ state: 'failed' })).flat()).toEqual([...ids].reverse());
      expect((await pages({ code: 'RECORDING_EMPTY', limit: 2 })).flat()).toEqual(['c', 'b', 'a']);
      expect((await pages({ state: 'failed', code: 'SESSION_NOT_FOUND' })).flat()).toEqual(['f', 'e', 'd']);
      expect((await pages({ state: 'failed', code: 'INTERNAL' })).flat()).toEqual([]);
    });

    it('sessions in every state are listed once, whatever the size of the pages', async () => {
      await enqueue(...['archived-1', 'archived-2', 'archived-3'].map(session));
      await archive(3);
      await enqueue(...['failed-1', 'failed-2'].map(session));
      await fail(2);
      await enqueue(...['waiting-1', 'waiting-2'].map(session));
      await work(2, () => ({ kind: 'wait', until: Date.now() + 3_600_000 }));
      await enqueue(session('queued-1'), { ...session('queued-2'), priority: 'backfill' });
      const all = [
        'archived-1',
        'archived-2',
        'archived-3',
        'failed-1',
        'failed-2',
        'queued-1',
        'queued-2',
        'waiting-1',
        'waiting-2',
      ];
      for (const limit of [1, 2, 3, 100])
        expect((await pages({ limit })).flat().sort(), `${limit}`).toEqual(all);
      for (const state of ['queued', 'waiting', 'archived', 'failed'] as const) {
        const { sessions } = await queue.list({ state });
        expect(sessions.map((view) => view.state)).toEqual(sessions.map(() => state));
        expect(sessions.map((view) => view.sessionId).sort()).toEqual(
          all.filter((id) => id.startsWith(state)),
        );
      }
      expect((await queue.stats()).states).toEqual({
        queued: 2,
        active: 0,
        waiting: 2,
        archived: 3,
        failed: 2,
      });
    });

    it.each(['', 'x', '1', '1.', '1.a', 'x.a.b', '-1.a.b', '1.a.b.c', 'failed:0', '__proto__'])(
      'a listing refuses the foreign cursor "%s"',
      async (cursor) => {
        await expect(queue.list({ state: 'failed', cursor })).rejects.toThrow(InvalidCursorError);
      },
    );
  });

  describe('retrying', () => {
    it('a failed session can be retried', async () => {
      await enqueue(session('a'));
      await fail(1);
      expect(await queue.retry(session('a'))).toBe('requeued');
      expect(await viewOf('a')).toMatchObject({ state: 'queued', attempts: 0 });
      expect(await archive(1)).toEqual(['a']);
    });

    it('a session that has not failed, or is unknown, cannot be retried', async () => {
      await enqueue(session('a'));
      expect(await queue.retry(session('a'))).toBe('not-failed');
      await archive(1);
      expect(await queue.retry(session('a'))).toBe('not-failed');
      expect(await queue.retry(session('b'))).toBe('unknown');
    });

    it('all failed sessions can be retried, or those with a code', async () => {
      const ids = ['a', 'b', 'c', 'd', 'e'];
      await enqueue(...ids.map(session));
      await fail(5, (id) => (id < 'c' ? 'RECORDING_EMPTY' : 'SESSION_NOT_FOUND'));
      expect(await queue.retryAll('INTERNAL')).toBe(0);
      expect(await queue.retryAll('RECORDING_EMPTY')).toBe(2);
      expect((await queue.stats()).states).toMatchObject({ queued: 2, failed: 3 });
      expect(await queue.retryAll()).toBe(3);
      expect((await archive(5)).sort()).toEqual(ids);
    });

    it('a retried session keeps what it was enqueued with', async () => {
      await enqueue({ ...session('a'), force: true, priority: 'backfill' });
      await fail(1);
      await queue.retry(session('a'));
      await work(1, (job) => {
        expect(job.data).toEqual({
          ...session('a'),
          force: true,
          forcedAt: expect.any(Number),
          backfill: true,
        });
        return ARCHIVED;
      });
    });
  });

  describe('forgetting', () => {
    it('a session in any state is removed with its progress and the check for its transcript', async () => {
      await enqueue(session('archived'), session('failed'), session('waiting'));
      await work(3, async (job) => {
        await job.saveProgress({ transfer: { recordings: 1, recordingsDone: 0, bytes: 7 } });
        if (job.data.sessionId === 'archived') return ARCHIVED;
        if (job.data.sessionId === 'failed') return { kind: 'fail', reason: 'RECORDING_EMPTY: empty' };
        return { kind: 'wait', until: Date.now() + 3_600_000 };
      });
      await queue.awaitTranscript(session('archived'), 3_600_000);
      await enqueue(session('queued'));
      for (const id of ['archived', 'failed', 'waiting', 'queued', 'never known']) {
        expect(await queue.forget(session(id))).toBe(true);
        expect(await queue.view(session(id))).toBeUndefined();
      }
      const { states, transcriptsPending } = await queue.stats();
      expect({ ...states, transcriptsPending }).toEqual({
        queued: 0,
        active: 0,
        waiting: 0,
        archived: 0,
        failed: 0,
        transcriptsPending: 0,
      });
    });

    it('a session that a worker runs is not removed, and the answer says so until it ends', async () => {
      await enqueue(session('a'));
      const removed: boolean[] = [];
      await work(1, async () => {
        removed.push(await queue.forget(session('a')));
        return ARCHIVED;
      });
      expect(removed).toEqual([false]);
      expect((await queue.view(session('a')))?.state).toBe('archived');
      expect(await queue.forget(session('a'))).toBe(true);
    });
  });

  describe('cancelling', () => {
    it('a queued and a waiting session are cancelled, and can be queued again', async () => {
      await enqueue(session('a'));
      await work(1, () => ({ kind: 'wait', until: Date.now() + 3_600_000 }));
      await enqueue(session('b'));
      expect(await queue.cancel(session('a'))).toBe('cancelled');
      expect(await queue.cancel(session('b'))).toBe('cancelled');
      expect(await queue.view(session('a'))).toBeUndefined();
      expect(await queue.cancel(session('a'))).toBe('unknown');
      expect(await enqueue(session('a'))).toEqual(['queued']);
    });

    it('a session that has ended, or that a worker runs, cannot be cancelled', async () => {
      await enqueue(session('a'), session('b'));
      const outcomes: string[] = [];
      await work(2, async (job) => {
        outcomes.push(await queue.cancel({ botId: BOT, sessionId: job.data.sessionId }));
        return job.data.sessionId === 'a' ? ARCHIVED : { kind: 'fail', reason: 'RECORDING_EMPTY: empty' };
      });
      expect(outcomes).toEqual(['not-waiting', 'not-waiting']);
      expect(await queue.cancel(session('a'))).toBe('not-waiting');
      expect(await queue.cancel(session('b'))).toBe('not-waiting');
      expect((await queue.stats()).states).toMatchObject({ archived: 1, failed: 1 });
    });

    it('all sessions can be cancelled, or those of backfills, or those with a code, and a dry run only counts', async () => {
      await enqueue(session('w'));
      await work(1, () => ({ kind: 'wait', until: Date.now() + 3_600_000 }));
      await enqueue(session('a'), session('b'), { ...session('c'), priority: 'backfill' });
      expect(await queue.cancelAll({ dryRun: true })).toBe(4);
      expect(await queue.cancelAll({ code: 'RECORDING_EMPTY' })).toBe(0);
      expect(await queue.cancelAll({ backfills: true, dryRun: true })).toBe(1);
      expect(await queue.cancelAll({ backfills: true })).toBe(1);
      expect((await queue.stats()).states).toMatchObject({ queued: 2, waiting: 1 });
      expect(await queue.cancelAll()).toBe(3);
      expect((await queue.stats()).states).toMatchObject({ queued: 0, waiting: 0 });
    });
  });

  describe('a pause', () => {
    it('a pause keeps sessions from being taken until the queue is resumed, and is shown', async () => {
      await enqueue(session('a'));
      await queue.pause();
      await queue.pause();
      const { enqueuedAt } = await viewOf('a');
      expect(await queue.stats()).toMatchObject({
        paused: true,
        states: { queued: 1 },
        oldestQueuedAt: enqueuedAt,
      });
      expect((await queue.list({ state: 'queued' })).sessions).toMatchObject([{ sessionId: 'a' }]);
      expect(await queue.takeable()).toBe(0);
      await enqueue(session('b'));
      await queue.resume();
      expect(await queue.stats()).toMatchObject({ paused: false, states: { queued: 2 } });
      expect((await archive(2)).sort()).toEqual(['a', 'b']);
    });
  });

  describe('counts', () => {
    it('the counts of an empty queue are 0', async () => {
      expect(await queue.stats()).toEqual({
        states: { queued: 0, active: 0, waiting: 0, archived: 0, failed: 0 },
        paused: false,
        transcriptsPending: 0,
      });
    });

    it.each(['live', 'backfill'] as const)(
      'the counts include the age of the session that waits longest (%s)',
      async (priority) => {
        await enqueue({ ...session('a'), priority });
        const { enqueuedAt } = await viewOf('a');
        await enqueue({ ...session('b'), priority }, { ...session('c'), priority });
        expect((await queue.stats()).oldestQueuedAt).toBe(enqueuedAt);
      },
    );

    it('the counts include the age of the session that waits longest, also when it is behind newer ones', async () => {
      await enqueue({ ...session('a'), priority: 'backfill' });
      const { enqueuedAt } = await viewOf('a');
      await enqueue(session('b'));
      expect((await queue.stats()).oldestQueuedAt).toBe(enqueuedAt);
    });
  });

  describe('awaiting a transcript', () => {
    const workOnTranscripts = (count: number, decide: Decide) =>
      workOff(backend, transcriptQueueName(name), count, decide);

    it('a transcript is awaited once per session, however often that is requested', async () => {
      await Promise.all(Array.from({ length: 10 }, () => queue.awaitTranscript(session('a'), 0)));
      await queue.awaitTranscript(session('b'), 3_600_000);
      const stats = await queue.stats();
      expect(stats.transcriptsPending).toBe(2);
      expect(stats.states).toEqual({ queued: 0, active: 0, waiting: 0, archived: 0, failed: 0 });
    });

    it('a transcript is no longer awaited once it is settled', async () => {
      await queue.awaitTranscript(session('a'), 0);
      expect(await workOnTranscripts(1, () => ({ kind: 'done', result: null }))).toEqual(['a']);
      expect((await queue.stats()).transcriptsPending).toBe(0);
      await queue.awaitTranscript(session('a'), 0);
      expect((await queue.stats()).transcriptsPending).toBe(1);
    });

    it('a transcript is awaited again when an earlier check failed for good', async () => {
      await queue.awaitTranscript(session('a'), 0);
      await workOnTranscripts(1, () => ({ kind: 'fail', reason: 'INTERNAL: broken' }));
      expect((await queue.stats()).transcriptsPending).toBe(0);
      await queue.awaitTranscript(session('a'), 0);
      expect((await queue.stats()).transcriptsPending).toBe(1);
      expect(await workOnTranscripts(1, () => ({ kind: 'done', result: null }))).toEqual(['a']);
    });

    it('the outcome of a transcript is ignored for a session that the queue no longer knows', async () => {
      expect(await queue.noteTranscript(session('gone'), 'absent')).toBe(false);
      expect(await backend.noteCompleted(name, jobId(session('gone')), { transcript: 'absent' })).toBe(false);
      expect(await queue.view(session('gone'))).toBeUndefined();
    });

    it('the outcome of a transcript leaves a session alone that was put back into the queue', async () => {
      const found = { transcript: 'absent', recordings: ARCHIVED.result.recordings, revision: 2 } as const;
      const note = () => backend.noteCompleted(name, jobId(session('a')), found);
      await enqueue(session('a'));
      expect(await note()).toBe(false);
      await archive(1);
      expect(await note()).toBe(true);
      await enqueue({ ...session('a'), force: true });
      expect(await note()).toBe(false);
      await work(1, async (job) => {
        expect(job.progress).toEqual({ history: expect.any(Array) });
        expect(await note()).toBe(false);
        expect(await queue.noteTranscript(session('a'), 'absent', found)).toBe(false);
        return ARCHIVED;
      });
      expect(await viewOf('a')).toMatchObject({ state: 'archived', transcript: 'pending' });
    });

    it('the outcome of a transcript does not restore the progress of a failed attempt', async () => {
      await enqueue(session('a'));
      await work(1, async (job) => {
        await job.saveProgress({ polls: { RECORDING_NOT_READY: { since: 1, count: 9 } } });
        return ARCHIVED;
      });
      expect(await queue.noteTranscript(session('a'), 'absent', { revision: 2 })).toBe(true);
      const job = await queue.bullmq.sessions.getJob(jobId(session('a')));
      const history = [
        { at: expect.stringMatching(ISO), event: 'rewritten', detail: 'revision 2; transcript absent' },
      ];
      expect(job?.progress).toEqual({ transcript: 'absent', revision: 2, history });
    });

    it('the outcome of an older manifest changes neither a later result nor a later note', async () => {
      const [recording] = ARCHIVED.result.recordings;
      const of = (sha256: string) => [{ ...recording, sha256 }];
      await enqueue(session('a'));
      const result = {
        ...ARCHIVED.result,
        transcript: 'archived',
        recordings: of('33'),
        revision: 3,
      } as const;
      await work(1, () => ({ kind: 'done', result }));
      await queue.noteTranscript(session('a'), 'absent', { recordings: of('22'), revision: 2 });
      expect(await viewOf('a')).toMatchObject({ transcript: 'archived', recordings: of('33') });
      await queue.noteTranscript(session('a'), 'archived', { recordings: of('44'), revision: 4 });
      expect(await queue.noteTranscript(session('a'), 'absent', { revision: 3 })).toBe(false);
      expect(await viewOf('a')).toMatchObject({ transcript: 'archived', recordings: of('44') });
    });
  });
});

describeOnEachQueue('what lies in the queue', (kind) => {
  it('the queue holds the ids of sessions and how to work on them, nothing else', async () => {
    const server = await createTestQueue(kind);
    try {
      const backend = await openBackend(server.config, silent);
      const queue = new SessionQueue(backend, 'jobs', silent);
      const request = {
        botId: BOT,
        sessionId: 'a',
        force: true,
        priority: 'backfill' as const,
        fileUrl: 'https://media.example/a.wav?s=SIGNATURE',
        transcript: 'WORDS SPOKEN',
      };
      await queue.enqueue([request]);
      await queue.awaitTranscript(request, 3_600_000);
      await queue.close();
      await backend.close();

      const contents = await server.contents();
      expect(contents).toContain(jobId(request));
      expect(contents).not.toMatch(/SIGNATURE|WORDS SPOKEN|media\.example/);
      expect(jobData(contents)).toEqual([
        { botId: BOT, sessionId: 'a' },
        { botId: BOT, sessionId: 'a', backfill: true, force: true, forcedAt: expect.any(Number) },
      ]);
    } finally {
      await server.remove();
    }
  });
});

/** The data of all jobs in a dump: a field of a hash in Redis, a column of the table of jobs in PostgreSQL. */
function jobData(contents: string): unknown[] {
  const rows = contents.split('\n').map((line) => {
    const space = line.indexOf(' ');
    return { name: line.slice(0, space), row: JSON.parse(line.slice(space + 1)) as { data?: unknown } };
  });
  const jobs = rows.filter(({ name }) => name === 'bullmq.job' || name.endsWith(`:${BOT}.a`));
  return jobs
    .map(({ row: { data } }) => (typeof data === 'string' ? JSON.parse(data) : data) as object)
    .sort((a, b) => Object.keys(a).length - Object.keys(b).length);
}
