import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { S3Config } from '../../src/config/config.ts';
import type { S3Connection } from '../../src/storage/s3/client.ts';
import type { Fallback } from '../../src/storage/s3/fallbacks.ts';
import { createS3Store } from '../../src/storage/s3/store.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import { createLogger } from '../../src/util/log.ts';
import { NEEDS_REAL_S3, openTestBucket, PLAIN_S3, REAL_S3, type TestBucket } from '../support/s3.ts';
import {
  type InjectedFault,
  type S3Proxy,
  type SeenRequest,
  type Stage,
  startS3Proxy,
} from '../support/s3-proxy.ts';
import { bodyOf, bytesOf, sha256 } from '../support/storage-bodies.ts';

const WAV = { contentType: 'audio/wav' };
const never = new AbortController().signal;
const RECORDING = bytesOf(100_000);
const FIRST = bytesOf(10);
const KEYS = { accessKeyId: 'key', secretAccessKey: 'secret' };

let server: TestBucket;
beforeAll(async () => {
  server = await openTestBucket();
});
afterAll(() => server.close());

/** A store that has read and written an object, so that it knows the way, and what it sends from now on. */
async function openWarm(
  decide: (request: SeenRequest) => InjectedFault | undefined = () => undefined,
  more: S3Connection = {},
): Promise<{
  store: ArchiveStore;
  sent: () => readonly SeenRequest[];
  prefix: string;
  fallbacks: readonly Fallback[];
  lines: readonly string[];
}> {
  let warm = false;
  const proxy: S3Proxy = await startS3Proxy(server.endpoint, (request) => (warm ? decide(request) : 'pass'));
  const { region, credentials, bucket } = server;
  const prefix = `warm-${crypto.randomUUID()}`;
  const fallbacks: Fallback[] = [];
  const lines: string[] = [];
  const store = createS3Store(
    { kind: 's3', bucket, prefix, s3: PLAIN_S3 },
    {
      connection: { endpoint: proxy.endpoint, region, credentials, ...more },
      onFallback: (fallback) => fallbacks.push(fallback),
      logger: createLogger('info', (line) => lines.push(line)),
    },
  );
  onTestFinished(async () => {
    await store.close();
    await proxy.close();
  });
  await store.write('first.json', FIRST, WAV, 'absent', never);
  await store.read('first.json', never);
  await store.names('', never);
  warm = true;
  const before = proxy.seen.length;
  return { store, prefix, sent: () => proxy.seen.slice(before), fallbacks, lines };
}

/** Whether the SDK sent it: it numbers its requests. */
function bySdk({ headers }: { readonly headers: IncomingHttpHeaders }): boolean {
  return 'amz-sdk-invocation-id' in headers;
}

async function keysBelow(prefix: string): Promise<string[]> {
  const keys = (await server.listObjects()).filter((key) => key.startsWith(`${prefix}/`));
  return keys.map((key) => key.slice(prefix.length + 1)).filter((key) => key !== 'first.json');
}

describe('the fast path', () => {
  test('the fast path writes and reads without the SDK whatever the key', async () => {
    const { store, sent, prefix } = await openWarm();
    const keys = [
      "a b/ü&+=~!'()*,;:@$.wav",
      'bot_id=st-1/date=2026-01-02/session_id=x/audio.wav',
      '100%/%41?#.wav',
    ];
    for (const key of keys) {
      expect(await store.writeStream(key, bodyOf(RECORDING), WAV, 'replace', never)).toBe('stored');
      expect(await store.read(key, never)).toEqual(RECORDING);
      expect(await store.read(`${key}.json`, never)).toBeUndefined();
    }
    expect(sent().filter(bySdk)).toEqual([]);
    expect(await keysBelow(prefix)).toEqual(keys.toSorted());
    for (const key of keys)
      expect(sha256(await server.getObject(`${prefix}/${key}`))).toBe(sha256(RECORDING));
  });

  test.for<[string, InjectedFault]>([
    ['answers 500', { status: 500, code: 'InternalError' }],
    ['answers 503', { status: 503, code: 'SlowDown' }],
    ['finds the bytes damaged', { status: 400, code: 'XAmzContentSHA256Mismatch' }],
    ['drops the request', 'drop request'],
    ['drops the answer', 'drop answer'],
    ['tells of its failure below a status of 200', { status: 200, code: 'InternalError' }],
    ['is answered for by something else', 'page'],
  ])('the fast path stores an object once and whole when the store %s once', async ([, fault]) => {
    const { store, sent, prefix } = await openWarm(onceAt('put', fault));
    expect(await store.writeStream('a.wav', bodyOf(RECORDING), WAV, 'absent', never)).toMatch(
      /stored|exists/,
    );
    expect(sha256(await server.getObject(`${prefix}/a.wav`))).toBe(sha256(RECORDING));
    expect(await keysBelow(prefix)).toEqual(['a.wav']);
    const puts = sent().filter(({ stage }) => stage === 'put');
    expect(puts.map(bySdk).slice(0, 2)).toEqual([false, true]);
  });

  test('the fast path lists the names below a directory without the SDK', async () => {
    const { store, sent } = await openWarm();
    const names = ["a b/ü&+=~!'()*,;:@$.wav", 'manifest.json', '<100%>.wav'];
    for (const name of names) await store.write(`d=1/x y/${name}`, FIRST, WAV, 'replace', never);
    await store.write('d=1/x yz/other.wav', FIRST, WAV, 'replace', never);
    expect(await store.names('d=1/x y/', never)).toEqual(new Set(names));
    expect(await store.names('d=1/x/', never)).toEqual(new Set());
    expect(sent().filter(bySdk)).toEqual([]);
  });

  test('a listing that is answered with something else is requested again', async () => {
    const { store, sent } = await openWarm(onceAt('list', 'page'));
    expect(await store.names('', never)).toEqual(new Set(['first.json']));
    expect(sent().map(bySdk)).toEqual([false, true]);
  });

  test.for<[string, InjectedFault]>([
    ['answers 503', { status: 503, code: 'SlowDown' }],
    ['answers 404 for another reason', { status: 404, code: 'NoSuchThing' }],
    ['drops the answer', 'drop answer'],
  ])('a check is repeated when the store %s to it once', async ([, fault]) => {
    const { store, sent } = await openWarm(onceAt('get', fault));
    expect(await store.read('first.json', never)).toEqual(FIRST);
    expect(sent().map(bySdk)).toEqual([false, true]);
  });

  test.for<[string, InjectedFault]>([
    ['answers 500', { status: 500, code: 'InternalError' }],
    ['answers 503', { status: 503, code: 'SlowDown' }],
    ['drops requests', 'drop request'],
    ['tells of its failure below a status of 200', { status: 200, code: 'InternalError' }],
    ['is answered for by something else', 'page'],
  ])('a store that %s to each write is unavailable, and holds nothing', async ([, fault]) => {
    const decide = ({ stage }: SeenRequest) => (stage === 'put' ? fault : 'pass');
    const { store, prefix } = await openWarm(decide, { maxAttempts: 2 });
    const written = store.writeStream('a.wav', bodyOf(RECORDING), WAV, 'absent', never);
    await expect(written).rejects.toMatchObject({ code: 'ARCHIVE_UNAVAILABLE', retryable: true });
    expect(await keysBelow(prefix)).toEqual([]);
  });

  test('each request that the SDK has to send again is reported, and each cause logged once', async () => {
    const faults = ['SlowDown', 'SlowDown', 'InternalError', 'InternalError'];
    const { store, fallbacks, lines } = await openWarm((request) => {
      if (bySdk(request)) return 'pass';
      const code = faults.shift();
      return code === undefined ? 'pass' : { status: code === 'SlowDown' ? 503 : 500, code };
    });
    for (const key of ['a', 'b', 'c', 'd']) await store.write(key, RECORDING, WAV, 'replace', never);
    expect(fallbacks.map(({ method, reason }) => `${method} ${reason}`)).toEqual([
      'PUT 503',
      'PUT 503',
      'PUT 500',
      'PUT 500',
    ]);
    expect(lines.filter((line) => line.includes('left to the SDK'))).toHaveLength(2);
  });

  test.for<[string, Stage, InjectedFault, (store: ArchiveStore, key: string) => Promise<unknown>]>([
    [
      'says in words of its own that there is no object',
      'get',
      { status: 404, code: 'NoSuchObject' },
      (store) => store.read('nothing.json', never),
    ],
    [
      'names no ETag of what it has stored',
      'put',
      'blank answer',
      (store, key) => store.write(key, FIRST, WAV, 'replace', never),
    ],
  ])('a store that %s is left to the SDK from the fourth time on', async ([, stage, fault, ask]) => {
    const decide = (request: SeenRequest) => (request.stage === stage && !bySdk(request) ? fault : 'pass');
    const { store, sent, fallbacks } = await openWarm(decide);
    for (let time = 1; time <= 6; time += 1) await ask(store, `${time}.json`);
    const asked = sent().filter((request) => request.stage === stage);
    expect(asked.map(bySdk)).toEqual([false, true, false, true, false, true, true, true, true]);
    expect(fallbacks).toHaveLength(3);
  });

  test.skipIf(!REAL_S3)(
    `a store without conditional writes costs one more request, once (${NEEDS_REAL_S3})`,
    async () => {
      const decide = ({ stage, headers }: SeenRequest): InjectedFault =>
        stage === 'put' && headers['if-none-match'] !== undefined
          ? { status: 501, code: 'NotImplemented' }
          : 'pass';
      const { store, sent, fallbacks } = await openWarm(decide, { maxAttempts: 1 });
      for (const key of ['a', 'b', 'c']) {
        expect(await store.write(key, RECORDING, WAV, 'absent', never)).toBe('stored');
      }
      const puts = sent().filter(({ stage }) => stage === 'put');
      expect(puts.map(bySdk)).toEqual([false, true, false, false, false]);
      expect(fallbacks).toEqual([{ method: 'PUT', reason: '501' }]);
    },
  );

  test.skipIf(!REAL_S3)(`the fast path replaces a version without the SDK (${NEEDS_REAL_S3})`, async () => {
    const { store, sent } = await openWarm();
    const { version = '' } = (await store.readVersion('first.json', never)) ?? {};
    expect(await store.write('first.json', RECORDING, WAV, { over: version }, never)).toBe('stored');
    const put = sent().find(({ stage }) => stage === 'put');
    expect(put?.headers['if-match']).toBe(version);
    expect(put && bySdk(put)).toBe(false);
    expect(await store.read('first.json', never)).toEqual(RECORDING);
  });

  test('an object that breaks off in the middle is requested again', async () => {
    const { store, sent, fallbacks } = await openWarm(onceAt('get', 'half answer'));
    expect(await store.read('first.json', never)).toEqual(FIRST);
    expect(sent().map(bySdk)).toEqual([false, true]);
    expect(fallbacks).toHaveLength(1);
  });

  test.for<[string, InjectedFault, string]>([
    ['denies', { status: 403, code: 'AccessDenied' }, 'ARCHIVE_DENIED'],
    ['has lost its bucket', { status: 404, code: 'NoSuchBucket' }, 'ARCHIVE_DENIED'],
  ])('a store that %s from then on fails with its code', async ([, fault, code]) => {
    const { store } = await openWarm(() => fault);
    const body = bodyOf(RECORDING);
    await expect(store.writeStream('a.wav', body, WAV, 'absent', never)).rejects.toMatchObject({ code });
    await expect(store.read('a.wav', never)).rejects.toMatchObject({ code });
  });

  test.skipIf(!REAL_S3)(`the fast path never overwrites an object (${NEEDS_REAL_S3})`, async () => {
    const { store } = await openWarm();
    await store.write('a.wav', RECORDING, WAV, 'absent', never);
    expect(await store.write('a.wav', RECORDING, WAV, 'absent', never)).toBe('exists');
    const other = store.write('a.wav', bytesOf(99), WAV, 'absent', never);
    await expect(other).rejects.toMatchObject({ code: 'ARCHIVE_CONFLICT' });
    expect(await store.read('a.wav', never)).toEqual(RECORDING);
  });

  test.skipIf(!REAL_S3)(
    `the server verifies the bytes that the fast path sends (${NEEDS_REAL_S3})`,
    async () => {
      const { store, sent, prefix } = await openWarm(onceAt('put', 'damage'));
      expect(await store.write('a.wav', RECORDING, WAV, 'absent', never)).toBe('stored');
      expect(sha256(await server.getObject(`${prefix}/a.wav`))).toBe(sha256(RECORDING));
      expect(sent()).toHaveLength(2);
    },
  );

  test('the fast path stores nothing when it is cancelled', async () => {
    const stop = new AbortController();
    const { store, sent, prefix } = await openWarm(({ stage }) => {
      if (stage !== 'put') return 'pass';
      stop.abort(new Error('enough'));
      return 'hang';
    });
    await expect(store.write('a.wav', RECORDING, WAV, 'absent', stop.signal)).rejects.toThrow('enough');
    expect(sent().filter(({ stage }) => stage === 'put')).toHaveLength(1);
    expect(await keysBelow(prefix)).toEqual([]);
  });

  test('the fast path stops checking when it is cancelled', async () => {
    const stop = new AbortController();
    const { store, sent } = await openWarm(() => {
      stop.abort(new Error('enough'));
      return 'hang';
    });
    await expect(store.read('first.json', stop.signal)).rejects.toThrow('enough');
    expect(sent()).toHaveLength(1);
  });
});

test('an object of unknown length is read no further than the limit', async () => {
  const { url, seen } = await startListener((outgoing) => outgoing.write('a'.repeat(20_000)));
  const store = createS3Store(
    { kind: 's3', bucket: 'voicemail', prefix: '', s3: PLAIN_S3 },
    { connection: { endpoint: url, region: 'eu-central-1', credentials: KEYS } },
  );
  onTestFinished(() => store.close());
  for (let time = 1; time <= 2; time += 1) {
    await expect(store.read('a.json', never, 10_000)).rejects.toMatchObject({ code: 'ARCHIVE_CONFLICT' });
  }
  expect(seen.map(bySdk)).toEqual([true, false, true]);
});

describe('requests of the fast path', () => {
  /** What belongs to one request alone, or tells that the SDK sent it. */
  const ITS_OWN = /^(authorization|x-amz-date|amz-sdk-.*|connection)$/;

  test.for<[string, Partial<S3Config>, S3Connection]>([
    ['nothing configured', {}, {}],
    ['checksums only where required', {}, { requestChecksumCalculation: 'WHEN_REQUIRED' }],
    [
      'all that can be',
      {
        sse: 'aws:kms',
        kmsKeyId: 'arn:aws:kms:eu-central-1:111122223333:key/1',
        storageClass: 'STANDARD_IA',
        tags: 'team=calls&for=audit',
        expectedBucketOwner: '111122223333',
      },
      {},
    ],
    ['temporary credentials', {}, { credentials: { ...KEYS, sessionToken: 'a-session-token' } }],
  ])('the fast path sends what the SDK would have sent with %s', async ([, settings, connection]) => {
    const { url, seen } = await startListener();
    const store = createS3Store(
      { kind: 's3', bucket: 'voicemail', prefix: 'p', s3: { ...PLAIN_S3, ...settings } },
      { connection: { endpoint: url, region: 'eu-central-1', credentials: KEYS, ...connection } },
    );
    onTestFinished(() => store.close());
    for (let time = 1; time <= 2; time += 1) await store.write('a b/é.wav', RECORDING, WAV, 'replace', never);
    const [first, second] = seen;
    expect(seen.map(bySdk)).toEqual([true, false]);
    expect(second?.url?.split('?')[0]).toBe(first?.url?.split('?')[0]);
    const said = (headers: IncomingHttpHeaders = {}) =>
      Object.fromEntries(Object.entries(headers).filter(([name]) => !ITS_OWN.test(name)));
    expect(said(second?.headers)).toEqual(said(first?.headers));
    expect(Object.keys(said(second?.headers))).toContain('x-amz-content-sha256');
  });

  test('the fast path is not used where each object has a lock that ends at a time of its own', async () => {
    const { url, seen } = await startListener();
    const objectLock = { mode: 'GOVERNANCE', retainMs: 86_400_000 } as const;
    const store = createS3Store(
      { kind: 's3', bucket: 'voicemail', prefix: '', s3: { ...PLAIN_S3, objectLock } },
      { connection: { endpoint: url, region: 'eu-central-1', credentials: KEYS } },
    );
    onTestFinished(() => store.close());
    for (let time = 1; time <= 2; time += 1) await store.write('a.wav', RECORDING, WAV, 'replace', never);
    expect(seen.map(bySdk)).toEqual([true, true]);
  });

  test('the fast path signs with the current credentials', async () => {
    const { url, seen } = await startListener();
    let keys = 0;
    const store = createS3Store(
      { kind: 's3', bucket: 'voicemail', prefix: '', s3: PLAIN_S3 },
      {
        connection: {
          endpoint: url,
          region: 'eu-central-1',
          // Expired as soon as they are given out, so that the SDK asks again each time.
          credentials: async () => ({ ...KEYS, accessKeyId: `key-${++keys}`, expiration: new Date() }),
        },
      },
    );
    onTestFinished(() => store.close());
    for (let time = 1; time <= 3; time += 1) await store.write('a.wav', RECORDING, WAV, 'replace', never);
    expect(seen.map(bySdk)).toEqual([true, false, false]);
    const signedBy = seen.map(({ headers }) => /Credential=([^/]+)/.exec(headers.authorization ?? '')?.[1]);
    expect(new Set(signedBy).size).toBe(3);
  });
});

interface Heard {
  readonly url: string | undefined;
  readonly headers: IncomingHttpHeaders;
}

/** A server that records requests and answers 200. */
async function startListener(
  answer: (outgoing: ServerResponse) => void = () => undefined,
): Promise<{ url: string; seen: readonly Heard[] }> {
  const seen: Heard[] = [];
  const listener = createServer(async (incoming, outgoing) => {
    await text(incoming);
    seen.push({ url: incoming.url, headers: incoming.headers });
    outgoing.writeHead(200, { etag: '"1"' });
    answer(outgoing);
    outgoing.end();
  }).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  onTestFinished(async () => {
    listener.closeAllConnections();
    listener.close();
    await once(listener, 'close');
  });
  return { url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`, seen };
}

/** Once at the first request of a kind. */
function onceAt(at: Stage, fault: InjectedFault): (request: SeenRequest) => InjectedFault {
  let met = false;
  return ({ stage }) => {
    if (met || stage !== at) return 'pass';
    met = true;
    return fault;
  };
}
