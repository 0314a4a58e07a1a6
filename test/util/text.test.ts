import { describe, expect, it } from 'vitest';
import { createLogger } from '../../src/util/log.ts';
import { redact, registerSecret } from '../../src/util/redact.ts';
import { escapeControls, forTerminal, printable } from '../../src/util/text.ts';

const SIGNATURE = 'IldYeks0dFNacGtWbjJicGpNNU5KL0ZNUWtWZVhUQm9yelFMeVk2SDdkcWM9';

describe('printable text', () => {
  it.each([
    ['C0 controls', 'a\u0000b\u0007\tc\r\nd', 'a b c d'],
    ['escapes', '\u001b[2J\u001b]0;title\u0007x', '[2J ]0;title x'],
    ['C1 controls', 'a\u009b31mb\u0085c', 'a 31mb c'],
    ['overrides', 'cod\u202egpj.exe\u2066', 'cod gpj.exe'],
    ['half a surrogate pair', 'a\ud800b', 'a b'],
    ['letters of any script', 'Ähre 録音 🎙', 'Ähre 録音 🎙'],
  ])('printable text is made of %s', (_what, text, expected) => {
    expect(printable(text)).toBe(expected);
  });

  it('printable text is short, and never cut within a character', () => {
    expect(printable('🎙'.repeat(10), 5)).toBe('🎙🎙🎙🎙…');
    expect(printable('x'.repeat(1_000_000))).toHaveLength(200);
  });

  it('printable text has no half of a token where it was cut', () => {
    const token = `eyJhbGciOiJIUzI1NiJ9.${'a'.repeat(9_000)}.sig`;
    expect(printable(`${'x'.repeat(150)} ${token}`, 200)).not.toContain('aaaa');
    expect(printable(`${'x'.repeat(4_190)} ${token}`, 200)).not.toContain('eyJ');
  });
});

describe('redaction', () => {
  it.each([
    [
      'the query of a URL',
      `see https://a.kore.ai/x.wav?e=1&s=${SIGNATURE} now`,
      'see https://a.kore.ai/x.wav?[redacted] now',
    ],
    ['a fragment', 'https://a.kore.ai/x#token', 'https://a.kore.ai/x?[redacted]'],
    ['a URL behind what is none', '://redis://u:pass@host/?x=1', '://redis://[redacted]@host/?[redacted]'],
    ['a password', 'redis://user:pa@ss@host:6379/0', 'redis://[redacted]@host:6379/0'],
    ['a password with odd characters', 'postgres://u:p?a#ss@host/db', 'postgres://[redacted]@host/db'],
    ['several URLs', 'a://b?c d://e:f@g', 'a://b?[redacted] d://[redacted]@g'],
    ['a URL in JSON', '{"u":"https://a.b/c?d=e\\"f"}', '{"u":"https://a.b/c?[redacted]\\"f"}'],
    ['a signature without its URL', `name.wav?e=1&s=${SIGNATURE}`, 'name.wav?e=1&s=[redacted]'],
    ['a signature alone', `s=${SIGNATURE}`, 's=[redacted]'],
    ['an encoded signature', `u=x%3Fe%3D1%26s%3D${SIGNATURE}`, 'u=x%3Fe%3D1%26s%3D[redacted]'],
    ['an Amazon signature', `X-Amz-Signature=${'0f'.repeat(32)}`, 'X-Amz-Signature=[redacted]'],
    ['an Azure signature', 'p?sv=1&sig=abc%3D&se=2', 'p?sv=1&sig=[redacted]&se=2'],
    ['a recording', 'data:audio/wav;base64,UklGRiQAAABXQVZF', 'data:audio/wav;base64,[redacted]'],
    ['a token', 'auth eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2ln.', 'auth [redacted].'],
    ['half a token', 'auth eyJhbGciOiJIUzI1NiJ9.eyJh', 'auth [redacted]'],
    ['nothing of other texts', 'status=ok s=1 n=2 a://b/c key=value', 'status=ok s=1 n=2 a://b/c key=value'],
  ])('redaction removes %s', (_what, text, expected) => {
    expect(redact(text)).toBe(expected);
  });

  it('redaction removes the longest of several secrets, of which one is the beginning of another', () => {
    // They stay secrets of this process, so that no other test's text may hold them.
    registerSecret('strawberry');
    registerSecret('strawberry-parasol');
    registerSecret('strawberry-para');
    expect(redact('a strawberry-parasol, a strawberry')).toBe('a [redacted], a [redacted]');
  });
});

describe('text for a terminal', () => {
  it('text for a terminal keeps its lines, and no control characters', () => {
    expect(forTerminal('a\tb\n\u001b[2Jc\r\u009bd\u202ee\u0007')).toBe('a\tb\n�[2Jc��d�e�');
    expect(forTerminal('Ähre 録音 🎙')).toBe('Ähre 録音 🎙');
  });
});

describe('a line of the log', () => {
  it('a line of the log has no effect on a terminal, and says the same', () => {
    const lines: string[] = [];
    const odd = '\u001b[2J\u009b31m\u202e\u2066\u0085\u2028\ufeff';
    createLogger('info', (line) => lines.push(line)).info({ odd }, odd);

    const [line = ''] = lines;
    expect(line.trimEnd()).toMatch(/^[\x20-\x7e]*$/);
    expect(JSON.parse(line)).toMatchObject({ odd, msg: odd });
    expect(escapeControls('"\u202e"')).toBe('"\\u202e"');
  });
});
