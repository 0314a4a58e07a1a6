/**
 * How long an idle worker takes from a session's enqueueing until it is archived, its manifest written and looked after:
 * one session at a time, on Redis and on an embedded queue. Figures only, never a verdict.
 *
 * `npm run bench:latency -- --help` lists the options. It needs `redis-server`.
 */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadConfig } from '../src/config/load.ts';
import { openRuntime } from '../src/runtime.ts';
import { createLogger } from '../src/util/log.ts';
import { startRedis } from '../test/setup/redis.ts';
import { openBenchStore } from './archive-store.ts';
import { startProgram } from './program.ts';
import { columns, quantile } from './table.ts';

const USAGE = `npm run bench:latency -- [options]
  --sessions N   archived one after another on each queue (default 200)
  --warm-up N    before the first one that counts (default 50)`;

const { values: options } = parseArgs({
  options: {
    sessions: { type: 'string', default: '200' },
    'warm-up': { type: 'string', default: '50' },
    help: { type: 'boolean', default: false },
  },
});
if (options.help) console.log(USAGE);
else await bench(Number(options.sessions), Number(options['warm-up']));

async function bench(sessions: number, warmUp: number): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const redis = opened.adopt(await startRedis(), (server) => server.stop());
  const directory = opened.adopt(await mkdtemp(join(tmpdir(), 'voicemail-archiver-latency-')), (path) =>
    rm(path, { recursive: true, force: true }),
  );
  const store = opened.adopt(await openBenchStore(), (bucket) => bucket.close());
  const sandbox = opened.adopt(
    startProgram('./servers/kore-program.ts', { args: [String(sessions + warmUp)] }),
    (program) => program.stop(),
  );
  const kore = await sandbox.receive('kore');
  // The SDK reads its variables by itself.
  Object.assign(process.env, store.environment);
  const rows = [['', 'p50', 'p99', 'longest']];
  for (const [name, url] of [
    ['Redis', redis.url],
    ['embedded', `embedded:${join(directory, 'queue')}`],
  ] as const) {
    const environment = {
      KORE_HOST: kore.url,
      KORE_BOT_ID: kore.botId,
      KORE_CLIENT_ID: kore.clientId,
      KORE_CLIENT_SECRET: kore.clientSecret,
      KORE_RATE_LIMIT: '1000000/1s',
      KORE_MEDIA_HOSTS: '127.0.0.1',
      KORE_ALLOW_PRIVATE_MEDIA: 'true',
      QUEUE_URL: url,
      ARCHIVE_URL: `s3://${store.bucket}/${name}`,
      S3_FORCE_PATH_STYLE: 'true',
      LOG_LEVEL: 'warn',
    };
    const ids = kore.sessionIds.map((sessionId) => ({ sessionId, botId: kore.botId }));
    const times = (await archiveEach(environment, ids)).slice(warmUp);
    const shown = [0.5, 0.99, 1].map((share) => `${quantile(times, share).toFixed(1)} ms`);
    rows.push([name, ...shown]);
    await store.clear(name);
  }
  console.log(
    `${sessions} sessions of one WAV of ${kore.recordingBytes / 1000} KB, one at a time, after ${warmUp} others\n` +
      `Node ${process.version}, the archive on ${store.description}\n\n${columns(rows)}`,
  );
}

/** Archives sessions one after another. @returns the milliseconds that each took. */
async function archiveEach(
  environment: Readonly<Record<string, string>>,
  sessions: readonly { readonly sessionId: string; readonly botId: string }[],
): Promise<number[]> {
  const config = loadConfig(environment, { needs: ['kore'] });
  if (!config.kore) throw new Error('the bench wants Kore');
  const runtime = await openRuntime(config, createLogger(config.logLevel));
  let onArchived: () => void = () => undefined;
  const worker = await runtime.startWorker(config.kore, {
    worker: { onArchived: () => onArchived() },
    transfer: {},
    kore: { onCall: () => undefined, onWait: () => undefined },
  });
  await worker.ready();
  const times: number[] = [];
  try {
    for (const session of sessions) {
      const archived = Promise.withResolvers<void>();
      onArchived = archived.resolve;
      const began = performance.now();
      await Promise.all([runtime.queue.enqueue([session]), archived.promise]);
      times.push(performance.now() - began);
    }
  } finally {
    await worker.stop();
    await runtime.close();
  }
  return times;
}
