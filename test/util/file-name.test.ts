import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { presentableFileName } from '../../src/util/file-name.ts';

const FILE_URL =
  'https://media.example/f.wav?id=67ab573f3685d1ba99540000&e=1&sig=A%2BB%2FC%3DDEFGHIJ&s=SECRETSIGNATURE$$';
const shown = (fileName: string, fileUrl = FILE_URL) => presentableFileName({ fileName, fileUrl });

describe('the name of a recording', () => {
  it.each([
    ['f.wav?n=2&s=SECRETSIGNATURE$$', 'f.wav'],
    ['f.wav?other=1', 'f.wav'],
    ['f-SECRETSIGNATURE$$.wav', 'f-'],
    ['f-A+B/C=DEFGHIJ.wav', 'f-'],
    ['f&X-Amz-Signature=0123', 'f'],
    ['s=c2lnbmVk', ''],
    ['voicemail.wav signature=c2lnbmVk', 'voicemail.wav'],
    [FILE_URL, 'https://media.example/f.wav'],
  ])('the name of a recording is shown without parts of a signed query: %s', (fileName, expected) => {
    expect(shown(fileName)).toBe(expected);
  });

  it.each(['what?.wav', 'a&b.wav', 'voicemail_67ab573f3685d1ba99540000.wav', 'size=s=1.wav'])(
    'the name of a recording is shown as it is where it holds no query: %s',
    (fileName) => {
      expect(shown(fileName)).toBe(fileName);
    },
  );

  it('the name of a recording is shown without a token', () => {
    const token = 'eyJhbGciOiJIUzI1NiJ9.eyJhcHBJZCI6ImNzLTEifQ.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg';
    expect(shown(`call ${token}.wav`)).not.toContain(token.slice(-20));
  });

  it('the name of a recording is shown without control, invisible and reordering characters', () => {
    expect(shown(' a\u0000b\u001b[31mc\u009bd\u202ee\u2066\u200d\r\nf.wav ')).toBe('ab[31mcdef.wav');
  });

  it('the name of a recording is shown without a signature that is interrupted by such characters', () => {
    expect(shown('f-SECRET\u200bSIGNATURE$$.wav')).toBe('f-');
  });

  it('the name of a recording is shown at a length that fits a log line, with its end', () => {
    expect(shown(`${'x'.repeat(300_000)}.wav`)).toBe(`${'x'.repeat(1_020)}.wav`);
  });

  it('the shown name of a recording does not depend on others shown before, at the same URL or at others', () => {
    expect(shown('a\u0000.wav')).toBe('a.wav');
    expect(shown('b\u0000.wav')).toBe('b.wav');
    for (let index = 0; index < 200; index += 1) {
      const query = `e=${index}&s=c2lnbmF0dXJl${index}`;
      expect(shown(`c.wav?${query}`, `https://media.example/c.wav?${query}`)).toBe('c.wav');
    }
    expect(shown('a\u0000.wav')).toBe('a.wav');
    expect(shown('c2lnbmF0dXJl7.wav', 'https://media.example/c.wav?e=7&s=c2lnbmF0dXJl7')).toBe('');
    expect(shown('c2lnbmF0dXJl7.wav', 'https://media.example/c.wav?e=8&s=c2lnbmF0dXJl8')).toBe(
      'c2lnbmF0dXJl7.wav',
    );
  });

  it('the shown name of a recording stays the same when it is shown again', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', maxLength: 2_000 }),
        fc.webUrl({ withQueryParameters: true }),
        (name, url) => {
          const once = shown(name, url);
          expect(shown(once, url)).toBe(once);
        },
      ),
    );
  });
});
