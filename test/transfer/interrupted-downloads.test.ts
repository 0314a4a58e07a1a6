import { describe, expect, it, vi } from 'vitest';
import { ARCHIVE_KINDS } from '../support/archive-stores.ts';
import { wavOf } from '../support/audio.ts';
import { head, inTurn, type Reply, respond, serve } from '../support/media-server.ts';
import { ETAG, gate, MIB, transferFixture, unixSeconds } from '../support/transfer-fixture.ts';

describe.each(ARCHIVE_KINDS)('a transfer into the archive (%s)', (kind) => {
  const fixture = transferFixture(kind);

  describe('an incomplete body', () => {
    const recording = wavOf(300_000);

    it('a body without length is accepted if the container confirms it', async () => {
      fixture.server.handle(serve(recording, { framing: 'close' }));
      await fixture.archived(recording);
    });

    it('a chunked body is accepted', async () => {
      fixture.server.handle(serve(recording, { framing: 'chunks' }));
      await fixture.archived(recording);
    });

    it.each([
      ['ends early without a length', { framing: 'close', breakBy: 'end' }],
      ['is shorter than its length', { framing: 'length', breakBy: 'end' }],
      ['lacks the end of its chunks', { framing: 'chunks', breakBy: 'end' }],
      ['is always reset', { framing: 'length', breakBy: 'reset' }],
    ] as const)('a body that %s is refused', async (_name, serving) => {
      const breaks = Array.from({ length: 50 }, () => 200_000);
      fixture.server.handle(serve(recording, { ...serving, breaks }));
      expect(await fixture.failed()).toMatchObject({ code: 'RECORDING_TRUNCATED', retryable: true });
    });
  });

  describe('a download that breaks off', () => {
    const LAST_MODIFIED = 'Wed, 12 Feb 2025 11:24:42 GMT';

    it.each([
      ['an ETag', { etag: ETAG, ranges: true }, 5],
      ['a date', { lastModified: LAST_MODIFIED, ranges: true }, 5],
      ['a weak ETag and a date', { etag: 'W/"v1"', lastModified: LAST_MODIFIED, ranges: true }, 5],
      ['ranges, but nothing to recognise it by', { ranges: true }, 0],
      ['a weak ETag alone', { etag: 'W/"v1"', ranges: true }, 0],
      ['no ranges', { etag: ETAG }, 0],
    ])(
      'a download that is reset five times is archived all the same, with %s',
      async (_name, serving, resumes) => {
        const recording = wavOf(2 * MIB);
        const breaks = [300_000, 1, 700_000, 300_000, 65_000];
        fixture.server.handle(serve(recording, { ...serving, breaks }));
        const result = await fixture.archived(recording);
        expect(result.resumes).toBeLessThanOrEqual(resumes);
        expect(result.resumes > 0).toBe(resumes > 0);
        expect(fixture.server.requests.length).toBeLessThanOrEqual(11);
      },
    );

    it.each(['length', 'chunks'] as const)(
      'a download that breaks off costs little more than its size (%s)',
      async (framing) => {
        const recording = wavOf(40 * MIB);
        const breaks = [5, 7, 11, 3, 9].map((mib) => mib * MIB);
        fixture.server.handle(
          serve(recording, { etag: ETAG, ranges: true, framing, breaks, breakBy: 'end' }),
        );
        expect((await fixture.archived(recording)).resumes).toBe(5);
        expect(fixture.server.writtenBytes).toBeLessThan(42 * MIB);
        expect(fixture.server.requests.map(({ headers }) => headers.get('if-range'))).toEqual([
          undefined,
          ...Array.from({ length: 5 }, () => ETAG),
        ]);
      },
    );

    it('a download that stalls is resumed', async () => {
      await fixture.use({ idleTimeoutMs: 300 });
      const recording = wavOf(500_000);
      fixture.server.handle(
        serve(recording, { etag: ETAG, ranges: true, breaks: [200_000, 50_000], breakBy: 'stall' }),
      );
      // A machine with much to do may make one more of it.
      expect((await fixture.archived(recording)).resumes).toBeGreaterThanOrEqual(2);
    });

    it('a download whose end was lost after its last byte is whole', async () => {
      await fixture.use({ idleTimeoutMs: 300 });
      const recording = wavOf(300_000);
      fixture.server.handle(
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
      expect(await fixture.archived(recording)).toMatchObject({ resumes: 1 });
    });

    it('a download that only ever stalls fails, be it before or after the headers', async () => {
      await fixture.use({ idleTimeoutMs: 40 });
      fixture.server.handle(() => undefined);
      expect(await fixture.failed()).toMatchObject({ code: 'DOWNLOAD_FAILED', retryable: true });
      fixture.server.handle(
        serve(wavOf(500), { breaks: Array.from({ length: 50 }, () => 100), breakBy: 'stall' }),
      );
      expect(await fixture.failed()).toMatchObject({
        code: 'DOWNLOAD_FAILED',
        message: /delivered nothing for 0 s/,
      });
    });

    it('a download that breaks off is resumed with a fresh URL when the old one has expired meanwhile', async () => {
      const recording = wavOf(500_000);
      const broken = gate();
      const handler = serve(recording, { etag: ETAG, ranges: true, breaks: [200_000], breakBy: 'end' });
      const hold = async (request: Parameters<typeof handler>[0], reply: Reply) => {
        const held: Reply = { ...reply, end: () => void broken.passed.then(() => reply.end()) };
        await handler(request, held);
      };
      fixture.server.handle(inTurn(hold, handler));
      const { promise: half, resolve } = Promise.withResolvers<void>();
      const result = fixture.archived(recording, {
        urls: [fixture.url(`/x?e=${unixSeconds(60)}`), fixture.url('/fresh')],
        onProgress: (bytes) => bytes >= 200_000 - 44 && resolve(),
      });
      await half;
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 120_000 });
      broken.open();
      expect(await result).toMatchObject({ urlRefreshes: 1, resumes: 1 });
      expect(fixture.server.requests[1]?.target).toContain('/fresh');
      expect(fixture.server.requests[1]?.rangeFrom).toBeGreaterThan(0);
    });

    it('a download that breaks off is resumed with a fresh URL when the old one is refused', async () => {
      const recording = wavOf(500_000);
      const handler = serve(recording, { etag: ETAG, ranges: true, breaks: [200_000], breakBy: 'end' });
      fixture.server.handle(inTurn(handler, respond(403), handler));
      expect(await fixture.archived(recording)).toMatchObject({ urlRefreshes: 1, resumes: 1 });
    });

    it('a download begins anew when the rest does not repeat the date that it was requested with', async () => {
      const whole = wavOf(300_000);
      const dated = serve(whole, { lastModified: LAST_MODIFIED, ranges: true, breaks: [100_000] });
      fixture.server.handle((request, reply) => {
        if (request.rangeFrom === undefined) return dated(request, reply);
        expect(request.headers.get('if-range')).toBe(LAST_MODIFIED);
        const rest = whole.subarray(request.rangeFrom);
        return respond(206, rest, {
          'content-range': `bytes ${request.rangeFrom}-${whole.length - 1}/${whole.length}`,
        })(request, reply);
      });
      expect(await fixture.archived(whole)).toMatchObject({ resumes: 0 });
    });

    it('a download never joins parts of two recordings, and ends, where parts have no validator', async () => {
      fixture.server.handle((request, reply) => {
        const recording = wavOf(300_000);
        const from = request.rangeFrom;
        if (from === undefined)
          return serve(recording, { etag: ETAG, ranges: true, breaks: [100_000] })(request, reply);
        return respond(206, recording.subarray(from), {
          'content-range': `bytes ${from}-${recording.length - 1}/${recording.length}`,
        })(request, reply);
      });
      expect(await fixture.failed()).toMatchObject({ code: 'RECORDING_TRUNCATED', retryable: true });
      expect(fixture.server.requests.length).toBeLessThan(30);
    });

    it('a download begins anew when the rest does not repeat the ETag', async () => {
      const whole = wavOf(300_000);
      const tagged = serve(whole, { etag: ETAG, ranges: true, breaks: [100_000] });
      fixture.server.handle((request, reply) => {
        if (request.rangeFrom === undefined) return tagged(request, reply);
        const rest = whole.subarray(request.rangeFrom);
        return respond(206, rest, {
          'content-range': `bytes ${request.rangeFrom}-${whole.length - 1}/${whole.length}`,
        })(request, reply);
      });
      expect(await fixture.archived(whole)).toMatchObject({ resumes: 0 });
    });

    it('a download begins anew when the recording has changed meanwhile', async () => {
      const [old, changed] = [wavOf(500_000), wavOf(500_000)];
      fixture.server.handle(
        inTurn(
          serve(old, { etag: ETAG, ranges: true, breaks: [200_000], breakBy: 'end' }),
          serve(changed, { etag: '"v2"', ranges: true }),
        ),
      );
      expect(await fixture.archived(changed)).toMatchObject({ resumes: 0 });
      // The answer to the range was the whole new recording: nothing is asked for twice.
      expect(fixture.server.requests).toHaveLength(2);
    });

    it.each([
      ['another ETag', { etag: '"v2"' }],
      ['no ETag', {}],
      ['another place', { etag: ETAG, 'content-range': 'bytes 5-499999/500000' }],
      ['another size', { etag: ETAG, 'content-range': 'bytes {from}-600000/600001' }],
      ['no place', { etag: ETAG, 'content-range': 'none' }],
      ['a coding', { etag: ETAG, 'content-encoding': 'gzip' }],
    ] as const)('a download begins anew when the rest comes with %s', async (_name, headers) => {
      const recording = wavOf(500_000);
      fixture.server.handle(
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
      expect(await fixture.archived(recording)).toMatchObject({ resumes: 0 });
      expect(fixture.server.requests).toHaveLength(3);
    });
  });
});
