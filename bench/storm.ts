/**
 * A storm: thousands of voicemails are queued at once, and their URLs live for a minute. Metadata is fetched when a
 * session is taken, so each download begins with nearly all of the URL's life left; an expired URL costs one more
 * metadata call and no session. Figures only, never a verdict.
 *
 * `npm run bench:storm -- --help` lists the options. It needs `redis-server`.
 */

import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import { makeAudio } from '../src/sandbox/audio/audio.ts';
import { bufferSource } from '../src/sandbox/audio/source.ts';
import { startSandbox } from '../src/sandbox/sandbox.ts';
import { startRedis } from '../test/setup/redis.ts';
import { reportUrlUse, type UrlUse } from '../test/support/url-use.ts';
import { openBenchStore } from './archive-store.ts';
import { feedArchiver } from './feed.ts';
import { type Program, startProgram } from './program.ts';
import { columns } from './table.ts';

const USAGE = `npm run bench:storm -- [options]
  --sessions N      sessions that come at once (default 20000)
  --lifetime N      seconds that a URL lives (default 60)
  --expired N       of 100 sessions, get a URL first that has expired when it is issued (default 2)
  --bytes N         of each recording (default 48000)
  --workers N       processes (default 1)
  --concurrency N   sessions at a time in each (default 64)`;

const BUCKETS = 6;
const BAR_CHARACTERS = 50;

const { values: options } = parseArgs({
  options: {
    sessions: { type: 'string', default: '20000' },
    lifetime: { type: 'string', default: '60' },
    expired: { type: 'string', default: '2' },
    bytes: { type: 'string', default: '48000' },
    workers: { type: 'string', default: '1' },
    concurrency: { type: 'string', default: '64' },
    help: { type: 'boolean', default: false },
  },
});
if (options.help) console.log(USAGE);
else await bench();

async function bench(): Promise<void> {
  const [sessions, lifetime] = [count(options.sessions), count(options.lifetime)];
  const isExpired = (index: number) => index % 100 < Number(options.expired);
  await using opened = new AsyncDisposableStack();
  const redis = opened.adopt(await startRedis(), (server) => server.stop());
  const store = opened.adopt(await openBenchStore(), (bucket) => bucket.close());
  const sandbox = opened.adopt(
    await startSandbox({ urlLifetimeSeconds: lifetime, keepCalls: 1_000_000 }),
    (running) => running.close(),
  );
  const wav = makeAudio('wav', 'storm', { bytes: count(options.bytes) });
  const content = bufferSource(wav.slice(0, wav.bytes), wav.contentType);
  const lives = new Map<string, readonly number[]>();
  const ids = Array.from({ length: sessions }, (_, index) => {
    const lifetimeSeconds = isExpired(index) ? [-10, lifetime] : [lifetime];
    const sessionId = sandbox.addSession({
      recordings: [{ content, lifetimeSeconds }],
      transcription: 'Please call me back about the invoice.',
    });
    lives.set(sessionId, lifetimeSeconds);
    return sessionId;
  });
  const workers = Array.from({ length: count(options.workers) }, () =>
    opened.adopt(
      startProgram('./contestants/archiver.ts', {
        env: {
          KORE_HOST: sandbox.url,
          KORE_BOT_ID: sandbox.botId,
          KORE_CLIENT_ID: sandbox.clientId,
          KORE_CLIENT_SECRET: sandbox.clientSecret,
          KORE_RATE_LIMIT: '1000000/1s',
          KORE_MEDIA_HOSTS: '127.0.0.1',
          KORE_ALLOW_PRIVATE_MEDIA: 'true',
          WORKER_CONCURRENCY: String(count(options.concurrency)),
          ...store.environment,
          QUEUE_URL: redis.url,
          QUEUE_NAME: 'storm',
          ARCHIVE_URL: `s3://${store.bucket}/storm`,
          S3_FORCE_PATH_STYLE: 'true',
        },
      }),
      (program) => program.stop(),
    ),
  );
  await Promise.all(workers.map((program) => program.receive('ready')));
  const feed = opened.adopt(await feedArchiver({ redisUrl: redis.url, name: 'storm' }), (one) => one.close());
  const client = opened.adopt(new Redis(redis.url), (connection) => connection.disconnect());
  const before = await costOf(client, workers);
  const startedAt = performance.now();
  await feed.archive(ids.map((sessionId) => ({ sessionId, botId: sandbox.botId })));
  const seconds = (performance.now() - startedAt) / 1000;
  const after = await costOf(client, workers);
  const storm = reportUrlUse(sandbox.calls, (sessionId, answer) => {
    const own = lives.get(sessionId) ?? [];
    return own[Math.min(answer, own.length - 1)] ?? 0;
  });
  const { objects } = await store.measure('storm');
  await store.clear('storm');
  console.log(report(storm, { sessions, lifetime, seconds, objects }));
  const each = (name: keyof Cost, digits: number) =>
    ((after[name] - before[name]) / sessions).toFixed(digits);
  console.log(
    `\neach session: ${each('workerCpuMs', 2)} ms of CPU in the workers, ${each('redisCpuMs', 2)} ms in Redis ` +
      `(queueing included), ${each('redisCommands', 0)} commands, those within scripts included`,
  );
}

/** What it has cost so far. */
interface Cost {
  readonly workerCpuMs: number;
  readonly redisCpuMs: number;
  readonly redisCommands: number;
}

async function costOf(client: Redis, workers: readonly Program[]): Promise<Cost> {
  for (const worker of workers) worker.send({ kind: 'cost' });
  const cpu = await Promise.all(workers.map((worker) => worker.receive('cost')));
  const info = await client.info();
  const field = (name: string) => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1]);
  return {
    workerCpuMs: cpu.reduce((sum, { cpuMs }) => sum + cpuMs, 0),
    redisCpuMs: 1000 * (field('used_cpu_user') + field('used_cpu_sys')),
    redisCommands: field('total_commands_processed'),
  };
}

function report(
  { secondsLeft, expired, unseen, metadataCalls }: UrlUse,
  run: { sessions: number; lifetime: number; seconds: number; objects: number },
): string {
  const { sessions, lifetime, seconds, objects } = run;
  const width = lifetime / BUCKETS;
  const rows = Array.from({ length: BUCKETS }, (_, index) => {
    const from = lifetime - (index + 1) * width;
    const inside = secondsLeft.filter(
      (left) => left > from && (left <= from + width || index === 0) && left > 0,
    ).length;
    const share = inside / Math.max(1, secondsLeft.length);
    return [
      `${from.toFixed(0)} to ${(from + width).toFixed(0)} s`,
      String(inside),
      '#'.repeat(Math.ceil(share * BAR_CHARACTERS)).padEnd(BAR_CHARACTERS),
    ];
  });
  return [
    `${sessions} sessions archived in ${seconds.toFixed(0)} s (${(sessions / seconds).toFixed(0)} a second), ` +
      `${objects} objects, ${metadataCalls} metadata calls`,
    `URLs that had expired: ${expired}, of which nobody saw: ${unseen}; ` +
      `least seconds left when a download began: ${Math.min(...secondsLeft).toFixed(1)} of ${lifetime}`,
    '',
    columns([['left at the start', 'downloads', ''.padEnd(BAR_CHARACTERS)], ...rows]),
  ].join('\n');
}

function count(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) {
    console.error(`"${text}" is no count\n\n${USAGE}`);
    process.exit(2);
  }
  return Number(text);
}
