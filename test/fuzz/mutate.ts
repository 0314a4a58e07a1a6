/** Changes made to sound input, such as come from broken or hostile senders. */

import type { Random } from '../support/random.ts';

const NUMBERS = ['-1', '0', '1e308', '99999999999999999999', '-0', '1e-400', 'NaN', '2147483648', '0x7f'];
const FRAGMENTS = [
  '"',
  '\\',
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  'null',
  '\u0000',
  '\u001b[2J',
  '\u202e',
  '\ufeff',
  '\r\n',
  '../',
  '%00',
  '<script>',
  '$(id)',
  '__proto__',
  'é',
  '\ud800',
];

/** The input with one to a few changes. Now and then something in it becomes very long or very deep. */
export function mutate(random: Random, input: string): string {
  let text = input;
  for (let left = 1 + random.below(4); left > 0; left -= 1) text = change(random, text);
  return text;
}

/** The same for bytes. */
export function mutateBytes(random: Random, input: Buffer): Buffer {
  let bytes = Buffer.from(input);
  for (let left = 1 + random.below(4); left > 0; left -= 1) {
    const at = random.below(bytes.length + 1);
    switch (random.below(5)) {
      case 0:
        if (bytes.length > 0) bytes[at % bytes.length] = random.below(256);
        break;
      case 1:
        bytes = bytes.subarray(0, at);
        break;
      case 2:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          random.bytes(1 + random.below(64)),
          bytes.subarray(at),
        ]);
        break;
      case 3:
        if (bytes.length >= 4)
          bytes.writeUInt32LE(random.pick([0, 1, 0x7fffffff, 0xffffffff]), at % (bytes.length - 3));
        break;
      default:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(random.below(bytes.length + 1))]);
    }
  }
  return bytes;
}

function change(random: Random, text: string): string {
  const at = random.below(text.length + 1);
  const to = Math.min(text.length, at + random.below(20));
  const before = text.slice(0, at);
  const dice = quickDice(random);
  const choose = <Item>(items: readonly Item[]) => items[Math.floor(dice() * items.length)] as Item;
  switch (random.below(9)) {
    case 0:
      return before;
    case 1:
      return before + text.slice(to);
    case 2:
      return before + random.pick(FRAGMENTS) + text.slice(at);
    case 3:
      return before + text.slice(at, to).repeat(1 + random.below(50)) + text.slice(to);
    case 4:
      return text.replace(/\d+/g, (number) => (dice() < 0.2 ? choose(NUMBERS) : number));
    case 5:
      return before + random.bytes(random.below(32)).toString('latin1') + text.slice(at);
    case 6: {
      const long = random.pick([
        '.',
        'a',
        'a.',
        '/',
        '&e=1',
        '%41',
        '{"a":',
        '[',
        ' ',
        '\\u0041',
        'eyJ.',
        '😀',
      ]);
      return random.chance(0.2) ? before + long.repeat(random.below(100_000)) + text.slice(at) : text;
    }
    case 7:
      return text.replace(/true|false|null|"[^"]*"/g, (value) =>
        dice() < 0.1 ? choose(['null', '{}', '[]', '7', '""']) : value,
      );
    default:
      return text.replace(/"[^"]*"(?=:)/g, (name) =>
        dice() < 0.1 ? choose(['"__proto__"', '"x"', '""']) : name,
      );
  }
}

/** Numbers from 0 to below 1: there may be a hundred thousand places to decide on, which must cost next to nothing. */
function quickDice(random: Random): () => number {
  let state = random.bytes(4).readUInt32LE();
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
