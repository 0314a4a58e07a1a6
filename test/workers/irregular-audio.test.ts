/** Irregular audio, as hosts serve it in production, through a real worker: every byte is archived, with its integrity. */

import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RecordingSpec } from '../../src/sandbox/spec.ts';
import { BASE, CONTAINER_FILES, fixture } from '../support/irregular-recordings.ts';
import { openSetup, type Pipeline, type Setup } from '../support/pipeline.ts';

type State = 'verified' | 'unverified' | 'suspect';

/** The base file with a 32-bit field changed. */
function patched(...changes: readonly (readonly [offset: number, by: number])[]): Buffer {
  const bytes = Buffer.from(BASE);
  for (const [offset, by] of changes) bytes.writeUInt32LE((bytes.readUInt32LE(offset) + by) >>> 0, offset);
  return bytes;
}

/** The base file with its two size fields set. */
function sized(size: number): Buffer {
  const bytes = Buffer.from(BASE);
  bytes.writeUInt32LE(size, 4);
  bytes.writeUInt32LE(size, 40);
  return bytes;
}

const HEADER_ONLY = (() => {
  const bytes = Buffer.from(BASE.subarray(0, 44));
  bytes.writeUInt32LE(36, 4);
  bytes.writeUInt32LE(0, 40);
  return bytes;
})();

const half = BASE.subarray(0, BASE.length / 2);
const manyHeaders = Object.fromEntries(
  Array.from({ length: 200 }, (_, index) => [`x-amz-meta-${index}`, 'm'.repeat(80)]),
);

let setup: Setup;
let pipeline: Pipeline;

beforeAll(async () => {
  setup = await openSetup('redis', 'file');
  pipeline = await setup.start({ work: { recordingWaitMs: 3_000 } });
});

afterAll(async () => {
  await pipeline.stop();
  await setup.close();
});

/** Archives a session of that one recording, and compares what is in the archive byte for byte. */
async function archives(recording: RecordingSpec, content: Buffer, states: readonly State[]): Promise<void> {
  const sessionId = pipeline.sandbox.addSession({ recordings: [{ content, ...recording }] });
  await pipeline.enqueue(sessionId);
  const view = await pipeline.ends(sessionId);
  expect(view).toMatchObject({ state: 'archived', recordings: [{ bytes: content.length }] });
  const [archived] = (await pipeline.manifest(sessionId)).recordings;
  expect((await pipeline.read(archived?.key ?? '')).equals(content), 'the same bytes').toBe(true);
  expect(states, archived?.integrity?.notes.join('; ')).toContain(archived?.integrity?.state);
  if (archived?.integrity?.state === 'suspect') expect(archived.integrity.notes).not.toEqual([]);
}

describe('a WAV', () => {
  it.each<[string, Buffer, State[]]>([
    ['whose data size claims 44 bytes more than there are', patched([40, 44]), ['suspect']],
    ['whose header was written for the longest message', patched([4, 960_000], [40, 960_000]), ['suspect']],
    ['whose data size claims less than there is', patched([40, -2_000]), ['suspect', 'verified']],
    [
      'whose RIFF size is nonsense and whose data size is right',
      patched([4, 2 ** 30]),
      ['suspect', 'verified'],
    ],
    ['from a pipe, as ffmpeg writes it', fixture('ffmpeg-pipe.wav'), ['verified']],
    ['with sizes of 0xFFFFFFFF', sized(0xffff_ffff), ['verified']],
    ['with sizes of 0', sized(0), ['verified']],
    ['with a header and no samples', HEADER_ONLY, ['verified']],
    ['that is sound', BASE, ['verified']],
  ])('a WAV %s is archived', async (_title, content, states) => {
    await archives({}, content, states);
  });
});

describe('a recording in another format', () => {
  it.each(CONTAINER_FILES)('a recording as %s is archived and verified', async (name) => {
    await archives({}, fixture(name), ['verified']);
  });

  it.each(['base.wav', 'ffmpeg-pipe.wav', ...CONTAINER_FILES])(
    'a recording as %s without a length, ended by closing the connection, is archived',
    async (name) => {
      await archives({ framing: 'close' }, fixture(name), ['verified', 'unverified']);
    },
  );

  it.each(CONTAINER_FILES)('a recording as %s in chunks is archived and verified', async (name) => {
    await archives({ framing: 'chunked' }, fixture(name), ['verified']);
  });
});

describe('a recording that is cut twice', () => {
  it('a recording that is cut twice, with a matching length, is archived whole', async () => {
    await archives({ mediaFaults: [{ content: half, times: 2 }] }, BASE, ['verified']);
  });

  it('a recording in another format that is cut twice is archived whole', async () => {
    const ogg = fixture('opus.ogg');
    await archives({ mediaFaults: [{ content: ogg.subarray(0, ogg.length / 2), times: 2 }] }, ogg, [
      'verified',
    ]);
  });

  it('a recording that is cut twice by a connection that closes early is archived whole', async () => {
    const mediaFaults = [{ framing: 'close', breakAfterBytes: 5_000, times: 2 }] as const;
    await archives({ mediaFaults, ranges: false }, BASE, ['verified']);
  });
});

describe('a content coding that nobody asked for', () => {
  it.each([
    ['gzip', gzipSync],
    ['x-gzip', gzipSync],
    ['deflate', deflateSync],
    ['br', brotliCompressSync],
  ])(
    'a content coding that nobody asked for (%s) is decoded, and the recording verified',
    async (coding, encode) => {
      const headers = { 'content-encoding': coding };
      const sessionId = pipeline.sandbox.addSession({ recordings: [{ content: encode(BASE), headers }] });
      await pipeline.enqueue(sessionId);
      expect(await pipeline.ends(sessionId)).toMatchObject({ state: 'archived' });
      const [archived] = (await pipeline.manifest(sessionId)).recordings;
      expect((await pipeline.read(archived?.key ?? '')).equals(BASE)).toBe(true);
      expect(archived?.integrity?.state).toBe('verified');
    },
  );

  it.each(['binary', 'base64', 'identity', 'none', 'utf-8', 'gzip'])(
    'the content coding %s over plain bytes is ignored: the recording is archived as it is',
    async (coding) => {
      await archives({ headers: { 'content-encoding': coding } }, BASE, ['verified']);
    },
  );
});

describe('an answer', () => {
  it('an answer of 206 with the whole file to a plain request is archived and verified', async () => {
    await archives({ alwaysPartial: true }, BASE, ['verified']);
  });

  it('an answer with 20 KB of headers is read like any other', async () => {
    await archives({ headers: manyHeaders }, BASE, ['verified']);
  });
});
