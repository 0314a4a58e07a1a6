/**
 * `npm run record-queue -- [CHECKOUT]`: records what a version leaves in Redis and in the archive when its worker dies in
 * the middle of its work, into test/fixtures/versions/COMMIT.json. `test/jobs/recorded-versions.test.ts` lets the present
 * version take over from each recording. CHECKOUT is the directory of another version (with its `node_modules`); by
 * default it is this one. The other version is used as a program only, through its HTTP API.
 */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { startSandbox } from '../src/sandbox/sandbox.ts';
import { freePort, startServer } from '../test/setup/process.ts';
import { SECRET, startReceiver } from '../test/support/notification-receiver.ts';
import { startOwnRedis } from '../test/support/redis-server.ts';
import { sandboxEnvironment, temporaryDirectory } from '../test/support/services.ts';

const ROOT = join(import.meta.dirname, '..');
const checkout = resolve(process.argv[2] ?? ROOT);
const commit = execFileSync('git', ['-C', checkout, 'rev-parse', '--short=7', 'HEAD'], {
  encoding: 'utf8',
}).trim();
const QUEUE_NAME = 'recorded-queue';
const HOUR_MS = 60 * 60 * 1000;
const POLL_MS = 100;
/** Longer than any step takes on a busy machine. */
const STEP_WAIT_MS = 60_000;

/** The state of a session in the recording, and what the next version has to make of it. */
type RecordedState =
  | 'queued'
  | 'active'
  | 'waiting'
  | 'failed'
  | 'partial'
  | 'archived'
  | 'awaiting-transcript';

interface RecordedSession {
  readonly sessionId: string;
  readonly state: RecordedState;
  readonly recordings: number;
  /** Hours before the recording was made that the session began. */
  readonly hoursAgo: number;
}

const started = Date.now();
let made = 0;

/** A session id whose time is that of its session. */
function idOf(hoursAgo: number): string {
  made += 1;
  const time = Math.floor((started - hoursAgo * HOUR_MS) / 1000).toString(16);
  return `${time}${createHash('sha256').update(String(made)).digest('hex').slice(0, 16)}`;
}

/** A job's fields with its errors, but not where on this machine the program lies that threw them. */
function withoutFrames({ stacktrace, ...fields }: Record<string, string>): Record<string, string> {
  if (stacktrace === undefined) return fields;
  const errors = (JSON.parse(stacktrace) as string[]).map((text) => text.split('\n', 1)[0]);
  return { ...fields, stacktrace: JSON.stringify(errors) };
}

/** What is stored under a key, as the command that stores it again; nothing for streams, and for what expires soon. */
async function readKey(redis: Redis, key: string) {
  // Locks and the statuses of workers: they end soon after their worker.
  if ((await redis.pttl(key)) >= 0) return [];
  const type = await redis.type(key);
  switch (type) {
    case 'hash':
      return [
        { key, command: 'hset', values: Object.entries(withoutFrames(await redis.hgetall(key))).flat() },
      ];
    case 'zset': {
      const pairs = await redis.zrange(key, '0', '-1', 'WITHSCORES');
      const values = pairs.flatMap((member, at) => (at % 2 === 0 ? [pairs[at + 1] ?? '', member] : []));
      return [{ key, command: 'zadd', values }];
    }
    case 'list':
      return [{ key, command: 'rpush', values: await redis.lrange(key, 0, -1) }];
    case 'set':
      return [{ key, command: 'sadd', values: await redis.smembers(key) }];
    case 'string':
      return [{ key, command: 'set', values: [(await redis.get(key)) ?? ''] }];
    case 'stream':
      return [];
    default:
      throw new Error(`${key} is of the type ${type}, which cannot be recorded yet`);
  }
}

const directory = await temporaryDirectory();
const redis = await startOwnRedis();
const receiver = await startReceiver();
const released = Promise.withResolvers<void>();
let holdsListings = false;
const sandbox = await startSandbox({
  botId: 'st-recorded',
  accountId: 'o-recorded',
  beforeListing: () => (holdsListings ? released.promise : undefined),
});
receiver.behave(() => 503);
const port = await freePort();
const archive = join(directory.path, 'archive');
const environment = {
  ...sandboxEnvironment(sandbox),
  PATH: process.env.PATH ?? '',
  HOME: directory.path,
  KORE_ACCOUNT_ID: sandbox.accountId,
  QUEUE_URL: redis.url,
  QUEUE_NAME,
  ARCHIVE_URL: `file:${archive}`,
  MAX_RECORDING_BYTES: '10000',
  POLL_DELAY: '30m',
  RETRY_DELAY: '30m',
  SESSION_WAIT: '24h',
  COMPLETENESS: 'off',
  NOTIFY_URL: receiver.url,
  NOTIFY_SECRET: SECRET,
  NOTIFY_ALLOW_PRIVATE: 'true',
};
const run = (command: string, httpPort: number) =>
  startServer(process.execPath, [join(checkout, 'src/cli.ts'), command], '"listening"', {
    cwd: directory.path,
    env: { ...environment, HTTP_PORT: String(httpPort) },
  });

const sessions: RecordedSession[] = [];
const GOOD = { bytes: 1000 } as const;
const BROKEN = { status: 500, times: Number.POSITIVE_INFINITY } as const;
const TOO_LARGE = { bytes: 20_000 } as const;

function session(state: RecordedState, spec: Parameters<typeof sandbox.addSession>[0], hoursAgo = 1): string {
  const sessionId = sandbox.addSession({
    transcription: 'Please call me back.',
    recordings: [GOOD],
    ...spec,
    sessionId: idOf(hoursAgo),
  });
  sessions.push({ sessionId, state, recordings: spec?.recordings?.length ?? 1, hoursAgo });
  return sessionId;
}

async function call(method: string, path: string, body?: object): Promise<unknown> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method,
    ...(body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return text === '' ? undefined : JSON.parse(text);
}

/** Asks until the answer is as it should be. */
async function until<Answer>(path: string, isSo: (answer: Answer) => boolean): Promise<Answer> {
  const deadline = Date.now() + STEP_WAIT_MS;
  for (;;) {
    const answer = (await call('GET', path)) as Answer;
    if (isSo(answer)) return answer;
    if (Date.now() > deadline) throw new Error(`GET ${path} stays ${JSON.stringify(answer)}`);
    await setTimeout(POLL_MS);
  }
}

/** Waits until workers mark what is active; what they find unlocked and marked is taken over. */
async function untilMarked(key: string): Promise<void> {
  const deadline = Date.now() + STEP_WAIT_MS;
  while ((await redis.admin.scard(key)) === 0) {
    if (Date.now() > deadline) throw new Error(`${key} stays empty`);
    await setTimeout(POLL_MS);
  }
}

const enqueue = (...sessionIds: string[]) => call('POST', '/v1/sessions', { sessionIds });
const untilState = (sessionId: string, state: string) =>
  until<{ state: string }>(`/v1/sessions/${sessionId}`, (view) => view.state === state);
const backfill = (fromHoursAgo: number) =>
  call('POST', '/v1/backfills', {
    from: new Date(started - fromHoursAgo * HOUR_MS - HOUR_MS / 2).toISOString(),
    to: new Date(started - fromHoursAgo * HOUR_MS + HOUR_MS / 2).toISOString(),
  }) as Promise<{ id: string }>;

const api = await run('api', port);
const worker = await run('worker', 0);
try {
  await call('PUT', '/v1/schedules/hourly', { cron: '0 * * * *', lookback: '1m' });
  await call('PUT', '/v1/schedules/yearly', { cron: '0 3 29 2 *', lookback: '48h' });

  const ended: [string, string][] = [
    [session('archived', {}, 0), 'archived'],
    [session('awaiting-transcript', { transcription: { texts: ['Late.'], afterPolls: 1000 } }), 'archived'],
    [session('waiting', { notReadyPolls: 1000 }), 'waiting'],
    [session('waiting', { recordings: [GOOD, { ...GOOD, mediaFaults: [BROKEN] }] }), 'waiting'],
    [session('failed', { recordings: [TOO_LARGE] }), 'failed'],
    [session('partial', { recordings: [GOOD, TOO_LARGE] }), 'failed'],
  ];
  await enqueue(...ended.map(([id]) => id));
  for (const [id, state] of ended) await untilState(id, state);

  session('archived', {}, 50);
  const listed = await backfill(50);
  await until<{ state: string; open: number }>(
    `/v1/backfills/${listed.id}`,
    ({ state, open }) => state === 'listed' && open === 0,
  );

  const active = session('active', {
    recordings: [{ ...GOOD, mediaFaults: [{ stallAfterBytes: 100, times: Number.POSITIVE_INFINITY }] }],
  });
  await enqueue(active);
  await sandbox.waitFor((calls) =>
    calls.some(
      ({ route, sessionId, bytesSent }) => route === 'media' && sessionId === active && bytesSent > 0,
    ),
  );
  holdsListings = true;
  session('queued', {}, 40);
  const running = await backfill(40);
  await until<{ state: string }>(`/v1/backfills/${running.id}`, ({ state }) => state === 'listing');
  await untilState(active, 'active');
  for (const name of [QUEUE_NAME, `${QUEUE_NAME}-backfills`]) await untilMarked(`bull:${name}:stalled`);
  await worker.stop('SIGKILL');

  await enqueue(session('queued', {}), session('queued', {}));
  const behind = session('queued', {});
  await call('POST', '/v1/sessions', { sessionIds: [behind], priority: 'backfill' });
  session('queued', {}, 30);
  await backfill(30);

  // No backfill has listed the others yet.
  const views = await Promise.all(
    sessions
      .filter(({ hoursAgo }) => hoursAgo !== 40 && hoursAgo !== 30)
      .map(({ sessionId }) => call('GET', `/v1/sessions/${sessionId}`)),
  );
  const { backfills } = (await call('GET', '/v1/backfills')) as { backfills: unknown[] };
  const { schedules } = (await call('GET', '/v1/schedules')) as { schedules: unknown[] };
  await api.stop('SIGTERM');

  const keys = [];
  for (const key of (await redis.admin.keys(`bull:${QUEUE_NAME}*`)).sort()) {
    keys.push(...(await readKey(redis.admin, key)));
  }
  const files = [];
  for (const entry of await readdir(archive, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile()) continue;
    const encoding = /\.jsonl?$/.test(path) ? 'utf8' : 'base64';
    files.push({ path: relative(archive, path), encoding, content: await readFile(path, encoding) });
  }
  const notifications = [...new Set(receiver.received.map(({ body }) => body.id))].sort();
  const parts = { sessions, views, backfills, schedules, notifications, files, keys };
  const lines = Object.entries(parts).map(
    ([name, rows]) => `"${name}": [\n${rows.map((row) => `  ${JSON.stringify(row)}`).join(',\n')}\n]`,
  );
  const text = `{\n"from": "${commit}",\n"recordedAt": "${new Date().toISOString()}",\n${lines.join(',\n')}\n}\n`;
  const file = join(ROOT, 'test/fixtures/versions', `${commit}.json`);
  await writeFile(file, text.replaceAll(QUEUE_NAME, '{queue}'));
  process.stdout.write(`${relative(process.cwd(), file)}: ${keys.length} keys, ${files.length} files\n`);
} finally {
  released.resolve();
  await Promise.all([worker.stop('SIGKILL'), api.stop('SIGKILL')]);
  await sandbox.close();
  await receiver.close();
  await redis.stop();
  await directory.remove();
}
