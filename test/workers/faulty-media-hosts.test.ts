/** A media host with faults for some time, through a real worker. */

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { MediaFault, RecordingSpec } from '../../src/sandbox/spec.ts';
import { BASE } from '../support/irregular-recordings.ts';
import { openSetup, type Pipeline, type PipelineOptions, type Setup } from '../support/pipeline.ts';

let setup: Setup;
let running: Pipeline[] = [];

beforeAll(async () => {
  setup = await openSetup('redis', 's3');
});

afterEach(async () => {
  const stopping = running;
  running = [];
  for (const pipeline of stopping) await pipeline.stop();
});

afterAll(() => setup.close());

async function start(work: PipelineOptions['work'] = {}): Promise<Pipeline> {
  const pipeline = await setup.start({ work });
  running.push(pipeline);
  return pipeline;
}

function add(pipeline: Pipeline, recording: RecordingSpec): string {
  return pipeline.sandbox.addSession({ recordings: [{ content: BASE, ...recording }] });
}

async function expectWhole(pipeline: Pipeline, sessionId: string): Promise<void> {
  expect(await pipeline.ends(sessionId)).toMatchObject({ state: 'archived' });
  const [archived] = (await pipeline.manifest(sessionId)).recordings;
  expect((await pipeline.read(archived?.key ?? '')).equals(BASE)).toBe(true);
  expect(archived?.integrity?.state).toBe('verified');
}

const several = (fault: MediaFault): MediaFault[] => [{ ...fault, times: 8 }];

describe('a media host with passing faults', () => {
  it.each<[string, MediaFault]>([
    ['an HTML page and 200', { page: 'html' }],
    ['an HTML page and 200, with its content type', { page: 'html', contentType: 'text/html' }],
    ['JSON and 200', { page: 'json', contentType: 'application/json' }],
    ['XML and 200', { page: 'xml', contentType: 'application/xml' }],
    ['no bytes, as the file is not written yet', { shortBy: Number.POSITIVE_INFINITY }],
    ['half of the file, as it is still growing', { shortBy: BASE.length / 2 }],
    ['503 and a Retry-After of ten years', { status: 503, retryAfter: 315_360_000 }],
    ['503 and a Retry-After that is no date at all', { status: 503, retryAfter: 'Thu, 99 Foo 2099' }],
    ['404', { status: 404 }],
    ['500', { status: 500 }],
  ])(
    'while a media host answers with %s, the session waits, and is archived whole afterwards',
    async (_title, fault) => {
      const pipeline = await start();
      const isHourLong = fault.retryAfter !== undefined;
      const sessionId = add(pipeline, { mediaFaults: isHourLong ? [fault] : several(fault) });
      await pipeline.enqueue(sessionId);
      if (isHourLong) {
        const waiting = await pipeline.waitFor(
          sessionId,
          ({ state, nextAttemptAt }) => state === 'archived' || nextAttemptAt !== undefined,
        );
        const pauseMs = Date.parse(waiting.nextAttemptAt ?? '') - Date.now();
        if (waiting.state !== 'archived') expect(pauseMs).toBeLessThanOrEqual(3_700_000);
        await pipeline.skipWaits();
      }
      await expectWhole(pipeline, sessionId);
    },
  );
});

it('maintenance of the media host makes 20 sessions wait, and fails none', async () => {
  const pipeline = await start();
  const sessions = Array.from({ length: 20 }, () => add(pipeline, {}));
  pipeline.sandbox.configure({ mediaOutage: { page: 'html', contentType: 'text/html' } });
  await pipeline.enqueue(...sessions);
  await pipeline.sandbox.waitFor((calls) => calls.filter(({ route }) => route === 'media').length >= 60);
  pipeline.sandbox.configure({ mediaOutage: undefined });
  for (const sessionId of sessions) await expectWhole(pipeline, sessionId);
});

it('a source that sends too slowly for ever ends with a code, and other sessions are archived meanwhile', async () => {
  const pipeline = await start({
    concurrency: 2,
    downloadMinBytesPerSecond: 10_000,
    downloadIdleTimeoutMs: 500,
    retryWaitMs: 1_000,
    recordingWaitMs: 1_000,
  });
  const slowDownload = { bytesPerSecond: 50, times: Number.POSITIVE_INFINITY };
  const slow = [
    add(pipeline, { mediaFaults: [slowDownload] }),
    add(pipeline, { mediaFaults: [slowDownload] }),
  ];
  const others = Array.from({ length: 5 }, () => add(pipeline, {}));
  await pipeline.enqueue(...slow, ...others);
  for (const sessionId of others) await expectWhole(pipeline, sessionId);
  for (const sessionId of slow) {
    expect(await pipeline.ends(sessionId)).toMatchObject({
      state: 'failed',
      error: { code: 'DOWNLOAD_FAILED' },
    });
  }
});

it('a host that is not allowed is reported as a fault of the configuration, and the session waits', async () => {
  const pipeline = await start();
  const sessionId = add(pipeline, { fileUrl: 'https://media.example.com/x.wav?s=SECRET' });
  await pipeline.enqueue(sessionId);
  const view = await pipeline.waitFor(sessionId, ({ state }) => state === 'waiting');
  expect(view.error).toMatchObject({
    code: 'RECORDING_HOST_NOT_ALLOWED',
    hint: expect.stringContaining('add media.example.com to KORE_MEDIA_HOSTS'),
  });
  const loud = pipeline.log.map((line) => JSON.parse(line)).filter(({ level }) => level === 'error');
  expect(loud).toEqual([
    expect.objectContaining({
      code: 'RECORDING_HOST_NOT_ALLOWED',
      hint: expect.stringContaining('KORE_MEDIA_HOSTS'),
    }),
  ]);
});
