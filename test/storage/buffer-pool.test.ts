import { expect, test } from 'vitest';
import { createBufferPool } from '../../src/storage/s3/multipart.ts';

const KB = 1024;

test('the buffer pool hands out released memory again, in the requested size', () => {
  const pool = createBufferPool(1024 * KB);
  const first = pool.take(480_000);
  expect(first).toHaveLength(480_000);
  pool.give(first);
  const second = pool.take(470_000);
  expect(second).toHaveLength(470_000);
  expect(second.buffer).toBe(first.buffer);
  expect(pool.take(470_000).buffer).not.toBe(first.buffer);
});

test('the buffer pool gives a small body no memory for a large one', () => {
  const pool = createBufferPool(1024 * KB);
  const large = pool.take(640 * KB);
  pool.give(large);
  expect(pool.take(64 * KB).buffer).not.toBe(large.buffer);
  expect(pool.take(640 * KB).buffer).toBe(large.buffer);
});

test('the buffer pool keeps no more than its limit', () => {
  const pool = createBufferPool(128 * KB);
  const [one, two, three] = [pool.take(64 * KB), pool.take(64 * KB), pool.take(64 * KB)];
  for (const buffer of [one, two, three]) pool.give(buffer);
  const again = [1, 2, 3].map(() => pool.take(64 * KB).buffer);
  expect(again.slice(0, 2)).toEqual([one.buffer, two.buffer]);
  expect(again[2]).not.toBe(three.buffer);
});

test('the buffer pool accepts no bytes and more than a step as well', () => {
  const pool = createBufferPool(0);
  expect(pool.take(0)).toHaveLength(0);
  expect(pool.take(64 * KB + 1)).toHaveLength(64 * KB + 1);
});
