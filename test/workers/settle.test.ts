import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { VoicemailError } from '../../src/domain/errors.ts';
import type { SessionRef } from '../../src/domain/session.ts';
import type { Voicemail } from '../../src/domain/voicemail.ts';
import { parseTranscript } from '../../src/storage/documents.ts';
import { manifestKey, sessionPrefix, transcriptKey } from '../../src/storage/layout.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import type { Finding } from '../../src/verification/findings.ts';
import { verifyArchive } from '../../src/verification/verify.ts';
import { archiveSession } from '../../src/workers/archive-session.ts';
import { firstSettleDelay, settleSession } from '../../src/workers/settle.ts';
import { ARCHIVE_KINDS, openTestArchive, type TestArchive } from '../support/archive-stores.ts';
import { wavOf } from '../support/audio.ts';
import { describeOnEachSetup, hashOf } from '../support/each-setup.ts';
import { type Handler, type MediaServer, respond, serve, startMediaServer } from '../support/media-server.ts';
import { SPOKEN } from '../support/pipeline.ts';
import { createHarness, type TransferHarness } from '../support/transfer-harness.ts';

const HOUR_MS = 3_600_000;
const never = new AbortController().signal;

/** Audio in no container known here, so nothing in it tells its end. */
function rawOf(bytes: Buffer): Buffer {
  return Buffer.from(bytes.subarray(44).map((byte) => byte | 0x80));
}

/** An ObjectId of that time. */
function idOf(time: Date): string {
  const seconds = Math.floor(time.getTime() / 1000).toString(16);
  const random = Math.floor(Math.random() * 2 ** 48).toString(16);
  return seconds + random.padStart(16, '0');
}

const message = (id: string, text: string | null = `text of ${id}`) => ({
  _id: id,
  lang: 'en',
  components: text === null ? [] : [{ cT: 'text', data: { text } }],
});

describe.each(ARCHIVE_KINDS)('a check of an archived session (%s)', (kind) => {
  let archive: TestArchive;
  let media: MediaServer;
  let harness: TransferHarness;
  beforeAll(async () => {
    archive = await openTestArchive(kind);
    media = await startMediaServer();
    // What begins with the same number has the same bytes.
    media.handle((request, reply) => {
      const number = /\/(\d+)/.exec(request.target)?.[1] ?? '';
      requests.push(request.target.replace(/\?.*/, ''));
      const handler = handlers.get(number) ?? respond(200, audioOf(number));
      return handler(request, reply);
    });
    harness = createHarness(archive.store);
  });
  afterAll(async () => {
    await harness.close();
    await media.close();
    await archive.close();
  });

  /** Paths asked for, and what is answered otherwise than with whole audio of a known length. */
  const requests: string[] = [];
  const handlers = new Map<string, Handler>();
  const audio = new Map<string, Buffer>();
  const audioOf = (name: string): Buffer => {
    const bytes = audio.get(name) ?? wavOf(1_000);
    audio.set(name, bytes);
    return bytes;
  };
  const recording = (number: number, fileName = `${number}.wav`, variant = 'a') => ({
    fileName,
    fileUrl: `${media.origin}/${number}/${variant}?e=4000000000&s=SECRETSIGNATURE`,
  });
  const voicemail = (parts: Partial<Voicemail>): Voicemail => ({
    readiness: 'ready',
    status: 'success',
    recordings: [],
    withoutUrl: [],
    transcriptions: [],
    ...parts,
  });

  const auditOf = async (session: SessionRef) => {
    const findings: Finding[] = [];
    const deps = {
      store: archive.store,
      concurrency: 1,
      settleMs: 0,
      onFinding: async (finding: Finding) => void findings.push(finding),
    };
    const totals = await verifyArchive({ kind: 'sessions', sessions: [session] }, deps, never);
    return { findings, totals };
  };

  /** A session that is archived, and what may be done with it. */
  async function archived(listed: Partial<Voicemail>, beganHoursAgo = 0) {
    const now = new Date();
    const session = { botId: 'st-1', sessionId: idOf(new Date(now.getTime() - beganHoursAgo * HOUR_MS)) };
    const state = {
      listed: voicemail(listed),
      error: undefined as VoicemailError | undefined,
      now,
      store: archive.store as ArchiveStore,
    };
    const deps = () => ({
      fetchVoicemail: async () => {
        if (state.error) throw state.error;
        return state.listed;
      },
      store: state.store,
      transfer: harness.transfer,
      now: () => state.now,
      onProgress: () => undefined,
    });
    const archiveAgain = (force: boolean) =>
      archiveSession({ ...session, force, callClass: 'live', settleDoubt: true }, deps(), never);
    await archiveAgain(false);
    const read = async (key: string) => (await archive.store.read(key, never)) ?? Buffer.alloc(0);
    return {
      session,
      state,
      deps,
      archiveAgain,
      settle: (waits: Partial<Parameters<typeof settleSession>[1]> = {}) =>
        settleSession(
          session,
          { transcriptWaitMs: 24 * HOUR_MS, settleWaitMs: HOUR_MS, extraMs: HOUR_MS, ...waits },
          deps(),
          never,
        ),
      manifest: async () => JSON.parse((await read(manifestKey(session))).toString()),
      transcript: async () => {
        const bytes = await read(transcriptKey(session));
        return { bytes, ...parseTranscript(bytes, 'k') };
      },
      names: async () => {
        const prefix = archive.store.fullKey(`${sessionPrefix(session)}-`).slice(0, -1);
        return (await archive.list())
          .filter((key) => key.startsWith(prefix))
          .map((key) => key.slice(prefix.length))
          .sort();
      },
    };
  }

  it('a check adds a recording and a message that came late, as the next revision', async () => {
    const one = await archived({ recordings: [recording(1)], transcriptions: [message('a')] });
    one.state.listed = voicemail({
      recordings: [recording(2), recording(1)],
      transcriptions: [message('a'), message('b')],
    });
    expect(await one.settle()).toMatchObject({ added: { recordings: 1, messages: 1 }, isSettled: false });
    const manifest = await one.manifest();
    expect(manifest).toMatchObject({ revision: 2, transcript: { messages: 2 } });
    expect(manifest.recordings.map(({ fileName }: { fileName: string }) => fileName)).toEqual([
      '1.wav',
      '2.wav',
    ]);
    const { bytes, messages } = await one.transcript();
    expect(messages.map(({ id }) => id)).toEqual(['a', 'b']);
    expect(manifest.transcript.sha256).toBe(hashOf(bytes));

    one.state.now = new Date(one.state.now.getTime() + HOUR_MS);
    expect(await one.settle()).toMatchObject({ added: { recordings: 0, messages: 0 }, isSettled: true });
    expect((await one.manifest()).revision).toBe(2);
  });

  it('a check replaces a changed message, and removes none', async () => {
    const one = await archived({
      recordings: [recording(1)],
      transcriptions: [message('a'), message('b'), message('c')],
    });
    one.state.listed = voicemail({
      recordings: [recording(1)],
      transcriptions: [message('a', 'corrected'), message('c', null)],
    });
    await one.settle();
    const { messages } = await one.transcript();
    expect(messages.map(({ text }) => text)).toEqual(['corrected', 'text of b', 'text of c']);
    expect((await one.manifest()).transcript.messages).toBe(3);
  });

  it.each([
    [
      'with another name, another place and the same bytes',
      () => [recording(1, 'new.wav', 'b'), recording(2)],
    ],
    ['twice under two places', () => [recording(1), recording(2), recording(1, 'again.wav', 'b')]],
  ] as const)(
    'a check downloads a recording once that is listed %s, and remembers the place',
    async (_, listed) => {
      const one = await archived({
        recordings: [recording(1), recording(2)],
        transcriptions: [message('a')],
      });
      const [before, names] = [await one.manifest(), await one.names()];
      one.state.listed = voicemail({ recordings: listed(), transcriptions: [message('a')] });
      requests.length = 0;
      await one.settle();
      const [first, second] = before.recordings;
      const source = { ...first.source, alsoAt: ['/1/b'] };
      expect(await one.manifest()).toEqual({
        ...before,
        recordings: [{ ...first, source }, second],
        revision: 2,
      });
      expect(requests).toEqual(['/1/b']);
      await one.settle();
      await one.archiveAgain(false);
      expect(requests).toEqual(['/1/b']);
      expect((await one.manifest()).revision).toBe(2);
      expect(await one.names()).toEqual(names);
    },
  );

  it('a check does not take what shares a remembered path for the recording that was found there', async () => {
    const at = (query: string) => ({
      fileName: `${query}.wav`,
      fileUrl: `${media.origin}/1?file=${query}&e=4000000000`,
    });
    const one = await archived({ recordings: [recording(1)], transcriptions: [message('a')] });
    one.state.listed = voicemail({
      recordings: [recording(1), at('x'), at('y')],
      transcriptions: [message('a')],
    });
    await one.settle();
    expect((await one.manifest()).recordings[0].source).not.toHaveProperty('alsoAt');
  });

  describe('a recording in doubt', () => {
    const HEADER_BYTES = 44;
    const CUT_AT = HEADER_BYTES + 400;
    const listed = () => ({ recordings: [recording(7)], transcriptions: [message('a')] });
    const cut = () => respond(200, audioOf('7').subarray(0, CUT_AT));
    const unframed = () => serve(audioOf('7').subarray(0, CUT_AT), { framing: 'close' });
    afterEach(() => handlers.delete('7'));

    /** Archived as it comes, long after it began. */
    async function doubtful(handler: Handler) {
      handlers.set('7', handler);
      const one = await archived(listed(), 50);
      requests.length = 0;
      const [entry] = (await one.manifest()).recordings;
      return { ...one, entry };
    }

    it('a check replaces a cut recording by the whole one as soon as it is available, and names both', async () => {
      const one = await doubtful(cut());
      expect(one.entry.integrity).toMatchObject({ state: 'suspect', end: 'missing' });
      expect(await one.settle()).toMatchObject({ added: { better: 0 }, isSettled: false, failed: [] });
      // Once: what comes is what is there.
      expect(requests).toEqual(['/7/a']);
      expect((await one.manifest()).revision).toBe(1);

      handlers.delete('7');
      const settled = await one.settle();
      expect(settled).toMatchObject({ added: { recordings: 0, better: 1 } });
      const manifest = await one.manifest();
      const [whole, before] = manifest.recordings;
      expect(manifest).toMatchObject({ revision: 2, recordings: [{ fileName: '7.wav' }, {}] });
      expect(whole).toMatchObject({ integrity: { state: 'verified' }, sha256: hashOf(audioOf('7')) });
      expect(before).toEqual({ ...one.entry, supersededBy: whole.key });
      expect(hashOf(await archive.get(whole.key))).toBe(whole.sha256);
      expect(hashOf(await archive.get(before.key))).toBe(before.sha256);
      expect(settled.result?.recordings.map(({ key }) => key)).toEqual([whole.key]);

      requests.length = 0;
      expect(await one.settle()).toMatchObject({ isSettled: true });
      await one.archiveAgain(true);
      expect(requests).toEqual(['/7/a']);
      const forced = await one.manifest();
      expect(forced.recordings.map(({ key }: { key: string }) => key)).toEqual([whole.key, before.key]);
      const { findings } = await auditOf(one.session);
      expect(findings).toEqual([]);
    });

    it('a check keeps a cut recording when what comes is no better', async () => {
      const one = await doubtful(cut());
      const names = await one.names();
      handlers.set('7', respond(200, audioOf('7').subarray(0, CUT_AT - 100)));
      expect(await one.settle()).toMatchObject({ added: { better: 0 }, failed: [] });
      handlers.set('7', respond(503, Buffer.from('away')));
      expect(await one.settle()).toMatchObject({ failed: [{ fileName: '7.wav', isArchived: true }] });
      expect((await one.manifest()).revision).toBe(1);
      expect(await one.names()).toEqual(names);
    });

    it('a check polls for a cut recording until SETTLE_WAIT is over, and then no more', async () => {
      const one = await doubtful(cut());
      one.state.now = new Date(one.state.now.getTime() + HOUR_MS);
      expect(await one.settle()).toMatchObject({ isSettled: true });
      expect(requests.length).toBeGreaterThan(0);
      requests.length = 0;
      expect(await one.settle({ settleWaitMs: 0 })).toMatchObject({ isSettled: true });
      expect(requests).toEqual([]);
    });

    it('a recording of unknown length becomes verified when the same comes with its length', async () => {
      const sound = Buffer.from(audioOf('7'));
      handlers.set('7', serve(rawOf(sound), { framing: 'close' }));
      const one = await archived(listed(), 50);
      const [entry] = (await one.manifest()).recordings;
      expect(entry.integrity.end).toBe('unconfirmed');
      handlers.set('7', respond(200, rawOf(sound)));
      expect(await one.settle()).toMatchObject({ added: { better: 1 } });
      const { recordings, revision } = await one.manifest();
      expect(revision).toBe(2);
      expect(recordings).toEqual([
        { ...entry, integrity: expect.not.objectContaining({ end: 'unconfirmed' }) },
      ]);
    });

    it('a cut recording without a length stays named beside what was archived by force meanwhile', async () => {
      const one = await doubtful(unframed());
      const { held, reached, release } = holdingWrites(archive.store, manifestKey(one.session));
      handlers.delete('7');
      one.state.store = held;
      const stale = one.settle();
      await reached;
      one.state.store = archive.store;
      const replaced = wavOf(700);
      handlers.set('7', respond(200, replaced));
      await one.archiveAgain(true);
      release();
      await stale;
      const { recordings } = await one.manifest();
      const [forced, whole] = recordings;
      expect(forced).toMatchObject({ key: one.entry.key, sha256: hashOf(replaced) });
      expect(whole).toMatchObject({ supersededBy: forced.key, sha256: hashOf(audioOf('7')) });
      expect((await auditOf(one.session)).findings).toEqual([]);
    });
  });

  it.each([
    ['says that it knows the session no longer', new VoicemailError('SESSION_NOT_FOUND', 'gone'), false],
    ['is unavailable', new VoicemailError('KORE_UNAVAILABLE', 'away'), true],
    ['lists no messages any more', undefined, false],
  ])(
    'a check after a crash between transcript and manifest names the transcript, even if Kore %s',
    async (_, error, fails) => {
      const one = await archived({ recordings: [recording(1)], transcriptions: [message('a')] });
      const { held, reached } = holdingWrites(archive.store, manifestKey(one.session));
      one.state.store = held;
      one.state.listed = voicemail({
        recordings: [recording(1)],
        transcriptions: [message('a'), message('b')],
      });
      // This one never gets any further.
      void one.settle();
      await reached;
      expect((await auditOf(one.session)).findings).toMatchObject([{ kind: 'changed' }]);
      one.state.store = archive.store;
      one.state.listed = voicemail({ recordings: [recording(1)] });
      one.state.now = new Date(one.state.now.getTime() + HOUR_MS);
      one.state.error = error;
      const settled = one.settle();
      await (fails ? expect(settled).rejects.toBe(error) : settled);
      expect(await one.manifest()).toMatchObject({ revision: 2, transcript: { messages: 2 } });
      expect((await auditOf(one.session)).findings).toEqual([]);
    },
  );

  it.each([
    ['with another name and the same place', () => [recording(1, 'renamed.wav'), recording(2)]],
    ['no longer', () => [recording(2)]],
  ] as const)('a check leaves the manifest as it is when a recording is listed %s', async (_, listed) => {
    const one = await archived({ recordings: [recording(1), recording(2)], transcriptions: [message('a')] });
    const [before, names] = [await one.manifest(), await one.names()];
    one.state.listed = voicemail({ recordings: listed(), transcriptions: [message('a')] });
    await one.settle();
    expect(await one.manifest()).toEqual(before);
    expect(await one.names()).toEqual(names);
  });

  it('a check keeps two recordings apart that share a path', async () => {
    const at = (fileName: string, query: string) => ({
      fileName,
      fileUrl: `${media.origin}/media?file=/${query}&e=4000000000&s=SECRETSIGNATURE`,
    });
    const one = await archived({ recordings: [at('a.wav', '1')], transcriptions: [message('a')] });
    one.state.listed = voicemail({
      recordings: [at('a.wav', '1'), at('b.wav', '2')],
      transcriptions: [message('a')],
    });
    expect((await one.settle()).added.recordings).toBe(1);
    expect((await one.manifest()).recordings).toHaveLength(2);
  });

  it('a check retries a late recording that is unavailable, and logs when it gives it up', async () => {
    const one = await archived({ recordings: [recording(1)], transcriptions: [message('a')] });
    const listed = { fileName: 'late.wav', message: 'it has no URL' };
    one.state.listed = voicemail({
      recordings: [recording(1)],
      withoutUrl: [listed],
      transcriptions: [message('a')],
    });
    one.state.now = new Date(one.state.now.getTime() + HOUR_MS);
    const settled = await one.settle();
    expect(settled).toMatchObject({ isSettled: false, isAwaiting: true });
    expect(settled.failed.map(({ fileName, error }) => [fileName, error.code])).toEqual([
      ['late.wav', 'RECORDING_NOT_READY'],
    ]);
    one.state.now = settled.nextCheckAt ?? new Date(0);
    expect(await one.settle()).toMatchObject({ isSettled: true, failed: [{ fileName: 'late.wav' }] });
  });

  /** Holds the next write of a key until it is released. */
  function holdingWrites(store: ArchiveStore, key: string) {
    const reached = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    const held: ArchiveStore = {
      ...store,
      async write(at, ...rest) {
        if (at === key) {
          reached.resolve();
          await released.promise;
        }
        return store.write(at, ...rest);
      },
    };
    return { held, reached: reached.promise, release: () => released.resolve() };
  }

  it('a check that is stale does not put `absent` over a transcript that has come meanwhile', async () => {
    const one = await archived({ recordings: [recording(1)] });
    one.state.now = new Date(one.state.now.getTime() + 25 * HOUR_MS);
    const { held, reached, release } = holdingWrites(archive.store, manifestKey(one.session));
    one.state.store = held;
    const stale = one.settle();
    await reached;
    one.state.store = archive.store;
    one.state.listed = voicemail({ recordings: [recording(1)], transcriptions: [message('a')] });
    expect((await one.settle()).transcript).toBe('archived');
    release();
    expect((await stale).transcript).toBe('archived');
    expect(await one.manifest()).toMatchObject({
      revision: 2,
      transcript: { state: 'archived', messages: 1 },
    });
  });

  it('a check that is stale does not undo what was archived again by force meanwhile', async () => {
    const one = await archived({ recordings: [recording(1)] });
    one.state.listed = voicemail({ recordings: [recording(1), recording(2)] });
    const { held, reached, release } = holdingWrites(archive.store, manifestKey(one.session));
    one.state.store = held;
    const stale = one.settle();
    await reached;
    one.state.store = archive.store;
    one.state.now = new Date(one.state.now.getTime() + 1_000);
    one.state.listed = voicemail({
      recordings: [recording(3), recording(1)],
      transcriptions: [message('a')],
    });
    await one.archiveAgain(true);
    const forced = await one.manifest();
    release();
    expect(await stale).toMatchObject({ transcript: 'archived' });
    const after = await one.manifest();
    expect(after).toMatchObject({
      revision: 3,
      archivedAt: forced.archivedAt,
      transcript: forced.transcript,
    });
    expect(after.recordings.slice(0, 2)).toEqual(forced.recordings);
    expect(after.recordings.map(({ fileName }: { fileName: string }) => fileName)).toEqual([
      '3.wav',
      '1.wav',
      '2.wav',
    ]);
    const { bytes } = await one.transcript();
    expect(after.transcript.sha256).toBe(hashOf(bytes));
  });

  it('two checks at the same moment name what both have found', async () => {
    const one = await archived({ recordings: [recording(1)], transcriptions: [message('a')] });
    const { held, reached, release } = holdingWrites(archive.store, transcriptKey(one.session));
    one.state.listed = voicemail({
      recordings: [recording(1), recording(2)],
      transcriptions: [message('a'), message('b')],
    });
    one.state.store = held;
    const first = one.settle();
    await reached;
    one.state.store = archive.store;
    one.state.listed = voicemail({
      recordings: [recording(1), recording(3)],
      transcriptions: [message('a'), message('c')],
    });
    await one.settle();
    release();
    await first;
    const manifest = await one.manifest();
    expect(manifest.recordings).toHaveLength(3);
    const { bytes, messages } = await one.transcript();
    expect(messages.map(({ id }) => id)).toEqual(['a', 'c', 'b']);
    expect(manifest.transcript).toMatchObject({ sha256: hashOf(bytes), messages: 3 });
  });

  it('a check does nothing for a session that was removed', async () => {
    const one = await archived({ recordings: [recording(1)] });
    const settled = await settleSession(
      { botId: 'st-1', sessionId: 'gone' },
      { transcriptWaitMs: 0, settleWaitMs: HOUR_MS, extraMs: 0 },
      one.deps(),
      never,
    );
    expect(settled).toMatchObject({ isSettled: true, added: { recordings: 0, messages: 0 } });
  });
});

describe('the first check of an archived session', () => {
  const archivedAt = new Date('2026-03-01T12:00:00Z');
  const at = (hours: number) => new Date(archivedAt.getTime() + hours * HOUR_MS);
  const checkIn = (
    sessionId: string,
    transcript: 'pending' | 'archived',
    settleWaitMs: number,
    now = archivedAt,
    isInDoubt = false,
  ) =>
    firstSettleDelay(
      { botId: 'b', sessionId, archivedAt, transcript, isInDoubt },
      { settleWaitMs, pollDelayMs: 30_000, transcriptWaitMs: 24 * HOUR_MS },
      now,
    );

  it('the first check of an archived session is the settling check alone where TRANSCRIPT_WAIT is 0', () => {
    const session = { botId: 'b', sessionId: idOf(at(0)), archivedAt, isInDoubt: false };
    const waits = { settleWaitMs: HOUR_MS, pollDelayMs: 30_000, transcriptWaitMs: 0 };
    expect(firstSettleDelay({ ...session, transcript: 'pending' }, waits, archivedAt)).toBe(HOUR_MS);
  });

  it.each([
    ['is that for its transcript, while that is awaited', idOf(at(0)), 'pending', HOUR_MS, at(0), 30_000],
    ['comes after SETTLE_WAIT', idOf(at(0)), 'archived', HOUR_MS, at(0), HOUR_MS],
    [
      'comes after SETTLE_WAIT where nobody knows when it began',
      'no-object-id',
      'archived',
      HOUR_MS,
      at(0),
      HOUR_MS,
    ],
    [
      'comes when that is over, from its archiving on',
      idOf(at(0)),
      'archived',
      HOUR_MS,
      at(0.25),
      HOUR_MS * 0.75,
    ],
    [
      'is not needed when it began long before it was archived',
      idOf(at(-2)),
      'archived',
      HOUR_MS,
      at(0),
      undefined,
    ],
    ['is not needed when the time is over', idOf(at(0)), 'archived', HOUR_MS, at(1), undefined],
    ['is turned off by SETTLE_WAIT=0', idOf(at(0)), 'archived', 0, at(0), undefined],
  ] as const)(
    'the first check of an archived session %s',
    (_, sessionId, transcript, settleWaitMs, now, expected) => {
      expect(checkIn(sessionId, transcript, settleWaitMs, now)).toBe(expected);
    },
  );

  it.each([
    ['comes after SETTLE_WAIT', HOUR_MS, HOUR_MS],
    ['is turned off by SETTLE_WAIT=0', 0, undefined],
  ])(
    'the first check of an archived session %s when a recording is suspect, however long ago the session began',
    (_, settleWaitMs, expected) => {
      expect(checkIn(idOf(at(-50)), 'archived', settleWaitMs, archivedAt, true)).toBe(expected);
    },
  );
});

describeOnEachSetup(
  'a worker',
  (start) => {
    it('a check adds what comes late, shows it, and names it in the next revision', async () => {
      let isLate = false;
      const pipeline = await start({ work: { settleWaitMs: HOUR_MS } });
      const sessionId = pipeline.sandbox.addSession({
        recordings: [{ fileName: 'one.wav' }, { fileName: 'two.wav' }],
        transcription: [SPOKEN, SPOKEN],
        answer: (built) => {
          const [recording, ...recordings] = built['voicemail recording'] as unknown[];
          const [message, ...messages] = built.transcriptions as unknown[];
          return {
            ...built,
            'voicemail recording': isLate ? [recording, ...recordings] : [recording],
            transcriptions: isLate ? [message, ...messages] : [message],
          };
        },
      });
      await pipeline.enqueue(sessionId);
      expect((await pipeline.ends(sessionId)).recordings).toHaveLength(1);
      expect(await pipeline.manifest(sessionId)).toMatchObject({ revision: 1, transcript: { messages: 1 } });
      isLate = true;
      await pipeline.skipWaits();
      const view = await pipeline.waitFor(sessionId, ({ recordings }) => recordings?.length === 2);
      const upstream = pipeline.sandbox.session(sessionId).recordings.map((one) => one.sha256());
      expect(view).toMatchObject({ state: 'archived', progress: { recordings: 2, recordingsDone: 2 } });
      expect(view.recordings?.map(({ sha256 }) => sha256)).toEqual(upstream);
      const manifest = await pipeline.manifest(sessionId);
      expect(manifest).toMatchObject({ revision: 2, transcript: { messages: 2 } });
      expect(manifest.recordings.map(({ sha256 }) => sha256)).toEqual(upstream);
    });

    it.each([
      ['a worker that archives it', { priority: 'live' as const }, true],
      ['whoever asks for it', { priority: 'live' as const }, false],
    ])(
      'a transcript that Redis has forgotten to be awaited is polled again, through %s',
      async (_, request, viaWorker) => {
        let hasCome = false;
        const pipeline = await start({ work: { pollDelayMs: HOUR_MS } });
        const sessionId = pipeline.sandbox.addSession({
          transcription: SPOKEN,
          answer: (built) => (hasCome ? built : { ...built, transcriptions: [] }),
        });
        await pipeline.enqueue(sessionId);
        await pipeline.ends(sessionId);
        expect((await pipeline.manifest(sessionId)).transcript.state).toBe('pending');
        hasCome = true;
        // A queue of its own, which knows nothing of the session.
        const forgetful = await start({ existingSandbox: pipeline.sandbox, work: { pollDelayMs: 20 } });
        if (viaWorker) {
          // More than are looked up one by one: the worker finds out.
          const others = Array.from({ length: 100 }, () =>
            pipeline.sandbox.addSession({ transcription: SPOKEN }),
          );
          await forgetful.request(...[sessionId, ...others].map((id) => ({ sessionId: id, ...request })));
        } else {
          expect(await forgetful.request({ sessionId, ...request })).toEqual(['already-archived']);
        }
        await expect
          .poll(async () => (await forgetful.manifest(sessionId)).transcript.state)
          .toBe('archived');
      },
    );
  },
  [{ queue: 'redis', archive: 'file' }],
);
