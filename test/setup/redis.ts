import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findProgram, freePort, type ServerProcess, searchPath, startServer } from './process.ts';

const run = promisify(execFile);

const NO_REDIS =
  'The tests need the program redis-server: install Redis (Debian: apt-get install redis-server).';

/** Asked by Debian's packages before they start a service; 101 forbids it (invoke-rc.d(8)). */
const SERVICE_POLICY = '/usr/sbin/policy-rc.d';

/** A Redis server of this run's own, as the product wants one: nothing is ever evicted. */
export async function startRedis(): Promise<{ url: string; stop(): Promise<void> }> {
  const redis = await createRedis(['--appendonly', 'no']);
  await redis.start();
  return {
    url: redis.url,
    async stop() {
      await redis.stop('SIGTERM');
      await redis.remove();
    },
  };
}

/** A Redis server that can be stopped and started again. */
export interface RestartableRedis {
  readonly url: string;
  /** Resolves when it takes connections. */
  start(): Promise<void>;
  /** Resolves when it has ended. */
  stop(signal: NodeJS.Signals): Promise<void>;
  /** Removes its files. */
  remove(): Promise<void>;
}

/** A Redis server that has every change on disk before it answers, and finds it there after a restart. */
export async function createLastingRedis(): Promise<RestartableRedis> {
  return createRedis(['--appendonly', 'yes', '--appendfsync', 'always']);
}

async function createRedis(persistence: readonly string[]): Promise<RestartableRedis> {
  const program = findRedis() ?? (await installRedis());
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-redis-'));
  const port = await freePort();
  // biome-ignore format: one option a line
  const options = [
    '--port', String(port),
    '--bind', '127.0.0.1',
    '--dir', directory,
    '--save', '',
    '--maxmemory-policy', 'noeviction',
    ...persistence,
  ];
  let server: ServerProcess | undefined;
  return {
    url: `redis://127.0.0.1:${port}`,
    async start() {
      server = await startServer(program, options, 'Ready to accept connections');
    },
    async stop(signal) {
      await server?.stop(signal);
      server = undefined;
    },
    remove: () => rm(directory, { recursive: true }),
  };
}

function findRedis(): string | undefined {
  return findProgram('redis-server', searchPath());
}

/** Installs Debian's package where that can be done without asking; its service is not started. */
async function installRedis(): Promise<string> {
  if (!findProgram('apt-get', searchPath()) || process.getuid?.() !== 0) throw new Error(NO_REDIS);
  const mayWritePolicy = !existsSync(SERVICE_POLICY);
  if (mayWritePolicy) await writeFile(SERVICE_POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    await run('apt-get', ['update']);
    await run('apt-get', ['install', '--yes', '--no-install-recommends', 'redis-server'], {
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
  } catch (error) {
    throw new Error(NO_REDIS, { cause: error });
  } finally {
    if (mayWritePolicy) await rm(SERVICE_POLICY);
  }
  const program = findRedis();
  if (!program) throw new Error(NO_REDIS);
  return program;
}
