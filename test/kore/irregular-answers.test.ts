/** Irregular answers of Kore, as they occur in production, each through a real worker, with the archived bytes compared. */

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { MetadataFault, SessionSpec } from '../../src/sandbox/spec.ts';
import { parseJson } from '../../src/util/json.ts';
import { wavOf } from '../support/audio.ts';
import { openSetup, type Pipeline, type Setup } from '../support/pipeline.ts';

const AUDIO = wavOf(24_044);
const HOUR_MS = 60 * 60 * 1000;

let setup: Setup;
let pipeline: Pipeline | undefined;
beforeAll(async () => {
  setup = await openSetup('redis', 'file');
});
afterEach(async () => {
  await pipeline?.stop();
  pipeline = undefined;
});
afterAll(() => setup.close());

/** Starts a pipeline with one such session, and waits until it has ended. */
async function run(spec: SessionSpec): Promise<{ pipeline: Pipeline; sessionId: string }> {
  const started = await setup.start({ work: { sessionWaitMs: HOUR_MS } });
  pipeline = started;
  const sessionId = started.sandbox.addSession({ recordings: [{ content: AUDIO }], ...spec });
  await started.enqueue(sessionId);
  const view = await started.ends(sessionId);
  expect(view, JSON.stringify(view.error)).toMatchObject({ state: 'archived' });
  return { pipeline: started, sessionId };
}

/** The bytes of all recordings of a session, as they lie in the archive. */
async function archivedAudio({ pipeline: { manifest, read }, sessionId }: Awaited<ReturnType<typeof run>>) {
  const { recordings } = await manifest(sessionId);
  return Promise.all(recordings.map(({ key }) => read(key)));
}

async function transcriptText({ pipeline: { manifest, read }, sessionId }: Awaited<ReturnType<typeof run>>) {
  const { transcript } = await manifest(sessionId);
  return (await read(transcript.key ?? 'no key')).toString();
}

describe('a transcript', () => {
  const message = '{"_id":"m-1","components":[{"cT":"text","data":{"text":"pineapple umbrella"}}]}';

  it.each([
    ['{}', '[{}]', ''],
    ['"pineapple umbrella"', '["pineapple umbrella"]', 'pineapple umbrella'],
    ['[null]', '[null]', ''],
    [`[${message},null]`, `[${message},null]`, 'pineapple umbrella'],
    ['["pineapple umbrella"]', '["pineapple umbrella"]', 'pineapple umbrella'],
    ['[{"_id":"m","big":12345678901234567890}]', '[{"_id":"m","big":12345678901234567890}]', ''],
  ])(
    'a session whose transcript is %s has its audio archived, and the transcript kept as received',
    async (transcriptionsJson, source, text) => {
      const session = await run({ transcriptionsJson });

      expect(await archivedAudio(session)).toEqual([AUDIO]);
      const transcript = await transcriptText(session);
      expect(transcript).toContain(`"source":${source}`);
      expect(parseJson(transcript)).toMatchObject({ text });
    },
  );

  it.each([5_000, 100_000])(
    'a session whose transcript is nested %i deep has its audio archived, and the transcript kept',
    async (levels) => {
      const deep = `${'{"a":['.repeat(levels / 2)}"innermost"${']}'.repeat(levels / 2)}`;

      const session = await run({ transcriptionsJson: `[{"_id":"m-1","deep":${deep}}]` });

      expect(await archivedAudio(session)).toEqual([AUDIO]);
      expect((await transcriptText(session)).replaceAll('\\', '')).toContain('"innermost"');
    },
  );
});

describe('recordings of odd forms', () => {
  type Listed = readonly { readonly fileName: string; readonly fileUrl: string }[];
  const listedAs = (change: (listed: Listed) => unknown): SessionSpec => ({
    answer: (built) => {
      const { 'voicemail recording': listed, ...rest } = built;
      return { ...rest, 'voicemail recording': change(listed as Listed) };
    },
  });

  it.each<[string, (listed: Listed) => unknown]>([
    ['one object', ([only]) => only],
    ['an array of URLs', (listed) => listed.map(({ fileUrl }) => fileUrl)],
    ['a URL', ([only]) => only?.fileUrl],
    ['an array of data: URIs', () => [`data:audio/wav;base64,${AUDIO.toString('base64')}`]],
    [
      'objects in other casings',
      (listed) => listed.map(({ fileUrl }) => ({ FileURL: fileUrl, filename: 'a.wav' })),
    ],
  ])('recordings listed as %s are archived', async (_as, change) => {
    expect(await archivedAudio(await run(listedAs(change)))).toEqual([AUDIO]);
  });
});

describe('an answer without a voicemail', () => {
  const faults: readonly [string, readonly MetadataFault[]][] = [
    ['404 "Session not found" three times', [{ status: 404, message: 'Session not found', times: 3 }]],
    [
      'a page of a load balancer with 404',
      [{ status: 404, page: 'html', contentType: 'text/html', times: 3 }],
    ],
    [
      'a page of a load balancer with 400',
      [{ status: 400, page: 'html', contentType: 'text/html', times: 3 }],
    ],
    [
      'a page of a load balancer with 403',
      [{ status: 403, page: 'html', contentType: 'text/html', times: 2 }],
    ],
    ['a page of a load balancer with 200', [{ page: 'html', contentType: 'text/html', times: 3 }]],
    ['nothing with 404', [{ status: 404, body: '', times: 2 }]],
    ['nothing with 200', [{ body: '', times: 2 }]],
    ['9 MB of it', [{ fillBytes: 9_000_000 }]],
  ];

  it.each(faults)(
    'after the answer %s, a voicemail that comes is archived',
    async (_what, metadataFaults) => {
      expect(await archivedAudio(await run({ metadataFaults }))).toEqual([AUDIO]);
    },
  );

  it.each(['media_unavailable', 'failed', 'something_new'])(
    'after %s at first, a voicemail that comes is archived',
    async (status) => {
      expect(await archivedAudio(await run({ statuses: [status, status, 'success'] }))).toEqual([AUDIO]);
    },
  );
});
