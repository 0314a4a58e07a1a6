/** Irregular answers of Kore, as they occur in production, through a real worker. */

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { MediaFault, SessionSpec } from '../../src/sandbox/spec.ts';
import { BASE } from '../support/irregular-recordings.ts';
import { openSetup, type Pipeline, type PipelineOptions, type Setup } from '../support/pipeline.ts';

const HOUR_MS = 3_600_000;

let setup: Setup;
let running: Pipeline[] = [];

beforeAll(async () => {
  setup = await openSetup('redis', 'file');
});

afterEach(async () => {
  const stopping = running;
  running = [];
  for (const pipeline of stopping) await pipeline.stop();
});

afterAll(() => setup.close());

async function start(work: PipelineOptions['work'] = {}): Promise<Pipeline> {
  const pipeline = await setup.start({ work: { sessionWaitMs: HOUR_MS, ...work } });
  running.push(pipeline);
  return pipeline;
}

/** Archives a session and proves that its first recording is there byte for byte. */
async function archives(pipeline: Pipeline, spec: SessionSpec): Promise<string> {
  const sessionId = pipeline.sandbox.addSession({ recordings: [{ content: BASE }], ...spec });
  await pipeline.enqueue(sessionId);
  expect(await pipeline.ends(sessionId)).toMatchObject({ state: 'archived' });
  const [archived] = (await pipeline.manifest(sessionId)).recordings;
  expect((await pipeline.read(archived?.key ?? '')).equals(BASE)).toBe(true);
  return sessionId;
}

async function transcriptOf(pipeline: Pipeline, sessionId: string): Promise<{ json: string; text: string }> {
  const { transcript } = await pipeline.manifest(sessionId);
  const json = (await pipeline.read(transcript.key ?? '')).toString();
  return { json, text: (JSON.parse(json) as { text: string }).text };
}

describe('transcriptions of odd forms', () => {
  it.each([
    ['an empty object', '{}'],
    ['a list with nothing in it', '[null]'],
    ['a number', '7'],
  ])(
    'transcriptions that are %s do not keep the audio from being archived',
    async (_title, transcriptionsJson) => {
      await archives(await start(), { transcriptionsJson });
    },
  );

  it.each([
    ['a string', '"Call me back."'],
    ['a list of strings', '["Call me back."]'],
    ['a message and null', '[{"components":[{"cT":"text","data":{"text":"Call me back."}}]},null]'],
    ['a list in a list', '[[{"components":[{"cT":"text","data":{"text":"Call me back."}}]}]]'],
  ])('transcriptions that are %s are kept, with their text', async (_title, transcriptionsJson) => {
    const pipeline = await start();
    const sessionId = await archives(pipeline, { transcriptionsJson });
    const { json, text } = await transcriptOf(pipeline, sessionId);
    expect(text).toContain('Call me back.');
    expect(json).toContain(
      `"source":${transcriptionsJson.startsWith('[') ? transcriptionsJson : `[${transcriptionsJson}]`}`,
    );
  });

  it('transcriptions keep an integer beyond 2^53 digit for digit', async () => {
    const pipeline = await start();
    const transcriptionsJson =
      '[{"_id":12345678901234567890,"components":[{"cT":"text","data":{"text":"x"}}]}]';
    const sessionId = await archives(pipeline, { transcriptionsJson });
    expect((await transcriptOf(pipeline, sessionId)).json).toContain('"_id":12345678901234567890');
  });

  it.each([5_000, 100_000])(
    'transcriptions nested %d deep do not keep the audio from being archived',
    async (depth) => {
      const pipeline = await start({ transcriptWaitMs: 0 });
      const sessionId = await archives(pipeline, {
        transcriptionsJson: `${'['.repeat(depth)}${']'.repeat(depth)}`,
      });
      expect(pipeline.log.join('')).not.toContain('"INTERNAL"');
      expect((await pipeline.manifest(sessionId)).recordings).toHaveLength(1);
    },
  );
});

describe('the recordings of an answer', () => {
  it.each(['object', 'urls', 'data-uris'] as const)(
    'recordings listed as %s are archived',
    async (recordingsAs) => {
      await archives(await start(), { recordingsAs });
    },
  );

  it.each(['voicemail recording', 'voicemail_recording', 'recording'] as const)(
    'recordings under the key "%s" are archived',
    async (recordingsKey) => {
      await archives(await start(), { recordingsKey });
    },
  );

  it.each<[string, { fileUrl?: string | null; ranges?: boolean; mediaFaults?: MediaFault[] }]>([
    ['without a URL', { fileUrl: null }],
    ['empty', { mediaFaults: [{ shortBy: Number.POSITIVE_INFINITY, times: Number.POSITIVE_INFINITY }] }],
    ['an HTML page', { mediaFaults: [{ page: 'html', times: Number.POSITIVE_INFINITY }] }],
    [
      'broken off',
      { ranges: false, mediaFaults: [{ breakAfterBytes: 100, times: Number.POSITIVE_INFINITY }] },
    ],
    ['refused for ever', { mediaFaults: [{ status: 403, times: Number.POSITIVE_INFINITY }] }],
    ['on a host that is not allowed', { fileUrl: 'https://elsewhere.example/x.wav' }],
  ])(
    'a session of which one recording is %s has the two others saved at once, and they stay saved',
    { timeout: 90_000 },
    async (_title, bad) => {
      const pipeline = await start({ recordingWaitMs: 1_500, retryWaitMs: 1_500 });
      const sessionId = pipeline.sandbox.addSession({
        recordings: [
          { content: BASE, fileName: 'one.wav' },
          { fileName: 'two.wav', ...bad },
          { content: BASE, fileName: 'three.wav', seed: 'three' },
        ],
      });
      await pipeline.enqueue(sessionId);
      expect(await pipeline.ends(sessionId)).toMatchObject({ state: 'failed' });

      const keys = await pipeline.archived();
      const partialKey = keys.find((key) => key.endsWith(`session_id=${sessionId}/manifest.partial.json`));
      expect(keys.some((key) => key.endsWith('/manifest.json'))).toBe(false);
      const partial = JSON.parse(
        (await pipeline.read(setup.archive.store.fullKey(partialKey ?? ''))).toString(),
      ) as { recordings: { key: string }[]; missing: { fileName: string; code: string; at: string }[] };
      expect(partial.missing).toEqual([
        expect.objectContaining({ fileName: 'two.wav', code: expect.stringMatching(/^[A-Z_]+$/) }),
      ]);
      for (const { key } of partial.recordings) expect((await pipeline.read(key)).equals(BASE)).toBe(true);
      expect(partial.recordings.length).toBeGreaterThan(0);
    },
  );
});

describe('a voicemail that is not there at first', () => {
  it.each<[string, NonNullable<SessionSpec['metadataFaults']>]>([
    ['404 "Session not found" three times, as the webhook came first', [{ status: 404, times: 3 }]],
    ["a load balancer's page with 404", [{ page: 'html', status: 404, contentType: 'text/html', times: 3 }]],
    ["a load balancer's page with 400", [{ page: 'html', status: 400, contentType: 'text/html', times: 3 }]],
    ["a load balancer's page with 200", [{ page: 'html', contentType: 'text/html', times: 3 }]],
    ["a proxy's empty 404", [{ body: '', status: 404, contentType: 'text/plain', times: 3 }]],
    ["a proxy's empty 200", [{ body: '', times: 3 }]],
    ["a proxy's 403", [{ page: 'html', status: 403, contentType: 'text/html', times: 3 }]],
  ])('after %s, the voicemail is archived when it comes', async (_title, metadataFaults) => {
    await archives(await start(), { metadataFaults });
  });

  it.each(['media_unavailable', 'failed', 'media_in_progress', 'something_new'])(
    'with %s in the first minutes, the voicemail is archived when it comes',
    async (status) => {
      await archives(await start(), { statuses: [status, status, 'success'] });
    },
  );

  it('an answer of 9 MB is read', async () => {
    await archives(await start(), {
      metadataFaults: [{ fillBytes: 9_000_000, times: Number.POSITIVE_INFINITY }],
    });
  });
});

describe('additions after the session was archived', () => {
  it('a recording and a message that come after the session was archived are added, with the next revision', async () => {
    // No check comes before the additions, however slow the machine is.
    const pipeline = await start({ settleWaitMs: 3_600_000 });
    const { sandbox } = pipeline;
    const sessionId = await archives(pipeline, { transcription: 'The first message.' });
    const late = Buffer.concat([BASE.subarray(0, 44), BASE.subarray(44).reverse()]);
    sandbox.session(sessionId).addRecording({ content: late, fileName: 'late.wav' });
    sandbox.session(sessionId).addMessage('The second message.');
    await pipeline.skipWaits();

    await pipeline.waitFor(sessionId, ({ recordings }) => recordings?.length === 2);
    const manifest = await pipeline.manifest(sessionId);
    expect(manifest.revision).toBeGreaterThan(1);
    expect((await pipeline.read(manifest.recordings[1]?.key ?? '')).equals(late)).toBe(true);
    expect((await transcriptOf(pipeline, sessionId)).text).toMatch(/first message.*second message/s);
  });

  it('a file name that changes between polls does not double a recording', async () => {
    const pipeline = await start({ settleWaitMs: 500 });
    const sessionId = await archives(pipeline, {
      recordings: [{ content: BASE, fileName: ['a.wav', 'b.wav', 'c.wav'] }],
      transcription: { texts: ['late'], afterPolls: 2 },
    });
    await pipeline.transcriptSettled(sessionId);
    expect((await pipeline.manifest(sessionId)).recordings).toHaveLength(1);
  });
});
