import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SessionView } from '../../src/domain/views.ts';
import { startSandbox } from '../../src/sandbox/sandbox.ts';
import { BREAKER_PROBE_KEY } from '../../src/storage/keys.ts';
import { sessionPrefix } from '../../src/storage/layout.ts';
import { describeOnEachSetup, expectArchived, expectQueue } from '../support/each-setup.ts';
import { expectNothingSecret, SPOKEN, startPipeline } from '../support/pipeline.ts';
import { createTestQueue, type TestQueue } from '../support/queues.ts';

const PAUSE_MS = 1_000;
/** Two clocks, the queue's and the sandbox's, may round a time apart. */
const CLOCKS_MS = 50;
/** A check of many sessions is much computing. */
const POLL = { interval: 100 };
const INFINITE = Number.POSITIVE_INFINITY;

describeOnEachSetup('a worker', (start, setup) => {
  describe('refused credentials', () => {
    it.each([
      ['a missing scope', { scopes: [] as string[] }, { scopes: ['SmartAssist Voicemail'] }],
      ['a rotated secret', { signingSecret: 'another-secret' }, { signingSecret: undefined }],
    ])(
      'a worker whose credentials Kore refuses (%s) takes no sessions, uses up no attempts, logs it, and continues when that is fixed',
      async (_, broken, fixed) => {
        const concurrency = 2;
        const pipeline = await start({
          work: { concurrency, unauthorizedPauseMs: PAUSE_MS },
          sandbox: broken,
        });
        const ids = Array.from({ length: 12 }, () => pipeline.sandbox.addSession({ transcription: SPOKEN }));
        const calls = () => pipeline.sandbox.calls.filter(({ route }) => route === 'voicemail');
        await pipeline.enqueue(...ids);

        // Two rounds: the first sessions, and those that are tried when the pause is over.
        const tried = async () => {
          const views = await Promise.all(ids.map((id) => pipeline.waitFor(id, () => true)));
          expect(views.map(({ attempts }) => attempts)).toEqual(ids.map(() => 0));
          const waiting = views.filter(({ state }) => state === 'waiting');
          for (const { error, nextAttemptAt } of waiting) {
            expect(error).toMatchObject({ code: 'KORE_UNAUTHORIZED', retryable: true });
            expect(nextAttemptAt).toBeDefined();
          }
          return waiting.length;
        };
        await expect.poll(tried, POLL).toBeGreaterThan(0);
        // The sessions that run call twice, as they are signed once more: the second call at the earliest begins the
        // pause, and whatever they have not called for comes after it.
        for (const round of [1, 2]) {
          const ends = 2 * concurrency * round;
          await expect.poll(() => calls().length, POLL).toBeGreaterThan(ends);
          const refused = calls()[ends - 2 * concurrency + 1];
          const next = calls()[ends];
          expect((next?.at ?? 0) - (refused?.at ?? 0)).toBeGreaterThanOrEqual(PAUSE_MS - CLOCKS_MS);
        }
        await tried();
        expect(await pipeline.archived()).toEqual([]);
        expect(loud(pipeline.log)).toContain('NO SESSION IS BEING ARCHIVED');

        pipeline.sandbox.configure(fixed);
        for (const id of ids) {
          expect(await pipeline.ends(id)).toMatchObject({ state: 'archived', attempts: 1 });
        }
        await expectQueue(pipeline, { archived: ids.length }, 0);
      },
    );
  });

  it('a bot that Kore refuses, other than the configured one, delays its own sessions alone', async () => {
    const pipeline = await start({ work: { concurrency: 1, unauthorizedPauseMs: 60_000 } });
    const ids = Array.from({ length: 3 }, () => pipeline.sandbox.addSession({ transcription: SPOKEN }));
    const foreign = ids.map((sessionId) => ({ sessionId, botId: 'st-of-somebody-else' }));
    await pipeline.operations.enqueue(foreign);
    await pipeline.enqueue(...ids);
    for (const id of ids) expect((await pipeline.ends(id)).state).toBe('archived');
    for (const session of foreign) {
      await expect
        .poll(() => pipeline.operations.view(session))
        .toMatchObject({ state: 'waiting', attempts: 0, error: { code: 'KORE_UNAUTHORIZED' } });
    }
    // The first of them was asked for twice, as it was signed once more; the others not at all.
    const refused = pipeline.sandbox.calls.filter(({ status }) => status === 401);
    expect(refused).toHaveLength(2);
    expect(loud(pipeline.log)).toContain('NONE OF ITS SESSIONS');
    expect(loud(pipeline.log)).not.toContain('NO SESSION IS BEING ARCHIVED');
  });

  describe('a worker that is stopped', () => {
    it('a worker that is stopped lets a transfer finish that fits into the grace period', async () => {
      const pipeline = await start({ work: { concurrency: 1 } });
      const slow = pipeline.sandbox.addSession({
        recordings: [{ bytes: 200_000, mediaFaults: [{ bytesPerSecond: 400_000 }] }],
        transcription: SPOKEN,
      });
      const next = pipeline.sandbox.addSession({ transcription: SPOKEN });
      await pipeline.enqueue(slow, next);
      await pipeline.sandbox.waitFor((calls) => calls.some(({ bytesSent }) => bytesSent > 20_000));
      await pipeline.stopWorker();
      await expectQueue(pipeline, { archived: 1, queued: 1 }, 0);
      expect((await pipeline.archived()).length).toBe(3);
      expect(pipeline.sandbox.session(next).polls).toBe(0);
    });

    it('a worker that is stopped cancels what takes longer, gives it back whole, and another worker archives it', async () => {
      const pipeline = await start({ work: { shutdownGraceMs: 50 } });
      const sessionId = pipeline.sandbox.addSession({
        recordings: [{ bytes: 2_000_000, mediaFaults: [{ bytesPerSecond: 100_000 }] }],
        transcription: SPOKEN,
      });
      await pipeline.enqueue(sessionId);
      await pipeline.sandbox.waitFor((calls) => calls.some(({ bytesSent }) => bytesSent > 10_000));
      await pipeline.stopWorker();
      await expectQueue(pipeline, { queued: 1 }, 0);
      expect(await pipeline.waitFor(sessionId, () => true)).toMatchObject({ state: 'queued', attempts: 0 });
      expect(await pipeline.archived()).toEqual([]);
      expect(await setup().archive.leftovers()).toEqual([]);

      await pipeline.startWorker();
      await expectArchived(pipeline, sessionId, {
        names: [`voicemail_${sessionId}.wav`],
        transcript: 'archived',
      });
    });

    it('a worker that is stopped gives back a session that waits for Kore to answer', async () => {
      const pipeline = await start({ work: { shutdownGraceMs: 50 } });
      const sessionId = pipeline.sandbox.addSession({
        metadataFaults: [{ stall: true }],
        transcription: SPOKEN,
      });
      await pipeline.enqueue(sessionId);
      await pipeline.sandbox.waitFor((calls) => calls.length === 1);
      await pipeline.stopWorker();
      await expectQueue(pipeline, { queued: 1 }, 0);
      await pipeline.startWorker();
      await expectArchived(pipeline, sessionId, {
        names: [`voicemail_${sessionId}.wav`],
        transcript: 'archived',
      });
    });
  });

  describe('two workers', () => {
    let elsewhere: TestQueue;
    beforeAll(async () => {
      elsewhere = await createTestQueue('redis');
    });
    afterAll(() => elsewhere.remove());

    it('two workers on the same session at once leave one correct archive', async () => {
      const sandbox = await startSandbox();
      try {
        const recordings = ['one.wav', 'two.wav', 'three.wav'];
        const sessionId = sandbox.addSession({
          recordings: recordings.map((fileName) => ({
            fileName,
            bytes: 300_000,
            // So slowly that neither is done before the other one has begun.
            mediaFaults: [{ bytesPerSecond: 150_000, times: INFINITE }],
          })),
          transcription: SPOKEN,
        });
        const here = await start({ existingSandbox: sandbox });
        // A queue of its own, or they would take turns.
        const there = await startPipeline(
          { archive: setup().archive, queue: elsewhere },
          { existingSandbox: sandbox },
        );
        await Promise.all([here.enqueue(sessionId), there.enqueue(sessionId)]);
        const views = await Promise.all([here, there].map((pipeline) => pipeline.ends(sessionId)));
        expect(sandbox.calls.filter(({ route }) => route === 'media').length).toBeGreaterThanOrEqual(6);
        expect(views[0]?.recordings).toEqual(views[1]?.recordings);
        for (const pipeline of [here, there]) {
          await expectArchived(pipeline, sessionId, { names: recordings, transcript: 'archived' });
        }
        await there.stop();
      } finally {
        await sandbox.close();
      }
    });
  });

  it('a worker archives every session whose trouble passes, makes others wait, and shows no secret', {
    timeout: 120_000,
  }, async () => {
    const pipeline = await start({
      sandbox: { urlLifetimeSeconds: 300 },
      work: { concurrency: 16 },
    });
    const troubles = [
      { recordings: [{ mediaFaults: [{ status: 503 }, { breakAfterBytes: 1_000, times: 2 }] }] },
      { recordings: [{ lifetimeSeconds: [-10, 300] }] },
      { recordings: [{ mediaFaults: [{ expireNow: true }] }] },
      { recordings: [{ redirectTo: 'storage' }] },
      { metadataFaults: [{ status: 500 }, { cutJson: true }, { dropConnection: true }] },
      { statuses: ['call_in_progress', 'success'] },
      {
        recordings: [{ fileName: 'a.wav' }, { fileName: 'a.wav', mediaFaults: [{ page: 'html' as const }] }],
      },
    ];
    const ids = Array.from({ length: 3 * troubles.length }, (_, index) =>
      pipeline.sandbox.addSession({ ...troubles[index % troubles.length], transcription: [SPOKEN, SPOKEN] }),
    );
    const waiting = [
      pipeline.sandbox.addSession({ recordings: [{ mediaFaults: [{ page: 'json', times: INFINITE }] }] }),
      pipeline.sandbox.addSession({
        recordings: [{ fileUrl: 'https://elsewhere.example/a.wav?e=1&s=SIGNED' }],
      }),
      pipeline.sandbox.addSession({ recordings: [{ content: Buffer.alloc(0) }], transcription: SPOKEN }),
    ];
    await pipeline.enqueue(...ids, ...waiting);
    const views: SessionView[] = [];
    for (const id of ids) views.push(await pipeline.ends(id));
    for (const id of waiting) views.push(await pipeline.waitFor(id, ({ error }) => error !== undefined));
    expect(views.map(({ error }) => error?.code)).toEqual([
      ...ids.map(() => undefined),
      'RECORDING_NOT_AUDIO',
      'RECORDING_HOST_NOT_ALLOWED',
      'RECORDING_EMPTY',
    ]);
    for (const id of ids) {
      const manifest = await pipeline.manifest(id);
      expect(manifest.recordings.map(({ sha256 }) => sha256)).toEqual(
        pipeline.sandbox.session(id).recordings.map((recording) => recording.sha256()),
      );
    }
    // A busy machine may be slow enough for the archive to be probed, with an object that stays.
    const keys = (await pipeline.archived()).filter((key) => key !== BREAKER_PROBE_KEY);
    const directories = new Set(keys.map((key) => key.slice(0, key.lastIndexOf('/') + 1)));
    const { botId } = pipeline.sandbox;
    expect([...directories].sort()).toEqual(
      ids.map((sessionId) => sessionPrefix({ botId, sessionId })).sort(),
    );
    expectNothingSecret('the views', JSON.stringify(views), pipeline.sandbox);
    for (const id of ids) {
      expectNothingSecret('the manifest', JSON.stringify(await pipeline.manifest(id)), pipeline.sandbox);
    }
  });
});

/** Queue and archive make no difference here, so the quickest ones do. */
describeOnEachSetup(
  'a worker with little to wait for',
  (start) => {
    it('a worker takes a live session first where a backfill has used up its share of the calls', async () => {
      const pipeline = await start({ kore: { rateLimit: { calls: 4, windowMs: 600_000 } } });
      const backfilled = Array.from({ length: 6 }, () => pipeline.sandbox.addSession());
      await pipeline.request(
        ...backfilled.map((sessionId) => ({ sessionId, priority: 'backfill' as const })),
      );
      const states = async () => {
        const views = await Promise.all(backfilled.map((id) => pipeline.waitFor(id, () => true)));
        return views.map(({ state }) => state).sort();
      };
      const share = ['archived', 'archived', 'archived', 'waiting', 'waiting', 'waiting'];
      await expect.poll(states, POLL).toEqual(share);
      const live = pipeline.sandbox.addSession({ transcription: SPOKEN });
      await pipeline.enqueue(live);
      expect((await pipeline.ends(live)).state).toBe('archived');
      expect(await states()).toEqual(share);
    });

    describe('a worker that polls for a transcript', () => {
      it.each([
        ['refuses the request', { status: 412 }],
        ['is unavailable', { status: 503, times: 3 }],
        ['asks for patience', { status: 429, retryAfter: 1 }],
      ])('a worker that polls for a transcript continues when Kore %s, and finds it', async (_, fault) => {
        const pipeline = await start();
        const sessionId = pipeline.sandbox.addSession({
          transcription: { texts: [SPOKEN], afterPolls: 2 },
        });
        await pipeline.enqueue(sessionId);
        await pipeline.ends(sessionId);
        pipeline.sandbox.session(sessionId).faults.add(fault);
        expect(await pipeline.transcriptSettled(sessionId)).toMatchObject({ transcript: 'archived' });
        expect((await pipeline.manifest(sessionId)).transcript.state).toBe('archived');
      });

      it.each([
        ['refuses every check', { status: 412, times: INFINITE }],
        ['is unavailable for longer than anybody waits', { status: 503, times: INFINITE }],
      ])('a worker that polls for a transcript marks it absent in the end when Kore %s', async (_, fault) => {
        const pipeline = await start({ work: { transcriptWaitMs: 300, retryWaitMs: 300 } });
        const sessionId = pipeline.sandbox.addSession({ transcription: { texts: [SPOKEN], afterPolls: 1 } });
        await pipeline.enqueue(sessionId);
        await pipeline.ends(sessionId);
        pipeline.sandbox.session(sessionId).faults.add(fault);
        const { transcript } = await pipeline.transcriptSettled(sessionId);
        // The check before the faults were switched on may have found it.
        expect((await pipeline.manifest(sessionId)).transcript.state).toBe(transcript);
        if (pipeline.sandbox.session(sessionId).polls < 2) expect(transcript).toBe('absent');
      });
    });
  },
  [{ queue: 'redis', archive: 'file' }],
);

/** Messages of the log from level `error` on. */
function loud(lines: readonly string[]): string {
  return lines
    .map((line) => JSON.parse(line) as { level: string; msg: string })
    .filter(({ level }) => level === 'error' || level === 'fatal')
    .map(({ msg }) => msg)
    .join('\n');
}
