import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isVoicemailError } from '../../src/domain/errors.ts';
import { interpretVoicemail } from '../../src/kore/voicemail.ts';
import { parseManifest, parsePartialManifest } from '../../src/storage/documents.ts';
import { manifestKey, partialManifestKey } from '../../src/storage/layout.ts';
import { archiveSession } from '../../src/workers/archive-session.ts';
import { openTestArchive, type TestArchive } from '../support/archive-stores.ts';
import { type MediaServer, respond, serve, startMediaServer } from '../support/media-server.ts';
import { bytesOf, sha256 } from '../support/storage-bodies.ts';
import { createHarness, type TransferHarness } from '../support/transfers.ts';

const RUNS = Number(process.env.PROPERTY_RUNS ?? 200);
const SEED = Number(process.env.PROPERTY_SEED ?? 20_251_125);
const never = new AbortController().signal;
const FILES = ['base.wav', 'amr-nb.amr', 'm4a.m4a', 'plain.mp3', 'opus.ogg'].map((name) =>
  readFileSync(new URL(`../fixtures/audio/${name}`, import.meta.url)),
);

const parts = fc.record({
  file: fc.constantFrom(...FILES),
  flips: fc.array(fc.tuple(fc.nat(127), fc.nat(255)), { maxLength: 3 }),
  keep: fc.oneof(fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true })),
  behind: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(100) }),
  framing: fc.constantFrom('length' as const, 'chunks' as const),
});
/** Where Kore's answer is changed, as a share of its length, and into which byte. */
const edits = fc.array(
  fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.integer({ min: 32, max: 126 })),
  {
    maxLength: 2,
  },
);

describe('whatever has become of recordings and of the answer of Kore', () => {
  let archive: TestArchive;
  let media: MediaServer;
  let harness: TransferHarness;
  beforeAll(async () => {
    archive = await openTestArchive('file');
    media = await startMediaServer();
    harness = createHarness(archive.store);
  });
  afterAll(async () => {
    await harness.close();
    await media.close();
    await archive.close();
  });

  it('what arrives whole is archived with its hash, and cut audio is never called verified', async () => {
    let count = 0;
    const verdicts: Record<string, number> = {};
    await fc.assert(
      fc.asyncProperty(fc.array(parts, { minLength: 1, maxLength: 2 }), edits, async (mutations, changes) => {
        count += 1;
        const session = { botId: 'st-1', sessionId: `67aa38026e199c8f${String(count).padStart(8, '0')}` };
        const served = mutations.map(({ file, flips, keep, behind }) => {
          const mutated = Buffer.from(file);
          for (const [at, byte] of flips) mutated[at] = byte;
          return Buffer.concat([
            mutated.subarray(0, Math.floor(keep * file.length)),
            bytesOf(behind, behind),
          ]);
        });
        const urls = served.map((_, index) => `${media.origin}/${count}/${index}?s=signature`);
        media.handle((request, reply) => {
          const index = urls.indexOf(media.origin + request.target);
          const bytes = served[index];
          const handler = bytes
            ? serve(bytes, { framing: mutations[index]?.framing ?? 'length' })
            : respond(404);
          return handler(request, reply);
        });
        const listed = urls.map((fileUrl, index) => ({ fileName: `${index}.wav`, fileUrl }));
        const body = Buffer.from(JSON.stringify({ status: 'success', 'voicemail recording': listed }));
        for (const [share, byte] of changes) {
          const at = Math.floor(share * (body.length - 1));
          // Another port may be anybody's.
          const isOrigin = urls.some((url) => {
            const start = body.indexOf(url);
            return start >= 0 && at >= start && at < start + media.origin.length + 1;
          });
          if (!isOrigin) body[at] = byte;
        }
        const deps = {
          fetchVoicemail: async () => interpretVoicemail({ status: 200, headers: {}, body: body.toString() }),
          store: archive.store,
          transfer: harness.transfer,
          now: () => new Date(),
          onProgress: () => undefined,
        };
        const run = (settleDoubt: boolean): Promise<unknown> =>
          archiveSession({ ...session, force: false, callClass: 'live', settleDoubt }, deps, never).catch(
            (error: unknown) => error,
          );
        const first = await run(false);
        const outcome = isVoicemailError(first, 'RECORDING_TRUNCATED') ? await run(true) : first;
        if (outcome instanceof Error) {
          expect(isVoicemailError(outcome), outcome.message).toBe(true);
          expect(isVoicemailError(outcome, 'INTERNAL'), outcome.message).toBe(false);
        }
        const whole = await archive.store.read(manifestKey(session), never);
        const partial = await archive.store.read(partialManifestKey(session), never);
        const manifest = whole
          ? parseManifest(whole, 'manifest')
          : partial && parsePartialManifest(partial, 'partial');
        verdicts[whole ? 'archived' : partial ? 'partial' : 'failed'] =
          (verdicts[whole ? 'archived' : partial ? 'partial' : 'failed'] ?? 0) + 1;
        for (const entry of manifest?.recordings ?? []) {
          const index = served.findIndex((bytes) => sha256(bytes) === entry.sha256);
          const [bytes, mutation] = [served[index], mutations[index]];
          expect(bytes && (await archive.get(entry.key)).equals(bytes)).toBe(true);
          const state = entry.integrity?.state ?? 'none';
          verdicts[state] = (verdicts[state] ?? 0) + 1;
          const isCutWav =
            mutation?.file === FILES[0] && mutation?.flips.length === 0 && mutation?.behind === 0;
          if (isCutWav && bytes && bytes.length < (FILES[0]?.length ?? 0)) expect(state).toBe('suspect');
        }
        if (manifest && changes.length === 0) {
          const hashes = manifest.recordings.map((entry) => entry.sha256);
          const missing = partial && !whole ? parsePartialManifest(partial, 'partial').missing : [];
          for (const [index, bytes] of served.entries()) {
            if (hashes.includes(sha256(bytes))) continue;
            // There is nothing of it, or it is text.
            const code = bytes.length === 0 ? 'RECORDING_EMPTY' : 'RECORDING_NOT_AUDIO';
            expect(missing).toContainEqual(expect.objectContaining({ fileName: `${index}.wav`, code }));
          }
        }
      }),
      { numRuns: RUNS, seed: SEED },
    );
    expect(verdicts.archived ?? 0, JSON.stringify(verdicts)).toBeGreaterThan(RUNS / 10);
    expect(verdicts.verified ?? 0, JSON.stringify(verdicts)).toBeGreaterThan(RUNS / 10);
    expect(await archive.leftovers()).toEqual([]);
  }, 600_000);
});
