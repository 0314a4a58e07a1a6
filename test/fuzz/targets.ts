/** What the fuzz run feeds with broken input, and what may come of it. */

import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { request } from 'undici';
import { createApi } from '../../src/api/server.ts';
import { readOwner } from '../../src/cli/owner.ts';
import { readEnvironment } from '../../src/config/environment.ts';
import { loadConfig } from '../../src/config/load.ts';
import { interpretVoicemail } from '../../src/kore/voicemail.ts';
import { createMetrics } from '../../src/observability/metrics/metrics.ts';
import { openRuntime } from '../../src/runtime.ts';
import { buildTranscript, parseManifest, parseTranscript, serialize } from '../../src/storage/documents.ts';
import { createDirectoryStore } from '../../src/storage/fs/store.ts';
import { recordingKeys } from '../../src/storage/layout.ts';
import { createLogger } from '../../src/util/log.ts';
import { redact } from '../../src/util/redact.ts';
import { startRedis } from '../setup/redis.ts';
import { startMediaServer } from '../support/media-server.ts';
import { createHarness } from '../support/transfer-harness.ts';
import { OUTSIDE_TARGETS } from './more-targets.ts';
import { mutate, mutateBytes } from './mutate.ts';
import { type FuzzTarget, failureOf, failureOfAsync } from './target.ts';

/** Whatever is read as one is a secret of this process from then on, so that it must be in no other test's text. */
const OWNER_TOKEN = 'the-token-of-the-owner-that-is-read-broken7';

const fixture = (name: string) => readFileSync(new URL(`../fixtures/${name}`, import.meta.url));
const KORE_SAMPLE = fixture('voicemail-response.json').toString();
const SESSION = { botId: 'st-1', sessionId: '67aa38026e199c8f470e0001' };

/** All of them, by name. Each is opened when its turn comes. */
export const FUZZ_TARGETS: Readonly<Record<string, () => Promise<FuzzTarget>>> = {
  "Kore's answers": async () => ({
    async feed(random) {
      const status = random.pick([200, 200, 200, 200, 400, 401, 404, 412, 429, 500, 502]);
      const headers = { 'content-type': 'application/json', 'retry-after': mutate(random, '30') };
      return failureOf(() => {
        const { recordings, transcriptions } = interpretVoicemail({
          status,
          headers,
          body: mutate(random, KORE_SAMPLE),
        });
        recordingKeys(recordings, SESSION);
        serialize(buildTranscript(SESSION, transcriptions));
      });
    },
    close: async () => {},
  }),
  'media answers': openMediaTarget,
  'API requests': openApiTarget,
  'manifests and transcripts': async () => ({
    async feed(random) {
      const manifest = Buffer.from(mutate(random, MANIFEST));
      return (
        failureOf(() => void parseManifest(manifest, 'manifest.json')) ??
        failureOf(() => void parseTranscript(Buffer.from(mutate(random, TRANSCRIPT)), 'transcript.json'))
      );
    },
    close: async () => {},
  }),
  'owner files': async () => {
    const directory = await mkdtemp(join(tmpdir(), 'voicemail-fuzz-'));
    const owner = JSON.stringify({ pid: 4711, url: 'http://127.0.0.1:8080', token: OWNER_TOKEN });
    return {
      async feed(random) {
        await writeFile(join(directory, 'owner.json'), mutate(random, owner));
        return failureOfAsync(() => readOwner(directory));
      },
      close: () => rm(directory, { recursive: true }),
    };
  },
  '.env files': async () => {
    const directory = await mkdtemp(join(tmpdir(), 'voicemail-fuzz-'));
    return {
      async feed(random) {
        await writeFile(join(directory, '.env'), mutate(random, DOT_ENV));
        return failureOf(() => void loadConfig(readEnvironment(directory, {}), { needs: ['kore', 'api'] }));
      },
      close: () => rm(directory, { recursive: true }),
    };
  },
  'texts to be redacted': async () => ({
    async feed(random) {
      const text = mutate(random, LOG_LINE);
      return /[?&]s=SIGNATURE0123/.test(redact(text)) ? 'a signature is left in a text' : undefined;
    },
    close: async () => {},
  }),
  ...OUTSIDE_TARGETS,
};

const MANIFEST = JSON.stringify({
  schemaVersion: 1,
  ...SESSION,
  archivedAt: '2026-01-05T09:30:01.480Z',
  recordings: [
    {
      key: 'bot_id=st-1/date=2025-02-10/session_id=67aa38026e199c8f470e0001/a.wav',
      fileName: 'a.wav',
      bytes: 44,
      sha256: 'a'.repeat(64),
      contentType: 'audio/wav',
      integrity: { state: 'verified', notes: [] },
      source: { host: 'media.example', path: '/a.wav' },
      downloadedAt: '2026-01-05T09:30:01.480Z',
    },
  ],
  transcript: { state: 'pending' },
  revision: 1,
  archiver: { version: '0.1.0' },
});
const TRANSCRIPT = JSON.stringify({
  schemaVersion: 1,
  ...SESSION,
  language: 'en',
  text: 'Hello.',
  messages: [{ id: 'm1', text: 'Hello.', language: 'en', createdAt: '2026-01-05T09:30:00.000Z' }],
  source: [{}],
});
const DOT_ENV = [
  'KORE_HOST=https://platform.kore.ai',
  'KORE_BOT_ID="st-1"',
  "KORE_CLIENT_ID='cs-1'",
  'export KORE_CLIENT_SECRET=0123456789abcdef',
  'QUEUE_URL=redis://:password@localhost:6379 # the queue',
  'ARCHIVE_URL=s3://bucket/prefix',
  'RECORDING_WAIT=24h',
  'TRANSFER_MEMORY=256MiB',
  'S3_TAGS=a=b&c=d',
  'SCHEDULES=nightly=0 3 * * *|48h',
  'API_TOKEN=ops:operate:0123456789abcdef0123',
].join('\n');
const LOG_LINE =
  'GET https://media.kore.ai/a/b.wav?e=1&s=SIGNATURE0123 Bearer eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2ln redis://user:password@host:6379/0';

async function openMediaTarget(): Promise<FuzzTarget> {
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-fuzz-'));
  const store = createDirectoryStore(directory);
  const server = await startMediaServer();
  const harness = createHarness(store, { idleTimeoutMs: 300, maxRecordingBytes: 2 ** 20 });
  const audio = ['base.wav', 'plain.mp3', 'opus.ogg', 'm4a.m4a', 'flac-pipe.flac'].map((name) =>
    fixture(`audio/${name}`),
  );
  let fed = 0;
  return {
    async feed(random) {
      fed += 1;
      const content = random.chance(0.5) ? random.pick(audio) : mutateBytes(random, random.pick(audio));
      const head = `HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nContent-Length: ${content.length}\r\nETag: "a"\r\n\r\n`;
      const answer = Buffer.concat([
        Buffer.from(random.chance(0.5) ? head : mutate(random, head), 'latin1'),
        content,
      ]);
      server.handle(async (_request, reply) => {
        await reply.write(answer);
        reply.end();
      });
      const key = `bot_id=a/date=undated/session_id=${fed}/a.wav`;
      return failureOfAsync(() =>
        harness.run({ key, urls: [`${server.origin}/${fed}.wav?e=9999999999&s=x`] }),
      );
    },
    async close() {
      await harness.close();
      await server.close();
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
}

const API_TOKEN = 'operate0123456789abcdef';
const PATHS = [
  '/v1/sessions',
  '/v1/sessions?state=failed&code=INTERNAL&limit=10&cursor=abc',
  '/v1/sessions/67aa38026e199c8f470e0001?botId=st-1',
  '/v1/sessions/67aa38026e199c8f470e0001/retry',
  '/v1/stats',
  '/v1/retries',
  '/v1/backfills',
  '/v1/backfills/bf-0123456789abcdef01234567',
  '/v1/schedules/nightly',
  '/webhooks/voicemail',
  '/dashboard/queues/api/queues?activeQueue=voicemail-archive&page=1&jobsPerPage=10&status=failed',
  '/dashboard/queues/api/queues/voicemail-archive/67aa38026e199c8f470e0001/retry',
  '/dashboard/queues/api/queues/voicemail-archive/retry/failed',
  '/dashboard/queues/static/css/main.css',
  '/v1/sessions/67aa38026e199c8f470e0001/recordings/1?botId=st-1',
  '/v1/events?botId=st-1&after=1-0',
  '/openapi.json',
  '/sessions/67aa38026e199c8f470e0001?botId=st-1',
  '/login?next=%2Fsessions%3Fstate%3Dfailed',
  '/page/0123456789ab/parts/action.js',
];
const BODIES = [
  JSON.stringify({ sessionIds: ['67aa38026e199c8f470e0001'], botId: 'st-1', priority: 'live', force: false }),
  JSON.stringify({
    from: '2026-01-01T00:00:00Z',
    to: '2026-01-02T00:00:00Z',
    source: 'sessions',
    dryRun: true,
  }),
  JSON.stringify({ cron: '0 3 * * *', lookback: '48h' }),
  JSON.stringify({
    metaInfo: '{"sessionId":"67aa38026e199c8f470e0001"}',
    CCAIMetaInfo: { sessionId: 'abc' },
  }),
];

async function openApiTarget(): Promise<FuzzTarget> {
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-fuzz-'));
  const redis = await startRedis();
  const lines: string[] = [];
  const log = createLogger('warn', (line) => lines.push(line));
  const config = loadConfig(
    {
      KORE_BOT_ID: 'st-1',
      QUEUE_URL: redis.url,
      ARCHIVE_URL: `file:${directory}`,
      API_TOKEN,
      WEBHOOK_SECRET: API_TOKEN,
      HTTP_PORT: '0',
    },
    { needs: ['api'] },
  );
  const runtime = await openRuntime(config, log);
  const api = createApi({
    operations: runtime.operations,
    backfills: runtime.backfills,
    events: runtime.events,
    queue: runtime.queue,
    metrics: createMetrics({ stats: () => runtime.operations.stats(), version: '0', log }),
    check: (signal) => runtime.check(signal),
    http: config.http,
    defaultBotId: 'st-1',
    log,
  });
  const { url } = await api.listen();
  return {
    async feed(random) {
      const path = random.pick(PATHS);
      const spoilt = random.chance(0.5)
        ? encodeURI(mutate(random, path).toWellFormed()).slice(0, 12_000)
        : path;
      const method = random.pick(['GET', 'POST', 'PUT', 'DELETE'] as const);
      const body = random.chance(0.8) ? mutate(random, random.pick(BODIES)) : random.pick(BODIES);
      const response = await request(`${url}${spoilt.startsWith('/') ? spoilt : `/${spoilt}`}`, {
        method,
        headers: {
          authorization: `Bearer ${API_TOKEN}`,
          'content-type': random.pick(['application/json', 'text/plain', 'application/json; charset=utf-16']),
        },
        ...(method !== 'GET' && { body }),
      });
      if (response.headers['content-type']?.toString().startsWith('text/event-stream')) {
        // It goes on until one of both sides ends it.
        response.body.on('error', () => undefined).destroy();
        return undefined;
      }
      const answer = await response.body.text();
      if (response.statusCode < 500) return undefined;
      return `${method} ${spoilt.slice(0, 200)} answered ${response.statusCode} ${answer.slice(0, 300)} ${lines.at(-1) ?? ''}`;
    },
    async close() {
      await api.close();
      await runtime.close();
      await redis.stop();
      await rm(directory, { recursive: true });
    },
  };
}
