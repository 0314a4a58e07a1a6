import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest';
import type { S3Connection } from '../../src/storage/s3/client.ts';
import { isAmazonS3 } from '../../src/storage/s3/conditional-writes.ts';
import { createS3Store, type S3StoreOptions } from '../../src/storage/s3/store.ts';
import type { ArchiveStore, WriteMode } from '../../src/storage/store.ts';
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

const PART = 5 * 1024 * 1024;
const WAV = { contentType: 'audio/wav' };
const never = new AbortController().signal;

let server: TestBucket;
beforeAll(async () => {
  server = await openTestBucket();
});
afterAll(() => server.close());

let number = 0;
const newKey = () => `recording-${++number}.wav`;

/** A store that reaches the server through a proxy of its own, both for as long as the test runs. */
async function through(
  { onTestFinished }: Pick<TestContext, 'onTestFinished'>,
  decide: (request: SeenRequest) => InjectedFault | undefined,
  connection: S3Connection = {},
  options: S3StoreOptions = {},
): Promise<{ store: ArchiveStore; proxy: S3Proxy }> {
  const proxy = await startS3Proxy(server.endpoint, decide);
  const { region, credentials, bucket } = server;
  const store = createS3Store(
    { kind: 's3', bucket, prefix: '', s3: PLAIN_S3 },
    { ...options, connection: { endpoint: proxy.endpoint, region, credentials, ...connection } },
  );
  onTestFinished(async () => {
    await store.close();
    await proxy.close();
  });
  return { store, proxy };
}

const ERRORS: Record<string, InjectedFault> = {
  'answers 500': { status: 500, code: 'InternalError' },
  'answers 503 SlowDown': { status: 503, code: 'SlowDown' },
  'drops the connection': 'drop request',
};

/** Each request that writing takes, and a body that makes it necessary. */
const STAGES: { name: string; stage: Stage; part?: number; bytes: Buffer }[] = [
  { name: 'the start of an upload', stage: 'create', bytes: bytesOf(2 * PART + 100) },
  { name: 'the second part', stage: 'part', part: 2, bytes: bytesOf(2 * PART + 100) },
  { name: 'the completion', stage: 'complete', bytes: bytesOf(2 * PART + 100) },
  { name: 'a single put', stage: 'put', bytes: bytesOf(100_000) },
];

const CASES = STAGES.flatMap((at) => Object.entries(ERRORS).map(([what, fault]) => ({ ...at, what, fault })));

/** What a store says when it did not get the bytes that were sent. */
const DAMAGE = [
  'BadDigest',
  'XAmzContentSHA256Mismatch',
  'XAmzContentChecksumMismatch',
  'IncompleteBody',
  'RequestTimeout',
];

function isBody({ stage }: { stage: Stage }): boolean {
  return stage === 'part' || stage === 'put';
}

function hits(request: SeenRequest, { stage, part }: { stage: Stage; part?: number }): boolean {
  return request.stage === stage && (part === undefined || request.partNumber === part);
}

async function objectAt(key: string): Promise<string | undefined> {
  return (await server.listObjects()).includes(key) ? sha256(await server.getObject(key)) : undefined;
}

async function uploadsAt(key: string): Promise<string[]> {
  return (await server.listMultipartUploads()).filter((other) => other === key);
}

describe.concurrent('a bucket that fails once', () => {
  test.for(CASES)(
    'a bucket that fails once ($what at $name) gets the object from one download',
    async (at, context) => {
      const { store } = await through(context, (request) =>
        hits(request, at) && request.count === 1 ? at.fault : 'pass',
      );
      const key = newKey();
      const body = bodyOf(at.bytes);
      expect(await store.writeStream(key, body, WAV, 'absent', never)).toMatch(/stored|exists/);
      expect(await objectAt(key)).toBe(sha256(at.bytes));
      expect(await uploadsAt(key)).toEqual([]);
    },
  );

  test.for(DAMAGE.flatMap((code) => STAGES.filter(isBody).map((at) => ({ ...at, code }))))(
    'a bucket that gets $name damaged once ($code) gets it again, from one download',
    async (at, context) => {
      const { store } = await through(context, (request) =>
        hits(request, at) && request.count === 1 ? { status: 400, code: at.code } : 'pass',
      );
      const key = newKey();
      expect(await store.writeStream(key, bodyOf(at.bytes), WAV, 'absent', never)).toBe('stored');
      expect(await objectAt(key)).toBe(sha256(at.bytes));
      expect(await uploadsAt(key)).toEqual([]);
    },
  );

  test.for(STAGES)(
    'a bucket that loses its answer to $name once has the object, once and whole',
    async (at, context) => {
      const { store, proxy } = await through(context, (request) =>
        hits(request, at) && request.count === 1 ? 'drop answer' : 'pass',
      );
      const key = newKey();
      expect(await store.writeStream(key, bodyOf(at.bytes), WAV, 'absent', never)).toMatch(/stored|exists/);
      expect(proxy.seen.some((request) => hits(request, at) && request.count > 1)).toBe(true);
      expect(await objectAt(key)).toBe(sha256(at.bytes));
      expect(await uploadsAt(key)).toEqual([]);
    },
  );
});

describe.concurrent('a bucket that keeps failing', () => {
  test.for(CASES)(
    'a bucket that keeps failing ($what at $name) is unavailable, and holds nothing',
    async (at, context) => {
      const { store } = await through(context, (request) => (hits(request, at) ? at.fault : 'pass'), {
        maxAttempts: 2,
      });
      const key = newKey();
      const body = bodyOf(at.bytes);
      await expect(store.writeStream(key, body, WAV, 'absent', never)).rejects.toMatchObject({
        code: 'ARCHIVE_UNAVAILABLE',
        retryable: true,
      });
      expect(body.closed).toBe(true);
      expect(await objectAt(key)).toBeUndefined();
      expect(await uploadsAt(key)).toEqual([]);
    },
  );

  test.for(STAGES)(
    'a server that answers $name with a page is unavailable, and holds nothing',
    async (at, context) => {
      const { store } = await through(context, (request) => (hits(request, at) ? 'page' : 'pass'));
      const key = newKey();
      await expect(store.writeStream(key, bodyOf(at.bytes), WAV, 'absent', never)).rejects.toMatchObject({
        code: 'ARCHIVE_UNAVAILABLE',
        retryable: true,
      });
      expect(await objectAt(key)).toBeUndefined();
      expect(await uploadsAt(key)).toEqual([]);
    },
  );

  test('a bucket that never says what it has stored has the object all the same', async (context) => {
    const { store } = await through(context, ({ stage }) => (stage === 'put' ? 'blank answer' : 'pass'));
    const key = newKey();
    expect(await store.writeStream(key, bodyOf(bytesOf(1000)), WAV, 'replace', never)).toBe('stored');
    expect(await objectAt(key)).toBe(sha256(bytesOf(1000)));
  });

  test.for(STAGES)(
    'a bucket that always loses its answer to $name holds the whole object or nothing',
    async (at, context) => {
      const { store } = await through(context, (request) => (hits(request, at) ? 'drop answer' : 'pass'), {
        maxAttempts: 2,
      });
      const key = newKey();
      const outcome = await store.writeStream(key, bodyOf(at.bytes), WAV, 'absent', never).then(
        (written) => written,
        (error: { code: string }) => error.code,
      );
      expect(['stored', 'exists', 'ARCHIVE_UNAVAILABLE']).toContain(outcome);
      const expected = at.stage === 'complete' || at.stage === 'put' ? sha256(at.bytes) : undefined;
      expect(await objectAt(key)).toBe(expected);
      expect(await uploadsAt(key)).toEqual([]);
    },
  );

  test.for(['absent', 'replace'] as const)(
    'a bucket that gives no upload id is unavailable, keeps what was there and has no upload (%s)',
    async (mode, context) => {
      const { store, proxy } = await through(context, (request) =>
        request.stage === 'create' ? 'blank answer' : 'pass',
      );
      const key = newKey();
      await store.write(key, bytesOf(10), WAV, 'replace', never);
      await expect(
        store.writeStream(key, bodyOf(bytesOf(2 * PART, 2)), WAV, mode, never),
      ).rejects.toMatchObject({ code: 'ARCHIVE_UNAVAILABLE', retryable: true });
      expect(proxy.seen.filter(({ stage }) => stage === 'part')).toEqual([]);
      expect(await objectAt(key)).toBe(sha256(bytesOf(10)));
      expect(await uploadsAt(key)).toEqual([]);
    },
  );

  test('an upload that cannot be removed at first is removed by a second request', async (context) => {
    const { store, proxy } = await through(
      context,
      (request) => {
        if (hits(request, { stage: 'part', part: 2 })) return { status: 500, code: 'InternalError' };
        return request.stage === 'abort' && request.count <= 3 ? 'drop request' : 'pass';
      },
      { maxAttempts: 2 },
    );
    const key = newKey();
    await expect(store.writeStream(key, bodyOf(bytesOf(2 * PART)), WAV, 'absent', never)).rejects.toThrow();
    expect(proxy.seen.filter((request) => request.stage === 'abort').length).toBeGreaterThan(3);
    expect(await uploadsAt(key)).toEqual([]);
  });
});

describe.concurrent('a write that is cancelled', () => {
  /** The stage is not answered any more once it is reached: only the cancelling ends it. */
  test.for(STAGES.filter(({ stage }) => stage === 'part' || stage === 'put'))(
    'a write that is cancelled at $name leaves nothing',
    async (at, context) => {
      const stop = new AbortController();
      const reason = new Error('shutting down');
      const { store } = await through(context, (request) => {
        if (!hits(request, at)) return 'pass';
        stop.abort(reason);
        return 'hang';
      });
      const key = newKey();
      const body = bodyOf(at.bytes);
      await expect(store.writeStream(key, body, WAV, 'absent', stop.signal)).rejects.toBe(reason);
      expect(body.closed).toBe(true);
      expect(await objectAt(key)).toBeUndefined();
      expect(await uploadsAt(key)).toEqual([]);
    },
  );

  test('a write that is cancelled at the start of an upload waits for its answer, to remove the upload', async (context) => {
    const stop = new AbortController();
    const reason = new Error('shutting down');
    const { store, proxy } = await through(context, (request) => {
      if (request.stage === 'create') stop.abort(reason);
      return 'pass';
    });
    const key = newKey();
    await expect(store.writeStream(key, bodyOf(bytesOf(2 * PART)), WAV, 'absent', stop.signal)).rejects.toBe(
      reason,
    );
    expect(proxy.seen.map((request) => request.stage)).toContain('abort');
    expect(await objectAt(key)).toBeUndefined();
    expect(await uploadsAt(key)).toEqual([]);
  });

  test('a write that is cancelled at its completion is completed', async (context) => {
    const stop = new AbortController();
    const { store } = await through(context, (request) => {
      if (request.stage === 'complete') stop.abort(new Error('shutting down'));
      return 'pass';
    });
    const key = newKey();
    const bytes = bytesOf(2 * PART);
    expect(await store.writeStream(key, bodyOf(bytes), WAV, 'absent', stop.signal)).toBe('stored');
    expect(await objectAt(key)).toBe(sha256(bytes));
    expect(await uploadsAt(key)).toEqual([]);
  });

  test.for(['create', 'part', 'complete'] as const)(
    'a write that is cancelled gives up in time on a bucket that answers nothing any more, and logs it: %s',
    { timeout: 15_000 },
    async (stage, context) => {
      const stop = new AbortController();
      const reason = new Error('shutting down');
      const lines: string[] = [];
      const { store } = await through(
        context,
        (request) => {
          if (request.stage === stage) stop.abort(reason);
          return stop.signal.aborted ? 'hang' : 'pass';
        },
        {},
        { cleanUpMs: 400, logger: createLogger('warn', (line) => lines.push(line)) },
      );
      await expect(
        store.writeStream(newKey(), bodyOf(bytesOf(2 * PART)), WAV, 'absent', stop.signal),
      ).rejects.toBe(reason);
      expect(lines.join()).toContain('may be left in the bucket');
    },
  );

  test('a write that is cancelled during the pause between tries ends at once', async (context) => {
    const stop = new AbortController();
    const reason = new Error('shutting down');
    const { store } = await through(context, (request) => {
      if (request.stage !== 'put') return 'pass';
      queueMicrotask(() => stop.abort(reason));
      return { status: 503, code: 'SlowDown' };
    });
    await expect(store.write(newKey(), bytesOf(10), WAV, 'absent', stop.signal)).rejects.toBe(reason);
  });
});

describe('conditional writes', () => {
  const write = (store: ArchiveStore, key: string, bytes: Buffer, mode: WriteMode = 'absent') =>
    store.writeStream(key, bodyOf(bytes), WAV, mode, never);
  const SIZES: [string, number][] = [
    ['a single put', 1000],
    ['an upload in parts', PART + 1],
  ];

  test('conditional writes are tested with a small object, never with a recording', async (context) => {
    const { store, proxy } = await through(context, () => 'pass');
    await write(store, newKey(), bytesOf(100_000));
    expect(proxy.seen.filter(({ stage }) => stage === 'put')).toHaveLength(1);
  });

  test('a conditional write that conflicts with another one is sent again', async (context) => {
    const { store, proxy } = await through(context, (request) =>
      request.stage === 'put' && request.count <= 2
        ? { status: 409, code: 'ConditionalRequestConflict' }
        : 'pass',
    );
    const key = newKey();
    expect(await write(store, key, bytesOf(1000))).toBe('stored');
    expect(proxy.seen.filter((request) => request.stage === 'put').length).toBeGreaterThanOrEqual(3);
    expect(await objectAt(key)).toBe(sha256(bytesOf(1000)));
  });

  test.for(SIZES)(
    'a conditional write that conflicts for ever is unavailable: %s',
    async ([_name, length], context) => {
      const { store } = await through(context, (request) =>
        request.headers['if-none-match'] ? { status: 409, code: 'ConditionalRequestConflict' } : 'pass',
      );
      const key = newKey();
      await expect(write(store, key, bytesOf(length))).rejects.toMatchObject({ code: 'ARCHIVE_UNAVAILABLE' });
      expect(await objectAt(key)).toBeUndefined();
      expect(await uploadsAt(key)).toEqual([]);
    },
  );

  test.for(SIZES)(
    'conditional writes that the store does not know are replaced by a check before the write: %s',
    async ([_name, length], context) => {
      const { store } = await through(context, (request) =>
        request.headers['if-none-match'] ? { status: 501, code: 'NotImplemented' } : 'pass',
      );
      const key = newKey();
      expect(await write(store, key, bytesOf(length, 1))).toBe('stored');
      expect(await write(store, key, bytesOf(length, 1))).toBe('exists');
      await expect(write(store, key, bytesOf(length, 2))).rejects.toMatchObject({ code: 'ARCHIVE_CONFLICT' });
      expect(await objectAt(key)).toBe(sha256(bytesOf(length, 1)));
      expect(await uploadsAt(key)).toEqual([]);
    },
  );

  test.skipIf(!REAL_S3)(
    `conditional writes need no check once the store has shown that it supports them (without: ${NEEDS_REAL_S3})`,
    async (context) => {
      const { store, proxy } = await through(context, () => 'pass');
      await write(store, newKey(), bytesOf(1000));
      const before = proxy.seen.length;
      await write(store, newKey(), bytesOf(1000));
      expect(proxy.seen.slice(before).map((request) => request.stage)).toEqual(['put']);
    },
  );
});

test.for([
  ['s3.amazonaws.com', true],
  ['bucket.s3.eu-central-1.amazonaws.com', true],
  ['bucket.s3.cn-north-1.amazonaws.com.cn', true],
  ['bucket.vpce-1-2.s3.us-east-1.vpce.amazonaws.com', true],
  ['minio.internal', false],
  ['amazonaws.com.example.org', false],
  ['notamazonaws.com', false],
  ['127.0.0.1', false],
] as const)('the host %s is known to support conditional writes: %s', ([host, known]) => {
  expect(isAmazonS3(host)).toBe(known);
});

describe.skipIf(!REAL_S3)(`bytes that are damaged on their way (${NEEDS_REAL_S3})`, () => {
  test.for([undefined, 'WHEN_REQUIRED'] as const)(
    'bytes that are damaged every time are refused with AWS_REQUEST_CHECKSUM_CALCULATION=%s',
    async (checksums, context) => {
      const connection: S3Connection = checksums ? { requestChecksumCalculation: checksums } : {};
      for (const stage of ['put', 'part'] as const) {
        const { store } = await through(
          context,
          (request) => (request.stage === stage ? 'damage' : 'pass'),
          connection,
        );
        const key = newKey();
        const bytes = bytesOf(stage === 'put' ? 1000 : PART + 1000);
        await expect(store.writeStream(key, bodyOf(bytes), WAV, 'absent', never)).rejects.toMatchObject({
          code: 'ARCHIVE_UNAVAILABLE',
        });
        expect(await objectAt(key)).toBeUndefined();
        expect(await uploadsAt(key)).toEqual([]);
      }
    },
  );

  test('bytes that are damaged once are sent again', async (context) => {
    for (const stage of ['put', 'part'] as const) {
      const { store } = await through(context, (request) =>
        request.stage === stage && request.count === 1 ? 'damage' : 'pass',
      );
      const key = newKey();
      const bytes = bytesOf(stage === 'put' ? 1000 : PART + 1000);
      expect(await store.writeStream(key, bodyOf(bytes), WAV, 'absent', never)).toBe('stored');
      expect(await objectAt(key)).toBe(sha256(bytes));
    }
  });
});
