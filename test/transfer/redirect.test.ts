import { describe, expect, it } from 'vitest';
import { resolveRedirect } from '../../src/transfer/media-http.ts';

const FROM = 'https://media.kore.ai/a/b%2Fc/voicemail.wav?e=1&s=ab%2F';

describe('a redirect', () => {
  it.each([
    ['https://other.kore.ai/x/../y?s=a%2fb$$', 'https://other.kore.ai/x/../y?s=a%2fb$$'],
    ['//other.kore.ai/x/../y|z?s={a}', 'https://other.kore.ai/x/../y|z?s={a}'],
    ["/x/%7E/./y?s='a'&n=%2f%2F", "https://media.kore.ai/x/%7E/./y?s='a'&n=%2f%2F"],
    ['next.wav?s=a%2fb', 'https://media.kore.ai/a/b%2Fc/next.wav?s=a%2fb'],
    ['./next.wav', 'https://media.kore.ai/a/b%2Fc/next.wav'],
    ['../../../next/../x?s=../y', 'https://media.kore.ai/next/../x?s=../y'],
    ['..', 'https://media.kore.ai/a/'],
    ['?s=%2f', 'https://media.kore.ai/a/b%2Fc/voicemail.wav?s=%2f'],
    // UTF-8 as it comes in a header, one character a byte.
    ['/gr\xc3\xbc\xc3\x9fe?n=\xfc', 'https://media.kore.ai/gr%C3%BC%C3%9Fe?n=%FC'],
    ['file:///etc/passwd', 'file:///etc/passwd'],
  ])('a redirect to %s is followed byte for byte', (location, address) => {
    expect(resolveRedirect(location, FROM)).toBe(address);
  });

  it('a redirect from a host without a path is followed', () => {
    expect(resolveRedirect('x', 'https://kore.ai?a=1')).toBe('https://kore.ai/x');
  });
});
