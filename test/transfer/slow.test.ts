import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ARCHIVE_KINDS } from '../support/archive-stores.ts';
import { wavOf } from '../support/audio.ts';
import { type Handler, head, respond, serve } from '../support/media-server.ts';
import { transferParts } from '../support/transfer-fixture.ts';

const MIB = 1024 * 1024;
const LARGE = wavOf(8_000_000);
const SMALL = wavOf(480_000);

/** Sends a little every now and then until the signal, and the whole recording at once from then on. */
function trickling(recording: Buffer, release: AbortSignal): Handler {
  return async (_request, reply) => {
    await reply.write(head(200, { 'content-length': recording.length }));
    let sent = 0;
    await vi.waitUntil(
      async () => {
        if (release.aborted) return true;
        await reply.write(recording.subarray(sent, sent + 10));
        sent += 10;
        return false;
      },
      { interval: 20, timeout: 60_000 },
    );
    await reply.write(recording.subarray(sent));
  };
}

describe.each(ARCHIVE_KINDS)('a slow source, on its way into the archive (%s)', (kind) => {
  let slowIsOver: AbortController;
  beforeEach(() => {
    slowIsOver = new AbortController();
  });

  const transfers = transferParts(kind);
  // Runs before the hook of the parts, so that no download is left that never ends.
  afterEach(() => slowIsOver.abort());

  const yields = () => transfers.harness.lines.filter((line) => line.includes('yields its memory')).length;

  it('a slow source does not hold the memory that others wait for, and is still archived', async () => {
    const need = transfers.archive.store.transferMemory(LARGE.length) + MIB / 4;
    await transfers.use({ memoryBytes: 3 * need, slowCheckMs: 50 });
    const slow = trickling(LARGE, slowIsOver.signal);
    transfers.server.handle((request, reply) =>
      request.target.startsWith('/slow') ? slow(request, reply) : serve(LARGE)(request, reply),
    );
    let most = 0;
    const run = (name: string) =>
      transfers.harness.run({
        key: name,
        urls: [`${transfers.server.origin}/${name}`],
        onProgress() {
          most = Math.max(most, transfers.harness.memory.usedBytes);
        },
      });
    const slowOnes = [1, 2, 3, 4].map((index) => run(`slow-${index}`));
    await vi.waitUntil(() => transfers.harness.memory.waiting > 0, { timeout: 60_000 });
    const fastOnes = await Promise.all([1, 2, 3, 4].map((index) => run(`fast-${index}`)));
    expect(fastOnes.map(({ bytes }) => bytes)).toEqual([1, 2, 3, 4].map(() => LARGE.length));
    expect(yields()).toBeGreaterThan(0);
    slowIsOver.abort();
    for (const { bytes } of await Promise.all(slowOnes)) expect(bytes).toBe(LARGE.length);
    expect(most).toBeLessThanOrEqual(3 * need);
    for (const name of ['slow-1', 'slow-4', 'fast-1']) {
      expect((await transfers.archive.get(transfers.archive.store.fullKey(name))).equals(LARGE)).toBe(true);
    }
  });

  it('a slow source keeps its memory while nobody else wants it', async () => {
    await transfers.use({ slowCheckMs: 10 });
    transfers.server.handle(trickling(SMALL, slowIsOver.signal));
    let received = 0;
    const slow = transfers.harness.run({
      key: 'alone',
      urls: [transfers.server.origin],
      onProgress(bytes) {
        received = bytes;
      },
    });
    await vi.waitUntil(() => received >= 100, { timeout: 60_000 });
    slowIsOver.abort();
    expect((await slow).bytes).toBe(SMALL.length);
    expect([yields(), transfers.server.requests.length]).toEqual([0, 1]);
  });

  it('a slow source is archived in the end even while others wait all the time', async () => {
    await transfers.use({ memoryBytes: 1000, slowCheckMs: 25 });
    const recording = wavOf(400);
    transfers.server.handle(async (_request, reply) => {
      await reply.write(head(200, { 'content-length': recording.length }));
      let sent = 0;
      await vi.waitUntil(
        async () => {
          await reply.write(recording.subarray(sent, sent + 20));
          sent += 20;
          return sent >= recording.length;
        },
        { interval: 10, timeout: 60_000 },
      );
    });
    const all = [1, 2].map((index) =>
      transfers.harness.run({ key: `both-${index}`, urls: [transfers.server.origin] }),
    );
    expect((await Promise.all(all)).map(({ bytes }) => bytes)).toEqual([400, 400]);
    expect(yields()).toBeGreaterThan(0);
  });

  it('a slow source holds nothing while its fresh metadata is waited for', async () => {
    await transfers.use({ memoryBytes: 1000, slowCheckMs: 25 });
    const metadata = Promise.withResolvers<void>();
    transfers.server.handle((request, reply) =>
      (request.target === '/page' ? respond(200, '<html>come back later</html>') : serve(SMALL))(
        request,
        reply,
      ),
    );
    let refreshes = 0;
    const waiting = transfers.harness.transfer(
      {
        key: 'refreshed',
        recording: { fileName: 'a.wav', fileUrl: `${transfers.server.origin}/page` },
        async refresh() {
          refreshes += 1;
          await metadata.promise;
          return { fileName: 'a.wav', fileUrl: `${transfers.server.origin}/fresh` };
        },
        mode: 'absent',
      },
      new AbortController().signal,
    );
    await vi.waitUntil(() => refreshes === 1, { timeout: 60_000 });
    const other = await transfers.harness.run({ key: 'other', urls: [`${transfers.server.origin}/other`] });
    expect(other.bytes).toBe(SMALL.length);
    metadata.resolve();
    expect(await waiting).toMatchObject({ bytes: SMALL.length, urlRefreshes: 1 });
    expect(refreshes).toBe(1);
  });
});
