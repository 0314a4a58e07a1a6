import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { parseManifest } from '../../src/storage/documents.ts';
import { manifestKey, sessionPrefix } from '../../src/storage/layout.ts';
import { verifyArchive } from '../../src/verification/verify.ts';
import { archiveSession } from '../../src/workers/archive-session.ts';
import { ARCHIVE_KINDS, openTestArchive, type TestArchive } from '../support/archive-stores.ts';
import { wavOf } from '../support/audio.ts';
import { type Handler, type MediaServer, respond, startMediaServer } from '../support/media-server.ts';
import { sha256 } from '../support/storage-bodies.ts';
import { createHarness, type TransferHarness } from '../support/transfer-harness.ts';

const never = new AbortController().signal;
const CUT_AT = 800;
const cut = (bytes: Buffer) => bytes.subarray(0, CUT_AT);

describe.each(ARCHIVE_KINDS)('a session archived again by force (%s)', (kind) => {
  let archive: TestArchive;
  let media: MediaServer;
  let harness: TransferHarness;
  let count = 0;
  /** What is served at each path. */
  const served = new Map<string, Handler>();

  beforeAll(async () => {
    archive = await openTestArchive(kind);
    media = await startMediaServer();
    media.handle((request, reply) => served.get(request.target)?.(request, reply));
    harness = createHarness(archive.store);
  });

  beforeEach(() => {
    count += 1;
    served.clear();
  });

  afterAll(async () => {
    await harness.close();
    await media.close();
    await archive.close();
  });

  /** A session of the recordings `one.wav` and `two.wav`, when the wait for whole ones is over. */
  function prepare() {
    const session = { botId: 'st-1', sessionId: `67aa38026e199c8f470e${String(count).padStart(4, '0')}` };
    const recordings = ['one.wav', 'two.wav'].map((name) => ({
      fileName: name,
      fileUrl: `${media.origin}/${name}`,
    }));
    const deps = {
      fetchVoicemail: async () => ({
        readiness: 'ready' as const,
        status: 'success',
        recordings,
        withoutUrl: [],
        transcriptions: [],
      }),
      store: archive.store,
      transfer: harness.transfer,
      now: () => new Date(),
      onProgress: () => undefined,
    };
    const prefix = sessionPrefix(session);
    return {
      session,
      keyOf: (name: string) => prefix + name,
      serve: (name: string, bytes: Buffer) => served.set(`/${name}`, respond(200, bytes)),
      archiveIt: (force: boolean) =>
        archiveSession({ ...session, force, callClass: 'live', settleDoubt: true }, deps, never),
      names: async () => {
        const keys = await archive.list();
        return keys.filter((key) => key.startsWith(archive.store.fullKey(prefix.slice(0, -1))));
      },
      manifest: async () =>
        parseManifest(await archive.get(archive.store.fullKey(manifestKey(session))), 'manifest'),
    };
  }

  it('a forced archive keeps a whole recording where a cut one comes, and replaces it by a whole one', async () => {
    const voicemail = prepare();
    const one = wavOf(1_000);
    const [two, otherOne, otherTwo] = [wavOf(900), wavOf(600), wavOf(700)];
    voicemail.serve('one.wav', one);
    voicemail.serve('two.wav', two);
    await voicemail.archiveIt(false);
    const before = await voicemail.manifest();
    const names = await voicemail.names();

    voicemail.serve('one.wav', cut(one));
    voicemail.serve('two.wav', otherTwo);
    await voicemail.archiveIt(true);
    const after = await voicemail.manifest();
    expect(after.revision).toBe(2);
    expect(after.recordings[0]).toEqual(before.recordings[0]);
    expect(after.recordings[1]).toMatchObject({
      key: before.recordings[1]?.key,
      sha256: sha256(otherTwo),
      integrity: { state: 'verified' },
    });
    expect((await archive.get(after.recordings[0]?.key ?? '')).equals(one)).toBe(true);
    expect((await archive.get(after.recordings[1]?.key ?? '')).equals(otherTwo)).toBe(true);
    expect(await voicemail.names()).toEqual(names);
    expect(await archive.leftovers()).toEqual([]);

    voicemail.serve('one.wav', otherOne);
    await voicemail.archiveIt(true);
    const [whole] = (await voicemail.manifest()).recordings;
    expect(whole?.sha256).toBe(sha256(otherOne));
    expect((await archive.get(whole?.key ?? '')).equals(otherOne)).toBe(true);
  });

  it.each([
    ['at the same size', (bytes: Buffer) => Buffer.from(bytes).fill(1, 500, 501)],
    ['to its beginning', (bytes: Buffer) => bytes.subarray(0, 100)],
  ])(
    'a forced archive replaces a recording by a cut one where it was changed in the archive %s',
    async (_, change) => {
      const voicemail = prepare();
      const one = wavOf(1_000).fill(7, 400);
      voicemail.serve('one.wav', one);
      voicemail.serve('two.wav', wavOf(900));
      await voicemail.archiveIt(false);
      const info = { contentType: 'audio/wav' };
      await archive.store.write(voicemail.keyOf('one.wav'), change(one), info, 'replace', never);

      voicemail.serve('one.wav', cut(one));
      await voicemail.archiveIt(true);
      const [entry] = (await voicemail.manifest()).recordings;
      expect(entry).toMatchObject({ bytes: CUT_AT, integrity: { state: 'suspect', end: 'missing' } });
      expect((await archive.get(entry?.key ?? '')).equals(cut(one))).toBe(true);
      const findings: unknown[] = [];
      const deps = {
        store: archive.store,
        concurrency: 1,
        settleMs: 0,
        onFinding: async (finding: unknown) => void findings.push(finding),
      };
      await verifyArchive({ kind: 'sessions', sessions: [voicemail.session] }, deps, never);
      expect(findings).toEqual([]);
    },
  );
});
