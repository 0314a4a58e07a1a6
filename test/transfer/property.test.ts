import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isVoicemailError } from '../../src/domain/errors.ts';
import { ARCHIVE_KINDS, openTestArchive, type TestArchive } from '../support/archive-stores.ts';
import { wav } from '../support/audio.ts';
import { type MediaServer, serve, startMediaServer } from '../support/media-server.ts';
import { bytesOf } from '../support/storage-bodies.ts';
import { createHarness } from '../support/transfers.ts';

const KIB = 1024;

/** Around the sizes at which something changes: heads, chunks, single puts and parts of 5 MiB. */
const sizes = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 300 * KIB }) },
  { weight: 2, arbitrary: fc.integer({ min: 64 * KIB - 50, max: 64 * KIB + 50 }) },
  { weight: 1, arbitrary: fc.integer({ min: 5 * KIB * KIB - 50, max: 5 * KIB * KIB + 50 }) },
  { weight: 1, arbitrary: fc.integer({ min: 5 * KIB * KIB, max: 16 * KIB * KIB }) },
);

const LEAST_PART_BYTES = 5 * KIB * KIB;

/** The least that S3 takes, as in the archive's own store, and more. */
const partSizes = fc.oneof(
  fc.constant(LEAST_PART_BYTES),
  fc.integer({ min: LEAST_PART_BYTES + 1, max: 9 * KIB * KIB }),
);

/** A server with any sense of HTTP, and any lack of it. */
const servings = fc.record({
  etag: fc.constantFrom('"v1"', undefined),
  ranges: fc.boolean(),
  framing: fc.constantFrom('length', 'chunks', 'close'),
  breakBy: fc.constantFrom('reset', 'end'),
  breaks: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 4 }),
  pieceBytes: fc.oneof(fc.integer({ min: 500, max: 5000 }), fc.integer({ min: 5000, max: 200 * KIB })),
});

describe.each(ARCHIVE_KINDS)('whatever a server does, in the archive (%s)', (kind) => {
  let archive: TestArchive;
  let server: MediaServer;
  let count = 0;
  const stored: string[] = [];

  beforeAll(async () => {
    archive = await openTestArchive(kind);
    server = await startMediaServer();
  });

  afterAll(async () => {
    await server.close();
    await archive.close();
  });

  it('a recording that comes through at last has exactly its bytes, and otherwise there is none', async () => {
    await fc.assert(
      fc.asyncProperty(sizes, partSizes, servings, fc.boolean(), async (size, partBytes, serving, isWav) => {
        const noise = bytesOf(size, size + 1);
        // Its first byte keeps the noise from looking like anything known.
        noise[0] = 0x01;
        const recording = isWav ? wav(noise) : noise;
        const { etag, breaks, ...rest } = serving;
        const breakAt = breaks.map((share) => Math.floor(share * recording.length));
        server.handle(serve(recording, { ...rest, breaks: breakAt, ...(etag ? { etag } : {}) }));
        const key = `${count++}.wav`;
        // Parts are as large as the largest object in 10,000 of them takes.
        const store =
          partBytes === LEAST_PART_BYTES
            ? archive.store
            : archive.openAnother({ maxObjectBytes: 10_000 * partBytes });
        const harness = createHarness(store, { idleTimeoutMs: 2000 });
        const outcome: unknown = await harness
          .run({ key, urls: [`${server.origin}/x`] })
          .catch((error: unknown) => error);
        await harness.close();
        if (store !== archive.store) await store.close();
        expect(harness.memory.usedBytes).toBe(0);
        if (isVoicemailError(outcome)) {
          // Nothing but itself tells where noise ends that has no length.
          expect([outcome.code, isWav, serving.framing]).toEqual(['RECORDING_TRUNCATED', false, 'close']);
        } else {
          const sha256 = createHash('sha256').update(recording).digest('hex');
          expect(outcome).toMatchObject({ bytes: recording.length, sha256 });
          const fullKey = archive.store.fullKey(key);
          expect((await archive.get(fullKey)).equals(recording)).toBe(true);
          stored.push(fullKey);
        }
      }),
      { numRuns: 60 },
    );
    expect(await archive.list()).toEqual([...stored].sort());
    expect(await archive.leftovers()).toEqual([]);
  }, 120_000);
});
