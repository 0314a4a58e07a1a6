/**
 * How far several workers carry: throughput, and what a session costs in the workers and in Redis, with one Redis and
 * with a cluster of three real nodes. Kore, the bucket and Redis run on the same machine, so sessions a second stop
 * growing when its cores are busy; a constant cost for each session with more workers shows what larger machines would
 * do. Figures only, never a verdict.
 *
 * `npm run bench:fleet -- --help` lists the options. It needs `redis-server`.
 */

import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import type { SessionRef } from '../src/domain/session.ts';
import { openBackend } from '../src/jobs/backends/open.ts';
import { SessionQueue } from '../src/jobs/session-queue.ts';
import { createLogger } from '../src/util/log.ts';
import { startRedis } from '../test/setup/redis.ts';
import { startCluster } from '../test/support/redis-topologies.ts';
import { type BenchStore, openBenchStore } from './archive-store.ts';
import { compilePrograms } from './compile.ts';
import { NODE_ARGS, type Program, startProgram } from './program.ts';
import { columns } from './table.ts';

const USAGE = `npm run bench:fleet -- [options]
  --workers LIST    numbers of worker processes that are tried, with commas between (default 1,2,3)
  --sessions N      sessions of each run (default 3000), of 480 KB each
  --warm-up N       sessions archived before the clock starts (default 300)
  --concurrency N   sessions at a time in each worker (default 16)
  --queues N        queues on the cluster, one for each bot or account, spread over its nodes (default 3)`;

const PASSWORD = 'bench';
const POLL_MS = 20;
const NAME = 'fleet';

const { values: options } = parseArgs({
  options: {
    workers: { type: 'string', default: '1,2,3' },
    sessions: { type: 'string', default: '3000' },
    'warm-up': { type: 'string', default: '300' },
    concurrency: { type: 'string', default: '16' },
    queues: { type: 'string', default: '3' },
    help: { type: 'boolean', default: false },
  },
});
if (options.help) console.log(USAGE);
else await bench();

/** Where queues are. */
interface Servers {
  readonly name: string;
  /** As `QUEUE_URL` says it. */
  readonly url: string;
  readonly isCluster: boolean;
  /** One client for each server. */
  readonly nodes: readonly Redis[];
  /** `QUEUE_PREFIX` of so many queues, each on another node as far as there are nodes. */
  prefixes(count: number): Promise<string[]>;
}

/** One queue, and the server that has it. */
interface OpenQueue {
  readonly prefix: string;
  readonly node: Redis;
  readonly queue: SessionQueue;
  close(): Promise<void>;
}

/** What a run showed. */
interface Figures {
  readonly perSecond: number;
  readonly workerMs: number;
  readonly redisMs: number;
  /** Of one core, that the busiest server took. */
  readonly busiest: number;
}

async function bench(): Promise<void> {
  const [sessions, warmUp, queues] = [
    count(options.sessions),
    count(options['warm-up']),
    count(options.queues),
  ];
  const workers = options.workers.split(',').map(count);
  await using opened = new AsyncDisposableStack();
  const compiled = await compilePrograms();
  const store = opened.adopt(await openBenchStore(), (bucket) => bucket.close());
  const sandbox = opened.adopt(
    startProgram('./servers/kore-program.ts', { args: [String(sessions + warmUp)] }),
    (program) => program.stop(),
  );
  const kore = await sandbox.receive('kore');
  const refs = kore.sessionIds.map((sessionId) => ({ sessionId, botId: kore.botId }));
  const environment = {
    KORE_HOST: kore.url,
    KORE_BOT_ID: kore.botId,
    KORE_CLIENT_ID: kore.clientId,
    KORE_CLIENT_SECRET: kore.clientSecret,
    KORE_RATE_LIMIT: '1000000/1s',
    KORE_MEDIA_HOSTS: '127.0.0.1',
    KORE_ALLOW_PRIVATE_MEDIA: 'true',
    WORKER_CONCURRENCY: String(count(options.concurrency)),
    S3_FORCE_PATH_STYLE: 'true',
    ...store.environment,
  };
  const one = await openOne(opened);
  const cluster = await openCluster(opened);
  const rows = [['', 'workers', 'queues', 'sessions/s', 'CPU ms, worker', 'CPU ms, Redis', 'busiest Redis']];
  for (const { servers, queueCount } of [
    { servers: one, queueCount: 1 },
    { servers: cluster, queueCount: 1 },
    { servers: cluster, queueCount: queues },
  ]) {
    for (const workerCount of workers.filter((number) => number >= queueCount)) {
      const figures = await run({
        servers,
        queueCount,
        workerCount,
        environment,
        store,
        compiled,
        refs,
        warmUp,
      });
      rows.push([
        servers.name,
        String(workerCount),
        String(queueCount),
        figures.perSecond.toFixed(0),
        figures.workerMs.toFixed(2),
        figures.redisMs.toFixed(2),
        `${(100 * figures.busiest).toFixed(0)}% of a core`,
      ]);
    }
  }
  console.log(columns(rows));
}

async function openOne(opened: AsyncDisposableStack): Promise<Servers> {
  const { url } = opened.adopt(await startRedis(), (server) => server.stop());
  const client = opened.adopt(new Redis(url), (connection) => connection.disconnect());
  return { name: 'one Redis', url, isCluster: false, nodes: [client], prefixes: async () => ['fleet'] };
}

async function openCluster(opened: AsyncDisposableStack): Promise<Servers> {
  const { nodes: servers } = opened.adopt(await startCluster(PASSWORD, { spread: true }), (topology) =>
    topology.stop(),
  );
  const nodes = servers.map(({ port }) =>
    opened.adopt(new Redis({ port, host: '127.0.0.1', password: PASSWORD }), (client) => client.disconnect()),
  );
  return {
    name: 'a cluster of three',
    url: `redis://:${PASSWORD}@127.0.0.1:${servers[0]?.port}?cluster=true`,
    isCluster: true,
    nodes,
    async prefixes(wanted) {
      const byNode = new Map<Redis, string>();
      const names: string[] = [];
      for (let index = 0; names.length < wanted; index += 1) {
        const prefix = `{fleet-${index}}`;
        const node = await nodeOf(prefix, nodes);
        if (byNode.has(node) && byNode.size < Math.min(nodes.length, wanted)) continue;
        byNode.set(node, prefix);
        names.push(prefix);
      }
      return names;
    },
  };
}

/** The server that has the keys with a prefix. */
async function nodeOf(prefix: string, nodes: readonly Redis[]): Promise<Redis> {
  for (const node of nodes) {
    const answer = await node.exists(`${prefix}:any`).catch((error: Error) => error);
    if (typeof answer === 'number') return node;
  }
  throw new Error(`no server has ${prefix}`);
}

async function run(setup: {
  readonly servers: Servers;
  readonly queueCount: number;
  readonly workerCount: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly store: BenchStore;
  readonly compiled: URL;
  readonly refs: readonly SessionRef[];
  readonly warmUp: number;
}): Promise<Figures> {
  const { servers, queueCount, workerCount, environment, store, compiled, refs, warmUp } = setup;
  for (const node of servers.nodes) await node.flushall();
  await using opened = new AsyncDisposableStack();
  const queues: OpenQueue[] = [];
  for (const prefix of await servers.prefixes(queueCount)) {
    queues.push(opened.adopt(await openQueue(servers, prefix), (queue) => queue.close()));
  }
  const workers = Array.from({ length: workerCount }, (_, index) =>
    opened.adopt(
      startProgram('./contestants/archiver.ts', {
        env: {
          ...environment,
          QUEUE_URL: servers.url,
          QUEUE_NAME: NAME,
          QUEUE_PREFIX: queues[index % queueCount]?.prefix ?? '',
          ARCHIVE_URL: `s3://${store.bucket}/fleet`,
        },
        nodeArgs: NODE_ARGS,
        compiled,
      }),
      (program) => program.stop(),
    ),
  );
  await Promise.all(workers.map((worker) => worker.receive('ready')));
  await archive(queues, refs.slice(0, warmUp), 0);
  const before = await costOf(servers, workers);
  const startedAt = performance.now();
  await archive(queues, refs.slice(warmUp), warmUp);
  const seconds = (performance.now() - startedAt) / 1000;
  const after = await costOf(servers, workers);
  await store.clear('fleet');
  const sessions = refs.length - warmUp;
  const redisMs = after.redisMs.map((spent, index) => spent - (before.redisMs[index] ?? 0));
  return {
    perSecond: sessions / seconds,
    workerMs: (after.workerMs - before.workerMs) / sessions,
    redisMs: redisMs.reduce((sum, spent) => sum + spent, 0) / sessions,
    busiest: Math.max(...redisMs) / 1000 / seconds,
  };
}

async function openQueue(servers: Servers, prefix: string): Promise<OpenQueue> {
  const log = createLogger('warn');
  const target = {
    kind: 'redis',
    url: servers.url.replace('?cluster=true', ''),
    cluster: servers.isCluster,
  } as const;
  const backend = await openBackend({ target, name: NAME, prefix }, log);
  const queue = new SessionQueue(backend, NAME, log);
  return {
    prefix,
    node: await nodeOf(prefix, servers.nodes),
    queue,
    async close() {
      await queue.close();
      await backend.close();
    },
  };
}

/** Queues sessions, as many in each queue, and resolves when all are archived; so many were before. */
async function archive(
  queues: readonly OpenQueue[],
  sessions: readonly SessionRef[],
  archivedBefore: number,
): Promise<void> {
  const share = (index: number) => sessions.filter((_, at) => at % queues.length === index);
  await Promise.all(queues.map(({ queue }, index) => queue.enqueue(share(index))));
  for (let done = 0; done < archivedBefore + sessions.length; ) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    const counts = queues.map(async ({ node, prefix }) => {
      const [completed, failed] = await Promise.all(
        ['completed', 'failed'].map((state) => node.zcard(`${prefix}:${NAME}:${state}`)),
      );
      if (failed) throw new Error(`${failed} sessions have failed`);
      return completed ?? 0;
    });
    done = (await Promise.all(counts)).reduce((sum, each) => sum + each, 0);
  }
}

async function costOf(servers: Servers, workers: readonly Program[]) {
  for (const worker of workers) worker.send({ kind: 'cost' });
  const costs = await Promise.all(workers.map((worker) => worker.receive('cost')));
  const redisMs = await Promise.all(
    servers.nodes.map(async (node) => {
      const info = await node.info('cpu');
      const field = (name: string) => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1]);
      return 1000 * (field('used_cpu_user') + field('used_cpu_sys'));
    }),
  );
  return { workerMs: costs.reduce((sum, { cpuMs }) => sum + cpuMs, 0), redisMs };
}

function count(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) {
    console.error(`"${text}" is no count\n\n${USAGE}`);
    process.exit(2);
  }
  return Number(text);
}
