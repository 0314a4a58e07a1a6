import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findProgram, freePort, searchPath, startServer } from './process.ts';

const run = promisify(execFile);

const NO_REDIS =
  'The tests need the program redis-server: install Redis (Debian: apt-get install redis-server).';

/** Asked by Debian's packages before they start a service; 101 forbids it (invoke-rc.d(8)). */
const SERVICE_POLICY = '/usr/sbin/policy-rc.d';

/** A Redis server of this run's own, as the product wants one: nothing is ever evicted. */
export async function startRedis(): Promise<{ url: string; stop(): Promise<void> }> {
  const program = findRedis() ?? (await installRedis());
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-redis-'));
  const port = await freePort();
  const server = await startServer(
    program,
    // biome-ignore format: one option a line
    [
      '--port', String(port),
      '--bind', '127.0.0.1',
      '--dir', directory,
      '--save', '',
      '--appendonly', 'no',
      '--maxmemory-policy', 'noeviction',
    ],
    'Ready to accept connections',
  );
  return {
    url: `redis://127.0.0.1:${port}`,
    async stop() {
      await server.stop('SIGTERM');
      await rm(directory, { recursive: true });
    },
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
