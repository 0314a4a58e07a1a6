import { gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import type { MediaFault, RecordingSpec, SessionSpec } from '../../src/sandbox/spec.ts';
import { call, fetchAnswer, freshUrl } from '../support/sandbox-caller.ts';

/** What the field knows beside the documented answers: see the fields of `SessionSpec`, `RecordingSpec` and faults. */
let sandbox: Sandbox;

beforeEach(async () => {
  sandbox = await startSandbox();
});

afterEach(async () => {
  await sandbox.close();
  expect(sandbox.violations).toEqual([]);
});

async function recordingsOf(sessionId: string): Promise<unknown> {
  return (await fetchAnswer(sandbox, sessionId))['voicemail recording'];
}

describe('transcripts of odd forms', () => {
  test.each(['{}', '"text"', '[null]', '[{"a":1},null]', '["$&"]', '[{"n":12345678901234567890}]'])(
    'a transcript of odd form is in the answer byte for byte: %s',
    async (transcriptionsJson) => {
      const response = await call(sandbox, sandbox.addSession({ transcriptionsJson }));
      expect(response.headers.get('content-length')).toMatch(/^\d+$/);
      expect(await response.text()).toContain(`"transcriptions":${transcriptionsJson}}`);
    },
  );

  test('a transcript may be nested 5,000 deep', async () => {
    const transcriptionsJson = '['.repeat(5000) + ']'.repeat(5000);
    expect(await (await call(sandbox, sandbox.addSession({ transcriptionsJson }))).text()).toContain(
      transcriptionsJson,
    );
  });

  test('a transcript may get messages after a number of polls, or when they are added', async () => {
    const sessionId = sandbox.addSession({
      transcription: { texts: ['first'], later: [{ text: 'second', afterPolls: 1 }] },
    });
    const texts = async () => {
      const { transcriptions = [] } = await fetchAnswer(sandbox, sessionId);
      return transcriptions.map(({ components }) => components[0]?.data.text);
    };
    expect(await texts()).toEqual(['first']);
    expect(await texts()).toEqual(['first', 'second']);
    sandbox.session(sessionId).addMessage('third');
    expect(await texts()).toEqual(['first', 'second', 'third']);
  });
});

describe('recordings of odd forms', () => {
  const content = Buffer.from('some audio');
  const spec = (recordingsAs: NonNullable<SessionSpec['recordingsAs']>): SessionSpec => ({
    recordingsAs,
    recordings: [{ content, contentType: 'audio/wav', fileName: 'a.wav' }],
  });

  test('a recording may be one object instead of a list', async () => {
    expect(await recordingsOf(sandbox.addSession(spec('object')))).toEqual({
      fileName: 'a.wav',
      fileUrl: expect.stringMatching(/^http/),
    });
  });

  test('recordings may be a list of URLs that deliver', async () => {
    const [url] = (await recordingsOf(sandbox.addSession(spec('urls')))) as string[];
    expect(await (await fetch(url ?? '')).text()).toBe('some audio');
  });

  test('recordings may be a list of data: URIs', async () => {
    const [uri] = (await recordingsOf(sandbox.addSession(spec('data-uris')))) as string[];
    expect(await (await fetch(uri ?? '')).text()).toBe('some audio');
  });

  test('a recording may lack its fileUrl', async () => {
    const recordings = [{ fileName: 'a.wav', fileUrl: null }];
    expect(await recordingsOf(sandbox.addSession({ recordings }))).toEqual([{ fileName: 'a.wav' }]);
  });

  test('a recording may have a fileName that changes from answer to answer', async () => {
    const sessionId = sandbox.addSession({ recordings: [{ fileName: ['a.wav', 'b.wav'] }] });
    const names = [];
    for (let i = 0; i < 3; i++)
      names.push((await fetchAnswer(sandbox, sessionId))['voicemail recording']?.[0]?.fileName);
    expect(names).toEqual(['a.wav', 'b.wav', 'b.wav']);
  });

  test('a recording may have a path that changes from answer to answer, all of which deliver', async () => {
    const sessionId = sandbox.addSession({
      recordings: [{ content, changingPath: true, redirectTo: 'storage' }],
    });
    const urls = [await freshUrl(sandbox, sessionId), await freshUrl(sandbox, sessionId)];
    expect(new Set(urls.map((url) => new URL(url).pathname)).size).toBe(2);
    for (const url of urls) expect(await (await fetch(url)).text()).toBe('some audio');
  });

  test('recordings may come after a number of polls, or when they are added', async () => {
    const sessionId = sandbox.addSession({ recordings: [{}, { afterPolls: 2 }] });
    expect(await recordingsOf(sessionId)).toHaveLength(1);
    expect(await recordingsOf(sessionId)).toHaveLength(1);
    expect(await recordingsOf(sessionId)).toHaveLength(2);
    const added = sandbox.session(sessionId).addRecording({ content });
    expect(await recordingsOf(sessionId)).toHaveLength(3);
    expect(added.index).toBe(2);
    expect(await (await fetch(await freshUrl(sandbox, sessionId, 2))).text()).toBe('some audio');
  });
});

describe("answers that are not Kore's", () => {
  test('a session can be unknown the first times, in the words of Kore', async () => {
    const sessionId = sandbox.addSession({
      metadataFaults: [{ status: 404, message: 'Session not found', times: 2 }],
    });
    for (let i = 0; i < 2; i++) {
      const response = await call(sandbox, sessionId);
      expect([response.status, await response.json()]).toMatchObject([
        404,
        { errors: [{ msg: 'Session not found' }] },
      ]);
    }
    expect((await fetchAnswer(sandbox, sessionId)).status).toBe('success');
  });

  test.each([404, 400, 200, 502])('a load balancer can answer %i with a page of its own', async (status) => {
    const sessionId = sandbox.addSession({ metadataFaults: [{ status, page: 'html', times: 2 }] });
    for (let i = 0; i < 2; i++) {
      const response = await call(sandbox, sessionId);
      expect([response.status, response.headers.get('content-type')]).toEqual([status, 'text/html']);
      expect(await response.text()).toMatch(/^<!DOCTYPE html>/);
    }
    expect((await fetchAnswer(sandbox, sessionId)).status).toBe('success');
  });

  test('an answer of 9 MB is complete', async () => {
    const transcriptionsJson = '[null]';
    const sessionId = sandbox.addSession({ transcriptionsJson, metadataFaults: [{ fillBytes: 9_000_000 }] });
    const text = await (await call(sandbox, sessionId)).text();
    expect(text.length).toBeGreaterThan(9_000_000);
    expect(JSON.parse(text)).toMatchObject({ status: 'success', transcriptions: [null] });
  });

  test.each(['315360000', 'soon', '-1', '1e9', 'Fri, 31 Dec 9999 23:59:59 GMT'])(
    'Retry-After may be any text (%s), of the API and of media',
    async (retryAfter) => {
      const sessionId = sandbox.addSession({
        metadataFaults: [
          { status: 503, retryAfter },
          { limit: '429-seconds', retryAfter },
        ],
        recordings: [{ mediaFaults: [{ status: 503, retryAfter }] }],
      });
      for (let i = 0; i < 2; i++)
        expect((await call(sandbox, sessionId)).headers.get('retry-after')).toBe(retryAfter);
      expect((await fetch(await freshUrl(sandbox, sessionId))).headers.get('retry-after')).toBe(retryAfter);
    },
  );
});

describe('media answers', () => {
  const content = Buffer.from('0123456789');

  async function urlOf(recording: RecordingSpec): Promise<string> {
    return freshUrl(sandbox, sandbox.addSession({ recordings: [{ content, ...recording }] }));
  }

  test('a media answer has the headers that a recording or a fault adds', async () => {
    const url = await urlOf({
      headers: { 'content-encoding': 'binary', 'x-many': ['a', 'b'] },
      mediaFaults: [{ headers: { 'x-once': '1' } }],
    });
    const first = await fetch(url);
    expect([first.headers.get('x-many'), first.headers.get('x-once')]).toEqual(['a, b', '1']);
    const second = await fetch(url);
    expect([second.headers.get('content-encoding'), second.headers.get('x-once')]).toEqual(['binary', null]);
    expect(await second.text()).toBe('0123456789');
  });

  test('a media answer may be compressed without being asked to', async () => {
    const packed = gzipSync(content);
    const url = await urlOf({ content: packed, headers: { 'content-encoding': 'gzip' } });
    const response = await fetch(url);
    expect(response.headers.get('content-length')).toBe(String(packed.length));
    expect(gunzipSync(packed).equals(Buffer.from(await response.arrayBuffer()))).toBe(true);
  });

  test('a media answer may be partial without being asked to', async () => {
    const response = await fetch(await urlOf({ alwaysPartial: true }));
    expect([response.status, response.headers.get('content-range')]).toEqual([206, 'bytes 0-9/10']);
    expect(await response.text()).toBe('0123456789');
  });

  test('media answers can come one after the other: a page, nothing, half, other bytes, and then the whole', async () => {
    const mediaFaults: MediaFault[] = [
      { page: 'html', status: 503, contentType: 'text/html', times: 2 },
      { shortBy: Number.POSITIVE_INFINITY },
      { shortBy: 5 },
      { content: Buffer.from('other') },
    ];
    const url = await urlOf({ mediaFaults });
    const seen = [];
    for (let i = 0; i < 6; i++) {
      const response = await fetch(url);
      seen.push([
        response.status,
        response.headers.get('content-length'),
        (await response.text()).slice(0, 10),
      ]);
    }
    expect(seen).toEqual([
      [503, expect.any(String), '<!DOCTYPE '],
      [503, expect.any(String), '<!DOCTYPE '],
      [200, '0', ''],
      [200, '5', '01234'],
      [200, '5', 'other'],
      [200, '10', '0123456789'],
    ]);
  });

  test('all media answers fail during an outage of the media host', async () => {
    const urls = [await urlOf({}), await urlOf({})];
    sandbox.configure({ mediaOutage: { page: 'html' } });
    for (const url of urls) expect(await (await fetch(url)).text()).toMatch(/^<!DOCTYPE html>/);
    sandbox.configure({ mediaOutage: undefined });
    for (const url of urls) expect(await (await fetch(url)).text()).toBe('0123456789');
  });
});
