import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isVoicemailError } from '../../src/domain/errors.ts';
import type { TransferredRecording } from '../../src/domain/recording.ts';
import { ARCHIVE_KINDS, openTestArchive, type TestArchive } from '../support/archive-stores.ts';
import { wav } from '../support/audio.ts';
import {
  BASE,
  CONTAINER_FILES,
  FRAMINGS,
  fixture,
  mutate,
  serveFramed,
} from '../support/irregular-recordings.ts';
import { type MediaServer, serve, startMediaServer } from '../support/media-server.ts';
import { bytesOf } from '../support/storage-bodies.ts';
import { createHarness, type TransferHarness } from '../support/transfer-harness.ts';

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

  it('a recording that comes through at last has exactly its bytes, whatever a server does', async () => {
    await fc.assert(
      fc.asyncProperty(sizes, partSizes, servings, fc.boolean(), async (size, partBytes, serving, isWav) => {
        const noise = bytesOf(size, size + 1);
        // Its first byte keeps the noise from looking like anything known.
        noise[0] = 0x01;
        const recording = isWav ? wav(noise) : noise;
        const { etag, breaks, ...rest } = serving;
        const endsUntold = !isWav && rest.framing === 'close';
        // Nothing but itself tells where noise ends that has no length: what came twice in the same way is taken.
        if (endsUntold) rest.breakBy = 'end';
        const breakAt = [...new Set(breaks.map((share) => Math.floor(share * recording.length)))];
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
        const sha256 = createHash('sha256').update(recording).digest('hex');
        const state = isWav ? 'verified' : 'suspect';
        expect(outcome).toMatchObject({ bytes: recording.length, sha256, integrity: { state } });
        const fullKey = archive.store.fullKey(key);
        expect((await archive.get(fullKey)).equals(recording)).toBe(true);
        stored.push(fullKey);
      }),
      { numRuns: 60 },
    );
    expect(await archive.list()).toEqual([...stored].sort());
    expect(await archive.leftovers()).toEqual([]);
  }, 120_000);
});

/** `PROPERTY_RUNS=10000` takes some minutes. */
const MUTATIONS = Number(process.env.PROPERTY_RUNS ?? 200);
const SEED = Number(process.env.PROPERTY_SEED ?? 20_251_125);

const FILES = [BASE, ...[...CONTAINER_FILES, 'ffmpeg-pipe.wav'].map(fixture)];

/** What may have happened to a file before it is served: bytes of its header changed, cut, or something behind it. */
const mutations = fc.record({
  file: fc.constantFrom(...FILES),
  flips: fc.array(fc.tuple(fc.nat(127), fc.nat(255)), { maxLength: 4 }),
  keep: fc.oneof(
    { weight: 3, arbitrary: fc.constant(1) },
    { weight: 2, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }) },
  ),
  behind: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(100) }),
});

describe('a changed recording', () => {
  let archive: TestArchive;
  let server: MediaServer;
  let harness: TransferHarness;

  beforeAll(async () => {
    archive = await openTestArchive('file');
    server = await startMediaServer();
    harness = createHarness(archive.store);
  });

  afterAll(async () => {
    await harness.close();
    await server.close();
    await archive.close();
  });

  it('a changed recording ends in the archive with its bytes, and verified only where they are all there', async () => {
    let count = 0;
    let verified = 0;
    const run = async (settleDoubt: boolean): Promise<unknown> =>
      harness
        .run({ key: `${count}`, urls: [`${server.origin}/x`], settleDoubt })
        .catch((error: unknown) => error);
    await fc.assert(
      fc.asyncProperty(
        mutations,
        fc.constantFrom(...FRAMINGS),
        fc.array(fc.nat(30_000), { maxLength: 2 }),
        async (mutation, framing, cuts) => {
          const { file, flips, keep, behind } = mutation;
          const bytes = mutate(file, mutation);
          server.handle(serveFramed(framing, bytes, cuts));
          count += 1;
          const first = await run(false);
          const outcome = isVoicemailError(first, 'RECORDING_TRUNCATED') ? await run(true) : first;
          if (isVoicemailError(outcome)) {
            // The only reasons to have no bytes of a body that came whole: there are none, or they are text.
            const code = bytes.length === 0 ? 'RECORDING_EMPTY' : 'RECORDING_NOT_AUDIO';
            expect(outcome).toMatchObject({ code, retryable: true });
            return;
          }
          const result = outcome as TransferredRecording;
          const stored = await archive.get(archive.store.fullKey(`${count}`));
          const sha256 = createHash('sha256').update(stored).digest('hex');
          expect(result).toMatchObject({ bytes: stored.length, sha256 });
          const { state, notes } = result.integrity;
          if (framing !== 'close' || state === 'verified') expect(stored.equals(bytes)).toBe(true);
          expect(notes.length > 0).toBe(state === 'suspect');
          if (state === 'verified') verified += 1;
          // An untouched header claims a size: a cut file is never taken for a whole one.
          const isCutWav = flips.length === 0 && keep < 1 && behind === 0 && file === BASE;
          if (isCutWav && bytes.length < file.length) expect(state).toBe('suspect');
          if (flips.length === 0 && keep === 1 && behind === 0) expect(state).not.toBe('suspect');
        },
      ),
      { numRuns: MUTATIONS, seed: SEED },
    );
    expect(verified).toBeGreaterThan(MUTATIONS / 20);
    expect(await archive.leftovers()).toEqual([]);
  }, 600_000);
});
