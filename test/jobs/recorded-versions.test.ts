import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import type { SessionWorker } from '../../src/workers/worker.ts';
import { type Receiver, SECRET, startReceiver } from '../support/notification-receiver.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';

const VERSIONS = join(import.meta.dirname, '../fixtures/versions');
const BOT_ID = 'st-recorded';
/** So long ago, for the version that takes over, was the recording made: all that waited is due. */
const AGE_MS = 60 * 60 * 1000;
const HOUR_MS = 60 * 60 * 1000;
/** BullMQ keeps the time at which a job is due multiplied by this. */
const DELAYED_SCORE = 0x1000;

/** What `npm run record-queue` writes. */
interface Recording {
  readonly recordedAt: string;
  readonly sessions: readonly {
    readonly sessionId: string;
    readonly state: string;
    readonly recordings: number;
    readonly hoursAgo: number;
  }[];
  /** As the recorded version's HTTP API reported them. */
  readonly views: readonly { readonly sessionId: string }[];
  readonly backfills: readonly { readonly id: string }[];
  readonly schedules: readonly object[];
  /** Ids of notifications that the receiver refused. */
  readonly notifications: readonly string[];
  readonly files: readonly {
    readonly path: string;
    readonly encoding: 'utf8' | 'base64';
    readonly content: string;
  }[];
  readonly keys: readonly { readonly key: string; readonly command: string; readonly values: string[] }[];
}

/** Moves all times of a recording by so many milliseconds but `archivedAt`, of which ids of notifications are made. */
function moveTimes(text: string, byMs: number): string {
  return text
    .replace(/(?<!archivedAt\\*":\\*")\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, (time) =>
      new Date(Date.parse(time) + byMs).toISOString(),
    )
    .replace(/\b1\d{12}\b/g, (time) => String(Number(time) + byMs))
    .replace(/\b7\d{15}\b/g, (score) => String(Number(score) + byMs * DELAYED_SCORE));
}

function readRecording(file: string): Recording {
  const text = readFileSync(join(VERSIONS, file), 'utf8');
  const { recordedAt } = JSON.parse(text) as Pick<Recording, 'recordedAt'>;
  return JSON.parse(moveTimes(text, Date.now() - AGE_MS - Date.parse(recordedAt)));
}

describe.each(readdirSync(VERSIONS))('a worker that takes over from the version recorded in %s', (file) => {
  const recording = readRecording(file);
  const ended = recording.sessions.filter(({ state }) => state === 'failed' || state === 'partial');
  const others = recording.sessions.filter((session) => !ended.includes(session));
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
  let queue: TestQueue;
  let sandbox: Sandbox;
  let receiver: Receiver;
  let runtime: Runtime;
  let worker: SessionWorker;

  beforeAll(async () => {
    directory = await temporaryDirectory();
    queue = await createTestQueue('redis');
    receiver = await startReceiver();
    sandbox = await startSandbox({ botId: BOT_ID, accountId: 'o-recorded' });
    for (const { sessionId, state, recordings, hoursAgo } of recording.sessions) {
      sandbox.addSession({
        sessionId,
        recordings: Array.from({ length: recordings }, () => ({ bytes: 1000 })),
        transcription: state === 'awaiting-transcript' ? 'Late.' : 'Please call me back.',
        listing: { startedAt: new Date(Date.parse(recording.recordedAt) - hoursAgo * HOUR_MS) },
      });
    }
    const archive = join(directory.path, 'archive');
    for (const { path, encoding, content } of recording.files) {
      await mkdir(dirname(join(archive, path)), { recursive: true });
      await writeFile(join(archive, path), content, encoding);
    }
    const { config, kore } = testConfig(
      {
        ...sandboxEnvironment(sandbox),
        KORE_ACCOUNT_ID: sandbox.accountId,
        ARCHIVE_URL: `file:${archive}`,
        COMPLETENESS: 'off',
        NOTIFY_URL: receiver.url,
        NOTIFY_SECRET: SECRET,
        NOTIFY_ALLOW_PRIVATE: 'true',
      },
      queue.config,
    );
    const { name, prefix = 'bull' } = config.queue;
    const named = (text: string) =>
      text.replaceAll('bull:{queue}', `${prefix}:${name}`).replaceAll('{queue}', name);
    const redis = new Redis(inject('redisUrl'));
    for (const { key, command, values } of recording.keys) {
      await redis.call(command, named(key), ...values.map(named));
    }
    redis.disconnect();
    runtime = await openRuntime(config, silent);
    expect(await Promise.all(recording.views.map(({ sessionId }) => view(sessionId)))).toMatchObject(
      recording.views,
    );
    expect(await runtime.backfills.list()).toMatchObject(recording.backfills);
    expect(await runtime.backfills.schedules()).toMatchObject(
      recording.schedules.map((schedule) => ({ ...schedule, nextRunAt: expect.any(Number) })),
    );
    worker = await runtime.startWorker(kore);
  });

  afterAll(async () => {
    await worker?.stop();
    await runtime?.close();
    await receiver?.close();
    await sandbox?.close();
    await queue?.remove();
    await directory?.remove();
  });

  const view = (sessionId: string) => runtime.operations.view({ sessionId, botId: BOT_ID });
  const states = (sessions: readonly { readonly sessionId: string }[]) =>
    Promise.all(
      sessions.map(async ({ sessionId }) => {
        const { state, transcript } = (await view(sessionId)) ?? {};
        return { sessionId, state, transcript };
      }),
    );
  const archived = (sessions: readonly { readonly sessionId: string }[]) =>
    sessions.map(({ sessionId }) => ({ sessionId, state: 'archived', transcript: 'archived' }));

  it('the recording holds no path of the machine that made it', () => {
    expect(readFileSync(join(VERSIONS, file), 'utf8')).not.toMatch(/file:\/\/|node_modules/);
  });

  it('a worker archives the sessions of a recorded version: queued, waiting, active, to be listed, without transcript', async () => {
    await expect.poll(() => states(others)).toEqual(archived(others));
  });

  it('a worker keeps the failed sessions of a recorded version, and archives them when they are retried', async () => {
    for (const { sessionId } of ended) {
      const recorded = recording.views.find((one) => one.sessionId === sessionId);
      expect(await view(sessionId)).toMatchObject({ ...recorded });
      await runtime.operations.retry({ sessionId, botId: BOT_ID });
    }

    await expect.poll(() => states(ended)).toEqual(archived(ended));
  });

  it('a worker ends the backfills of a recorded version, and runs the schedule that was due', async () => {
    const ids = recording.backfills.map(({ id }) => id);
    await expect
      .poll(async () =>
        (await runtime.backfills.list()).map(({ state, open, failed }) => [state, open, failed]),
      )
      .toEqual(Array.from({ length: ids.length + 1 }, () => ['listed', 0, 0]));
    const backfills = await runtime.backfills.list();
    const recorded = backfills.filter(({ id }) => ids.includes(id));
    const [scheduled] = backfills.filter(({ id }) => !ids.includes(id));
    expect(recorded.map(({ listed, archived }) => [listed, archived])).toEqual(ids.map(() => [1, 1]));
    expect(scheduled).toMatchObject({ botId: BOT_ID });
    const schedules = await runtime.backfills.schedules();
    expect(schedules).toMatchObject(
      recording.schedules.map((schedule) => ({ ...schedule, nextRunAt: expect.any(Number) })),
    );
    expect(schedules.every(({ nextRunAt = 0 }) => nextRunAt > Date.now())).toBe(true);
  });

  it('a worker delivers each notification that waited in a recorded version, and no event twice', async () => {
    await expect.poll(() => runtime.notificationCounts()).toEqual({ pending: 0, failed: 0 });
    const ids = receiver.received.map(({ body }) => body.id);

    expect(ids).toEqual(expect.arrayContaining([...recording.notifications]));
    expect(new Set(ids).size).toBe(ids.length);
    const archivedEvents = receiver.received.filter(({ body }) => body.event === 'archived');
    expect(archivedEvents.map(({ body }) => 'session' in body && body.session.sessionId).sort()).toEqual(
      recording.sessions.map(({ sessionId }) => sessionId).sort(),
    );
  });

  it('a worker downloads and keeps each recording of a recorded version once', async () => {
    const kept = new Set(recording.files.map(({ path }) => path));
    const paths = (await readdir(join(directory.path, 'archive'), { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile() && entry.name.endsWith('.wav'))
      .map((entry) => join(entry.parentPath, entry.name).slice(directory.path.length + '/archive/'.length));
    const downloads = sandbox.calls.filter(({ route }) => route === 'media');

    expect(paths).toHaveLength(recording.sessions.reduce((sum, { recordings }) => sum + recordings, 0));
    expect(downloads).toHaveLength(paths.filter((path) => !kept.has(path)).length);
    expect(sandbox.violations).toEqual([]);
  });
});
