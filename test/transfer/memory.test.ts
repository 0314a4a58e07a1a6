import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  createMemoryBudget,
  createReservation,
  type MemoryRequest,
  type Release,
} from '../../src/transfer/memory.ts';

const { signal } = new AbortController();

/** Lets everything run that is ready to run. */
const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

afterEach(() => {
  vi.useRealTimers();
});

describe('the memory budget', () => {
  it('the memory budget serves the earliest deadline first, and equal ones in order of arrival', async () => {
    const budget = createMemoryBudget(10);
    const first = await budget.acquire(10, {}, signal);
    const served: string[] = [];
    const now = Date.now();
    const wait = async (name: string, deadline?: number) => {
      const release = await budget.acquire(10, { deadline }, signal);
      served.push(name);
      release();
    };
    const all = [
      wait('tomorrow', now + 24 * 3_600_000),
      wait('no expiry'),
      wait('soon', now + 20_000),
      wait('soon as well', now + 20_000),
      wait('at once', now + 10_000),
    ];
    expect(budget.waiting).toBe(5);
    first();
    await Promise.all(all);
    expect(served).toEqual(['at once', 'soon', 'soon as well', 'no expiry', 'tomorrow']);
    expect(budget.usedBytes).toBe(0);
  });

  it('the memory budget never hands out more than it has', async () => {
    const budget = createMemoryBudget(10);
    const small = budget.tryAcquire(4);
    expect(budget.tryAcquire(7)).toBeUndefined();
    const large = budget.acquire(8, {}, signal);
    const other = budget.acquire(8, {}, signal);
    await settle();
    expect([budget.usedBytes, budget.waiting]).toEqual([4, 2]);
    small?.();
    const release = await large;
    expect([budget.usedBytes, budget.waiting]).toEqual([8, 1]);
    release();
    (await other)();
    expect([budget.usedBytes, budget.waiting]).toEqual([0, 0]);
  });

  it('the memory budget lets small requests pass a large one that waits, but only for some seconds', async () => {
    vi.useFakeTimers({ toFake: ['Date', 'performance'] });
    const budget = createMemoryBudget(10);
    const held = budget.tryAcquire(4);
    const large = budget.acquire(8, {}, signal);
    const passing = budget.tryAcquire(5);
    expect(passing).toBeDefined();
    const behind = budget.acquire(3, {}, signal);
    vi.advanceTimersByTime(11_000);
    passing?.();
    await settle();
    expect([budget.usedBytes, budget.waiting]).toEqual([4, 2]);
    expect(budget.tryAcquire(1)).toBeUndefined();
    held?.();
    (await large)();
    (await behind)();
    expect([budget.usedBytes, budget.waiting]).toEqual([0, 0]);
  });

  it('the memory budget does not prefer those whose deadline is over', async () => {
    const budget = createMemoryBudget(10);
    const first = budget.tryAcquire(10);
    const served: string[] = [];
    const wait = async (name: string, deadline?: number) => {
      const release = await budget.acquire(10, { deadline }, signal);
      served.push(name);
      release();
    };
    const all = [wait('over', Date.now() - 1), wait('soon', Date.now() + 60_000)];
    first?.();
    await Promise.all(all);
    expect(served).toEqual(['soon', 'over']);
  });

  it('the memory budget serves slow downloads last, and never gives them more than half together', async () => {
    const budget = createMemoryBudget(10);
    const slow = budget.tryAcquire(4, { slow: true });
    expect(budget.tryAcquire(4, { slow: true })).toBeUndefined();
    const held = budget.tryAcquire(6);
    const served: string[] = [];
    const wait = async (name: string, bytes: number, request: MemoryRequest) => {
      const release = await budget.acquire(bytes, request, signal);
      served.push(name);
      return release;
    };
    const behind = wait('slow', 4, { slow: true, deadline: Date.now() + 1000 });
    const far = wait('far', 3, { deadline: Date.now() + 24 * 3_600_000 });
    held?.();
    const release = await far;
    await settle();
    expect([served, budget.usedBytes, budget.waiting]).toEqual([['far'], 7, 1]);
    expect(budget.tryAcquire(3)).toBeDefined();
    slow?.();
    (await behind)();
    release();
    expect(served).toEqual(['far', 'slow']);
  });

  it('the memory budget gives a slow download all that it requests when no other is slow', () => {
    expect(createMemoryBudget(10).tryAcquire(8, { slow: true })).toBeDefined();
  });

  it('the memory budget leaves half of itself to recordings that do not come in parts', async () => {
    const budget = createMemoryBudget(10);
    const first = budget.tryAcquire(4, { inParts: true });
    const waiting = budget.acquire(4, { inParts: true }, signal);
    await settle();
    expect([budget.usedBytes, budget.waiting]).toEqual([4, 1]);
    expect(budget.tryAcquire(6)).toBeDefined();
    first?.();
    await waiting;
    expect([budget.usedBytes, budget.waiting]).toEqual([10, 0]);
  });

  it('the memory budget gives a recording in parts all that it asks for when no other comes in parts', () => {
    expect(createMemoryBudget(10).tryAcquire(8, { inParts: true })).toBeDefined();
  });

  it('what a recording in parts waits for is wanted of others in parts alone, and what all wait for of everybody', async () => {
    const budget = createMemoryBudget(10);
    const [inParts, whole] = [createReservation(budget), createReservation(budget)];
    expect([inParts.tryHold(4, { inParts: true }), whole.tryHold(2, {})]).toEqual([true, true]);
    expect([inParts.isWanted(), whole.isWanted()]).toEqual([false, false]);
    const another = budget.acquire(4, { inParts: true }, signal);
    expect([inParts.isWanted(), whole.isWanted()]).toEqual([true, false]);
    const other = budget.acquire(6, {}, signal);
    expect([inParts.isWanted(), whole.isWanted()]).toEqual([true, true]);
    inParts.release();
    expect(inParts.isWanted()).toBe(false);
    whole.release();
    for (const release of await Promise.all([another, other])) release();
    expect(budget.usedBytes).toBe(0);
  });

  it('the memory budget counts a request larger than itself as all of it', async () => {
    const budget = createMemoryBudget(10);
    const release = await budget.acquire(1000, {}, signal);
    expect(budget.usedBytes).toBe(10);
    release();
    expect(budget.usedBytes).toBe(0);
  });

  it('the memory budget takes a release only once', () => {
    const budget = createMemoryBudget(10);
    const [one, two] = [budget.tryAcquire(5), budget.tryAcquire(5)];
    one?.();
    one?.();
    expect(budget.usedBytes).toBe(5);
    two?.();
    expect(budget.usedBytes).toBe(0);
  });

  it('the memory budget keeps nothing for requests that are cancelled, and serves the next one', async () => {
    const budget = createMemoryBudget(10);
    const held = budget.tryAcquire(5);
    const controller = new AbortController();
    const large = budget.acquire(10, { deadline: 1 }, controller.signal);
    const behind = budget.acquire(5, { deadline: 2 }, signal);
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(large).rejects.toBe(reason);
    const release: Release = await behind;
    expect(budget.usedBytes).toBe(10);
    release();
    held?.();
    expect([budget.usedBytes, budget.waiting]).toEqual([0, 0]);
    await expect(budget.acquire(1, {}, controller.signal)).rejects.toBe(reason);
  });
});
