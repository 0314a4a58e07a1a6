import type { SessionRef } from '../src/domain/session.ts';
import type { BenchStore } from './archive-store.ts';
import { type Feed, feedArchiver, feedBullmq, feedDirectly, type QueueAddress } from './feed.ts';
import { type Program, startProgram } from './program.ts';
import type { RedisCounter } from './redis-commands.ts';

/** Who takes part. */
export interface Contestant {
  readonly name: string;
  /** From this directory. */
  readonly program: string;
  /** What it writes for a session. */
  readonly objectsPerSession: number;
  feed(program: Program, address: QueueAddress): Promise<Feed>;
}

/** The product first, then those it is compared with. */
export const CONTESTANTS = {
  archiver: {
    name: 'voicemail-archiver, all checks on',
    program: './contestants/archiver.ts',
    objectsPerSession: 3,
    feed: (_program, address) => feedArchiver(address),
  },
  bareHttp: {
    name: '(a) the same HTTP exchanges by node:http alone',
    program: './contestants/bare-http.ts',
    objectsPerSession: 3,
    feed: async (program) => feedDirectly(program),
  },
  bullmqFetch: {
    name: '(b) BullMQ, fetch and lib-storage, no checks',
    program: './contestants/bullmq-fetch.ts',
    objectsPerSession: 3,
    feed: (_program, address) => feedBullmq(address),
  },
} as const satisfies Record<string, Contestant>;

/** What all contestants work on. */
export interface ContestSetup {
  readonly environment: Readonly<Record<string, string>>;
  readonly store: BenchStore;
  readonly redisUrl: string;
  readonly redisCounter: RedisCounter;
  readonly recordingBytes: number;
  readonly warmUp: readonly SessionRef[];
  readonly sessions: readonly SessionRef[];
  /** For Node itself. */
  readonly nodeArgs: readonly string[];
  /** Where the compiled programs are. */
  readonly compiled: URL;
}

/** What one run of a contestant cost. */
export interface Cost {
  readonly cpuMsPerSession: number;
  readonly sessionsPerSecond: number;
  /** The most that its process held in memory at once. */
  readonly peakMemoryBytes: number;
  /** Requests to the bucket for a session, by method; `undefined` where nobody counts them. */
  readonly requestsPerSession: Readonly<Record<string, number>> | undefined;
  /** For a session, its queueing among them. */
  readonly redisScriptsPerSession: number;
  readonly redisCommandsPerSession: number;
}

/**
 * Lets a contestant archive the setup's sessions in a process of its own, into an archive and from a queue of
 * their own, and measures from the first session after the warm-up to the last.
 *
 * @param name of the archive's prefix and the queue.
 * @throws when it fails at a session, or not everything is in the store afterwards.
 */
export async function run(contestant: Contestant, name: string, setup: ContestSetup): Promise<Cost> {
  const cost = await measure(contestant, name, setup);
  await assertArchived(contestant, name, setup);
  await setup.store.clear(name);
  return cost;
}

async function measure(contestant: Contestant, name: string, setup: ContestSetup): Promise<Cost> {
  const { store, redisUrl, redisCounter, sessions, warmUp } = setup;
  await using started = new AsyncDisposableStack();
  const program = started.adopt(
    startProgram(contestant.program, {
      env: {
        ...setup.environment,
        ...store.environment,
        QUEUE_URL: redisUrl,
        QUEUE_NAME: name,
        ARCHIVE_URL: `s3://${store.bucket}/${name}`,
        S3_FORCE_PATH_STYLE: 'true',
      },
      nodeArgs: setup.nodeArgs,
      compiled: setup.compiled,
    }),
    (running) => running.stop(),
  );
  await program.receive('ready');
  const feed = started.adopt(await contestant.feed(program, { redisUrl, name }), (opened) => opened.close());
  await feed.archive(warmUp);

  const before = await costOf(program);
  const requestsBefore = await store.requests();
  await redisCounter.reset();
  const startedAt = performance.now();
  await feed.archive(sessions);
  const seconds = (performance.now() - startedAt) / 1000;
  const after = await costOf(program);
  const requestsAfter = await store.requests();
  const { scripts, commands } = await redisCounter.read();
  return {
    cpuMsPerSession: (after.cpuMs - before.cpuMs) / sessions.length,
    sessionsPerSecond: sessions.length / seconds,
    peakMemoryBytes: after.peakMemoryBytes,
    requestsPerSession: requestsAfter && difference(requestsAfter, requestsBefore ?? {}, sessions.length),
    redisScriptsPerSession: scripts / sessions.length,
    redisCommandsPerSession: commands / sessions.length,
  };
}

async function costOf(program: Program) {
  program.send({ kind: 'cost' });
  return program.receive('cost');
}

function difference(
  after: Readonly<Record<string, number>>,
  before: Readonly<Record<string, number>>,
  sessions: number,
): Record<string, number> {
  return Object.fromEntries(
    Object.entries(after)
      .map(([method, count]) => [method, (count - (before[method] ?? 0)) / sessions] as const)
      .filter(([, count]) => count > 0),
  );
}

/** A contestant that is quick because it leaves something out shall not win. */
async function assertArchived(contestant: Contestant, name: string, setup: ContestSetup): Promise<void> {
  const count = setup.sessions.length + setup.warmUp.length;
  const { objects, bytes } = await setup.store.measure(name);
  if (objects !== count * contestant.objectsPerSession || bytes < count * setup.recordingBytes) {
    throw new Error(`${contestant.name} left ${objects} objects of ${bytes} bytes for ${count} sessions`);
  }
}
