import { randomBytes } from 'node:crypto';
import { describe, expect, it, vi } from 'vitest';
import type { ArchiveStore } from '../../src/storage/store.ts';
import { ARCHIVE_KINDS } from '../support/archive-stores.ts';
import { wav, wavOf } from '../support/audio.ts';
import {
  head,
  inTurn,
  type MediaServer,
  type Reply,
  respond,
  serve,
  startMediaServer,
} from '../support/media-server.ts';
import { ETAG, gate, MIB, transferFixture } from '../support/transfer-fixture.ts';
import { createHarness, type TransferRun } from '../support/transfer-harness.ts';

/** Resolves when the server has got rid of nothing more for a while. */
async function sendingHasStopped(server: MediaServer): Promise<void> {
  let before = -1;
  const unchanged = (): boolean => {
    const same = before === server.writtenBytes;
    before = server.writtenBytes;
    return same;
  };
  await vi.waitUntil(unchanged, { interval: 200, timeout: 60_000 });
}

describe.each(ARCHIVE_KINDS)('a transfer into the archive (%s)', (kind) => {
  const fixture = transferFixture(kind);

  describe('content that is no recording', () => {
    it.each([
      ['HTML', '<!doctype html><title>Sign in</title>'],
      ['JSON', '\ufeff {"errors":[{"msg":"expired"}]}'],
      ['XML', '<?xml version="1.0"?><Error><Code>SlowDown</Code></Error>'],
    ])('%s with status 200 and an audio type is refused', async (name, body) => {
      fixture.server.handle(respond(200, body, { 'content-type': 'audio/wav' }));
      const error = await fixture.failed();
      expect(error).toMatchObject({
        code: 'RECORDING_NOT_AUDIO',
        retryable: true,
        host: `127.0.0.1:${fixture.server.port}`,
      });
      expect(error.message).toContain(name);
      expect(fixture.server.requests).toHaveLength(3);
    });

    it('a page without a length is refused as a page', async () => {
      fixture.server.handle(serve(Buffer.from('<html>Sign in</html>'), { framing: 'close' }));
      expect(await fixture.failed()).toMatchObject({ code: 'RECORDING_NOT_AUDIO' });
    });

    it.each([
      ['with a length', respond(200)],
      ['in chunks', serve(Buffer.alloc(0), { framing: 'chunks' })],
      ['as HTTP 204', (_request: unknown, reply: Reply) => reply.write(head(204))],
    ])('zero bytes %s are refused', async (_name, handler) => {
      fixture.server.handle(handler);
      expect(await fixture.failed()).toMatchObject({ code: 'RECORDING_EMPTY', retryable: true });
      expect(fixture.server.requests).toHaveLength(3);
    });

    it('a connection that closes without an answer is tried again', async () => {
      fixture.server.handle(serve(Buffer.alloc(0), { framing: 'close' }));
      expect(await fixture.failed()).toMatchObject({ code: 'RECORDING_EMPTY', retryable: true });
      const recording = wavOf(2000);
      fixture.server.handle(serve(recording, { framing: 'close', breaks: [0, 0, 0, 0], breakBy: 'reset' }));
      await fixture.archived(recording);
    });

    it('a single wrong answer is overcome with fresh metadata', async () => {
      const recording = wavOf(2000);
      fixture.server.handle(inTurn(respond(200), respond(200, '<html>busy</html>'), serve(recording)));
      expect((await fixture.archived(recording)).urlRefreshes).toBe(2);
    });
  });

  describe('a recording that is too large', () => {
    it('a recording that is too large is refused before reading when its length says so', async () => {
      let reply: Reply | undefined;
      fixture.server.handle(async (_request, replyTo) => {
        reply = replyTo;
        await replyTo.write(head(200, { 'content-length': 2 * 2 ** 30 }));
      });
      expect(await fixture.failed()).toMatchObject({ code: 'RECORDING_TOO_LARGE', retryable: false });
      expect(reply).toBeDefined();
      expect(fixture.server.requests).toHaveLength(1);
    });

    it('a recording that is too large is refused while reading when no length says so', async () => {
      await fixture.use({ maxRecordingBytes: MIB });
      const endless = randomBytes(64 * 1024);
      let stopped = false;
      fixture.server.handle(async (_request, reply) => {
        await reply.write(head(200));
        for (let bytes = 0; bytes < 64 * MIB; bytes += endless.length) await reply.write(endless);
        stopped = true;
      });
      expect(await fixture.failed()).toMatchObject({ code: 'RECORDING_TOO_LARGE' });
      await vi.waitUntil(() => stopped, { timeout: 60_000 });
      expect(fixture.server.requests).toHaveLength(1);
    });

    it('a recording of exactly the allowed size is archived', async () => {
      await fixture.use({ maxRecordingBytes: 100_000 });
      const recording = wavOf(100_000);
      fixture.server.handle(serve(recording, { framing: 'chunks' }));
      await fixture.archived(recording);
    });
  });

  describe('a server with faults', () => {
    it('a download is tried again after passing faults', async () => {
      const recording = wavOf(2000);
      const dropped = (_request: unknown, reply: Reply) => reply.reset();
      fixture.server.handle(
        inTurn(respond(503), dropped, respond(429, '', { 'retry-after': 0 }), respond(500), serve(recording)),
      );
      expect(await fixture.archived(recording)).toMatchObject({ urlRefreshes: 0 });
    });

    it('a download is paused for as long as the server asks', async () => {
      fixture.server.handle(respond(503, '', { 'retry-after': 120 }));
      expect(await fixture.failed()).toMatchObject({ code: 'DOWNLOAD_FAILED', retryAfterMs: 120_000 });
      expect(fixture.server.requests).toHaveLength(1);
    });

    it('a download fails when nobody answers', async () => {
      const port = fixture.server.port;
      await fixture.server.close();
      const error = await fixture.failed({ urls: [`http://127.0.0.1:${port}/x?s=signature`] });
      expect(error).toMatchObject({ code: 'DOWNLOAD_FAILED', message: /ECONNREFUSED/ });
      fixture.server = await startMediaServer();
    });

    it.each(['x-chunked', 'chunked, identity', 'gzip, chunked', 'gzip\r\nTransfer-Encoding: chunked'])(
      'a download fails on the transfer coding %j, whose end or content is unknown',
      async (coding) => {
        fixture.server.handle(async (_request, reply) => {
          await reply.write(head(200, { 'content-type': 'audio/wav', 'transfer-encoding': coding }));
          await reply.write(wavOf(2000).subarray(0, 1000));
          reply.end();
        });
        expect(await fixture.failed()).toMatchObject({ code: 'DOWNLOAD_FAILED' });
      },
    );

    it('an answer through a proxy (HTTP 203) is accepted', async () => {
      const recording = wavOf(2000);
      fixture.server.handle(respond(203, recording));
      await fixture.archived(recording);
    });

    it('a download fails on an answer that is no valid HTTP', async () => {
      fixture.server.handle(respond(418, 'bad'));
      expect(await fixture.failed()).toMatchObject({ code: 'DOWNLOAD_FAILED', message: /HTTP 418/ });
      expect(fixture.server.requests).toHaveLength(1);
    });
  });

  describe('a cancelled transfer', () => {
    const reason = new Error('shutting down');

    async function cancelled(run: Partial<TransferRun>): Promise<void> {
      await expect(fixture.harness.run({ key: fixture.key, urls: [fixture.url()], ...run })).rejects.toBe(
        reason,
      );
    }

    it('a transfer that is cancelled before it begins sends no request', async () => {
      await cancelled({ signal: AbortSignal.abort(reason) });
      expect(fixture.server.requests).toHaveLength(0);
    });

    it('a transfer that is cancelled while it waits for an answer ends with the reason', async () => {
      const stop = new AbortController();
      fixture.server.handle(() => stop.abort(reason));
      await cancelled({ signal: stop.signal });
    });

    it('a transfer that is cancelled while it receives closes the connection', async () => {
      const stop = new AbortController();
      let stopped = false;
      fixture.server.handle(async (_request, reply) => {
        await reply.write(head(200, { 'content-length': 100 * MIB }));
        await reply.write(wav(Buffer.alloc(0), { riffBytes: 100 * MIB - 8 }));
        for (let piece = 0; piece < 99; piece++) await reply.write(Buffer.alloc(MIB));
        stopped = true;
      });
      await cancelled({ signal: stop.signal, onProgress: (bytes) => bytes > 10 * MIB && stop.abort(reason) });
      await vi.waitUntil(() => stopped, { timeout: 60_000 });
    });

    it('a transfer that is cancelled while it waits for memory ends with the reason', async () => {
      const stop = new AbortController();
      fixture.server.handle(serve(wavOf(1000)));
      const others = await fixture.harness.memory.acquire(fixture.harness.memory.limitBytes, {}, stop.signal);
      const result = cancelled({ signal: stop.signal });
      await vi.waitUntil(() => fixture.harness.memory.waiting === 1, { timeout: 60_000 });
      stop.abort(reason);
      await result;
      others();
    });

    it('a transfer that is cancelled while it pauses between tries ends with the reason', async () => {
      const stop = new AbortController();
      fixture.server.handle((request, reply) => {
        setImmediate(() => stop.abort(reason));
        return respond(503, '', { 'retry-after': 4 })(request, reply);
      });
      await cancelled({ signal: stop.signal });
    });
  });

  describe('limits', () => {
    /** The same archive, reading a body only as the gate allows. */
    function slowStore(beforeChunk: () => Promise<void>): ArchiveStore {
      return {
        ...fixture.archive.store,
        writeStream(to, body, info, mode, signal) {
          async function* slowly() {
            for await (const chunk of body.chunks) {
              await beforeChunk();
              yield chunk;
            }
          }
          return fixture.archive.store.writeStream(
            to,
            { ...body, sha256: () => body.sha256(), chunks: slowly() },
            info,
            mode,
            signal,
          );
        },
      };
    }

    it('a transfer does not read ahead of a slow archive', async () => {
      await fixture.harness.close();
      const recording = wavOf(50 * MIB);
      fixture.server.handle(serve(recording));
      const slow = gate();
      const { promise: reading, resolve } = Promise.withResolvers<void>();
      let received = 0;
      fixture.harness = createHarness(
        slowStore(() => {
          resolve();
          return slow.passed;
        }),
      );
      const result = fixture.archived(recording, {
        onProgress(bytes) {
          received = bytes;
        },
      });
      await reading;
      // What the sockets hold between them is all that is sent.
      await sendingHasStopped(fixture.server);
      expect(received).toBeLessThan(256 * 1024);
      expect(fixture.server.writtenBytes).toBeLessThan(20 * MIB);
      slow.open();
      await result;
    });

    it('a transfer is not aborted because the archive is slower than the idle timeout', async () => {
      await fixture.harness.close();
      const recording = wavOf(4 * MIB);
      fixture.server.handle(serve(recording));
      const slow = gate();
      const { promise: reading, resolve: reads } = Promise.withResolvers<void>();
      vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
      fixture.harness = createHarness(
        slowStore(() => {
          reads();
          return slow.passed;
        }),
        { idleTimeoutMs: 10_000 },
      );
      const result = fixture.archived(recording);
      await reading;
      // An hour in which the archive takes nothing.
      vi.advanceTimersByTime(3_600_000);
      slow.open();
      expect(await result).toMatchObject({ resumes: 0 });
      expect(fixture.server.requests).toHaveLength(1);
    });

    it('a transfer is aborted once the source itself delivers nothing for the idle timeout', async () => {
      await fixture.harness.close();
      const recording = wavOf(4 * MIB);
      fixture.server.handle(
        serve(recording, { etag: ETAG, ranges: true, breaks: [2 * MIB], breakBy: 'stall' }),
      );
      vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
      fixture.harness = createHarness(fixture.archive.store, { idleTimeoutMs: 10_000 });
      const result = fixture.archived(recording);
      // Each tick counts only while the source is waited for, so how many it takes is left open.
      await vi.waitUntil(
        () => {
          vi.advanceTimersByTime(2500);
          return fixture.server.requests.length === 2;
        },
        { timeout: 60_000 },
      );
      expect(await result).toMatchObject({ resumes: 1 });
    });

    it('many transfers together stay within the memory budget', async () => {
      const recording = wavOf(3 * MIB);
      fixture.server.handle(serve(recording));
      let most = 0;
      await fixture.use({
        memoryBytes: 8 * MIB,
        observe: {
          onBytes() {
            most = Math.max(most, fixture.harness.memory.usedBytes);
          },
        },
      });
      await Promise.all(
        Array.from({ length: 12 }, (_, index) =>
          fixture.archived(recording, { key: `${fixture.key}-${index}` }),
        ),
      );
      expect(most).toBeGreaterThan(0);
      expect(most).toBeLessThanOrEqual(8 * MIB);
    });

    it('a transfer works with a budget smaller than it needs', async () => {
      await fixture.use({ memoryBytes: 1000 });
      const recording = wavOf(2 * MIB);
      fixture.server.handle(serve(recording));
      await Promise.all(
        [0, 1, 2].map((index) => fixture.archived(recording, { key: `${fixture.key}-${index}` })),
      );
    });
  });
});
