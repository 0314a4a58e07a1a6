import { describe, expect, it } from 'vitest';
import { createMemoryBudget, type Release } from '../src/transfer/memory.ts';

const { signal } = new AbortController();

/** Lets everything run that is ready to run. */
const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

describe('the memory budget', () => {
  it('serves the earliest deadline first, and in order of arrival where they are equal', async () => {
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

  it('never hands out more than it has, and lets nobody overtake a large request', async () => {
    const budget = createMemoryBudget(10);
    const small = budget.tryAcquire(4);
    const large = budget.acquire(8, { deadline: 1 }, signal);
    expect(budget.tryAcquire(1)).toBeUndefined();
    let late = false;
    const behind = budget.acquire(1, { deadline: 2 }, signal).then((release) => {
      late = true;
      return release;
    });
    await settle();
    expect([budget.usedBytes, budget.waiting, late]).toEqual([4, 2, false]);
    small?.();
    for (const release of [await large, await behind]) release();
    expect([budget.usedBytes, budget.waiting]).toEqual([0, 0]);
  });

  it('counts a request larger than itself as all of it', async () => {
    const budget = createMemoryBudget(10);
    const release = await budget.acquire(1000, {}, signal);
    expect(budget.usedBytes).toBe(10);
    release();
    expect(budget.usedBytes).toBe(0);
  });

  it('takes a release only once', () => {
    const budget = createMemoryBudget(10);
    const [one, two] = [budget.tryAcquire(5), budget.tryAcquire(5)];
    one?.();
    one?.();
    expect(budget.usedBytes).toBe(5);
    two?.();
    expect(budget.usedBytes).toBe(0);
  });

  it('keeps nothing for who gives up, and serves who stood behind', async () => {
    const budget = createMemoryBudget(10);
    const held = budget.tryAcquire(5);
    const patience = new AbortController();
    const large = budget.acquire(10, { deadline: 1 }, patience.signal);
    const behind = budget.acquire(5, { deadline: 2 }, signal);
    const reason = new Error('enough');
    patience.abort(reason);
    await expect(large).rejects.toBe(reason);
    const release: Release = await behind;
    expect(budget.usedBytes).toBe(10);
    release();
    held?.();
    expect([budget.usedBytes, budget.waiting]).toEqual([0, 0]);
    await expect(budget.acquire(1, {}, patience.signal)).rejects.toBe(reason);
  });
});
