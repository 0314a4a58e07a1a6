import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { parseRange } from '../../src/api/objects.ts';
import { type ApiSetup, ask, openApiSetup } from '../support/api-server.ts';

let setup: ApiSetup;
let url: string;
let session: string;
/** The recording as it was archived, and its view. */
let bytes: Buffer;
let recording: { key: string; sha256: string; contentType: string };
let directory: string;

beforeAll(async () => {
  setup = await openApiSetup();
  url = await setup.serve();
  session = setup.sandbox.addSession({ transcription: 'Please call me back.' });
  await setup.startWorker();
  await ask(url, '/v1/sessions', { json: { sessionIds: [session] } });
  const view = await vi.waitFor(
    async () => {
      const { body } = await ask(url, `/v1/sessions/${session}`);
      expect(body).toMatchObject({ state: 'archived', transcript: 'archived' });
      return body;
    },
    { timeout: 60_000 },
  );
  [recording] = view.recordings as [typeof recording];
  const { archive } = setup.config;
  if (archive.kind !== 'file') throw new Error('the archive is no directory');
  directory = archive.directory;
  bytes = await readFile(join(directory, recording.key));
});
afterAll(() => setup.close());

/** An object's bytes. */
async function get(path: string, headers: Record<string, string> = {}, method: 'GET' | 'HEAD' = 'GET') {
  const response = await request(`${url}/v1/sessions/${path}`, { method, headers });
  const body = Buffer.from(await response.body.arrayBuffer());
  return { status: response.statusCode, headers: response.headers, body };
}

describe('a recording', () => {
  it('a recording is sent whole, with headers that identify it', async () => {
    const { status, headers, body } = await get(`${session}/recordings/0`);

    expect(status).toBe(200);
    expect(body.equals(bytes)).toBe(true);
    expect(headers).toMatchObject({
      etag: `"${recording.sha256}"`,
      'content-type': recording.contentType,
      'content-length': String(bytes.length),
      'accept-ranges': 'bytes',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    expect(headers['content-disposition']).toMatch(/^attachment; filename\*=UTF-8''/);
  });

  it.each([
    ['bytes=0-9', 0, 9],
    ['bytes=10-', 10, undefined],
    ['bytes=-7', -7, undefined],
  ])('a recording is sent in part for Range: %s', async (range, start, last) => {
    const { status, headers, body } = await get(`${session}/recordings/0`, { range });

    const part = bytes.subarray(start, last === undefined ? undefined : last + 1);
    expect(status).toBe(206);
    expect(body.equals(part)).toBe(true);
    const first = start < 0 ? bytes.length + start : start;
    expect(headers['content-range']).toBe(`bytes ${first}-${first + part.length - 1}/${bytes.length}`);
  });

  it('a recording is sent whole where it changed or the range makes no sense, and a range beyond its end is refused', async () => {
    const beyond = await get(`${session}/recordings/0`, { range: `bytes=${bytes.length}-` });
    expect([beyond.status, beyond.headers['content-range']]).toEqual([416, `bytes */${bytes.length}`]);
    expect(JSON.parse(beyond.body.toString())).toMatchObject({ code: 'RANGE_NOT_SATISFIABLE' });
    const other = await get(`${session}/recordings/0`, { range: 'bytes=0-9', 'if-range': '"another"' });
    expect([other.status, other.body.length]).toEqual([200, bytes.length]);
    const same = await get(`${session}/recordings/0`, { 'if-none-match': `"${recording.sha256}"` });
    expect([same.status, same.body.length]).toEqual([304, 0]);
  });

  it('a recording is described by the answer to HEAD', async () => {
    const { status, headers, body } = await get(`${session}/recordings/0`, {}, 'HEAD');
    expect([status, headers['content-length'], body.length]).toEqual([200, String(bytes.length), 0]);
  });

  it('a recording is sent only if the manifest names it', async () => {
    for (const [path, status, code] of [
      [`${session}/recordings/1`, 404, 'NOT_FOUND'],
      [`${session}/recordings/-1`, 400, 'INVALID_REQUEST'],
      [`${session}/recordings/..%2fmanifest.json`, 400, 'INVALID_REQUEST'],
      ['never-archived/recordings/0', 404, 'SESSION_NOT_FOUND'],
    ] as const) {
      const answer = await get(path);
      expect([path, answer.status, JSON.parse(answer.body.toString()).code]).toEqual([path, status, code]);
    }
  });
});

describe('the documents of a session', () => {
  it.each(['transcript', 'manifest'])(
    'a document of a session is sent as it lies in the archive: %s',
    async (name) => {
      const { status, headers, body } = await get(`${session}/${name}`);
      const path = join(directory, recording.key.replace(/[^/]+$/, `${name}.json`));
      expect(status).toBe(200);
      expect(body.equals(await readFile(path))).toBe(true);
      expect(headers['content-type']).toBe('application/json');
      expect(headers.etag).toBe(`"${createHash('sha256').update(body).digest('hex')}"`);
    },
  );

  it('a document of a session is refused where it is not what the manifest says, or lies elsewhere', async () => {
    const other = setup.sandbox.addSession({ transcription: 'Please call me back.' });
    await ask(url, '/v1/sessions', { json: { sessionIds: [other] } });
    const view = await vi.waitFor(
      async () => {
        const { body } = await ask(url, `/v1/sessions/${other}`);
        expect(body).toMatchObject({ state: 'archived', transcript: 'archived' });
        return body;
      },
      { timeout: 60_000 },
    );
    const [{ key }] = view.recordings as [{ key: string }];
    await writeFile(join(directory, key), 'shorter');
    const changed = await get(`${other}/recordings/0`);
    expect([changed.status, JSON.parse(changed.body.toString())]).toMatchObject([
      500,
      { code: 'ARCHIVE_CONFLICT', hint: expect.stringMatching(/^run verify/) },
    ]);

    const manifestPath = join(directory, key.replace(/[^/]+$/, 'manifest.json'));
    const manifest = JSON.parse(await readFile(manifestPath, 'utf8'));
    manifest.recordings[0].key = recording.key;
    await writeFile(manifestPath, JSON.stringify(manifest));
    const foreign = await get(`${other}/recordings/0`);
    expect([foreign.status, JSON.parse(foreign.body.toString()).code]).toEqual([500, 'ARCHIVE_CONFLICT']);
  });
});

it.each([
  [undefined, undefined],
  ['bytes=0-0', { start: 0, end: 0 }],
  ['bytes=5-100', { start: 5, end: 9 }],
  ['bytes=-100', { start: 0, end: 9 }],
  ['bytes=9-', { start: 9, end: 9 }],
  ['bytes=10-', 'beyond'],
  ['bytes=-0', 'beyond'],
  ['bytes=5-4', undefined],
  ['bytes=0-1,3-4', undefined],
  ['bytes=-', undefined],
  ['items=0-1', undefined],
  [`bytes=0-${'9'.repeat(400)}`, undefined],
] as const)('of a file of 10 bytes, Range: %s selects %o', (header, expected) => {
  expect(parseRange(header, 10)).toEqual(expected);
});
