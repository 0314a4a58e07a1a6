import { describe, expect, it } from 'vitest';
import { createGuardedLookup, isPublicAddress, parseDestination } from '../../src/transfer/ssrf.ts';
import { HOSTILE_ADDRESSES, HOSTILE_NAMES } from '../support/hostile-hosts.ts';

const HOSTS = ['kore.ai', 'korebots.com', 'amazonaws.com'];
const STRICT = { hosts: HOSTS, allowPrivate: false, privateHosts: [] };

function refusalOf(
  url: string,
  policy: { hosts: readonly string[]; allowPrivate: boolean; privateHosts: readonly string[] } = STRICT,
): unknown {
  try {
    return parseDestination(url, policy);
  } catch (error) {
    return error;
  }
}

describe('allowed and refused URLs', () => {
  it.each(HOSTILE_ADDRESSES)('the address %s is refused, even if it is listed as a host', (literal) => {
    const url = `https://${literal}/recording?s=secret`;
    const { hostname } = new URL(url);
    const listed = {
      hosts: [hostname, hostname.replace(/^\[|\]$/g, '')],
      allowPrivate: false,
      privateHosts: [],
    };
    for (const policy of [STRICT, listed]) {
      expect(refusalOf(url, policy)).toMatchObject({
        code: 'RECORDING_HOST_NOT_ALLOWED',
        retryable: false,
        message: expect.not.stringContaining('secret'),
      });
    }
  });

  it.each(HOSTILE_NAMES)('the host %j is refused', (authority) => {
    expect(refusalOf(`https://${authority}/recording?s=secret`)).toMatchObject({
      code: 'RECORDING_HOST_NOT_ALLOWED',
      message: expect.not.stringContaining('secret'),
    });
  });

  it.each([
    'http://media.kore.ai/x',
    'file:///etc/passwd',
    'ftp://media.kore.ai/x',
    'data:audio/wav;base64,AAAA',
    'javascript:alert(1)',
    'https:media.kore.ai/x',
    'https:///media.kore.ai/x',
    '//media.kore.ai/x',
    ' https://media.kore.ai/x',
    'https://media.kore.ai/x\r\nhost: evil.example',
    'media.kore.ai/x',
    '',
  ])('the URL %j is refused', (url) => {
    expect(refusalOf(url)).toMatchObject({ code: 'RECORDING_HOST_NOT_ALLOWED' });
  });

  it('the error for a private address names what is wrong with it, not the list of hosts', () => {
    const policy = { hosts: ['127.0.0.1'], allowPrivate: false, privateHosts: [] };
    expect(refusalOf('https://0x7f.1/x', policy)).toMatchObject({
      message: expect.stringContaining('127.0.0.1 is not on the public internet'),
    });
  });

  it.each([
    ['https://kore.ai/x', 'https://kore.ai'],
    ['https://Smartassist.KORE.ai/x', 'https://smartassist.kore.ai'],
    ['HTTPS://kore.ai./x', 'https://kore.ai'],
    ['https://kore.ai.:8443/x', 'https://kore.ai:8443'],
    ['https://agentassist-az.korebots.com:8443/x', 'https://agentassist-az.korebots.com:8443'],
    ['https://bucket.s3.eu-central-1.amazonaws.com/x', 'https://bucket.s3.eu-central-1.amazonaws.com'],
  ])('the URL %s is allowed', (url, origin) => {
    expect(parseDestination(url, STRICT).origin).toBe(origin);
  });

  it('listed loopback addresses and plain http are allowed only where private media is', () => {
    const policy = { hosts: ['127.0.0.1', '::1'], allowPrivate: true, privateHosts: [] };
    expect(parseDestination('http://127.0.0.1:8123/x', policy).origin).toBe('http://127.0.0.1:8123');
    expect(parseDestination('http://[::1]:8123/x', policy).origin).toBe('http://[::1]:8123');
    expect(refusalOf('http://127.0.0.2/x', policy)).toMatchObject({ code: 'RECORDING_HOST_NOT_ALLOWED' });
  });

  it('a private host is allowed by its exact name', () => {
    const policy = { hosts: HOSTS, allowPrivate: false, privateHosts: ['media.internal.example'] };
    expect(parseDestination('https://media.internal.example/x', policy).host).toBe('media.internal.example');
    expect(refusalOf('https://x.media.internal.example/x', policy)).toMatchObject({
      code: 'RECORDING_HOST_NOT_ALLOWED',
      retryable: true,
      host: 'x.media.internal.example',
      hint: expect.stringContaining('KORE_MEDIA_HOSTS'),
    });
    expect(refusalOf('http://media.internal.example/x', policy)).toMatchObject({ retryable: false });
  });

  it('path and query are kept byte for byte', () => {
    const target = "/a/../b//%7Ec;d'e/x?e=1&n=a%2fb&s=QUJD+/==$$&t=%zz|{}";
    expect(parseDestination(`https://kore.ai${target}#fragment`, STRICT)).toMatchObject({
      target,
      path: "/a/../b//%7Ec;d'e/x",
    });
    expect(parseDestination('https://kore.ai?s=1', STRICT)).toMatchObject({ target: '/?s=1', path: '/' });
  });

  it('only what no request line can carry is encoded', () => {
    expect(parseDestination('https://kore.ai/a b/ü.wav?x=ä %20', STRICT).target).toBe(
      '/a%20b/%C3%BC.wav?x=%C3%A4%20%20',
    );
  });
});

describe('resolved addresses', () => {
  it.each(['8.8.8.8', '52.216.0.1', '2600:1f18::1', '::ffff:8.8.8.8', '64:ff9b::8.8.8.8'])(
    '%s is a public address',
    (address) => {
      expect(isPublicAddress(address)).toBe(true);
    },
  );

  it.each(['127.0.0.1', 'fe80::1%lo', '::127.0.0.1', 'fd00::1', '2002:808:808::1', 'kore.ai', ''])(
    '%j is no public address',
    (address) => {
      expect(isPublicAddress(address)).toBe(false);
    },
  );

  function lookUp(
    answers: readonly string[],
    options: { all?: boolean },
    privateHosts: readonly string[] = [],
  ): Promise<unknown> {
    const lookup = createGuardedLookup({ allowPrivate: false, privateHosts }, async () =>
      answers.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    );
    return new Promise((resolve) => {
      lookup('media.kore.ai', options, (error, address) => resolve(error ?? address));
    });
  }

  it('public addresses are passed on in either form that sockets ask for', async () => {
    expect(await lookUp(['8.8.8.8', '2600::1'], {})).toBe('8.8.8.8');
    expect(await lookUp(['8.8.8.8', '2600::1'], { all: true })).toEqual([
      { address: '8.8.8.8', family: 4 },
      { address: '2600::1', family: 6 },
    ]);
  });

  it('a name with one private address among public ones is refused', async () => {
    const refusal = {
      code: 'RECORDING_HOST_NOT_ALLOWED',
      message: expect.stringContaining('media.kore.ai'),
      retryable: true,
      host: 'media.kore.ai',
      hint: expect.stringContaining('KORE_PRIVATE_MEDIA_HOSTS'),
    };
    expect(await lookUp(['8.8.8.8', '10.0.0.1'], { all: true })).toMatchObject(refusal);
    expect(await lookUp(['8.8.8.8', '10.0.0.1'], {})).toMatchObject(refusal);
    expect(await lookUp(['::1'], { all: true })).toMatchObject(refusal);
  });

  it.each(['10.0.0.1', '192.168.1.1', '100.64.0.1', '127.0.0.1', 'fd12::1'])(
    'a name for %s is allowed where the very name is listed as private',
    async (address) => {
      expect(await lookUp([address, '8.8.8.8'], {}, ['media.kore.ai'])).toBe(address);
      expect(await lookUp([address], {}, ['kore.ai'])).toMatchObject({ code: 'RECORDING_HOST_NOT_ALLOWED' });
    },
  );

  it.each(['169.254.169.254', 'fd00:ec2::254', '100.100.100.200', 'fe80::1', '0.0.0.0', '224.0.0.1', '::'])(
    'a name for %s is never allowed, even if it is listed',
    async (address) => {
      expect(await lookUp([address], {}, ['media.kore.ai'])).toMatchObject({
        code: 'RECORDING_HOST_NOT_ALLOWED',
      });
    },
  );

  it('a name without addresses fails', async () => {
    expect(await lookUp([], { all: true })).toBeInstanceOf(Error);
  });
});
