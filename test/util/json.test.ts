import { describe, expect, it } from 'vitest';
import { MAX_JSON_DEPTH, MAX_JSON_VALUES, parseJson, scanJson } from '../../src/util/json.ts';

/** So many levels of arrays and objects. */
const nested = (levels: number, inside = '1') =>
  '{"a":['.repeat(levels / 2) + inside + ']}'.repeat(levels / 2);

describe('JSON from outside', () => {
  it.each(['null', '"a"', '{"a":[1,{"b":"\\"[{\\\\"}],"__proto__":{"c":2}}', ' [ ] ', '-1.5e3'])(
    'the JSON text %s is read as it is',
    (text) => {
      expect(JSON.stringify(parseJson(text))).toBe(JSON.stringify(JSON.parse(text)));
    },
  );

  it.each(['', '{', '{"a":1', 'nope', '<html>', '{"a":"\\', '"', ']]]]', '{"a":1}}', '"\\\\\\"'])(
    '%j is no JSON',
    (text) => {
      expect(parseJson(text)).toBeUndefined();
    },
  );

  it.each(['9007199254740993', '-12345678901234567890', '0.1234567890123456789', '1e999', '1E-400'])(
    'JSON from outside keeps %s digit for digit',
    (number) => {
      expect(JSON.stringify(parseJson(`{"a":[${number}],"b":"${number}"}`))).toBe(
        `{"a":[${number}],"b":"${number}"}`,
      );
    },
  );

  it('JSON from outside has numbers for what fits into them', () => {
    expect(parseJson('[12345678901234567890, 1234567890123456, 0.5, 1.0, 1e3]')).toEqual([
      expect.any(Object),
      1234567890123456,
      0.5,
      1,
      1000,
    ]);
  });

  it('JSON of the greatest depth is a value, and beyond that its innermost part is text', () => {
    expect(scanJson(nested(MAX_JSON_DEPTH)).tooDeep).toEqual([]);
    expect(JSON.stringify(parseJson(nested(MAX_JSON_DEPTH)))).toBe(nested(MAX_JSON_DEPTH));

    const [before, after] = nested(MAX_JSON_DEPTH, ' ').split(' ');
    expect(JSON.stringify(parseJson(nested(MAX_JSON_DEPTH, '{"b":"\\"}"},[7],8')))).toBe(
      `${before}${JSON.stringify('{"b":"\\"}"}')},"[7]",8${after}`,
    );
  });

  it('JSON with more values than can be read in a moment is not read', () => {
    const list = (count: number) => `[${'{},'.repeat(count - 1)}{}]`;
    expect(parseJson(list(50_000))).toHaveLength(50_000);
    expect(parseJson(list(MAX_JSON_VALUES))).toBeUndefined();
    expect(parseJson(list(MAX_JSON_VALUES), 4 * MAX_JSON_VALUES)).toHaveLength(MAX_JSON_VALUES);
    expect(parseJson(JSON.stringify({ data: list(MAX_JSON_VALUES) }))).toBeDefined();
  });

  it.each([5_000, 100_000, 1_000_000])('JSON %i levels deep exhausts no stack', (levels) => {
    const text = JSON.stringify(parseJson(nested(levels)));
    expect(text.length).toBeGreaterThan(nested(levels).length);
    expect(parseJson('['.repeat(levels))).toBeUndefined();
  });
});
