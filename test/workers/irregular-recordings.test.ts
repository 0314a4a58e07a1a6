/** Irregular audio and media hosts, as they occur in production, through a real worker, with the archived bytes compared. */

import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { wav } from '../support/audio.ts';
import { BASE, CONTAINER_FILES, fixture } from '../support/irregular-recordings.ts';
import {
  type Handler,
  inTurn,
  type MediaServer,
  respond,
  serve,
  startMediaServer,
} from '../support/media-server.ts';
import { openSetup, type Pipeline, type PipelineOptions, type Setup } from '../support/pipeline.ts';

const HALF = BASE.subarray(0, BASE.length / 2);
const DATA_SIZE_AT = BASE.indexOf('data') + 4;

function withSizes(riff: (size: number) => number, data: (size: number) => number): Buffer {
  const bytes = Buffer.from(BASE);
  bytes.writeUInt32LE(riff(BASE.readUInt32LE(4)), 4);
  bytes.writeUInt32LE(data(BASE.readUInt32LE(DATA_SIZE_AT)), DATA_SIZE_AT);
  return bytes;
}

const same = (size: number): number => size;
const plus = (bytes: number) => (size: number) => size + bytes;

const PAGE = respond(200, '<!doctype html><title>Maintenance</title>');
const often = (handler: Handler, times: number): Handler[] => Array.from({ length: times }, () => handler);

/** A row: what the host does, what has to be in the archive, and what may be said of it. */
interface Row {
  readonly handler: Handler;
  readonly bytes: Buffer;
  readonly integrity: readonly string[];
}

const plain = (bytes: Buffer, ...integrity: string[]): Row => ({
  handler: serve(bytes),
  bytes,
  integrity: integrity.length > 0 ? integrity : ['verified'],
});

const later = (...handlers: Handler[]): Row => ({
  handler: inTurn(...handlers, serve(BASE)),
  bytes: BASE,
  integrity: ['verified'],
});

const CONTAINERS = [...CONTAINER_FILES, 'ffmpeg-pipe.wav'];

const ROWS: Readonly<Record<string, Row>> = {
  'a RIFF size that is nonsense': plain(withSizes(plus(2 ** 30), same), 'suspect', 'verified'),
  'sizes of 0xFFFFFFFF': plain(
    withSizes(
      () => 0xffffffff,
      () => 0xffffffff,
    ),
  ),
  'sizes of 0': plain(
    withSizes(
      () => 0,
      () => 0,
    ),
  ),
  'no samples, header only': plain(wav(Buffer.alloc(0))),
  ...Object.fromEntries(CONTAINERS.map((name) => [name, plain(fixture(name))])),
  ...Object.fromEntries(
    [...CONTAINERS, 'base.wav'].map((name) => [
      `${name}, without a length`,
      {
        handler: serve(fixture(name), { framing: 'close' }),
        bytes: fixture(name),
        integrity: ['verified', 'unverified'],
      },
    ]),
  ),
  'really cut twice, whole the third time': later(respond(200, HALF), respond(200, HALF)),
  'gzip though nobody asked': {
    handler: respond(200, gzipSync(BASE), { 'content-encoding': 'gzip' }),
    bytes: BASE,
    integrity: ['verified'],
  },
  'a content encoding that names no coding': {
    handler: serve(BASE, { headers: { 'content-encoding': 'binary' } }),
    bytes: BASE,
    integrity: ['verified'],
  },
  'base64 named over plain bytes': {
    handler: serve(BASE, { headers: { 'content-encoding': 'base64' } }),
    bytes: BASE,
    integrity: ['verified'],
  },
  'a 206 that is all': {
    handler: respond(206, BASE, { 'content-range': `bytes 0-${BASE.length - 1}/${BASE.length}` }),
    bytes: BASE,
    integrity: ['verified'],
  },
  '20 KB of headers': {
    handler: serve(BASE, {
      headers: Object.fromEntries(
        Array.from({ length: 20 }, (_, index) => [`x-h-${index}`, 'h'.repeat(1024)]),
      ),
    }),
    bytes: BASE,
    integrity: ['verified'],
  },
  // More often than one attempt asks, so that it is the worker that waits.
  'a page in place of the recording': later(...often(PAGE, 8)),
  'JSON in place of the recording': later(...often(respond(200, '{"error":"maintenance"}'), 8)),
  'no bytes yet': later(...often(respond(200), 8)),
  'half of the file, still growing': later(...often(respond(200, HALF), 6)),
  'a pause until no date at all': later(respond(503, '', { 'retry-after': 'tomorrow' })),
};

/** These look cut for ever. */
const CUT_ROWS: Readonly<Record<string, Row>> = {
  'a data size of 44 bytes more': plain(withSizes(same, plus(44)), 'suspect'),
  'sizes of the longest message': plain(withSizes(plus(960_000), plus(960_000)), 'suspect'),
};

describe('recordings of real systems', () => {
  let setup: Setup;
  let media: MediaServer;
  let pipeline: Pipeline;

  beforeAll(async () => {
    setup = await openSetup('redis', 'file');
  });

  afterAll(async () => {
    await setup.close();
  });

  beforeEach(async () => {
    media = await startMediaServer();
  });

  afterEach(async () => {
    await pipeline.stop();
    await media.close();
  });

  /** Sends one session for each row in, and checks the outcome of each. */
  async function archiveAll(rows: Readonly<Record<string, Row>>, options: PipelineOptions): Promise<void> {
    pipeline = await setup.start(options);
    const names = Object.keys(rows);
    media.handle((request, reply) => {
      const index = Number(/^\/(\d+)/.exec(request.target)?.[1]);
      return rows[names[index] ?? '']?.handler(request, reply);
    });
    const ids = names.map((_, index) =>
      pipeline.sandbox.addSession({
        recordings: [{ fileName: 'voicemail.wav', fileUrl: `${media.origin}/${index}?s=signature` }],
      }),
    );
    await pipeline.enqueue(...ids);
    for (const [index, name] of names.entries()) {
      const id = ids[index] ?? '';
      const view = await pipeline.ends(id);
      expect([name, view.state, view.error?.code]).toEqual([name, 'archived', undefined]);
      const [recording] = (await pipeline.manifest(id)).recordings;
      const row = rows[name];
      expect(row?.integrity, name).toContain(recording?.integrity?.state);
      expect((await pipeline.read(recording?.key ?? '')).equals(row?.bytes ?? BASE), name).toBe(true);
    }
  }

  it('recordings of real systems are archived, byte for byte, and none fails for good', {
    timeout: 120_000,
  }, async () => {
    await archiveAll(ROWS, { work: { concurrency: 16 } });
  });

  it('recordings that look cut for ever are archived as suspect in the end', {
    timeout: 120_000,
  }, async () => {
    await archiveAll(CUT_ROWS, { work: { recordingWaitMs: 1000 } });
    expect(media.requests.length).toBeGreaterThan(2 * 4);
  });

  it('recordings from a host that sends too slowly for ever hold a slot for a bounded time', {
    timeout: 120_000,
  }, async () => {
    pipeline = await setup.start({
      work: { concurrency: 1, downloadIdleTimeoutMs: 3_000, downloadMinBytesPerSecond: 1e9, retryWaitMs: 1 },
    });
    let isOver = false;
    media.handle(async (request, reply) => {
      if (request.target.startsWith('/other')) return serve(BASE)(request, reply);
      await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n');
      while (!isOver) {
        await reply.write('slow');
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    });
    const [slow = '', other = ''] = ['slow', 'other'].map((path) =>
      pipeline.sandbox.addSession({
        recordings: [{ fileName: 'voicemail.wav', fileUrl: `${media.origin}/${path}?s=signature` }],
      }),
    );
    await pipeline.enqueue(slow);
    await pipeline.waitFor(slow, ({ state }) => state !== 'queued');
    await pipeline.enqueue(other);
    // With one slot alone, this one has to wait until the other is broken off.
    expect((await pipeline.ends(other)).state).toBe('archived');
    const view = await pipeline.waitFor(slow, ({ error }) => error !== undefined);
    expect(view.error).toMatchObject({
      code: 'DOWNLOAD_FAILED',
      message: expect.stringContaining('too slow'),
    });
    isOver = true;
  });
});
