import { once } from 'node:events';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { EnqueueRequest } from '../../src/domain/requests.ts';
import type { Backend } from '../../src/jobs/backends/backend.ts';
import { Consumer, type JobDecision, type TakenJob } from '../../src/jobs/consumer.ts';
import { LockLostError } from '../../src/jobs/job-lock.ts';
import type { SessionQueue } from '../../src/jobs/session-queue.ts';
import { pretendStalls, stealLock } from '../support/lost-locks.ts';
import { describeOnEachQueue, silent, useSessionQueue } from '../support/queues.ts';
import { ARCHIVED, workOff } from '../support/work-off.ts';

/** Never waited for in full: only a stop that hangs takes so long. */
const LONG_GRACE_MS = 20_000;

describeOnEachQueue('a consumer', (kind) => {
  let backend: Backend;
  let name: string;
  let queue: SessionQueue;
  let running: Consumer[];

  useSessionQueue(kind, (opened) => {
    ({ backend, name, queue } = opened);
    running = [];
  });
  afterEach(() => Promise.all(running.map((consumer) => consumer.stop(0))));

  const session = (sessionId: string): EnqueueRequest => ({ botId: 'st-1', sessionId });
  const enqueue = (...ids: string[]) => queue.enqueue(ids.map(session));
  const viewOf = (id: string) => queue.view(session(id));

  type Handle = (job: TakenJob, signal: AbortSignal) => Promise<JobDecision>;
  function start(handle: Handle, concurrency = 1): Consumer {
    const consumer = new Consumer(backend, name, { concurrency, handle, log: silent });
    running.push(consumer);
    return consumer;
  }
  async function stop(consumer: Consumer, graceMs: number): Promise<void> {
    running = running.filter((other) => other !== consumer);
    await consumer.stop(graceMs);
  }
  /** Takes the one session that is there as many times as there are verdicts, and returns what it saw each time. */
  async function takeOnce(...verdicts: (() => JobDecision)[]) {
    const seen: { attemptsMade: number; progress: unknown; at: number }[] = [];
    await workOff(backend, name, verdicts.length, ({ attemptsMade, progress }) => {
      const verdict = verdicts[seen.length];
      seen.push({ attemptsMade, progress, at: Date.now() });
      return verdict ? verdict() : ARCHIVED;
    });
    return seen;
  }

  describe('the verdict of a worker', () => {
    it('a job that is done leaves the queue', async () => {
      await enqueue('a');
      await takeOnce(() => ARCHIVED);
      expect(await viewOf('a')).toMatchObject({ state: 'archived', manifestKey: 'a/manifest.json' });
    });

    it('a job that waits is taken again at its time, with no attempt used up', async () => {
      await enqueue('a');
      // Jittered pauses are no whole milliseconds.
      const until = Date.now() + 300.25;
      const seen = await takeOnce(
        () => ({ kind: 'wait', until }),
        () => ({ kind: 'wait', until: Date.now() }),
        () => ARCHIVED,
      );
      expect(seen.map(({ attemptsMade }) => attemptsMade)).toEqual([0, 0, 0]);
      expect(seen[1]?.at).toBeGreaterThanOrEqual(until);
      expect(await viewOf('a')).toMatchObject({ state: 'archived', attempts: 1 });
    });

    it('a job that is retried is taken again after the pause, with an attempt used up each time', async () => {
      await enqueue('a');
      const seen = await takeOnce(
        () => ({ kind: 'retry', delayMs: 300, reason: 'DOWNLOAD_FAILED: broke off' }),
        () => ({ kind: 'retry', delayMs: 0.4, reason: 'DOWNLOAD_FAILED: broke off' }),
        () => ({ kind: 'retry', delayMs: 0, reason: 'DOWNLOAD_FAILED: broke off' }),
        () => ARCHIVED,
      );
      expect(seen.map(({ attemptsMade }) => attemptsMade)).toEqual([0, 1, 2, 3]);
      expect((seen[1]?.at ?? 0) - (seen[0]?.at ?? 0)).toBeGreaterThanOrEqual(300);
    });

    it('a job that is retried is shown as waiting during the pause', async () => {
      await enqueue('a');
      await takeOnce(() => ({ kind: 'retry', delayMs: 3_600_000, reason: 'DOWNLOAD_FAILED: broke off' }));
      expect(await viewOf('a')).toMatchObject({ state: 'waiting', attempts: 1 });
    });

    it('a job that fails is listed as failed and stays there', async () => {
      await enqueue('a', 'b');
      const taken = await workOff(backend, name, 2, ({ data }) =>
        data.sessionId === 'a' ? { kind: 'fail', reason: 'RECORDING_EMPTY: no bytes' } : ARCHIVED,
      );
      expect(taken).toEqual(['a', 'b']);
      expect((await queue.stats()).states).toMatchObject({ failed: 1, archived: 1, queued: 0, waiting: 0 });
      expect(await viewOf('a')).toMatchObject({
        state: 'failed',
        attempts: 1,
        error: { code: 'RECORDING_EMPTY', message: 'no bytes' },
      });
    });

    it('a job that is given back is queued as if it had never been taken', async () => {
      await enqueue('a');
      const seen = await takeOnce(
        () => ({ kind: 'give-back' }),
        () => ARCHIVED,
      );
      expect(seen.map(({ attemptsMade }) => attemptsMade)).toEqual([0, 0]);
    });

    it('a job of a backfill that is given back stays behind live ones', async () => {
      await queue.enqueue([{ ...session('old'), priority: 'backfill' }]);
      await workOff(backend, name, 1, async () => {
        await enqueue('new');
        return { kind: 'give-back' };
      });
      expect(await workOff(backend, name, 2, () => ARCHIVED)).toEqual(['new', 'old']);
    });

    it('a job keeps the progress that was saved, whatever the verdict', async () => {
      const progress = { transfer: { recordings: 1, recordingsDone: 0, bytes: 7 }, nextAttemptAt: 'then' };
      await enqueue('a');
      const remembered: unknown[] = [];
      await workOff(backend, name, 4, async (job) => {
        remembered.push(job.progress);
        await job.saveProgress({ ...progress, nextAttemptAt: String(remembered.length) });
        switch (remembered.length) {
          case 1:
            return { kind: 'wait', until: Date.now() };
          case 2:
            return { kind: 'retry', delayMs: 0, reason: 'x' };
          case 3:
            return { kind: 'give-back' };
          default:
            return ARCHIVED;
        }
      });
      expect(remembered).toEqual([
        {},
        { ...progress, nextAttemptAt: '1' },
        { ...progress, nextAttemptAt: '2' },
        { ...progress, nextAttemptAt: '3' },
      ]);
    });
  });

  describe('a consumer', () => {
    it('a consumer runs as many sessions at a time as allowed, and no more', async () => {
      const three = Promise.withResolvers<void>();
      const release = Promise.withResolvers<void>();
      const all = Promise.withResolvers<void>();
      let now = 0;
      let most = 0;
      let done = 0;
      const consumer = start(async () => {
        now += 1;
        most = Math.max(most, now);
        if (now === 3) three.resolve();
        await release.promise;
        now -= 1;
        done += 1;
        if (done === 8) all.resolve();
        return ARCHIVED;
      }, 3);
      await enqueue('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h');
      await three.promise;
      expect(consumer.activeJobs).toBe(3);
      expect((await queue.stats()).states).toMatchObject({ active: 3, queued: 5 });
      release.resolve();
      await all.promise;
      expect(most).toBe(3);
    });

    it('a consumer that is idle is woken by a new session and does not poll', async () => {
      let next = Promise.withResolvers<string>();
      const consumer = start(async ({ data }) => {
        next.resolve(data.sessionId);
        return ARCHIVED;
      });
      await consumer.ready();
      // Polling takes seconds a time: ten times would be longer than this test may take.
      for (let count = 0; count < 10; count += 1) {
        await enqueue(`s-${count}`);
        expect(await next.promise).toBe(`s-${count}`);
        next = Promise.withResolvers();
      }
    });
  });

  describe('the lock of a job', () => {
    it('a worker that lost the lock of a job can save no progress, and gets an error', async () => {
      await enqueue('a');
      const outcome: unknown[] = [];
      await workOff(backend, name, 1, async (job) => {
        await job.saveProgress({ nextAttemptAt: 'mine' });
        outcome.push(
          await backend.saveProgress(name, job.id, 'of another worker', { nextAttemptAt: 'theirs' }),
        );
        outcome.push((await queue.view(session('a')))?.state);
        return { kind: 'wait', until: Date.now() + 3_600_000 };
      });
      expect(outcome).toEqual([false, 'active']);
      expect(await viewOf('a')).toMatchObject({ state: 'waiting', nextAttemptAt: 'mine' });
      expect(await backend.saveProgress(name, 'st-1.a', 'of nobody', { nextAttemptAt: 'theirs' })).toBe(
        false,
      );
      expect(await viewOf('a')).toMatchObject({ nextAttemptAt: 'mine' });
    });

    it('a job whose lock ran out goes to the next consumer, and the first one is cancelled and reports nothing', async () => {
      const taken = Promise.withResolvers<TakenJob>();
      const broken = Promise.withResolvers<unknown>();
      const goOn = Promise.withResolvers<void>();
      const first = new Consumer(backend, name, {
        concurrency: 1,
        log: silent,
        locks: { durationMs: 1_500, stalledIntervalMs: 400 },
        async handle(job, signal) {
          taken.resolve(job);
          await once(signal, 'abort');
          broken.resolve(signal.reason);
          await goOn.promise;
          return { kind: 'fail', reason: 'INTERNAL: of the first one' };
        },
      });
      running.push(first);
      await enqueue('a');
      const job = await taken.promise;
      // As a worker that was suspended finds it.
      await stealLock(backend, name, job.id);
      expect(await broken.promise).toBeInstanceOf(LockLostError);
      await expect(job.assertOwned()).rejects.toThrow(LockLostError);
      await expect(job.saveProgress({ nextAttemptAt: 'of the first one' })).rejects.toThrow(LockLostError);
      await first.hold(3_600_000);
      goOn.resolve();
      expect(await workOff(backend, name, 1, () => ARCHIVED)).toEqual(['a']);
      expect(await viewOf('a')).toMatchObject({ state: 'archived', attempts: 1 });
    });

    it('a job that lost its lock often before can still be retried', async () => {
      await enqueue('a');
      await workOff(backend, name, 1, () => ({ kind: 'fail', reason: 'INTERNAL: x' }));
      await pretendStalls(backend, name, 'st-1.a');
      expect(await queue.retry(session('a'))).toBe('requeued');
      await workOff(backend, name, 1, () => ARCHIVED);
      expect(await viewOf('a')).toMatchObject({ state: 'archived', attempts: 1 });
    });
  });

  describe('a consumer on hold', () => {
    it('a consumer on hold takes nothing, though it was idle and waiting for work, and continues afterwards', async () => {
      const taken = Promise.withResolvers<number>();
      const first = Promise.withResolvers<void>();
      const consumer = start(async ({ data }) => {
        if (data.sessionId === 'first') first.resolve();
        else taken.resolve(Date.now());
        return ARCHIVED;
      });
      await enqueue('first');
      await first.promise;
      await vi.waitUntil(async () => (await viewOf('first'))?.state === 'archived', { timeout: 60_000 });
      await consumer.hold(1_000);
      const until = consumer.heldUntil;
      expect(until).toBeGreaterThan(Date.now());
      await enqueue('a');
      expect(await taken.promise).toBeGreaterThanOrEqual(until ?? Number.POSITIVE_INFINITY);
      expect(consumer.heldUntil).toBeUndefined();
      await stop(consumer, LONG_GRACE_MS);
      expect(await viewOf('a')).toMatchObject({ state: 'archived', attempts: 1 });
    });

    it('a hold by a session that runs keeps others from being taken, and lets that one finish', async () => {
      const order: string[] = [];
      const all = Promise.withResolvers<void>();
      let heldUntil = 0;
      const consumer = start(async ({ data }) => {
        order.push(data.sessionId);
        if (order.length === 1) {
          await consumer.hold(600);
          heldUntil = consumer.heldUntil ?? 0;
          return { kind: 'wait', until: Date.now() + 100 };
        }
        if (Date.now() < heldUntil) all.reject(new Error(`took ${data.sessionId} while held`));
        if (order.length === 5) all.resolve();
        return ARCHIVED;
      });
      await enqueue('a', 'b', 'c');
      await vi.waitUntil(async () => (await viewOf('a'))?.state === 'waiting', { timeout: 60_000 });
      expect(order).toEqual(['a']);
      await enqueue('d');
      await all.promise;
      expect(heldUntil).toBeGreaterThan(0);
    });

    it('the longest of several holds decides when they end', async () => {
      const consumer = start(async () => ARCHIVED);
      await consumer.hold(60_000);
      const until = consumer.heldUntil;
      await consumer.hold(10);
      expect(consumer.heldUntil).toBe(until);
      await consumer.hold(120_000);
      expect(consumer.heldUntil).toBeGreaterThan(until ?? 0);
    });

    it('sessions that wait during a hold keep their place, and are shown as waiting', async () => {
      await enqueue('a', 'b', 'c', 'd');
      const taken: string[] = [];
      const heldBack = Promise.withResolvers<void>();
      const done = Promise.withResolvers<void>();
      let polls = 0;
      const consumer = start(async ({ data }) => {
        polls += 1;
        if (polls <= 2) {
          // The first session is put on hold last.
          if (polls === 2) heldBack.resolve();
          else await heldBack.promise;
          await consumer.holdFor('the limit');
          return { kind: 'wait', until: Date.now() + 3_600_000, keepsPlace: true };
        }
        taken.push(data.sessionId);
        if (taken.length === 4) done.resolve();
        return ARCHIVED;
      }, 2);
      await vi.waitFor(async () =>
        expect((await queue.stats()).states).toMatchObject({ waiting: 2, queued: 2, active: 0 }),
      );
      const { sessions } = await queue.list({ state: 'waiting' });
      expect(sessions.map(({ sessionId }) => sessionId).sort()).toEqual(['a', 'b']);
      expect(await viewOf('a')).toMatchObject({ state: 'waiting' });
      consumer.release('the limit');
      await done.promise;
      expect(taken.slice(0, 2).sort()).toEqual(['a', 'b']);
      expect(taken.slice(2).sort()).toEqual(['c', 'd']);
    });

    it('sessions that keep their place stay in front when the consumer stops', async () => {
      await enqueue('a', 'b');
      const consumer = start(async () => {
        await consumer.holdFor('the limit');
        return { kind: 'wait', until: Date.now() + 3_600_000, keepsPlace: true };
      });
      await vi.waitFor(async () => expect(await viewOf('a')).toMatchObject({ state: 'waiting' }));
      await stop(consumer, LONG_GRACE_MS);
      expect(await workOff(backend, name, 2, () => ARCHIVED)).toEqual(['a', 'b']);
    });

    it('a consumer on hold can be stopped', async () => {
      const consumer = start(async () => ARCHIVED);
      await consumer.hold(60_000);
      await enqueue('a');
      await stop(consumer, LONG_GRACE_MS);
      expect(await viewOf('a')).toMatchObject({ state: 'queued', attempts: 0 });
    });
  });

  describe('a consumer that is stopped', () => {
    it('an idle consumer stops at once', async () => {
      const consumer = start(async () => ARCHIVED);
      await consumer.ready();
      await stop(consumer, LONG_GRACE_MS);
    });

    it('a consumer that stops lets its jobs finish, and takes no others', async () => {
      const started = Promise.withResolvers<AbortSignal>();
      const release = Promise.withResolvers<void>();
      const consumer = start(async (_, signal) => {
        started.resolve(signal);
        await release.promise;
        return ARCHIVED;
      });
      await enqueue('a', 'b');
      const signal = await started.promise;
      const stopped = stop(consumer, LONG_GRACE_MS);
      await enqueue('c');
      release.resolve();
      await stopped;
      expect(signal.aborted).toBe(false);
      expect((await viewOf('a'))?.state).toBe('archived');
      expect(await viewOf('b')).toMatchObject({ state: 'queued', attempts: 0 });
      expect(await viewOf('c')).toMatchObject({ state: 'queued', attempts: 0 });
    });

    it('a job that takes longer than the grace period is cancelled and given back, so that another consumer gets it', async () => {
      const started = Promise.withResolvers<void>();
      let count = 0;
      const consumer = start(async (job, signal) => {
        await job.saveProgress({ transfer: { recordings: 2, recordingsDone: 1, bytes: 9 } });
        count += 1;
        if (count === 2) started.resolve();
        await once(signal, 'abort');
        return { kind: 'give-back' };
      }, 2);
      await enqueue('a', 'b', 'c');
      await started.promise;
      await stop(consumer, 50);
      expect(consumer.activeJobs).toBe(0);
      expect((await queue.stats()).states).toEqual({
        queued: 3,
        active: 0,
        waiting: 0,
        archived: 0,
        failed: 0,
      });
      const seen: number[] = [];
      const taken = await workOff(backend, name, 3, ({ attemptsMade }) => {
        seen.push(attemptsMade);
        return ARCHIVED;
      });
      expect(taken.sort()).toEqual(['a', 'b', 'c']);
      expect(seen).toEqual([0, 0, 0]);
    });

    it('a stop in the middle of a full queue loses no session and runs none twice', async () => {
      const ids = Array.from({ length: 60 }, (_, index) => `s-${index}`);
      await enqueue(...ids);
      const handled: string[] = [];
      for (let round = 0; round < 4; round += 1) {
        const some = Promise.withResolvers<void>();
        const consumer = start(async ({ data }) => {
          handled.push(data.sessionId);
          if (handled.length % 12 === 0) some.resolve();
          return ARCHIVED;
        }, 4);
        await some.promise;
        await stop(consumer, LONG_GRACE_MS);
      }
      const rest = ids.length - handled.length;
      const { states } = await queue.stats();
      expect(states).toEqual({ queued: rest, active: 0, waiting: 0, archived: handled.length, failed: 0 });
      handled.push(...(await workOff(backend, name, rest, () => ARCHIVED)));
      expect(handled.sort()).toEqual([...ids].sort());
    });
  });
});
