import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import type { SessionSpec } from '../../src/sandbox/spec.ts';
import { sessionPrefix } from '../../src/storage/layout.ts';
import { VERSION } from '../../src/util/process.ts';
import { wav } from '../support/audio.ts';
import {
  describeOnEachSetup,
  expectArchived,
  expectFailed,
  expectQueue,
  hashOf,
} from '../support/each-setup.ts';
import { SPOKEN } from '../support/pipeline.ts';

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const HOUR_MS = 3_600_000;

describeOnEachSetup('a session', (start, setup) => {
  describe('a session of documented form', () => {
    it.each([
      ['voicemail recording', 'voicemail-response.json'],
      ['voicemail_recording', 'voicemail-response.underscore.json'],
    ])(
      'a session of documented form becomes recording, transcript and manifest (%s)',
      async (key, fixture) => {
        const sample = JSON.parse(
          await readFile(new URL(`../fixtures/${fixture}`, import.meta.url), 'utf8'),
        ) as Record<string, Record<string, unknown>[]>;
        const [listed] = sample[key] ?? [];
        const [message] = sample.transcriptions ?? [];
        const audio = wav(Buffer.alloc(16_000, 'voice'));
        const sessionId = '67aa38026e199c8f470e0001';
        const pipeline = await start();
        pipeline.sandbox.addSession({
          sessionId,
          recordings: [{ content: audio, lifetimeSeconds: 900 }],
          // The documented answer as it is, but for the URL, which leads to the sandbox.
          answer: (built) => {
            const [served] = built['voicemail recording'] as { fileUrl: string }[];
            return { ...sample, [key]: [{ ...listed, fileUrl: served?.fileUrl }] };
          },
        });
        const before = new Date().toISOString();
        expect(await pipeline.enqueue(sessionId)).toEqual(['queued']);
        const view = await pipeline.ends(sessionId);
        const after = new Date().toISOString();

        const { botId } = pipeline.sandbox;
        const directory = `bot_id=${botId}/date=2025-02-10/session_id=${sessionId}/`;
        const fullKey = (name: string) => setup().archive.store.fullKey(directory + name);
        const recordingName = 'voicemail_67aa38026e199c8f470exxxx.wav';
        expect((await pipeline.archived()).sort()).toEqual(
          ['manifest.json', 'transcript.json', recordingName].map((name) => directory + name).sort(),
        );

        expect((await pipeline.read(fullKey(recordingName))).equals(audio)).toBe(true);
        const transcriptBytes = await pipeline.read(fullKey('transcript.json'));
        expect(JSON.parse(transcriptBytes.toString())).toEqual({
          schemaVersion: 1,
          sessionId,
          botId,
          language: 'en',
          text: 'Hi, this is voicemail testing.',
          messages: [
            {
              id: 'ms-dbd18b09-a8d5-54f3-a936-f694d6adxxxx',
              text: 'Hi, this is voicemail testing.',
              language: 'en',
              createdAt: '2025-02-11T13:57:42.032Z',
              authorId: 'u-353e231f-f6d7-5de2-bd88-5323235fxxxx',
              authorType: 'VOICEMAIL',
            },
          ],
          source: [message],
        });
        const manifest = JSON.parse((await pipeline.read(fullKey('manifest.json'))).toString());
        expect(manifest).toEqual({
          schemaVersion: 1,
          sessionId,
          botId,
          archivedAt: expect.stringMatching(ISO),
          recordings: [
            {
              key: fullKey(recordingName),
              fileName: recordingName,
              bytes: audio.length,
              sha256: hashOf(audio),
              contentType: 'audio/wav',
              audio: {
                container: 'wav',
                codec: 'pcm_s16le',
                sampleRate: 8_000,
                channels: 1,
                durationSeconds: 1,
              },
              integrity: { state: 'verified', notes: [] },
              source: {
                host: new URL(pipeline.sandbox.url).host,
                path: pipeline.sandbox.session(sessionId).recordings[0]?.path,
                expiresAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$/),
              },
              downloadedAt: expect.stringMatching(ISO),
            },
          ],
          transcript: {
            state: 'archived',
            key: fullKey('transcript.json'),
            bytes: transcriptBytes.length,
            sha256: hashOf(transcriptBytes),
            messages: 1,
          },
          revision: 1,
          archiver: { version: VERSION },
        });
        const [recording] = manifest.recordings;
        const left = Date.parse(recording.source.expiresAt) - Date.parse(recording.downloadedAt);
        expect(left).toBeGreaterThan(800_000);
        expect(left).toBeLessThanOrEqual(900_000);
        for (const time of [manifest.archivedAt, recording.downloadedAt]) {
          expect(time >= before && time <= after).toBe(true);
        }
        expect(view).toEqual({
          sessionId,
          botId,
          state: 'archived',
          transcript: 'archived',
          attempts: 1,
          enqueuedAt: expect.stringMatching(ISO),
          startedAt: expect.stringMatching(ISO),
          finishedAt: expect.stringMatching(ISO),
          progress: { recordings: 1, recordingsDone: 1, bytes: audio.length },
          recordings: [
            {
              key: fullKey(recordingName),
              bytes: audio.length,
              sha256: hashOf(audio),
              contentType: 'audio/wav',
              durationSeconds: 1,
              integrity: 'verified',
            },
          ],
          manifestKey: fullKey('manifest.json'),
          history: expect.arrayContaining([expect.objectContaining({ event: 'archived' })]),
        });
        await expectQueue(pipeline, { archived: 1 }, 0);
      },
    );

    it('a session whose id contains no date is archived as undated', async () => {
      const pipeline = await start();
      const sessionId = pipeline.sandbox.addSession({
        sessionId: 'not-an-ObjectId_1',
        transcription: SPOKEN,
      });
      await pipeline.enqueue(sessionId);
      await pipeline.ends(sessionId);
      expect(await pipeline.archived()).toContain(
        `bot_id=${pipeline.sandbox.botId}/date=undated/session_id=not-an-ObjectId_1/manifest.json`,
      );
    });
  });

  describe('a session that is not ready', () => {
    it.each(['empty', 'absent', 'null'] as const)(
      'a session that is not ready twice (%s) is archived once it is',
      async (notReadyAs) => {
        const pipeline = await start();
        const sessionId = pipeline.sandbox.addSession({
          notReadyPolls: 2,
          notReadyAs,
          transcription: SPOKEN,
        });
        await pipeline.enqueue(sessionId);
        await expectArchived(pipeline, sessionId, {
          names: [`voicemail_${sessionId}.wav`],
          transcript: 'archived',
        });
        expect(pipeline.sandbox.session(sessionId).polls).toBe(3);
      },
    );

    it('a session that is not ready because the call is in progress is archived once it is', async () => {
      const pipeline = await start();
      const sessionId = pipeline.sandbox.addSession({
        statuses: ['call_in_progress', 'media_in_progress', 'success'],
        transcription: SPOKEN,
      });
      await pipeline.enqueue(sessionId);
      await expectArchived(pipeline, sessionId, {
        names: [`voicemail_${sessionId}.wav`],
        transcript: 'archived',
      });
    });

    it('a session that is not ready within RECORDING_WAIT fails, with no attempt used up by polls', async () => {
      const pipeline = await start({ work: { recordingWaitMs: 300 } });
      const sessionId = pipeline.sandbox.addSession({ statuses: ['media_in_progress'] });
      await pipeline.enqueue(sessionId);
      await expectFailed(pipeline, sessionId, { code: 'RECORDING_NOT_READY', attempts: 1 });
      expect(pipeline.sandbox.session(sessionId).polls).toBeGreaterThan(1);
    });

    it('a session that is not ready is shown as waiting, with the reason and the time', async () => {
      const pipeline = await start({ work: { pollDelayMs: HOUR_MS } });
      const sessionId = pipeline.sandbox.addSession({ statuses: ['call_in_progress'] });
      await pipeline.enqueue(sessionId);
      const view = await pipeline.waitFor(sessionId, ({ state }) => state === 'waiting');
      expect(view).toMatchObject({ attempts: 0, error: { code: 'RECORDING_NOT_READY', retryable: true } });
      expect(Date.parse(view.nextAttemptAt ?? '')).toBeGreaterThan(Date.now());
      expect(await pipeline.archived()).toEqual([]);
    });
  });

  describe('a late transcript', () => {
    it('a session whose transcript comes late has its audio archived at once and its manifest rewritten then', async () => {
      const pipeline = await start();
      const sessionId = pipeline.sandbox.addSession({ transcription: { texts: [SPOKEN], afterPolls: 3 } });
      await pipeline.enqueue(sessionId);
      await pipeline.ends(sessionId);
      const { archivedAt, recordings } = await pipeline.manifest(sessionId);
      await pipeline.transcriptSettled(sessionId);
      await pipeline.waitFor(sessionId, ({ state }) => state === 'archived');
      // The check that found it is done with once the session's view tells of it.
      await expect.poll(async () => (await pipeline.operations.stats()).transcriptsPending).toBe(0);
      await expectArchived(pipeline, sessionId, {
        names: [`voicemail_${sessionId}.wav`],
        transcript: 'archived',
      });
      expect(await pipeline.manifest(sessionId)).toMatchObject({ archivedAt, recordings });
    });

    it('a transcript that has not come yet is pending, and polled again', async () => {
      const pipeline = await start({ work: { pollDelayMs: HOUR_MS } });
      const sessionId = pipeline.sandbox.addSession();
      await pipeline.enqueue(sessionId);
      await expectArchived(pipeline, sessionId, {
        names: [`voicemail_${sessionId}.wav`],
        transcript: 'pending',
      });
    });

    it('a transcript that never comes is absent after TRANSCRIPT_WAIT', async () => {
      const pipeline = await start({ work: { transcriptWaitMs: 250 } });
      const sessionId = pipeline.sandbox.addSession();
      await pipeline.enqueue(sessionId);
      await pipeline.transcriptSettled(sessionId);
      await expect.poll(async () => (await pipeline.operations.stats()).transcriptsPending).toBe(0);
      await expectArchived(pipeline, sessionId, {
        names: [`voicemail_${sessionId}.wav`],
        transcript: 'absent',
      });
    });
  });

  describe('a session that meets a rate limit', () => {
    it.each(['429-seconds', '429-date'] as const)(
      'a session that meets a rate limit with Retry-After (%s) is archived once that is over',
      async (limit) => {
        const pipeline = await start();
        const sessionId = pipeline.sandbox.addSession({
          metadataFaults: [{ limit, retryAfter: 1 }],
          transcription: SPOKEN,
        });
        await pipeline.enqueue(sessionId);
        await expectArchived(pipeline, sessionId, {
          names: [`voicemail_${sessionId}.wav`],
          transcript: 'archived',
        });
        const [first, second, ...others] = pipeline.sandbox.calls.filter(
          ({ route }) => route === 'voicemail',
        );
        expect(others).toEqual([]);
        // A date has whole seconds, so that it may lie up to one earlier or later.
        if (limit === '429-seconds')
          expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(1_000);
      },
    );

    it.each([
      ['429 without Retry-After', 60, { limit: '429' }],
      ['429 with the text of the hourly limit', 900, { limit: '429-hourly' }],
      ['200 with a limit text', 60, { limit: '200-text' }],
      ['400 with a limit text', 60, { limit: '400-text' }],
    ] as const)(
      'a session that meets a rate limit reported by %s waits %i seconds, then is archived',
      async (_, seconds, fault) => {
        const pipeline = await start();
        const sessionId = pipeline.sandbox.addSession({ metadataFaults: [fault], transcription: SPOKEN });
        const other = pipeline.sandbox.addSession();
        await pipeline.enqueue(sessionId);
        const view = await pipeline.waitFor(sessionId, ({ state }) => state === 'waiting');
        expect(view).toMatchObject({ attempts: 0, error: { code: 'KORE_RATE_LIMITED', retryable: true } });
        const wait = Date.parse(view.nextAttemptAt ?? '') - Date.parse(view.error?.at ?? '');
        expect(wait).toBeGreaterThanOrEqual(seconds * 1_000);
        expect(wait).toBeLessThan(2 * seconds * 1_000);
        expect(await pipeline.archived()).toEqual([]);
        // Nobody else calls meanwhile either.
        await pipeline.enqueue(other);
        expect(
          (await pipeline.operations.view({ botId: pipeline.sandbox.botId, sessionId: other }))?.state,
        ).toBe('queued');
        expect(pipeline.sandbox.calls).toHaveLength(1);

        await pipeline.skipWaits();
        expect(await pipeline.ends(sessionId)).toMatchObject({ state: 'archived', attempts: 1 });
        expect(await pipeline.ends(other)).toMatchObject({ state: 'archived', attempts: 1 });
        const directory = sessionPrefix({ botId: pipeline.sandbox.botId, sessionId });
        expect((await pipeline.archived()).filter((key) => key.startsWith(directory)).sort()).toEqual(
          ['manifest.json', 'transcript.json', `voicemail_${sessionId}.wav`].map((name) => directory + name),
        );
      },
    );

    it('a session that meets our own limit (KORE_RATE_LIMIT) is archived in its turn, with no attempt used up', async () => {
      const pipeline = await start({ kore: { rateLimit: { calls: 2, windowMs: 400 } } });
      const ids = Array.from({ length: 8 }, () => pipeline.sandbox.addSession({ transcription: SPOKEN }));
      await pipeline.enqueue(...ids);
      for (const id of ids) expect(await pipeline.ends(id)).toMatchObject({ state: 'archived', attempts: 1 });
      expect(pipeline.sandbox.calls.filter(({ route }) => route === 'voicemail')).toHaveLength(8);
    });
  });

  it('a session is queued, worked on and shown under its own bot', async () => {
    const pipeline = await start();
    const sessionId = pipeline.sandbox.addSession({ transcription: SPOKEN });
    await pipeline.enqueue(sessionId);
    await pipeline.ends(sessionId);
    expect(await pipeline.operations.view({ botId: 'st-other', sessionId })).toBeUndefined();
    expect(await pipeline.enqueue(sessionId)).toEqual(['already-archived']);
  });

  it('a session that is forced is archived again, and replaces what is there', async () => {
    const pipeline = await start();
    const sessionId = pipeline.sandbox.addSession({ transcription: SPOKEN });
    await pipeline.enqueue(sessionId);
    await pipeline.ends(sessionId);
    const { archivedAt } = await pipeline.manifest(sessionId);
    pipeline.sandbox.session(sessionId).recordings[0]?.replace();
    expect(await pipeline.request({ sessionId, force: true })).toEqual(['requeued']);
    await expectArchived(pipeline, sessionId, {
      names: [`voicemail_${sessionId}.wav`],
      transcript: 'archived',
    });
    expect((await pipeline.manifest(sessionId)).archivedAt > archivedAt).toBe(true);
  });
});

/** Where the queue makes no difference, the quicker ones do. */
describeOnEachSetup(
  'a session,',
  (start) => {
    describe('a session with several recordings', () => {
      it('a session with several recordings has all three archived', async () => {
        const pipeline = await start();
        const sessionId = pipeline.sandbox.addSession({
          recordings: [
            { fileName: 'one.wav' },
            { fileName: 'two.flac', format: 'flac' },
            { fileName: 'three.wav', bytes: 3_000_000 },
          ],
          transcription: SPOKEN,
        });
        await pipeline.enqueue(sessionId);
        const view = await expectArchived(pipeline, sessionId, {
          names: ['one.wav', 'two.flac', 'three.wav'],
          transcript: 'archived',
        });
        expect(view.progress).toMatchObject({ recordings: 3, recordingsDone: 3 });
      });

      it('a session with several recordings of the same name has both archived', async () => {
        const pipeline = await start();
        const sessionId = pipeline.sandbox.addSession({
          recordings: [{ fileName: 'same.wav' }, { fileName: 'same.wav' }],
          transcription: SPOKEN,
        });
        await pipeline.enqueue(sessionId);
        await pipeline.ends(sessionId);
        const [first, second] = pipeline.sandbox.session(sessionId).recordings.map(({ path }) => path);
        const names = ['same.wav', 'same-2.wav'];
        await expectArchived(pipeline, sessionId, {
          names: (first ?? '') < (second ?? '') ? names : names.reverse(),
          transcript: 'archived',
        });
      });
    });

    it.each([
      ['../../x', 'x'],
      ['..\\..\\x.wav', 'x.wav'],
      ['/etc/passwd', 'passwd'],
      ['manifest.json', 'recording-manifest.json'],
      ['Transcript.JSON', 'recording-Transcript.JSON'],
      [`${'x'.repeat(1_996)}.wav`, `${'x'.repeat(176)}.wav`],
      ['a\u0000b\u0007c\r\nd\u001b[31m.wav', 'abcd_31m.wav'],
      ['.', undefined],
      ['', undefined],
    ])(
      'a recording with the hostile file name %j is archived beside its manifest',
      async (fileName, name) => {
        const pipeline = await start();
        const sessionId = pipeline.sandbox.addSession({ recordings: [{ fileName }], transcription: SPOKEN });
        await pipeline.enqueue(sessionId);
        await pipeline.ends(sessionId);
        const { recordings } = pipeline.sandbox.session(sessionId);
        const nameInUrl = recordings[0]?.path.split('/').at(-1) ?? '';
        await expectArchived(pipeline, sessionId, { names: [name ?? nameInUrl], transcript: 'archived' });
        const shown = fileName.replace(/\p{Cc}/gu, '');
        // Of long names the middle is left out.
        expect((await pipeline.manifest(sessionId)).recordings[0]?.fileName).toBe(
          shown.length > 1_024 ? shown.slice(0, 512) + shown.slice(-512) : shown,
        );
      },
    );

    describe('faults of Kore', () => {
      const passing: readonly [string, SessionSpec['metadataFaults']][] = [
        ['answers 503 twice', [{ status: 503, times: 2 }]],
        ['answers with cut-off JSON twice', [{ cutJson: true, times: 2 }]],
        ['drops the connection twice', [{ dropConnection: true, times: 2 }]],
        ['breaks off its answer twice', [{ breakAfterBytes: 100, times: 2 }]],
      ];
      it.each(passing)(
        'a session for which Kore %s is archived at the third poll, with no attempt used up',
        async (_, metadataFaults = []) => {
          const pipeline = await start();
          const sessionId = pipeline.sandbox.addSession({ metadataFaults, transcription: SPOKEN });
          await pipeline.enqueue(sessionId);
          await expectArchived(pipeline, sessionId, {
            names: [`voicemail_${sessionId}.wav`],
            transcript: 'archived',
            attempts: 1,
          });
        },
      );

      const staying: readonly [string, SessionSpec, Parameters<typeof expectFailed>[2]][] = [
        [
          'answers 503 for ever',
          { metadataFaults: [{ status: 503, times: Number.POSITIVE_INFINITY }] },
          { code: 'KORE_UNAVAILABLE' },
        ],
        [
          'answers with cut-off JSON for ever',
          { metadataFaults: [{ cutJson: true, times: Number.POSITIVE_INFINITY }] },
          { code: 'KORE_BAD_RESPONSE' },
        ],
        [
          'drops the connection for ever',
          { metadataFaults: [{ dropConnection: true, times: Number.POSITIVE_INFINITY }] },
          { code: 'KORE_UNAVAILABLE' },
        ],
        [
          'says media_unavailable',
          { statuses: ['media_unavailable'] },
          { code: 'RECORDING_UNAVAILABLE', attempts: 1 },
        ],
        ['says failed', { statuses: ['failed'] }, { code: 'RECORDING_UNAVAILABLE', attempts: 1 }],
        [
          'says 404',
          { metadataFaults: [{ status: 404, times: Number.POSITIVE_INFINITY }] },
          { code: 'SESSION_NOT_FOUND', attempts: 1 },
        ],
      ];
      it.each(staying)(
        'a session for which Kore %s fails and leaves nothing behind',
        async (_, spec, expected) => {
          const pipeline = await start({ work: { retryWaitMs: 1 } });
          // Kore answers for another one: it is not away, and the session does not wait for it.
          const other = pipeline.sandbox.addSession({ transcription: SPOKEN });
          await pipeline.enqueue(other);
          expect(await pipeline.ends(other)).toMatchObject({ state: 'archived' });
          const sessionId = pipeline.sandbox.addSession({ ...spec, transcription: SPOKEN });
          await pipeline.enqueue(sessionId);

          const view = await pipeline.ends(sessionId);

          expect(view).toMatchObject({ state: 'failed', error: { code: expected.code } });
          if (expected.attempts !== undefined) expect(view.attempts).toBe(expected.attempts);
          const keys = await pipeline.archived();
          expect(keys.filter((key) => key.includes(sessionId))).toEqual([]);
          await expectQueue(pipeline, { archived: 1, failed: 1 }, 0);
        },
      );

      it('a session whose credentials Kore refuses once is signed again and archived at the first attempt', async () => {
        const pipeline = await start();
        const sessionId = pipeline.sandbox.addSession({
          metadataFaults: [{ status: 401 }],
          transcription: SPOKEN,
        });
        await pipeline.enqueue(sessionId);
        await expectArchived(pipeline, sessionId, {
          names: [`voicemail_${sessionId}.wav`],
          transcript: 'archived',
          attempts: 1,
        });
      });
    });
  },
  [
    { queue: 'redis', archive: 's3' },
    { queue: 'postgres', archive: 'file' },
  ],
);
