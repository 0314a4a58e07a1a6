import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type RequestListener, request, type Server } from 'node:http';
import { createServer as createTlsServer, request as tlsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createKoreClient } from '../../src/kore/client.ts';
import { createS3Store } from '../../src/storage/s3/store.ts';
import {
  createDispatcher,
  createProxyAgents,
  type ProxySettings,
  proxyFaultText,
  proxyFor,
} from '../../src/util/http-proxy.ts';
import { createLogger } from '../../src/util/log.ts';
import { startProxy, type TestProxyOptions } from '../support/http-proxy.ts';
import { openTestBucket, PLAIN_S3 } from '../support/s3.ts';
import { startS3Proxy } from '../support/s3-proxy.ts';
import { bodyOf, bytesOf, sha256 } from '../support/storage-bodies.ts';

const read = (name: string) => readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8');
/** For all names below proxied.test, and for s3-proxied, without a dot as fauxqs takes what is before one for a bucket. */
const tls = { cert: read('tls-proxied.crt'), key: read('tls-proxied.key') };
const trusted = getCACertificates('default');
beforeAll(() => setDefaultCACertificates([...trusted, tls.cert]));
afterAll(() => setDefaultCACertificates(trusted));

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(async () => {
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  });
  return (server.address() as AddressInfo).port;
}

const hello: RequestListener = (incoming, outgoing) => {
  outgoing.end(`${incoming.headers.host} ${incoming.url}`);
};

async function openProxy(options: TestProxyOptions) {
  const proxy = await startProxy(options);
  cleanups.push(() => proxy.close());
  return proxy;
}

describe('the choice of a proxy', () => {
  const proxy: ProxySettings = { http: 'http://plain:1', https: 'http://secure:2' };

  test('the proxy of a request is chosen by the scheme, one for each or for one alone', () => {
    expect(proxyFor('http://a.example/x', proxy)).toBe('http://plain:1');
    expect(proxyFor('https://a.example/x', proxy)).toBe('http://secure:2');
    expect(proxyFor('https://a.example/x', { http: 'http://plain:1' })).toBeUndefined();
    expect(proxyFor('https://a.example/x', undefined)).toBeUndefined();
  });

  test.each<[string, string, boolean]>([
    ['*', 'https://a.example', true],
    ['b.example, *', 'https://a.example', true],
    ['a.example', 'https://a.example', true],
    ['A.Example', 'https://a.example', true],
    ['a.example.', 'https://a.example', true],
    ['a.example', 'https://a.example.', true],
    ['a.example', 'https://x.a.example', true],
    ['.a.example', 'https://x.y.a.example', true],
    ['.a.example', 'https://a.example', true],
    ['*.a.example', 'https://x.a.example', true],
    ['b.example c.example,,a.example', 'https://a.example', true],
    ['a.example', 'https://ba.example', false],
    ['a.example', 'https://a.example.org', false],
    ['x.a.example', 'https://a.example', false],
    ['.', 'https://a.example', false],
    ['', 'https://a.example', false],
    ['a.example:443', 'https://a.example', true],
    ['a.example:8443', 'https://a.example:8443', true],
    ['a.example:8443', 'https://a.example', false],
    ['10.1.2.3', 'https://10.1.2.3', true],
    ['10.1.2.3', 'https://110.1.2.3', false],
    ['10.0.0.0/8', 'https://10.1.2.3:9000', true],
    ['10.0.0.0/8', 'https://11.1.2.3', false],
    ['10.0.0.0/99', 'https://10.1.2.3', false],
    ['0.0.0.0/0', 'https://a.example', false],
    ['::1', 'https://[::1]', true],
    ['[::1]', 'https://[::1]:8443', true],
    ['[::1]:8443', 'https://[::1]', false],
    ['fd00::/8', 'https://[fd12::1]', true],
    ['fd00::/8', 'https://[fe12::1]', false],
  ])('NO_PROXY=%s is applied to %s', (noProxy, url, isDirect) => {
    expect(proxyFor(url, { ...proxy, noProxy })).toBe(isDirect ? undefined : 'http://secure:2');
  });
});

describe('undici’s requests', () => {
  test('undici’s requests go through the proxy by names that only it resolves: https through a tunnel, http forwarded', async () => {
    const secure = await listen(createTlsServer(tls, hello));
    const plain = await listen(createServer(hello));
    const proxy = await openProxy({
      credentials: 'user:secret',
      routes: { 'a.proxied.test:443': secure, 'b.proxied.test:80': plain },
    });
    const dispatcher = createDispatcher({ allowH2: false }, { http: proxy.url, https: proxy.url });
    cleanups.push(() => dispatcher.destroy());
    const ask = async (origin: string) =>
      (await dispatcher.request({ origin, path: '/x?y=%20z', method: 'GET' })).body.text();
    expect(await ask('https://a.proxied.test')).toBe('a.proxied.test /x?y=%20z');
    expect(await ask('http://b.proxied.test')).toBe('b.proxied.test /x?y=%20z');
    expect(await ask('https://a.proxied.test')).toBe('a.proxied.test /x?y=%20z');
    expect(proxy.requests).toEqual(['CONNECT a.proxied.test:443', 'GET http://b.proxied.test/x?y=%20z']);
  });

  test('undici’s requests go directly where NO_PROXY says so', async () => {
    const plain = await listen(createServer(hello));
    const proxy = await openProxy({ routes: {} });
    const dispatcher = createDispatcher({}, { http: proxy.url, noProxy: '127.0.0.0/8' });
    cleanups.push(() => dispatcher.destroy());
    const { body } = await dispatcher.request({
      origin: `http://127.0.0.1:${plain}`,
      path: '/',
      method: 'GET',
    });
    expect(await body.text()).toBe(`127.0.0.1:${plain} /`);
    expect(proxy.requests).toEqual([]);
  });

  test.each(['https://a.proxied.test', 'http://a.proxied.test'])(
    'undici’s requests fail at once, with the reason, where the proxy wants a password (%s)',
    async (origin) => {
      const proxy = await openProxy({ credentials: 'user:secret', routes: {} });
      const url = proxy.url.replace('user:secret@', '');
      const dispatcher = createDispatcher({}, { http: url, https: url });
      cleanups.push(() => dispatcher.destroy());
      const failure = await dispatcher.request({ origin, path: '/', method: 'GET' }).then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(proxyFaultText(failure)).toBe('the proxy answered 407; give user and password in its URL');
    },
  );

  test('undici’s requests fail where there is no proxy', async () => {
    const proxy = await startProxy({ routes: {} });
    await proxy.close();
    const dispatcher = createDispatcher({}, { https: proxy.url });
    cleanups.push(() => dispatcher.destroy());
    await expect(
      dispatcher.request({ origin: 'https://a.proxied.test', path: '/', method: 'GET' }),
    ).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });
});

describe('Node’s agents', () => {
  test('Node’s agents go through the proxy, over connections that are kept', async () => {
    const secure = await listen(createTlsServer(tls, hello));
    const plain = await listen(createServer(hello));
    const proxy = await openProxy({
      credentials: 'user:secret',
      routes: { 'a.proxied.test:8443': secure, 'b.proxied.test:80': plain },
    });
    const { httpAgent, httpsAgent } = createProxyAgents(proxy.url, { keepAlive: true });
    cleanups.push(async () => {
      httpAgent.destroy();
      httpsAgent.destroy();
    });
    const ask = async (sent: ReturnType<typeof request>) => {
      sent.end();
      const [answer] = await once(sent, 'response');
      return text(answer);
    };
    for (let round = 0; round < 2; round += 1) {
      expect(await ask(tlsRequest('https://a.proxied.test:8443/x', { agent: httpsAgent }))).toBe(
        'a.proxied.test:8443 /x',
      );
      expect(await ask(request('http://b.proxied.test/x', { agent: httpAgent }))).toBe('b.proxied.test /x');
    }
    expect(proxy.requests).toEqual([
      'CONNECT a.proxied.test:8443',
      'GET http://b.proxied.test/x',
      'GET http://b.proxied.test/x',
    ]);
  });

  test('Node’s agents never return a proxy’s refusal as the server’s answer', async () => {
    const proxy = await openProxy({ routes: {} });
    const { httpsAgent } = createProxyAgents(proxy.url, {});
    const sent = tlsRequest('https://a.proxied.test/', { agent: httpsAgent }).end();
    const [failure] = await once(sent, 'error');
    expect(failure).toMatchObject({ code: 'ERR_PROXY_TUNNEL' });
    expect(proxyFaultText(failure)).toBe('the proxy answered 502');
  });
});

test('Kore’s API is reached through the proxy', async () => {
  const body = JSON.stringify({ code: 404, message: 'Session not found' });
  const kore = await listen(createTlsServer(tls, (_, outgoing) => outgoing.writeHead(404).end(body)));
  const proxy = await openProxy({ routes: { 'kore.proxied.test:443': kore } });
  const client = createKoreClient({
    config: {
      baseUrl: 'https://kore.proxied.test',
      botId: 'st-1',
      clientId: 'cs-1',
      clientSecret: 'a-secret-of-the-app',
      accountId: undefined,
      rateLimit: { calls: 60, windowMs: 60_000 },
      maxAnswerBytes: 2 ** 20,
      retentionMs: undefined,
      proxy: { https: proxy.url },
    },
    limit: { acquire: async () => undefined, pause: async () => undefined },
    log: createLogger('silent'),
  });
  cleanups.push(() => client.close());
  const session = { botId: 'st-1', sessionId: '67aa38026e199c8f470e0001' };
  await expect(client.fetchVoicemail(session, 'live', new AbortController().signal)).rejects.toMatchObject({
    code: 'SESSION_NOT_FOUND',
  });
  expect(proxy.requests).toEqual(['CONNECT kore.proxied.test:443']);
});

describe('the bucket', () => {
  const never = new AbortController().signal;
  const PART = 5 * 1024 * 1024;

  test.each(['https', 'http'] as const)('the bucket is reached through the proxy (%s)', async (scheme) => {
    const server = await openTestBucket();
    cleanups.push(() => server.close());
    const front = await startS3Proxy(server.endpoint, undefined, scheme === 'https' ? tls : undefined);
    cleanups.push(() => front.close());
    const { port } = new URL(front.endpoint);
    const proxy = await openProxy({ routes: { [`s3-proxied:${port}`]: Number(port) } });
    const { region, credentials, bucket } = server;
    const store = createS3Store(
      { kind: 's3', bucket, prefix: 'p', s3: { ...PLAIN_S3, proxy: { http: proxy.url, https: proxy.url } } },
      { connection: { endpoint: `${scheme}://s3-proxied:${port}`, region, credentials } },
    );
    cleanups.push(() => store.close());
    const bytes = bytesOf(PART + 1000);
    const key = "a (1)/it's $+&.wav";
    await store.writeStream(key, bodyOf(bytes), { contentType: 'audio/wav' }, 'replace', never);
    await store.check(never);
    expect(sha256(await server.getObject(`p/${key}`))).toBe(sha256(bytes));
    expect(proxy.requests[0]).toMatch(
      scheme === 'https' ? `CONNECT s3-proxied:${port}` : `http://s3-proxied:${port}/`,
    );
  });

  test('the bucket is unavailable, not denied, where the proxy answers 403', async () => {
    const proxy = await openProxy({ credentials: 'user:secret', routes: {} });
    const https = proxy.url.replace('user:secret@', '');
    const store = createS3Store(
      { kind: 's3', bucket: 'voicemails', prefix: '', s3: { ...PLAIN_S3, proxy: { https } } },
      {
        connection: {
          endpoint: 'https://s3-proxied',
          region: 'us-east-1',
          credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
        },
      },
    );
    cleanups.push(() => store.close());
    await expect(store.check(never)).rejects.toMatchObject({
      code: 'ARCHIVE_UNAVAILABLE',
      hint: expect.stringContaining('HTTPS_PROXY'),
    });
  });
});
