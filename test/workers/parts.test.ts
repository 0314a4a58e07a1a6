import { describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../src/domain/errors.ts';
import type { RecordingSpec } from '../../src/sandbox/spec.ts';
import { type PartialManifest, parsePartialManifest } from '../../src/storage/documents.ts';
import { partialManifestKey, sessionPrefix } from '../../src/storage/layout.ts';
import { describeOnEachSetup, hashOf } from '../support/each-setup.ts';
import { type Pipeline, SPOKEN } from '../support/pipeline.ts';

const INFINITE = Number.POSITIVE_INFINITY;
const SETUPS = [
  { queue: 'redis', archive: 's3' },
  { queue: 'redis', archive: 'file' },
] as const;
/** Waits that are over at once, whatever the reason for them: failed sessions stay to be looked at. */
const IMPATIENT = { recordingWaitMs: 0, retryWaitMs: 0, sessionWaitMs: 0 };

describeOnEachSetup(
  'a session of three recordings',
  (start) => {
    const ref = (pipeline: Pipeline, sessionId: string) => ({ botId: pipeline.sandbox.botId, sessionId });
    const partialOf = async (pipeline: Pipeline, sessionId: string): Promise<PartialManifest> => {
      const { manifestKey: _none, ...view } = await pipeline.ends(sessionId);
      const prefix = sessionPrefix(ref(pipeline, sessionId));
      const saved = view.recordings?.[0]?.key ?? '';
      const key = saved.slice(0, saved.indexOf(prefix)) + partialManifestKey(ref(pipeline, sessionId));
      return parsePartialManifest(await pipeline.read(key), key);
    };
    const namesOf = async (pipeline: Pipeline, sessionId: string) => {
      const prefix = sessionPrefix(ref(pipeline, sessionId));
      return (await pipeline.archived())
        .filter((key) => key.startsWith(prefix))
        .map((key) => key.slice(prefix.length));
    };
    const downloads = (pipeline: Pipeline, index: number, sessionId: string) =>
      pipeline.sandbox.calls.filter(
        (call) => call.route === 'media' && call.sessionId === sessionId && call.recording === index,
      ).length;

    const faults: readonly [string, Omit<RecordingSpec, 'fileName'>, ErrorCode][] = [
      ['is empty', { mediaFaults: [{ shortBy: INFINITE, times: INFINITE }] }, 'RECORDING_EMPTY'],
      ['is a page', { mediaFaults: [{ page: 'html', times: INFINITE }] }, 'RECORDING_NOT_AUDIO'],
      ['is refused', { mediaFaults: [{ status: 403, times: INFINITE }] }, 'RECORDING_URL_EXPIRED'],
      ['breaks off', { mediaFaults: [{ status: 503, times: INFINITE }] }, 'DOWNLOAD_FAILED'],
      ['is too large', { bytes: 70_000_000 }, 'RECORDING_TOO_LARGE'],
    ];
    it.each(faults)(
      'a session of which one recording %s keeps the other two, names the missing one, and is archived whole by a retry',
      async (_, spec, code) => {
        const pipeline = await start({ work: IMPATIENT });
        const sessionId = pipeline.sandbox.addSession({
          recordings: [{ fileName: 'one.wav' }, { fileName: 'two.wav', ...spec }, { fileName: 'three.wav' }],
          transcription: SPOKEN,
        });
        const { recordings } = pipeline.sandbox.session(sessionId);
        await pipeline.enqueue(sessionId);
        const view = await pipeline.ends(sessionId);
        expect(view).toMatchObject({ state: 'failed', error: { code } });
        expect(view.missing).toEqual([
          { fileName: 'two.wav', code, message: expect.any(String), at: expect.any(String) },
        ]);
        expect(view.recordings?.map(({ sha256 }) => sha256)).toEqual(
          [recordings[0], recordings[2]].map((recording) => recording?.sha256()),
        );
        expect((await namesOf(pipeline, sessionId)).sort()).toEqual(
          ['manifest.partial.json', 'one.wav', 'three.wav', 'transcript.json'].sort(),
        );
        const partial = await partialOf(pipeline, sessionId);
        expect(partial).toMatchObject({ sessionId, revision: 1, transcript: { state: 'archived' } });
        for (const { key, sha256 } of partial.recordings) {
          expect(hashOf(await pipeline.read(key))).toBe(sha256);
        }
        if (code === 'RECORDING_TOO_LARGE') return;

        recordings[1]?.faults.clear();
        const before = [0, 2].map((index) => downloads(pipeline, index, sessionId));
        expect(before).toEqual([1, 1]);
        expect(await pipeline.operations.retry(ref(pipeline, sessionId))).toBe('requeued');
        await pipeline.waitFor(sessionId, ({ state }) => state === 'archived');
        const manifest = await pipeline.manifest(sessionId);
        expect(manifest.revision).toBe(1);
        expect(manifest.recordings.map(({ sha256 }) => sha256)).toEqual(
          recordings.map((recording) => recording.sha256()),
        );
        for (const { key, sha256 } of manifest.recordings) {
          expect(hashOf(await pipeline.read(key))).toBe(sha256);
        }
        // What was saved before is not downloaded again.
        expect([0, 2].map((index) => downloads(pipeline, index, sessionId))).toEqual(before);
        expect(await pipeline.operations.view(ref(pipeline, sessionId))).not.toHaveProperty('missing');
      },
    );

    it('a session of which one recording has no URL yet saves the others at once, while it waits for that one', async () => {
      let isThere = false;
      const pipeline = await start({ work: { pollDelayMs: 3_600_000 } });
      const sessionId = pipeline.sandbox.addSession({
        recordings: [{ fileName: 'one.wav' }, { fileName: 'two.wav' }, { fileName: 'three.wav' }],
        transcription: SPOKEN,
        answer: (built) => {
          const [one, two, three] = built['voicemail recording'] as Record<string, string>[];
          const { fileUrl: _url, ...without } = two ?? {};
          return isThere ? built : { ...built, 'voicemail recording': [one, without, three] };
        },
      });
      await pipeline.enqueue(sessionId);
      const view = await pipeline.waitFor(sessionId, ({ state }) => state === 'waiting');
      expect(view.error?.code).toBe('RECORDING_NOT_READY');
      // It has not failed: what is missing may still come.
      expect(view).not.toHaveProperty('missing');
      expect(await namesOf(pipeline, sessionId)).toEqual(expect.arrayContaining(['one.wav', 'three.wav']));
      isThere = true;
      await pipeline.skipWaits();
      await pipeline.waitFor(sessionId, ({ state }) => state === 'archived');
      expect((await pipeline.manifest(sessionId)).recordings.map(({ fileName }) => fileName)).toEqual([
        'one.wav',
        'two.wav',
        'three.wav',
      ]);
    });

    it('a session of which one recording stays cut is archived in the end, marked as suspect', async () => {
      const pipeline = await start({ work: { recordingWaitMs: 0 } });
      const sessionId = pipeline.sandbox.addSession({
        recordings: [
          { fileName: 'one.wav' },
          { fileName: 'two.wav', mediaFaults: [{ shortBy: 5_000, times: INFINITE }] },
        ],
        transcription: SPOKEN,
      });
      await pipeline.enqueue(sessionId);
      const view = await pipeline.ends(sessionId);
      expect(view.recordings?.map(({ integrity }) => integrity)).toEqual(['verified', 'suspect']);
      const [, cut] = (await pipeline.manifest(sessionId)).recordings;
      expect(cut?.integrity).toEqual({ state: 'suspect', end: 'missing', notes: [expect.any(String)] });
    });

    it('a session of which one recording stays cut, and another one empty, keeps the cut one although it fails', async () => {
      const pipeline = await start({ work: { recordingWaitMs: 0 } });
      const sessionId = pipeline.sandbox.addSession({
        recordings: [
          { fileName: 'one.wav', mediaFaults: [{ shortBy: Number.POSITIVE_INFINITY, times: INFINITE }] },
          { fileName: 'two.wav', mediaFaults: [{ shortBy: 5_000, times: INFINITE }] },
        ],
        transcription: SPOKEN,
      });
      await pipeline.enqueue(sessionId);
      expect(await pipeline.ends(sessionId)).toMatchObject({
        state: 'failed',
        recordings: [{ integrity: 'suspect' }],
        missing: [{ fileName: 'one.wav', code: 'RECORDING_EMPTY' }],
      });
    });

    it('a session saves good recordings although one of them never sends a byte', async () => {
      const pipeline = await start({ work: { downloadIdleTimeoutMs: 60_000, shutdownGraceMs: 50 } });
      const sessionId = pipeline.sandbox.addSession({
        recordings: [
          { fileName: 'one.wav', mediaFaults: [{ stallAfterBytes: 0 }], lifetimeSeconds: 10 },
          { fileName: 'two.wav', lifetimeSeconds: 100 },
          { fileName: 'three.wav', lifetimeSeconds: 200 },
        ],
        transcription: SPOKEN,
      });
      await pipeline.enqueue(sessionId);
      await expect
        .poll(() => namesOf(pipeline, sessionId))
        .toEqual(expect.arrayContaining(['two.wav', 'three.wav']));
      expect(await namesOf(pipeline, sessionId)).not.toContain('one.wav');
    });

    it('a session whose list changes its order and names between attempts keeps the keys of what is saved', async () => {
      let isLater = false;
      const pipeline = await start({ work: IMPATIENT });
      const sessionId = pipeline.sandbox.addSession({
        recordings: [
          { fileName: 'same.wav' },
          { fileName: 'same.wav', mediaFaults: [{ page: 'html', times: INFINITE }] },
          { fileName: 'same.wav' },
        ],
        transcription: SPOKEN,
        answer: (built) => {
          const list = built['voicemail recording'] as Record<string, string>[];
          const renamed = list.map((recording, index) => ({ ...recording, fileName: `new-${index}.wav` }));
          return isLater ? { ...built, 'voicemail recording': renamed.reverse() } : built;
        },
      });
      await pipeline.enqueue(sessionId);
      const { recordings: saved = [] } = await pipeline.ends(sessionId);
      expect(saved).toHaveLength(2);
      isLater = true;
      pipeline.sandbox.session(sessionId).recordings[1]?.faults.clear();
      await pipeline.operations.retry(ref(pipeline, sessionId));
      const { recordings = [] } = await pipeline.waitFor(sessionId, ({ state }) => state === 'archived');
      expect(recordings).toHaveLength(3);
      expect(recordings).toEqual(expect.arrayContaining([...saved]));
      const audio = (await namesOf(pipeline, sessionId)).filter((name) => name.endsWith('.wav'));
      expect(audio).toHaveLength(3);
    });

    it('a session is not complete when Kore stops listing the recording that is missing', async () => {
      let isGone = false;
      const pipeline = await start({ work: IMPATIENT });
      const sessionId = pipeline.sandbox.addSession({
        recordings: [
          { fileName: 'one.wav' },
          { fileName: 'two.wav', mediaFaults: [{ page: 'html', times: INFINITE }] },
        ],
        transcription: SPOKEN,
        answer: (built) => {
          const [one, ...others] = built['voicemail recording'] as unknown[];
          return { ...built, 'voicemail recording': isGone ? [one] : [one, ...others] };
        },
      });
      await pipeline.enqueue(sessionId);
      await pipeline.ends(sessionId);
      isGone = true;
      await pipeline.operations.retry(ref(pipeline, sessionId));
      await pipeline.waitFor(sessionId, ({ error }) => error?.code === 'RECORDING_NOT_READY');
      await pipeline.ends(sessionId);
      expect((await partialOf(pipeline, sessionId)).missing).toMatchObject([
        { fileName: 'two.wav', code: 'RECORDING_NOT_READY' },
      ]);
      expect(await namesOf(pipeline, sessionId)).not.toContain('manifest.json');
    });

    it('a failed session is known, taken up again and archived when the queue has forgotten it', async () => {
      const pipeline = await start({ work: IMPATIENT });
      const sessionId = pipeline.sandbox.addSession({
        recordings: [
          { fileName: 'one.wav' },
          { fileName: 'two.wav', mediaFaults: [{ page: 'html', times: INFINITE }] },
        ],
        transcription: SPOKEN,
      });
      await pipeline.enqueue(sessionId);
      const { recordings, missing } = await pipeline.ends(sessionId);
      // A queue of its own, which knows nothing of the session.
      const forgetful = await start({ existingSandbox: pipeline.sandbox, startWorker: false });
      const session = ref(pipeline, sessionId);
      expect(await forgetful.operations.view(session)).toMatchObject({
        state: 'failed',
        error: { code: 'RECORDING_NOT_AUDIO', retryable: true },
        recordings,
        missing,
      });
      pipeline.sandbox.session(sessionId).recordings[1]?.faults.clear();
      expect(await forgetful.operations.retry(session)).toBe('requeued');
      expect(await forgetful.enqueue(sessionId)).toEqual(['already-queued']);
      await forgetful.startWorker();
      expect((await forgetful.ends(sessionId)).recordings).toHaveLength(2);
      expect(downloads(pipeline, 0, sessionId)).toBe(1);
    });

    it('a session without any available recording leaves no partial manifest', async () => {
      const pipeline = await start({ work: IMPATIENT });
      const broken = { mediaFaults: [{ page: 'html' as const, times: INFINITE }] };
      const sessionId = pipeline.sandbox.addSession({ recordings: [broken, broken], transcription: SPOKEN });
      await pipeline.enqueue(sessionId);
      expect((await pipeline.ends(sessionId)).state).toBe('failed');
      expect(await namesOf(pipeline, sessionId)).toEqual([]);
    });

    it.each([
      ['that is archived', false],
      ['of which some are saved', true],
    ])(
      '%s is downloaded once by a forced archive, however often a part of it fails, and again by the next one',
      async (_, isPartial) => {
        const pipeline = await start({ work: IMPATIENT });
        const sessionId = pipeline.sandbox.addSession({
          recordings: [{ fileName: 'one.wav' }, { fileName: 'two.wav' }, { fileName: 'three.wav' }],
          transcription: SPOKEN,
        });
        const { recordings } = pipeline.sandbox.session(sessionId);
        const page = { page: 'html', times: INFINITE } as const;
        if (isPartial) recordings[1]?.faults.add(page);
        await pipeline.enqueue(sessionId);
        await pipeline.ends(sessionId);
        if (!isPartial) recordings[1]?.faults.add(page);
        recordings[0]?.replace();
        const counts = () => [0, 2].map((index) => downloads(pipeline, index, sessionId));
        const isFailed = () => pipeline.waitFor(sessionId, ({ state }) => state === 'failed');
        expect(counts()).toEqual([1, 1]);

        await pipeline.request({ sessionId, force: true });
        await isFailed();
        expect(counts()).toEqual([2, 2]);
        for (let again = 0; again < 2; again += 1) {
          expect(await pipeline.operations.retry(ref(pipeline, sessionId))).toBe('requeued');
          await isFailed();
        }
        expect(counts()).toEqual([2, 2]);
        recordings[1]?.faults.clear();
        await pipeline.operations.retry(ref(pipeline, sessionId));
        await pipeline.waitFor(sessionId, ({ state }) => state === 'archived');
        expect(counts()).toEqual([2, 2]);
        const upstream = recordings.map((recording) => recording.sha256());
        const manifest = await pipeline.manifest(sessionId);
        expect(manifest.recordings.map(({ sha256 }) => sha256)).toEqual(upstream);
        for (const { key, sha256 } of manifest.recordings) {
          expect(hashOf(await pipeline.read(key))).toBe(sha256);
        }

        await pipeline.request({ sessionId, force: true });
        await pipeline.ends(sessionId);
        expect(counts()).toEqual([3, 3]);
      },
    );

    describe('a forced archive', () => {
      it('a forced archive writes the next revision, which keeps naming what Kore no longer lists', async () => {
        let isGone = false;
        const pipeline = await start();
        const sessionId = pipeline.sandbox.addSession({
          recordings: [{ fileName: 'one.wav' }, { fileName: 'two.wav' }],
          transcription: [SPOKEN, SPOKEN],
          answer: (built) => {
            const [one, ...others] = built['voicemail recording'] as unknown[];
            const [message, ...more] = built.transcriptions as unknown[];
            return {
              ...built,
              'voicemail recording': isGone ? [one] : [one, ...others],
              transcriptions: isGone ? [message] : [message, ...more],
            };
          },
        });
        await pipeline.enqueue(sessionId);
        await pipeline.ends(sessionId);
        const before = await pipeline.manifest(sessionId);
        isGone = true;
        await pipeline.request({ sessionId, force: true });
        await pipeline.ends(sessionId);
        const after = await pipeline.manifest(sessionId);
        expect(after.revision).toBe(2);
        expect(after.recordings.map(({ key, sha256 }) => ({ key, sha256 }))).toEqual(
          before.recordings.map(({ key, sha256 }) => ({ key, sha256 })),
        );
        expect(after.transcript).toEqual(before.transcript);
      });

      it('a forced archive keeps what is verified when only a cut recording comes, however long it waits', async () => {
        const pipeline = await start({ work: { recordingWaitMs: 0 } });
        const sessionId = pipeline.sandbox.addSession({
          recordings: [{ fileName: 'one.wav' }, { fileName: 'two.wav' }],
          transcription: SPOKEN,
        });
        await pipeline.enqueue(sessionId);
        await pipeline.ends(sessionId);
        const before = await pipeline.manifest(sessionId);
        const names = await namesOf(pipeline, sessionId);
        const [one, two] = pipeline.sandbox.session(sessionId).recordings;
        const kept = one?.audio.slice(0, one.audio.bytes);
        one?.faults.add({ shortBy: 5_000, times: INFINITE });
        two?.replace();
        await pipeline.request({ sessionId, force: true });
        const view = await pipeline.ends(sessionId);
        expect(view.recordings?.map(({ integrity }) => integrity)).toEqual(['verified', 'verified']);
        const after = await pipeline.manifest(sessionId);
        expect(after.recordings[0]).toEqual(before.recordings[0]);
        expect(after.recordings[1]?.sha256).toBe(two?.sha256());
        for (const { key, sha256 } of after.recordings) expect(hashOf(await pipeline.read(key))).toBe(sha256);
        expect(await pipeline.read(after.recordings[0]?.key ?? '')).toEqual(kept);
        expect(await namesOf(pipeline, sessionId)).toEqual(names);
      });

      it('a forced archive of which a part fails leaves the session as it is, and keeps what is new', async () => {
        const pipeline = await start({ work: IMPATIENT });
        const sessionId = pipeline.sandbox.addSession({
          recordings: [{ fileName: 'one.wav' }, { fileName: 'two.wav' }],
          transcription: SPOKEN,
        });
        await pipeline.enqueue(sessionId);
        await pipeline.ends(sessionId);
        const before = await pipeline.manifest(sessionId);
        const [one, two] = pipeline.sandbox.session(sessionId).recordings;
        one?.replace();
        two?.faults.add({ page: 'html', times: INFINITE });
        await pipeline.request({ sessionId, force: true });
        expect(await pipeline.waitFor(sessionId, ({ state }) => state === 'failed')).toMatchObject({
          error: { code: 'RECORDING_NOT_AUDIO' },
        });
        const after = await pipeline.manifest(sessionId);
        expect(after.recordings.map(({ sha256 }) => sha256)).toEqual([
          one?.sha256(),
          before.recordings[1]?.sha256,
        ]);
        for (const { key, sha256 } of after.recordings) expect(hashOf(await pipeline.read(key))).toBe(sha256);
        expect(await namesOf(pipeline, sessionId)).not.toContain('manifest.partial.json');
      });
    });
  },
  SETUPS,
);
