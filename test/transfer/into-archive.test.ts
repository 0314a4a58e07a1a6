import { randomBytes } from 'node:crypto';
import { describe, expect, it, vi } from 'vitest';
import { ARCHIVE_KINDS } from '../support/archive-stores.ts';
import { flac, mp3, oggOpus, wav, wavOf } from '../support/audio.ts';
import { HOSTILE_ADDRESSES, HOSTILE_NAMES } from '../support/hostile-hosts.ts';
import { head, inTurn, respond, serve, startMediaServer } from '../support/media-server.ts';
import { ETAG, gate, sha256, transferFixture, unixSeconds } from '../support/transfer-fixture.ts';

describe.each(ARCHIVE_KINDS)('a transfer into the archive (%s)', (kind) => {
  const fixture = transferFixture(kind);

  describe('an available recording', () => {
    it('a recording that is available is stored, and its facts are returned', async () => {
      const recording = wav(Buffer.alloc(16_000));
      fixture.server.handle(serve(recording, { etag: ETAG }));
      const progress: number[] = [];
      const seconds: unknown[] = [];
      let bytes = 0;
      const count = (more: number) => {
        bytes += more;
      };
      await fixture.use({ observe: { onStart: (left) => seconds.push(left), onBytes: count } });
      const e = unixSeconds(600);
      const result = await fixture.archived(recording, {
        urls: [fixture.url(`/a/voice%20mail.wav?e=${e}&n=%2f$$`)],
        onProgress: (done) => progress.push(done),
      });
      expect(result).toEqual({
        integrity: { state: 'verified', notes: [] },
        bytes: 16_044,
        sha256: sha256(recording),
        contentType: 'audio/wav',
        audio: { container: 'wav', codec: 'pcm_s16le', sampleRate: 8000, channels: 1, durationSeconds: 1 },
        source: {
          host: `127.0.0.1:${fixture.server.port}`,
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

    it('a recording is requested byte for byte, once, and without any credentials', async () => {
      const recording = wavOf(1000);
      fixture.server.handle(serve(recording));
      const target = "/a/../b//%7E;x'y?e=99&n=%2f%2F&s=QUJD+/==$$";
      await fixture.archived(recording, { urls: [`${fixture.server.origin}${target}#top`] });
      expect(fixture.server.requests.map((request) => request.target)).toEqual([target]);
      expect([...(fixture.server.requests[0]?.headers.keys() ?? [])].sort()).toEqual([
        'accept',
        'accept-encoding',
        'connection',
        'host',
        'user-agent',
      ]);
      expect(fixture.server.requests[0]?.headers.get('accept-encoding')).toBe('identity');
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
    ])('a recording that is %s is recognised', async (_name, recording, contentType) => {
      fixture.server.handle(serve(recording, { contentType: 'text/html' }));
      const result = await fixture.archived(recording);
      expect(result.contentType).toBe(contentType);
      expect(result.audio === undefined).toBe(contentType === 'application/octet-stream');
      expect(fixture.harness.lines.some((line) => line.includes('no audio container'))).toBe(
        result.audio === undefined,
      );
    });

    it('the same recording that is already there is accepted, and another one is never overwritten', async () => {
      const recording = wavOf(5000);
      fixture.server.handle(serve(recording));
      await fixture.archived(recording);
      await fixture.archived(recording);
      fixture.server.handle(serve(wavOf(5000)));
      expect(await fixture.failed()).toMatchObject({ code: 'ARCHIVE_CONFLICT' });
    });
  });

  describe('expired and revoked URLs', () => {
    const recording = wavOf(20_000);

    it('a URL that has already expired is replaced by fresh metadata, twice', async () => {
      fixture.server.handle(serve(recording));
      fixture.server.handle((request, reply) =>
        (request.target.includes('valid') ? serve(recording) : respond(403))(request, reply),
      );
      const past = `/x?e=${unixSeconds(-60)}`;
      const result = await fixture.archived(recording, {
        urls: [fixture.url(past), fixture.url(past), fixture.url('/valid')],
      });
      expect(result.urlRefreshes).toBe(2);
      expect(fixture.harness.lines.join('')).toContain('clock');
    });

    it('a URL that is about to expire is replaced by fresh metadata without a request', async () => {
      fixture.server.handle(serve(recording));
      const result = await fixture.archived(recording, {
        urls: [fixture.url(`/x?e=${unixSeconds(0)}`), fixture.url('/fresh')],
      });
      expect([result.urlRefreshes, fixture.server.requests.length]).toEqual([1, 1]);
    });

    it('the server is believed more than the own clock about the expiry of a URL', async () => {
      fixture.server.handle(serve(recording));
      expect(
        (await fixture.archived(recording, { urls: [fixture.url(`/x?e=${unixSeconds(-60)}`)] })).urlRefreshes,
      ).toBe(1);
    });

    it('a URL that was revoked is replaced by fresh metadata, twice', async () => {
      fixture.server.handle(inTurn(respond(403, '<Error/>'), respond(410), serve(recording)));
      const result = await fixture.archived(recording, {
        urls: [fixture.url('/1'), fixture.url('/2'), fixture.url('/3')],
      });
      expect(result.urlRefreshes).toBe(2);
      expect(fixture.server.requests.map(({ target }) => target.slice(0, 2))).toEqual(['/1', '/2', '/3']);
    });

    it.each([400, 401, 403, 404, 410])(
      'a URL that answers HTTP %i is given up after a bounded number of refreshes',
      async (status) => {
        fixture.server.handle(respond(status, 'no'));
        expect(await fixture.failed()).toMatchObject({ code: 'RECORDING_URL_EXPIRED', retryable: true });
        expect(fixture.server.requests).toHaveLength(6);
      },
    );

    it('a URL that expires while waiting behind others is replaced by fresh metadata', async () => {
      fixture.server.handle(serve(recording));
      const others = await fixture.harness.memory.acquire(
        fixture.harness.memory.limitBytes,
        {},
        AbortSignal.timeout(60_000),
      );
      const result = fixture.archived(recording, {
        urls: [fixture.url(`/x?e=${unixSeconds(60)}`), fixture.url('/fresh')],
      });
      await vi.waitUntil(() => fixture.harness.memory.waiting === 1, { timeout: 60_000 });
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 120_000 });
      others();
      expect((await result).urlRefreshes).toBe(1);
      expect(fixture.server.requests.at(-1)?.target).toContain('/fresh');
    });

    it('the URL that expires first is downloaded first', async () => {
      await fixture.use({ memoryBytes: 300_000 });
      fixture.server.handle(serve(recording));
      const others = await fixture.harness.memory.acquire(
        fixture.harness.memory.limitBytes,
        {},
        AbortSignal.timeout(60_000),
      );
      const started: string[] = [];
      const runs = [900, undefined, 300, 600].map(async (left, index) => {
        const path = left === undefined ? '/never' : `/${left}?e=${unixSeconds(left)}`;
        await fixture.archived(recording, { key: `${fixture.key}-${index}`, urls: [fixture.url(path)] });
      });
      await vi.waitUntil(() => fixture.harness.memory.waiting === 4, { timeout: 60_000 });
      fixture.server.handle((request, reply) => {
        started.push(/^\/(\w+)/.exec(request.target)?.[1] ?? '');
        return serve(recording)(request, reply);
      });
      // With room for one at a time, the order of requests is the order of turns.
      others();
      await Promise.all(runs);
      expect(started).toEqual(['300', '600', '900', 'never']);
    });

    it('a running download is not cut when its URL expires', async () => {
      const half = gate();
      fixture.server.handle(async (_request, reply) => {
        await reply.write(head(200, { 'content-length': recording.length }));
        await reply.write(recording.subarray(0, 10_000));
        await half.passed;
        await reply.write(recording.subarray(10_000));
      });
      const { promise: running, resolve: runs } = Promise.withResolvers<void>();
      const result = fixture.archived(recording, {
        urls: [fixture.url(`/x?e=${unixSeconds(60)}`)],
        onProgress: () => runs(),
      });
      await running;
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 120_000 });
      half.open();
      expect(await result).toMatchObject({ urlRefreshes: 0, resumes: 0 });
    });
  });

  describe('redirects', () => {
    const recording = wavOf(3000);

    it('a redirect to another allowed host is followed, byte for byte', async () => {
      const other = await startMediaServer();
      other.handle(serve(recording));
      const target = '/b%2fc/../d.wav?X-Amz-Signature=ab%2F&x=$$';
      fixture.server.handle(respond(302, 'moved', { location: `http://media.test:${other.port}${target}` }));
      const result = await fixture.archived(recording);
      expect(result.source.host).toBe(`127.0.0.1:${fixture.server.port}`);
      expect(other.requests.map((request) => request.target)).toEqual([target]);
      await other.close();
    });

    it('relative redirects are followed, five in all, over kept connections', async () => {
      const moved = respond(307, 'moved', { location: 'next?s=1' });
      fixture.server.handle(inTurn(moved, moved, moved, moved, moved, serve(recording)));
      await fixture.archived(recording);
      expect(fixture.server.requests).toHaveLength(6);
      expect(fixture.server.connections).toBeLessThanOrEqual(2);
    });

    it('a loop of redirects is given up', async () => {
      fixture.server.handle((_request, reply) =>
        respond(302, '', { location: fixture.url('/again') })(_request, reply),
      );
      expect(await fixture.failed()).toMatchObject({ code: 'DOWNLOAD_FAILED' });
      expect(fixture.server.requests).toHaveLength(6);
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
    ])('a redirect to %s is refused', async (location, retryable) => {
      fixture.server.handle(respond(302, '', { location }));
      expect(await fixture.failed()).toMatchObject({ code: 'RECORDING_HOST_NOT_ALLOWED', retryable });
      expect(fixture.server.requests).toHaveLength(1);
    });
  });

  describe('refused URLs', () => {
    it.each(['file:///etc/passwd', 'https://localhost./x', 'https://2130706433/x'])(
      'a recording at %s is refused',
      async (address) => {
        await fixture.use({ allowPrivate: false });
        expect(await fixture.failed({ urls: [address] })).toMatchObject({
          code: 'RECORDING_HOST_NOT_ALLOWED',
        });
      },
    );

    it('every hostile host of the table is refused', async () => {
      await fixture.use({ allowPrivate: false, hosts: ['kore.ai'] });
      for (const host of [...HOSTILE_ADDRESSES, ...HOSTILE_NAMES]) {
        const error = await fixture.failed({ urls: [`https://${host}/x?s=signature`] });
        expect(error, host).toMatchObject({ code: 'RECORDING_HOST_NOT_ALLOWED' });
        // Only a name that could be listed may be allowed by configuration one day.
        if (HOSTILE_ADDRESSES.includes(host)) expect(error.retryable, host).toBe(false);
        else if (error.retryable) expect(error.hint, host).toContain('KORE_MEDIA_HOSTS');
      }
    });

    it('a name that resolves to a private address the second time is refused', async () => {
      // Unassigned space of the public internet: passes the check and leads nowhere.
      const answers = [{ address: '3000::1', family: 6 }];
      const asked: string[] = [];
      await fixture.use({
        allowPrivate: false,
        idleTimeoutMs: 200,
        resolve: async (hostname) => {
          asked.push(hostname);
          return [answers.shift() ?? { address: '127.0.0.1', family: 4 }];
        },
      });
      const error = await fixture.failed({
        urls: [`https://media.test:${fixture.server.port}/x?s=signature`],
      });
      expect(error).toMatchObject({ code: 'RECORDING_HOST_NOT_ALLOWED' });
      expect([asked.length, fixture.server.connections]).toEqual([2, 0]);
    });
  });
});
