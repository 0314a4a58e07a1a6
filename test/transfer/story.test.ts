import { createHash, randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { isVoicemailError, type VoicemailError } from '../../src/domain/errors.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import { ARCHIVE_KINDS, openTestArchive, type TestArchive } from '../support/archive-stores.ts';
import { flac, mp3, oggOpus, wav, wavOf } from '../support/audio.ts';
import { HOSTILE_ADDRESSES, HOSTILE_NAMES } from '../support/hostile-hosts.ts';
import {
  head,
  inTurn,
  type MediaServer,
  type Reply,
  respond,
  serve,
  startMediaServer,
} from '../support/media-server.ts';
import {
  createHarness,
  type TransferHarness,
  type TransferRun,
  type TransferSetup,
} from '../support/transfers.ts';

const MIB = 1024 * 1024;
const ETAG = '"v1"';

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const unixSeconds = (fromNowSeconds: number): number => Math.floor(Date.now() / 1000) + fromNowSeconds;

/** Resolves when the server has got rid of nothing more for a while. */
async function sendingHasStopped(server: MediaServer): Promise<void> {
  let before = -1;
  const unchanged = (): boolean => {
    const same = before === server.writtenBytes;
    before = server.writtenBytes;
    return same;
  };
  await vi.waitUntil(unchanged, { interval: 200, timeout: 10_000 });
}

/** A promise and its end. */
function gate(): { readonly passed: Promise<void>; open(): void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { passed: promise, open: resolve };
}

describe.each(ARCHIVE_KINDS)('a transfer into the archive (%s)', (kind) => {
  let archive: TestArchive;
  let server: MediaServer;
  let harness: TransferHarness;
  let key = '';
  let count = 0;
  /** Full keys of all that should be in the archive by now. */
  const keys = new Set<string>();
  /** What the running test put there. */
  const expected = new Map<string, Buffer>();

  beforeAll(async () => {
    archive = await openTestArchive(kind);
  });

  afterAll(async () => {
    await archive.close();
  });

  beforeEach(async () => {
    server = await startMediaServer();
    harness = createHarness(archive.store);
    count += 1;
    key = `session/${count}.wav`;
  });

  afterEach(async () => {
    vi.useRealTimers();
    await harness.close();
    await server.close();
    // Whatever the test was about: exactly what should be there is, whole, and nothing beside it.
    expect(await archive.list()).toEqual([...keys].sort());
    for (const [fullKey, bytes] of expected) {
      expect((await archive.get(fullKey)).equals(bytes), fullKey).toBe(true);
    }
    expect(await archive.leftovers()).toEqual([]);
    expect([harness.memory.usedBytes, harness.memory.waiting]).toEqual([0, 0]);
    expect(harness.lines.join('')).not.toContain('signature');
    expected.clear();
  });

  async function use(setup: TransferSetup): Promise<void> {
    await harness.close();
    harness = createHarness(archive.store, setup);
  }

  const url = (path = '/voicemail.wav'): string =>
    `${server.origin}${path}${path.includes('?') ? '&' : '?'}s=signature`;

  async function archived(bytes: Buffer, run: Partial<TransferRun> = {}) {
    const result = await harness.run({ key, urls: [url()], ...run });
    expect(result).toMatchObject({ bytes: bytes.length, sha256: sha256(bytes) });
    const fullKey = archive.store.fullKey(run.key ?? key);
    keys.add(fullKey);
    expected.set(fullKey, bytes);
    return result;
  }

  async function failed(run: Partial<TransferRun> = {}): Promise<VoicemailError> {
    const error: unknown = await harness.run({ key, urls: [url()], ...run }).then(
      (result) => result,
      (reason: unknown) => reason,
    );
    if (!isVoicemailError(error)) throw new Error('no VoicemailError', { cause: error });
    expect(error.message).not.toContain('signature');
    return error;
  }

  describe('of a recording that is simply there', () => {
    it('stores it and tells all about it', async () => {
      const recording = wav(Buffer.alloc(16_000));
      server.handle(serve(recording, { etag: ETAG }));
      const progress: number[] = [];
      const seconds: unknown[] = [];
      let bytes = 0;
      const count = (more: number) => {
        bytes += more;
      };
      await use({ observe: { onStart: (left) => seconds.push(left), onBytes: count } });
      const e = unixSeconds(600);
      const result = await archived(recording, {
        urls: [url(`/a/voice%20mail.wav?e=${e}&n=%2f$$`)],
        onProgress: (done) => progress.push(done),
      });
      expect(result).toEqual({
        integrity: { state: 'verified', notes: [] },
        bytes: 16_044,
        sha256: sha256(recording),
        contentType: 'audio/wav',
        audio: { container: 'wav', codec: 'pcm_s16le', sampleRate: 8000, channels: 1, durationSeconds: 1 },
        source: {
          host: `127.0.0.1:${server.port}`,
          path: '/a/voice%20mail.wav',
          expiresAt: new Date(e * 1000).toISOString(),
        },
        downloadedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
        secondsToExpiry: expect.closeTo(599, -1),
        urlRefreshes: 0,
        resumes: 0,
      });
      expect(progress.at(-1)).toBe(16_044);
      expect([bytes, seconds]).toEqual([16_044, [result.secondsToExpiry]]);
    });

    it('asks for it byte for byte, once, and without any credentials', async () => {
      const recording = wavOf(1000);
      server.handle(serve(recording));
      const target = "/a/../b//%7E;x'y?e=99&n=%2f%2F&s=QUJD+/==$$";
      await archived(recording, { urls: [`${server.origin}${target}#top`] });
      expect(server.requests.map((request) => request.target)).toEqual([target]);
      expect([...(server.requests[0]?.headers.keys() ?? [])].sort()).toEqual([
        'accept',
        'accept-encoding',
        'connection',
        'host',
        'user-agent',
      ]);
      expect(server.requests[0]?.headers.get('accept-encoding')).toBe('identity');
    });

    it.each([
      ['a header-only WAV', wav(Buffer.alloc(0)), 'audio/wav'],
      ['FLAC', flac(300), 'audio/flac'],
      ['Ogg', oggOpus(400), 'audio/ogg'],
      ['MP3', mp3(200), 'audio/mpeg'],
      [
        'an unknown binary',
        Buffer.concat([Buffer.from('#!SILK_V3'), randomBytes(500)]),
        'application/octet-stream',
      ],
    ])('recognises %s', async (_name, recording, contentType) => {
      server.handle(serve(recording, { contentType: 'text/html' }));
      const result = await archived(recording);
      expect(result.contentType).toBe(contentType);
      expect(result.audio === undefined).toBe(contentType === 'application/octet-stream');
      expect(harness.lines.some((line) => line.includes('no audio container'))).toBe(
        result.audio === undefined,
      );
    });

    it('takes the same recording for granted that is already there, and never overwrites another', async () => {
      const recording = wavOf(5000);
      server.handle(serve(recording));
      await archived(recording);
      await archived(recording);
      server.handle(serve(wavOf(5000)));
      expect(await failed()).toMatchObject({ code: 'ARCHIVE_CONFLICT' });
    });
  });

  describe('whose URL does not work', () => {
    const recording = wavOf(20_000);

    it('fetches fresh metadata when it has already expired, twice', async () => {
      server.handle(serve(recording));
      server.handle((request, reply) =>
        (request.target.includes('valid') ? serve(recording) : respond(403))(request, reply),
      );
      const past = `/x?e=${unixSeconds(-60)}`;
      const result = await archived(recording, { urls: [url(past), url(past), url('/valid')] });
      expect(result.urlRefreshes).toBe(2);
      expect(harness.lines.join('')).toContain('clock');
    });

    it('fetches fresh metadata without asking when it is about to expire', async () => {
      server.handle(serve(recording));
      const result = await archived(recording, { urls: [url(`/x?e=${unixSeconds(0)}`), url('/fresh')] });
      expect([result.urlRefreshes, server.requests.length]).toEqual([1, 1]);
    });

    it('believes the server more than its own clock', async () => {
      server.handle(serve(recording));
      expect((await archived(recording, { urls: [url(`/x?e=${unixSeconds(-60)}`)] })).urlRefreshes).toBe(1);
    });

    it('fetches fresh metadata when it was revoked, twice', async () => {
      server.handle(inTurn(respond(403, '<Error/>'), respond(410), serve(recording)));
      const result = await archived(recording, { urls: [url('/1'), url('/2'), url('/3')] });
      expect(result.urlRefreshes).toBe(2);
      expect(server.requests.map(({ target }) => target.slice(0, 2))).toEqual(['/1', '/2', '/3']);
    });

    it.each([400, 401, 403, 404, 410])(
      'gives up on HTTP %i after a bounded number of refreshes',
      async (status) => {
        server.handle(respond(status, 'no'));
        expect(await failed()).toMatchObject({ code: 'RECORDING_URL_EXPIRED', retryable: true });
        expect(server.requests).toHaveLength(6);
      },
    );

    it('fetches fresh metadata when it expires while waiting behind others', async () => {
      server.handle(serve(recording));
      const others = await harness.memory.acquire(harness.memory.limitBytes, {}, AbortSignal.timeout(60_000));
      const result = archived(recording, { urls: [url(`/x?e=${unixSeconds(60)}`), url('/fresh')] });
      await vi.waitUntil(() => harness.memory.waiting === 1);
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 120_000 });
      others();
      expect((await result).urlRefreshes).toBe(1);
      expect(server.requests.at(-1)?.target).toContain('/fresh');
    });

    it('lets the one go first that expires first', async () => {
      await use({ memoryBytes: 300_000 });
      server.handle(serve(recording));
      const others = await harness.memory.acquire(harness.memory.limitBytes, {}, AbortSignal.timeout(60_000));
      const started: string[] = [];
      const runs = [900, undefined, 300, 600].map(async (left, index) => {
        const path = left === undefined ? '/never' : `/${left}?e=${unixSeconds(left)}`;
        await archived(recording, { key: `${key}-${index}`, urls: [url(path)] });
      });
      await vi.waitUntil(() => harness.memory.waiting === 4);
      server.handle((request, reply) => {
        started.push(/^\/(\w+)/.exec(request.target)?.[1] ?? '');
        return serve(recording)(request, reply);
      });
      // With room for one at a time, the order of requests is the order of turns.
      others();
      await Promise.all(runs);
      expect(started).toEqual(['300', '600', '900', 'never']);
    });

    it('does not cut a running download when it expires', async () => {
      const half = gate();
      server.handle(async (_request, reply) => {
        await reply.write(head(200, { 'content-length': recording.length }));
        await reply.write(recording.subarray(0, 10_000));
        await half.passed;
        await reply.write(recording.subarray(10_000));
      });
      const { promise: running, resolve: runs } = Promise.withResolvers<void>();
      const result = archived(recording, {
        urls: [url(`/x?e=${unixSeconds(60)}`)],
        onProgress: () => runs(),
      });
      await running;
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 120_000 });
      half.open();
      expect(await result).toMatchObject({ urlRefreshes: 0, resumes: 0 });
    });
  });

  describe('through redirects', () => {
    const recording = wavOf(3000);

    it('follows one to another allowed host, byte for byte', async () => {
      const other = await startMediaServer();
      other.handle(serve(recording));
      const target = '/b%2fc/../d.wav?X-Amz-Signature=ab%2F&x=$$';
      server.handle(respond(302, 'moved', { location: `http://media.test:${other.port}${target}` }));
      const result = await archived(recording);
      expect(result.source.host).toBe(`127.0.0.1:${server.port}`);
      expect(other.requests.map((request) => request.target)).toEqual([target]);
      await other.close();
    });

    it('follows relative ones, five in all, over kept connections', async () => {
      const moved = respond(307, 'moved', { location: 'next?s=1' });
      server.handle(inTurn(moved, moved, moved, moved, moved, serve(recording)));
      await archived(recording);
      expect(server.requests).toHaveLength(6);
      expect(server.connections).toBeLessThanOrEqual(2);
    });

    it('gives up on a loop', async () => {
      server.handle((_request, reply) => respond(302, '', { location: url('/again') })(_request, reply));
      expect(await failed()).toMatchObject({ code: 'DOWNLOAD_FAILED' });
      expect(server.requests).toHaveLength(6);
    });

    it.each([
      // Only the list of hosts stands against these: with private media allowed, addresses are like any host.
      ['http://169.254.169.254/latest/meta-data/?s=signature', true],
      ['http://[::ffff:169.254.169.254]/?s=signature', true],
      ['http://0xa9fea9fe/?s=signature', true],
      ['//localhost/?s=signature', true],
      ['file:///etc/passwd?s=signature', false],
      ['ftp://127.0.0.1/?s=signature', false],
      ['http://user:signature@127.0.0.1/', false],
    ])('refuses one to %s', async (location, retryable) => {
      server.handle(respond(302, '', { location }));
      expect(await failed()).toMatchObject({ code: 'RECORDING_HOST_NOT_ALLOWED', retryable });
      expect(server.requests).toHaveLength(1);
    });
  });

  describe('from where it may not come', () => {
    it.each(['file:///etc/passwd', 'https://localhost./x', 'https://2130706433/x'])(
      'refuses %s',
      async (address) => {
        await use({ allowPrivate: false });
        expect(await failed({ urls: [address] })).toMatchObject({ code: 'RECORDING_HOST_NOT_ALLOWED' });
      },
    );

    it('refuses every host of the table', async () => {
      await use({ allowPrivate: false, hosts: ['kore.ai'] });
      for (const host of [...HOSTILE_ADDRESSES, ...HOSTILE_NAMES]) {
        const error = await failed({ urls: [`https://${host}/x?s=signature`] });
        expect(error, host).toMatchObject({ code: 'RECORDING_HOST_NOT_ALLOWED' });
        // Only a name that could be listed may be allowed by configuration one day.
        if (HOSTILE_ADDRESSES.includes(host)) expect(error.retryable, host).toBe(false);
        else if (error.retryable) expect(error.hint, host).toContain('KORE_MEDIA_HOSTS');
      }
    });

    it('refuses a name that resolves to a private address the second time', async () => {
      // Unassigned space of the public internet: passes the check and leads nowhere.
      const answers = [{ address: '3000::1', family: 6 }];
      const asked: string[] = [];
      await use({
        allowPrivate: false,
        idleTimeoutMs: 200,
        resolve: async (hostname) => {
          asked.push(hostname);
          return [answers.shift() ?? { address: '127.0.0.1', family: 4 }];
        },
      });
      const error = await failed({ urls: [`https://media.test:${server.port}/x?s=signature`] });
      expect(error).toMatchObject({ code: 'RECORDING_HOST_NOT_ALLOWED' });
      expect([asked.length, server.connections]).toEqual([2, 0]);
    });
  });

  describe('of a body that is not whole', () => {
    const recording = wavOf(300_000);

    it('accepts a body without length if the container confirms it', async () => {
      server.handle(serve(recording, { framing: 'close' }));
      await archived(recording);
    });

    it('accepts a chunked body', async () => {
      server.handle(serve(recording, { framing: 'chunks' }));
      await archived(recording);
    });

    it.each([
      ['ends early without a length', { framing: 'close', breakBy: 'end' }],
      ['is shorter than its length', { framing: 'length', breakBy: 'end' }],
      ['lacks the end of its chunks', { framing: 'chunks', breakBy: 'end' }],
      ['is always reset', { framing: 'length', breakBy: 'reset' }],
    ] as const)('refuses one that %s', async (_name, serving) => {
      const breaks = Array.from({ length: 50 }, () => 200_000);
      server.handle(serve(recording, { ...serving, breaks }));
      expect(await failed()).toMatchObject({ code: 'RECORDING_TRUNCATED', retryable: true });
    });
  });

  describe('that breaks off', () => {
    const LAST_MODIFIED = 'Wed, 12 Feb 2025 11:24:42 GMT';

    it.each([
      ['an ETag', { etag: ETAG, ranges: true }, 5],
      ['a date', { lastModified: LAST_MODIFIED, ranges: true }, 5],
      ['a weak ETag and a date', { etag: 'W/"v1"', lastModified: LAST_MODIFIED, ranges: true }, 5],
      ['ranges, but nothing to recognise it by', { ranges: true }, 0],
      ['a weak ETag alone', { etag: 'W/"v1"', ranges: true }, 0],
      ['no ranges', { etag: ETAG }, 0],
    ])('five times by reset is archived all the same, with %s', async (_name, serving, resumes) => {
      const recording = wavOf(2 * MIB);
      const breaks = [300_000, 1, 700_000, 300_000, 65_000];
      server.handle(serve(recording, { ...serving, breaks }));
      const result = await archived(recording);
      expect(result.resumes).toBeLessThanOrEqual(resumes);
      expect(result.resumes > 0).toBe(resumes > 0);
      expect(server.requests.length).toBeLessThanOrEqual(11);
    });

    it.each(['length', 'chunks'] as const)('costs little more than its size (%s)', async (framing) => {
      const recording = wavOf(40 * MIB);
      const breaks = [5, 7, 11, 3, 9].map((mib) => mib * MIB);
      server.handle(serve(recording, { etag: ETAG, ranges: true, framing, breaks, breakBy: 'end' }));
      expect((await archived(recording)).resumes).toBe(5);
      expect(server.writtenBytes).toBeLessThan(42 * MIB);
      expect(server.requests.map(({ headers }) => headers.get('if-range'))).toEqual([
        undefined,
        ...Array.from({ length: 5 }, () => ETAG),
      ]);
    });

    it('goes on when it stalls', async () => {
      await use({ idleTimeoutMs: 300 });
      const recording = wavOf(500_000);
      server.handle(
        serve(recording, { etag: ETAG, ranges: true, breaks: [200_000, 50_000], breakBy: 'stall' }),
      );
      // A machine with much to do may make one more of it.
      expect((await archived(recording)).resumes).toBeGreaterThanOrEqual(2);
    });

    it('takes a rest as whole whose end was lost after its last byte', async () => {
      await use({ idleTimeoutMs: 300 });
      const recording = wavOf(300_000);
      server.handle(
        inTurn(
          serve(recording, { etag: ETAG, breaks: [200_000], breakBy: 'end' }),
          async (request, reply) => {
            const { rangeFrom = 0 } = request;
            const range = `bytes ${rangeFrom}-299999/300000`;
            await reply.write(
              head(206, { etag: ETAG, 'content-range': range, 'transfer-encoding': 'chunked' }),
            );
            const rest = recording.subarray(rangeFrom);
            await reply.write(Buffer.concat([Buffer.from(`${rest.length.toString(16)}\r\n`), rest]));
          },
        ),
      );
      expect(await archived(recording)).toMatchObject({ resumes: 1 });
    });

    it('fails when it only ever stalls, be it before or after the headers', async () => {
      await use({ idleTimeoutMs: 40 });
      server.handle(() => undefined);
      expect(await failed()).toMatchObject({ code: 'DOWNLOAD_FAILED', retryable: true });
      server.handle(serve(wavOf(500), { breaks: Array.from({ length: 50 }, () => 100), breakBy: 'stall' }));
      expect(await failed()).toMatchObject({ code: 'DOWNLOAD_FAILED', message: /delivered nothing for 0 s/ });
    });

    it('goes on with a fresh URL when the old one has expired meanwhile', async () => {
      const recording = wavOf(500_000);
      const broken = gate();
      const handler = serve(recording, { etag: ETAG, ranges: true, breaks: [200_000], breakBy: 'end' });
      const hold = async (request: Parameters<typeof handler>[0], reply: Reply) => {
        const held: Reply = { ...reply, end: () => void broken.passed.then(() => reply.end()) };
        await handler(request, held);
      };
      server.handle(inTurn(hold, handler));
      const { promise: half, resolve } = Promise.withResolvers<void>();
      const result = archived(recording, {
        urls: [url(`/x?e=${unixSeconds(60)}`), url('/fresh')],
        onProgress: (bytes) => bytes >= 200_000 - 44 && resolve(),
      });
      await half;
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 120_000 });
      broken.open();
      expect(await result).toMatchObject({ urlRefreshes: 1, resumes: 1 });
      expect(server.requests[1]?.target).toContain('/fresh');
      expect(server.requests[1]?.rangeFrom).toBeGreaterThan(0);
    });

    it('goes on with a fresh URL when the old one is refused', async () => {
      const recording = wavOf(500_000);
      const handler = serve(recording, { etag: ETAG, ranges: true, breaks: [200_000], breakBy: 'end' });
      server.handle(inTurn(handler, respond(403), handler));
      expect(await archived(recording)).toMatchObject({ urlRefreshes: 1, resumes: 1 });
    });

    it('goes on when the rest does not repeat the date that it was asked for under', async () => {
      const whole = wavOf(300_000);
      const dated = serve(whole, { lastModified: LAST_MODIFIED, ranges: true, breaks: [100_000] });
      server.handle((request, reply) => {
        if (request.rangeFrom === undefined) return dated(request, reply);
        expect(request.headers.get('if-range')).toBe(LAST_MODIFIED);
        const rest = whole.subarray(request.rangeFrom);
        return respond(206, rest, {
          'content-range': `bytes ${request.rangeFrom}-${whole.length - 1}/${whole.length}`,
        })(request, reply);
      });
      expect(await archived(whole)).toMatchObject({ resumes: 1 });
    });

    it('begins anew when the rest does not repeat the ETag', async () => {
      const whole = wavOf(300_000);
      const tagged = serve(whole, { etag: ETAG, ranges: true, breaks: [100_000] });
      server.handle((request, reply) => {
        if (request.rangeFrom === undefined) return tagged(request, reply);
        const rest = whole.subarray(request.rangeFrom);
        return respond(206, rest, {
          'content-range': `bytes ${request.rangeFrom}-${whole.length - 1}/${whole.length}`,
        })(request, reply);
      });
      expect(await archived(whole)).toMatchObject({ resumes: 0 });
    });

    it('begins anew when the recording has changed meanwhile', async () => {
      const [old, changed] = [wavOf(500_000), wavOf(500_000)];
      server.handle(
        inTurn(
          serve(old, { etag: ETAG, ranges: true, breaks: [200_000], breakBy: 'end' }),
          serve(changed, { etag: '"v2"', ranges: true }),
        ),
      );
      expect(await archived(changed)).toMatchObject({ resumes: 0 });
      // The answer to the range was the whole new recording: nothing is asked for twice.
      expect(server.requests).toHaveLength(2);
    });

    it.each([
      ['another ETag', { etag: '"v2"' }],
      ['no ETag', {}],
      ['another place', { etag: ETAG, 'content-range': 'bytes 5-499999/500000' }],
      ['another size', { etag: ETAG, 'content-range': 'bytes {from}-600000/600001' }],
      ['no place', { etag: ETAG, 'content-range': 'none' }],
      ['a coding', { etag: ETAG, 'content-encoding': 'gzip' }],
    ] as const)('begins anew when the rest comes with %s', async (_name, headers) => {
      const recording = wavOf(500_000);
      server.handle(
        inTurn(
          serve(recording, { etag: ETAG, breaks: [200_000], breakBy: 'end' }),
          (request, reply) => {
            const rest = recording.subarray(request.rangeFrom);
            const range = `bytes ${request.rangeFrom}-499999/500000`;
            const filled = Object.entries(headers).map(([name, value]) => [
              name,
              value.replace('{from}', String(request.rangeFrom)),
            ]);
            const all = { 'content-range': range, ...Object.fromEntries(filled) };
            return respond(206, Buffer.alloc(rest.length), all)(request, reply);
          },
          serve(recording),
        ),
      );
      expect(await archived(recording)).toMatchObject({ resumes: 0 });
      expect(server.requests).toHaveLength(3);
    });
  });

  describe('of what is no recording', () => {
    it.each([
      ['HTML', '<!doctype html><title>Sign in</title>'],
      ['JSON', '\ufeff {"errors":[{"msg":"expired"}]}'],
      ['XML', '<?xml version="1.0"?><Error><Code>SlowDown</Code></Error>'],
    ])('refuses %s with status 200 and an audio type', async (name, body) => {
      server.handle(respond(200, body, { 'content-type': 'audio/wav' }));
      const error = await failed();
      expect(error).toMatchObject({
        code: 'RECORDING_NOT_AUDIO',
        retryable: true,
        host: `127.0.0.1:${server.port}`,
      });
      expect(error.message).toContain(name);
      expect(server.requests).toHaveLength(3);
    });

    it('refuses a page without a length as what it is', async () => {
      server.handle(serve(Buffer.from('<html>Sign in</html>'), { framing: 'close' }));
      expect(await failed()).toMatchObject({ code: 'RECORDING_NOT_AUDIO' });
    });

    it.each([
      ['with a length', respond(200)],
      ['in chunks', serve(Buffer.alloc(0), { framing: 'chunks' })],
      ['as HTTP 204', (_request: unknown, reply: Reply) => reply.write(head(204))],
    ])('refuses zero bytes %s', async (_name, handler) => {
      server.handle(handler);
      expect(await failed()).toMatchObject({ code: 'RECORDING_EMPTY', retryable: true });
      expect(server.requests).toHaveLength(3);
    });

    it('does not take a connection that closes without a word for the last word', async () => {
      server.handle(serve(Buffer.alloc(0), { framing: 'close' }));
      expect(await failed()).toMatchObject({ code: 'RECORDING_EMPTY', retryable: true });
      const recording = wavOf(2000);
      server.handle(serve(recording, { framing: 'close', breaks: [0, 0, 0, 0], breakBy: 'reset' }));
      await archived(recording);
    });

    it('gets over a passing glitch with fresh metadata', async () => {
      const recording = wavOf(2000);
      server.handle(inTurn(respond(200), respond(200, '<html>busy</html>'), serve(recording)));
      expect((await archived(recording)).urlRefreshes).toBe(2);
    });
  });

  describe('of what is too large', () => {
    it('stops before reading when the length says so', async () => {
      let reply: Reply | undefined;
      server.handle(async (_request, replyTo) => {
        reply = replyTo;
        await replyTo.write(head(200, { 'content-length': 2 * 2 ** 30 }));
      });
      expect(await failed()).toMatchObject({ code: 'RECORDING_TOO_LARGE', retryable: false });
      expect(reply).toBeDefined();
      expect(server.requests).toHaveLength(1);
    });

    it('stops while reading when nothing says so', async () => {
      await use({ maxRecordingBytes: MIB });
      const endless = randomBytes(64 * 1024);
      let stopped = false;
      server.handle(async (_request, reply) => {
        await reply.write(head(200));
        for (let bytes = 0; bytes < 64 * MIB; bytes += endless.length) await reply.write(endless);
        stopped = true;
      });
      expect(await failed()).toMatchObject({ code: 'RECORDING_TOO_LARGE' });
      await vi.waitUntil(() => stopped);
      expect(server.requests).toHaveLength(1);
    });

    it('takes what is exactly as large as allowed', async () => {
      await use({ maxRecordingBytes: 100_000 });
      const recording = wavOf(100_000);
      server.handle(serve(recording, { framing: 'chunks' }));
      await archived(recording);
    });
  });

  describe('from a server in trouble', () => {
    it('tries again after passing faults', async () => {
      const recording = wavOf(2000);
      const dropped = (_request: unknown, reply: Reply) => reply.reset();
      server.handle(
        inTurn(respond(503), dropped, respond(429, '', { 'retry-after': 0 }), respond(500), serve(recording)),
      );
      expect(await archived(recording)).toMatchObject({ urlRefreshes: 0 });
    });

    it('leaves alone for longer who asks for it', async () => {
      server.handle(respond(503, '', { 'retry-after': 120 }));
      expect(await failed()).toMatchObject({ code: 'DOWNLOAD_FAILED', retryAfterMs: 120_000 });
      expect(server.requests).toHaveLength(1);
    });

    it('fails when nobody answers', async () => {
      const port = server.port;
      await server.close();
      const error = await failed({ urls: [`http://127.0.0.1:${port}/x?s=signature`] });
      expect(error).toMatchObject({ code: 'DOWNLOAD_FAILED', message: /ECONNREFUSED/ });
      server = await startMediaServer();
    });

    it.each(['x-chunked', 'chunked, identity', 'gzip, chunked', 'gzip\r\nTransfer-Encoding: chunked'])(
      'fails on the transfer coding %j, whose end or content is unknown',
      async (coding) => {
        server.handle(async (_request, reply) => {
          await reply.write(head(200, { 'content-type': 'audio/wav', 'transfer-encoding': coding }));
          await reply.write(wavOf(2000).subarray(0, 1000));
          reply.end();
        });
        expect(await failed()).toMatchObject({ code: 'DOWNLOAD_FAILED' });
      },
    );

    it('takes what came through a proxy (HTTP 203)', async () => {
      const recording = wavOf(2000);
      server.handle(respond(203, recording));
      await archived(recording);
    });

    it('fails on an answer that makes no sense', async () => {
      server.handle(respond(418, 'bad'));
      expect(await failed()).toMatchObject({ code: 'DOWNLOAD_FAILED', message: /HTTP 418/ });
      expect(server.requests).toHaveLength(1);
    });
  });

  describe('that is cancelled', () => {
    const reason = new Error('shutting down');

    async function cancelled(run: Partial<TransferRun>): Promise<void> {
      await expect(harness.run({ key, urls: [url()], ...run })).rejects.toBe(reason);
    }

    it('before it begins', async () => {
      await cancelled({ signal: AbortSignal.abort(reason) });
      expect(server.requests).toHaveLength(0);
    });

    it('while it waits for an answer', async () => {
      const stop = new AbortController();
      server.handle(() => stop.abort(reason));
      await cancelled({ signal: stop.signal });
    });

    it('while it receives, and lets go of the connection', async () => {
      const stop = new AbortController();
      let stopped = false;
      server.handle(async (_request, reply) => {
        await reply.write(head(200, { 'content-length': 100 * MIB }));
        await reply.write(wav(Buffer.alloc(0), { riffBytes: 100 * MIB - 8 }));
        for (let piece = 0; piece < 99; piece++) await reply.write(Buffer.alloc(MIB));
        stopped = true;
      });
      await cancelled({ signal: stop.signal, onProgress: (bytes) => bytes > 10 * MIB && stop.abort(reason) });
      await vi.waitUntil(() => stopped);
    });

    it('while it waits for memory', async () => {
      const stop = new AbortController();
      server.handle(serve(wavOf(1000)));
      const others = await harness.memory.acquire(harness.memory.limitBytes, {}, stop.signal);
      const result = cancelled({ signal: stop.signal });
      await vi.waitUntil(() => harness.memory.waiting === 1);
      stop.abort(reason);
      await result;
      others();
    });

    it('while it pauses between tries', async () => {
      const stop = new AbortController();
      server.handle((request, reply) => {
        setImmediate(() => stop.abort(reason));
        return respond(503, '', { 'retry-after': 4 })(request, reply);
      });
      await cancelled({ signal: stop.signal });
    });
  });

  describe('within bounds', () => {
    /** The same archive, reading a body only as the gate allows. */
    function slowStore(beforeChunk: () => Promise<void>): ArchiveStore {
      return {
        ...archive.store,
        writeStream(to, body, info, mode, signal) {
          async function* slowly() {
            for await (const chunk of body.chunks) {
              await beforeChunk();
              yield chunk;
            }
          }
          return archive.store.writeStream(
            to,
            { ...body, sha256: () => body.sha256(), chunks: slowly() },
            info,
            mode,
            signal,
          );
        },
      };
    }

    it('does not read ahead of a slow archive', async () => {
      await harness.close();
      const recording = wavOf(50 * MIB);
      server.handle(serve(recording));
      const slow = gate();
      const { promise: reading, resolve } = Promise.withResolvers<void>();
      let received = 0;
      harness = createHarness(
        slowStore(() => {
          resolve();
          return slow.passed;
        }),
      );
      const result = archived(recording, {
        onProgress(bytes) {
          received = bytes;
        },
      });
      await reading;
      // What the sockets hold between them is all that is sent.
      await sendingHasStopped(server);
      expect(received).toBeLessThan(256 * 1024);
      expect(server.writtenBytes).toBeLessThan(20 * MIB);
      slow.open();
      await result;
    });

    it('is not broken off because the archive is slower than the idle timeout', async () => {
      await harness.close();
      const recording = wavOf(4 * MIB);
      server.handle(serve(recording));
      const slow = gate();
      const { promise: reading, resolve: reads } = Promise.withResolvers<void>();
      vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
      harness = createHarness(
        slowStore(() => {
          reads();
          return slow.passed;
        }),
        { idleTimeoutMs: 10_000 },
      );
      const result = archived(recording);
      await reading;
      // An hour in which the archive takes nothing.
      vi.advanceTimersByTime(3_600_000);
      slow.open();
      expect(await result).toMatchObject({ resumes: 0 });
      expect(server.requests).toHaveLength(1);
    });

    it('is broken off once the source itself delivers nothing for the idle timeout', async () => {
      await harness.close();
      const recording = wavOf(4 * MIB);
      server.handle(serve(recording, { etag: ETAG, ranges: true, breaks: [2 * MIB], breakBy: 'stall' }));
      vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
      harness = createHarness(archive.store, { idleTimeoutMs: 10_000 });
      const result = archived(recording);
      // Each tick counts only while the source is waited for, so how many it takes is left open.
      await vi.waitUntil(
        () => {
          vi.advanceTimersByTime(2500);
          return server.requests.length === 2;
        },
        { timeout: 20_000 },
      );
      expect(await result).toMatchObject({ resumes: 1 });
    });

    it('keeps many transfers together within the memory budget', async () => {
      const recording = wavOf(3 * MIB);
      server.handle(serve(recording));
      let most = 0;
      await use({
        memoryBytes: 8 * MIB,
        observe: {
          onBytes() {
            most = Math.max(most, harness.memory.usedBytes);
          },
        },
      });
      await Promise.all(
        Array.from({ length: 12 }, (_, index) => archived(recording, { key: `${key}-${index}` })),
      );
      expect(most).toBeGreaterThan(0);
      expect(most).toBeLessThanOrEqual(8 * MIB);
    });

    it('gets by with a budget smaller than one transfer needs', async () => {
      await use({ memoryBytes: 1000 });
      const recording = wavOf(2 * MIB);
      server.handle(serve(recording));
      await Promise.all([0, 1, 2].map((index) => archived(recording, { key: `${key}-${index}` })));
    });
  });
});
