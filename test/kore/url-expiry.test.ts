import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { urlExpiry } from '../../src/kore/url-expiry.ts';

const HOST = 'https://media.kore.ai/a.wav';

describe('urlExpiry', () => {
  test.each<[string, string | undefined]>([
    [`${HOST}?e=1739359482&n=3757551799&s=IldYeks0dFNac$$`, '2025-02-12T11:24:42.000Z'],
    [`${HOST}?s=a=b&e=1739359482`, '2025-02-12T11:24:42.000Z'],
    [`${HOST}?e=1739359482123`, '2025-02-12T11:24:42.123Z'],
    [`${HOST}?X-Amz-Date=20250212T112442Z&X-Amz-Expires=900&X-Amz-Signature=ab`, '2025-02-12T11:39:42.000Z'],
    [`${HOST}?x-amz-date=20250212T112442Z&X-AMZ-EXPIRES=0`, '2025-02-12T11:24:42.000Z'],
    [`${HOST}?X-Amz-Date=20240229T000000Z&X-Amz-Expires=1`, '2024-02-29T00:00:01.000Z'],
    [`${HOST}?AWSAccessKeyId=AK&Expires=1739359482&Signature=ab%2Bc`, '2025-02-12T11:24:42.000Z'],
    [`${HOST}?Expires=1739359482&Signature=x&Key-Pair-Id=K`, '2025-02-12T11:24:42.000Z'],
    // The earliest, where there are several.
    [`${HOST}?Expires=1739359482&e=1739359481`, '2025-02-12T11:24:41.000Z'],
    [`${HOST}?e=1739359482&e=1739359480`, '2025-02-12T11:24:40.000Z'],
    // Nonsense and absence.
    [HOST, undefined],
    [`${HOST}?`, undefined],
    [`${HOST}?e=`, undefined],
    [`${HOST}?e=soon`, undefined],
    [`${HOST}?e=0`, undefined],
    [`${HOST}?e=-1739359482`, undefined],
    [`${HOST}?e=1739359482.5`, undefined],
    [`${HOST}?e=1e9`, undefined],
    [`${HOST}?e=99999999999999999999`, undefined],
    [`${HOST}?E=1739359482`, undefined],
    [`${HOST}?expires=1739359482`, undefined],
    [`${HOST}?see=1739359482`, undefined],
    [`${HOST}#?e=1739359482`, undefined],
    [`${HOST}?X-Amz-Date=20250212T112442Z`, undefined],
    [`${HOST}?X-Amz-Expires=900`, undefined],
    [`${HOST}?X-Amz-Date=20250231T112442Z&X-Amz-Expires=900`, undefined],
    [`${HOST}?X-Amz-Date=20251301T112442Z&X-Amz-Expires=900`, undefined],
    [`${HOST}?X-Amz-Date=20250212T246060Z&X-Amz-Expires=900`, undefined],
    [`${HOST}?X-Amz-Date=2025-02-12T11:24:42Z&X-Amz-Expires=900`, undefined],
    [`${HOST}?X-Amz-Date=20250212T112442Z&X-Amz-Expires=-1`, undefined],
    ['', undefined],
    ['not a url?e=1739359482', '2025-02-12T11:24:42.000Z'],
  ])('urlExpiry reads the expiry of %s', (url, expected) => {
    expect(urlExpiry(url)?.toISOString()).toBe(expected);
  });

  test('urlExpiry takes the earliest of hundreds of thousands of parameters', () => {
    const many = Array.from({ length: 500_000 }, () => 'e=1739359482').join('&');
    expect(urlExpiry(`${HOST}?${many}&e=1739359480`)?.toISOString()).toBe('2025-02-12T11:24:40.000Z');
  });

  test('urlExpiry finds no expiry in a data: URI', () => {
    expect(urlExpiry('data:audio/wav,?e=1739359482')).toBeUndefined();
  });

  /** Any UTF-16, halves of characters included. */
  const anyText = fc.array(fc.nat(0xffff)).map((units) => String.fromCharCode(...units));

  test('urlExpiry accepts any text, and returns a valid time or none', () => {
    const query = fc.array(
      fc.tuple(fc.constantFrom('e', 'Expires', 'X-Amz-Date', 'x-amz-expires', 's'), anyText),
    );
    const url = query.map((pairs) => `${HOST}?${pairs.map(([name, value]) => `${name}=${value}`).join('&')}`);
    fc.assert(
      fc.property(fc.oneof(anyText, url), (text) => {
        const expiry = urlExpiry(text);
        expect(expiry === undefined || !Number.isNaN(expiry.getTime())).toBe(true);
      }),
    );
  });

  test('urlExpiry reads every time that is written into a URL, in each of its forms, amid other parameters', () => {
    const seconds = fc.integer({ min: 1_000_000_000, max: 4_000_000_000 });
    const noise = fc.stringMatching(/^(?:[a-df-z]{1,5}=[A-Za-z0-9$%+=]{0,20}&)?$/);
    fc.assert(
      fc.property(
        seconds,
        fc.integer({ min: 0, max: 604_800 }),
        noise,
        noise,
        (time, lifetime, before, after) => {
          const signed = new Date((time - lifetime) * 1000).toISOString().replace(/[-:]|\.000/g, '');
          for (const form of [
            `e=${time}`,
            `e=${time}000`,
            `Expires=${time}`,
            `X-Amz-Date=${signed}&X-Amz-Expires=${lifetime}`,
          ]) {
            expect(urlExpiry(`${HOST}?${before}${form}&${after}`)?.getTime()).toBe(time * 1000);
          }
        },
      ),
    );
  });
});
