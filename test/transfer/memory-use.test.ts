import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type S3Sink, startS3Sink } from '../../bench/servers/s3-sink.ts';
import { readDockerfile } from '../../scripts/dockerfile.ts';
import { type SilentAudioServer, startSilentAudioServer } from '../support/silent-audio-server.ts';
import type { TransferReport } from '../support/transfer-program.ts';

const run = promisify(execFile);
const PROGRAM = fileURLToPath(new URL('../support/transfer-program.ts', import.meta.url));

const MB = 1_000_000;
/** `FULL_MEMORY_TEST=1` carries 4.1 GB, which takes 15 seconds; otherwise it is a tenth of that. */
const MANY_BYTES = (process.env.FULL_MEMORY_TEST === '1' ? 64 : 6.4) * MB;
/** The whole program: Node, the libraries, and the audio. */
const MAX_RESIDENT_BYTES = 300 * MB;
/** When V8 collects garbage differs from run to run by some megabytes. */
const NOISE = 1.25;
const TIMEOUT_MS = 240_000;

let sink: S3Sink;
let media: SilentAudioServer;

beforeAll(async () => {
  [sink, media] = await Promise.all([startS3Sink(), startSilentAudioServer()]);
});

afterAll(async () => {
  await Promise.all([sink?.close(), media?.close()]);
});

/** Carries recordings in a process of their own, all at once as far as `TRANSFER_MEMORY` lets them. */
async function carry(recordings: {
  count: number;
  bytes: number;
  transferMemory?: string;
}): Promise<TransferReport> {
  const { count, bytes, transferMemory } = recordings;
  const { stdout } = await run(process.execPath, [PROGRAM, media.urlOf(bytes), String(count)], {
    env: {
      ARCHIVE_URL: `s3://archive/${count}-of-${bytes}`,
      S3_FORCE_PATH_STYLE: 'true',
      ...(await imageEnvironment()),
      ...(transferMemory && { TRANSFER_MEMORY: transferMemory }),
      KORE_MEDIA_HOSTS: '127.0.0.1',
      KORE_ALLOW_PRIVATE_MEDIA: 'true',
      AWS_ENDPOINT_URL_S3: sink.url,
      AWS_REGION: 'us-east-1',
      AWS_ACCESS_KEY_ID: 'test',
      AWS_SECRET_ACCESS_KEY: 'test',
    },
  });
  return JSON.parse(stdout) as TransferReport;
}

/** What the image sets to keep memory small. */
async function imageEnvironment(): Promise<Record<string, string>> {
  const dockerfile = await readFile(new URL('../../Dockerfile', import.meta.url), 'utf8');
  const set = readDockerfile(dockerfile)
    .filter(({ name }) => name === 'ENV')
    .flatMap(({ text }) => text.split(' '))
    .map((assignment) => assignment.split(/=(.*)/s));
  return Object.fromEntries(
    ['NODE_OPTIONS', 'MALLOC_MMAP_THRESHOLD_'].map((name) => {
      const [, value] = set.find(([found]) => found === name) ?? [];
      if (value === undefined) throw new Error(`the Dockerfile does not set ${name}`);
      return [name, value];
    }),
  );
}

describe('the memory of a process', () => {
  it(
    'a process stays below 300 MB with 64 large recordings at once and what the image sets',
    async () => {
      const { peakBytes, carriedBytes } = await carry({ count: 64, bytes: MANY_BYTES });
      expect(carriedBytes).toBe(64 * MANY_BYTES);
      expect(peakBytes).toBeLessThan(MAX_RESIDENT_BYTES);
    },
    TIMEOUT_MS,
  );

  it(
    'the memory of a process is no larger for a recording of 500 MB than for ten of 50 MB one after another',
    async () => {
      // Just enough for one at a time, so that both carry the same bytes in the same way.
      const transferMemory = '12MiB';
      const small = await carry({ count: 10, bytes: 50 * MB, transferMemory });
      const large = await carry({ count: 1, bytes: 500 * MB, transferMemory });
      expect([small.carriedBytes, large.carriedBytes]).toEqual([500 * MB, 500 * MB]);
      expect(large.peakBytes).toBeLessThan(small.peakBytes * NOISE);
    },
    TIMEOUT_MS,
  );
});
