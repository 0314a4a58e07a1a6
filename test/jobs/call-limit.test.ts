import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Rate } from '../../src/config/config.ts';
import { isVoicemailError } from '../../src/domain/errors.ts';
import type { CallClass, CallLimit } from '../../src/domain/voicemail.ts';
import type { Backend } from '../../src/jobs/backends/backend.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { CallLimitReached, createCallLimit } from '../../src/jobs/call-limit.ts';
import { createTestQueue, describeOnEachQueue, silent, type TestQueue } from '../support/queues.ts';

const MINUTE_MS = 60_000;
const never = new AbortController().signal;

/** A call that was allowed between the two times. */
interface Call {
  readonly from: number;
  readonly to: number;
}

describeOnEachQueue('the limit on calls to Kore', (kind) => {
  let server: TestQueue;
  let here: Backend;
  /** Another process's, where the queue can be shared by processes. */
  let there: Backend;
  let name: string;

  beforeAll(async () => {
    server = await createTestQueue(kind);
    here = await openBackend(server.config, silent);
    there = server.shared ? await openBackend(server.config, silent) : here;
  });
  afterAll(async () => {
    await here.close();
    if (there !== here) await there.close();
    await server.remove();
  });
  beforeEach(() => {
    name = `queue-${randomUUID()}`;
  });

  /** Calls allowed before the limit is reached. */
  async function allowed(limit: CallLimit, callClass: CallClass): Promise<number> {
    for (let count = 0; ; count += 1) {
      try {
        await limit.acquire(callClass, never);
      } catch (error) {
        if (error instanceof CallLimitReached) return count;
        throw error;
      }
    }
  }

  it('the call limit lets no more calls go in any window, whoever makes them', async () => {
    const rate: Rate = { calls: 5, windowMs: 300 };
    const calls: Call[] = [];
    const recorded = (backend: Backend): Backend => ({
      ...backend,
      async takeCall(...args) {
        const from = Date.now();
        const wait = await backend.takeCall(...args);
        if (wait === 0) calls.push({ from, to: Date.now() });
        return wait;
      },
    });
    const limits = [here, there].map((backend) => createCallLimit(recorded(backend), name, rate));
    await Promise.all(
      limits.flatMap((limit) =>
        Array.from({ length: 4 }, async (_, index) => {
          const callClass = index % 2 === 0 ? 'live' : 'background';
          for (let count = 0; count < 4; count += 1) await limit.acquire(callClass, never);
        }),
      ),
    );
    expect(calls).toHaveLength(32);
    expect(closest(calls, rate.calls + 1)).toBeGreaterThanOrEqual(rate.windowMs);
  });

  it('the call limit is reached after as many calls as it allows', async () => {
    const limit = createCallLimit(here, name, { calls: 7, windowMs: MINUTE_MS });
    expect(await allowed(limit, 'live')).toBe(7);
    expect(await allowed(createCallLimit(there, name, { calls: 7, windowMs: MINUTE_MS }), 'live')).toBe(0);
  });

  it('the call limit counts each queue by itself', async () => {
    const rate: Rate = { calls: 2, windowMs: MINUTE_MS };
    expect(await allowed(createCallLimit(here, name, rate), 'live')).toBe(2);
    expect(await allowed(createCallLimit(here, `${name}-other`, rate), 'live')).toBe(2);
  });

  it('a reached limit says how long it lasts, and that the session is not to blame', async () => {
    const limit = createCallLimit(here, name, { calls: 1, windowMs: MINUTE_MS });
    await limit.acquire('live', never);
    const error = await limit.acquire('live', never).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(CallLimitReached);
    expect(isVoicemailError(error, 'KORE_RATE_LIMITED') && error.retryAfterMs).toSatisfy(
      (wait: number) => wait > MINUTE_MS / 2 && wait <= MINUTE_MS + 250,
    );
  });

  describe('the share of background work', () => {
    it('background work gets three quarters of the calls, and the rest is reserved for live sessions', async () => {
      const limit = createCallLimit(here, name, { calls: 8, windowMs: MINUTE_MS });
      expect(await allowed(limit, 'background')).toBe(6);
      expect(await allowed(limit, 'live')).toBe(2);
      expect(await allowed(limit, 'background')).toBe(0);
    });

    it('background work finds the limit reached when live sessions have used it up', async () => {
      const limit = createCallLimit(here, name, { calls: 4, windowMs: MINUTE_MS });
      for (let count = 0; count < 3; count += 1) await limit.acquire('live', never);
      expect(await allowed(limit, 'background')).toBe(0);
      expect(await allowed(limit, 'live')).toBe(1);
    });

    it('background work gets at least one call', async () => {
      const limit = createCallLimit(here, name, { calls: 1, windowMs: MINUTE_MS });
      expect(await allowed(limit, 'background')).toBe(1);
    });
  });

  describe('a paused limit', () => {
    const rate: Rate = { calls: 100, windowMs: MINUTE_MS };

    it('a paused limit allows no call until the pause is over, for everybody', async () => {
      const start = Date.now();
      await createCallLimit(here, name, rate).pause(400);
      await createCallLimit(there, name, rate).acquire('live', never);
      expect(Date.now() - start).toBeGreaterThanOrEqual(400);
    });

    it('a limit that is paused for long says so at once', async () => {
      const limit = createCallLimit(here, name, rate);
      await limit.pause(MINUTE_MS);
      const error = await limit.acquire('live', never).catch((thrown: unknown) => thrown);
      expect(isVoicemailError(error, 'KORE_RATE_LIMITED') && error.retryAfterMs).toSatisfy(
        (wait: number) => wait > MINUTE_MS / 2 && wait <= MINUTE_MS,
      );
    });

    it('a second, shorter pause does not end the first one sooner', async () => {
      const limit = createCallLimit(here, name, rate);
      await limit.pause(MINUTE_MS);
      await limit.pause(1.5);
      expect(await allowed(limit, 'live')).toBe(0);
    });
  });

  describe('a wait that is cancelled', () => {
    it('a wait for the limit that is cancelled before it begins takes no call', async () => {
      const limit = createCallLimit(here, name, { calls: 1, windowMs: MINUTE_MS });
      const reason = new Error('enough');
      await expect(limit.acquire('live', AbortSignal.abort(reason))).rejects.toBe(reason);
      expect(await allowed(limit, 'live')).toBe(1);
    });

    it('a wait for the limit that is cancelled ends at once', async () => {
      const limit = createCallLimit(here, name, { calls: 1, windowMs: 2_500 });
      await limit.acquire('live', never);
      const controller = new AbortController();
      const waiting = limit.acquire('live', controller.signal).then(
        () => 'acquired',
        (error: Error) => error.name,
      );
      controller.abort();
      expect(await waiting).toBe('AbortError');
    });
  });
});

/**
 * The shortest time that any `count` calls after one another can have taken at the very most: a true window
 * with too many calls in it is never longer than that, however slow this machine is.
 */
function closest(calls: readonly Call[], count: number): number {
  const sorted = [...calls].sort((a, b) => a.to - b.to);
  const spans = sorted
    .slice(count - 1)
    .map(({ to }, index) => to - Math.min(...sorted.slice(index, index + count).map(({ from }) => from)));
  return Math.min(...spans);
}
