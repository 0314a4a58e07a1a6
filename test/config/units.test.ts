import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseDuration, parseRate, parseSize } from '../../src/config/parsers.ts';
import { InvalidValue } from '../../src/config/settings.ts';

describe('durations in the configuration', () => {
  test.each<[string, number]>([
    ['0', 0],
    ['0s', 0],
    ['250ms', 250],
    ['30s', 30_000],
    ['1.5s', 1500],
    ['1.1h', 3_960_000],
    ['5m', 300_000],
    ['24h', 86_400_000],
    ['7d', 604_800_000],
    ['2w', 1_209_600_000],
    ['7y', 220_752_000_000],
  ])('the duration %s is read', (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds);
  });

  test.each([
    '',
    '30',
    '1.5',
    's',
    '-5s',
    '+5s',
    '5 s',
    '5S',
    '5M',
    '5sec',
    '1h30m',
    '1e3s',
    '.5s',
    '5.s',
    '0.5ms',
    '99999999999y',
    'Infinity',
    'constructors',
  ])('the duration %j is refused', (text) => {
    expect(() => parseDuration(text)).toThrow(InvalidValue);
  });

  test('a duration comes back as it was written, in every unit', () => {
    const units = { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5, w: 6048e5, y: 31536e6 };
    fc.assert(
      fc.property(fc.nat(200_000), fc.constantFrom(...Object.entries(units)), (count, [unit, factor]) => {
        expect(parseDuration(`${count}${unit}`)).toBe(count * factor);
      }),
    );
  });
});

describe('sizes in the configuration', () => {
  test.each<[string, number]>([
    ['0', 0],
    ['1048576', 1_048_576],
    ['10B', 10],
    ['64KB', 64_000],
    ['64KiB', 65_536],
    ['256MiB', 268_435_456],
    ['256mib', 268_435_456],
    ['1.5GiB', 1_610_612_736],
    ['5TiB', 5_497_558_138_880],
    ['2TB', 2e12],
  ])('the size %s is read', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  test.each(['', 'MiB', '-1', '1 MiB', '1M', '1K', '1.5', '1PB', '1e6', '0x10', '99999999TiB'])(
    'the size %j is refused',
    (text) => {
      expect(() => parseSize(text)).toThrow(InvalidValue);
    },
  );

  test('a size comes back as it was written, in every unit and case', () => {
    const units = {
      '': 1,
      B: 1,
      KB: 1e3,
      MB: 1e6,
      GB: 1e9,
      TB: 1e12,
      KiB: 2 ** 10,
      MiB: 2 ** 20,
      GiB: 2 ** 30,
      tib: 2 ** 40,
    };
    fc.assert(
      fc.property(fc.nat(8000), fc.constantFrom(...Object.entries(units)), (count, [unit, factor]) => {
        expect(parseSize(`${count}${unit}`)).toBe(count * factor);
        expect(parseSize(`${count}${unit.toUpperCase()}`)).toBe(count * factor);
      }),
    );
  });
});

describe('rates in the configuration', () => {
  test.each<[string, number, number]>([
    ['60/60s', 60, 60_000],
    ['60/min', 60, 60_000],
    ['60/1m', 60, 60_000],
    ['1800/h', 1800, 3_600_000],
    ['1800/hour', 1800, 3_600_000],
    ['5/s', 5, 1000],
    ['1/250ms', 1, 250],
  ])('the rate %s is read', (text, calls, windowMs) => {
    expect(parseRate(text)).toEqual({ calls, windowMs });
  });

  test.each([
    '',
    '60',
    '60/',
    '/60s',
    '0/60s',
    '60/0',
    '60/0s',
    '60/60',
    '-1/s',
    '1.5/s',
    '60 / 60s',
    '60/60s/2',
  ])('the rate %j is refused', (text) => {
    expect(() => parseRate(text)).toThrow(InvalidValue);
  });

  test('a rate comes back as it was written', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e6 }), fc.integer({ min: 1, max: 1e6 }), (calls, seconds) => {
        expect(parseRate(`${calls}/${seconds}s`)).toEqual({ calls, windowMs: seconds * 1000 });
      }),
    );
  });
});

test('the parsers return a sane number or refuse, whatever the text', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[\d.]{1,12}[a-zA-Z/]{0,4}$/)), (text) => {
      for (const parse of [parseDuration, parseSize, (given: string) => parseRate(given).windowMs]) {
        try {
          const number = parse(text);
          expect(Number.isSafeInteger(number) && number >= 0).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(InvalidValue);
        }
      }
    }),
  );
});
