import { expect, test } from 'vitest';
import { createFallbacks } from '../../src/storage/s3/fallbacks.ts';

const TEN_MINUTES = 10 * 60_000;

test('a request that the fast path could not send is tried on it again after some minutes', () => {
  let now = 0;
  const fallbacks = createFallbacks(undefined, undefined, () => now);
  for (let time = 1; time <= 3; time += 1) {
    expect(fallbacks.isLeftToSdk('GET')).toBe(false);
    fallbacks.happened({ method: 'GET', reason: '404' }, true);
  }
  expect(fallbacks.isLeftToSdk('GET')).toBe(true);
  expect(fallbacks.isLeftToSdk('PUT')).toBe(false);
  now = TEN_MINUTES;
  expect(fallbacks.isLeftToSdk('GET')).toBe(false);
});

test('passing faults, other reasons and successes in between do not disable the fast path', () => {
  const fallbacks = createFallbacks(undefined, undefined);
  for (let time = 1; time <= 20; time += 1) {
    fallbacks.happened({ method: 'GET', reason: 'ECONNRESET' }, false);
    fallbacks.happened({ method: 'GET', reason: '404' }, true);
    fallbacks.happened({ method: 'GET', reason: '403' }, true);
    fallbacks.happened({ method: 'PUT', reason: '400' }, true);
    fallbacks.happened({ method: 'PUT', reason: '400' }, true);
    fallbacks.fulfilled('PUT');
  }
  expect(fallbacks.isLeftToSdk('GET')).toBe(false);
  expect(fallbacks.isLeftToSdk('PUT')).toBe(false);
});
