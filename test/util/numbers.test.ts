import { describe, expect, it } from 'vitest';
import { boundedNumber, boundedTime, clampMs, parseRetryAfter } from '../../src/util/numbers.ts';

const HOUR_MS = 3_600_000;

describe('numbers from outside', () => {
  it.each([
    [-1, 0],
    [0, 0],
    [1500, 1500],
    [10 * 365 * 24 * HOUR_MS, HOUR_MS],
    [Number.POSITIVE_INFINITY, HOUR_MS],
    [Number.NaN, undefined],
  ])('a pause of %d ms becomes %s', (asked, clamped) => {
    expect(clampMs(asked)).toBe(clamped);
  });

  it.each([
    ['0', 0],
    ['44', 44],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
    ['9007199254740992', undefined],
    ['9'.repeat(400), undefined],
    ['-1', undefined],
    ['1e3', undefined],
    ['0x10', undefined],
    [' 1', undefined],
    ['', undefined],
    [undefined, undefined],
  ])('the text %j is the number %s', (text, number) => {
    expect(boundedNumber(text)).toBe(number);
  });

  it('a moment outside the calendar has no date', () => {
    expect(boundedTime(Date.UTC(2025, 1, 12))).toBe(Date.UTC(2025, 1, 12));
    expect([boundedTime(8.64e15), boundedTime(-1), boundedTime(Number.NaN)]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });

  const NOW = Date.UTC(2025, 1, 12, 11, 24, 42);
  it.each([
    ['0', 0],
    ['120', 120_000],
    [' 7 ', 7000],
    ['315360000', HOUR_MS],
    ['9'.repeat(60), HOUR_MS],
    ['9'.repeat(400), undefined],
    ['Wed, 12 Feb 2025 11:25:42 GMT', 60_000],
    ['Wed, 12 Feb 2025 11:00:00 GMT', 0],
    ['Mon, 12 Feb 2035 11:24:42 GMT', HOUR_MS],
    ['Wed, 99 Feb 99999999 11:24:42 GMT', undefined],
    ['soon', undefined],
    ['', undefined],
    [undefined, undefined],
  ])('Retry-After: %s asks for %s ms', (header, milliseconds) => {
    expect(parseRetryAfter(header, NOW)).toBe(milliseconds);
  });
});
