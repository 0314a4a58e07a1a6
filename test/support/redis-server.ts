/** A Redis server of a test's own, set up as the test wants it, well or badly. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { findProgram, freePort, searchPath, startServer } from '../setup/process.ts';

/** A running server. */
export interface OwnRedis {
  readonly port: number;
  readonly url: string;
  /** A client of its administrator. */
  readonly admin: Redis;
  /** Suspends it, so that it takes connections and answers nothing, or resumes it. */
  suspend(): void;
  goOn(): void;
  stop(): Promise<void>;
}

/** Starts one on a free port; the run's own set-up has seen to it that Redis is installed. */
export async function startOwnRedis(...options: readonly string[]): Promise<OwnRedis> {
  const program = findProgram('redis-server', searchPath());
  if (!program) throw new Error('redis-server is not installed');
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-redis-'));
  const port = await freePort();
  const server = await startServer(
    program,
    ['--port', String(port), '--bind', '127.0.0.1', '--dir', directory, '--save', '', ...options],
    'Ready to accept connections',
  );
  const url = `redis://127.0.0.1:${port}`;
  const admin = new Redis(url);
  return {
    port,
    url,
    admin,
    suspend: () => server.signal('SIGSTOP'),
    goOn: () => server.signal('SIGCONT'),
    async stop() {
      admin.disconnect();
      await server.stop('SIGKILL');
      await rm(directory, { recursive: true });
    },
  };
}

/** Starts a Sentinel that watches a server under the name `main`. */
export async function startOwnSentinel(watched: OwnRedis): Promise<{ host: string; stop(): Promise<void> }> {
  const program = findProgram('redis-server', searchPath());
  if (!program) throw new Error('redis-server is not installed');
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-sentinel-'));
  const port = await freePort();
  // It keeps what it learns in its configuration.
  const file = join(directory, 'sentinel.conf');
  const lines = [`port ${port}`, 'bind 127.0.0.1', `sentinel monitor main 127.0.0.1 ${watched.port} 1`];
  await writeFile(file, `${lines.join('\n')}\n`);
  const server = await startServer(program, [file, '--sentinel'], '+monitor master main');
  return {
    host: `127.0.0.1:${port}`,
    async stop() {
      await server.stop('SIGKILL');
      await rm(directory, { recursive: true });
    },
  };
}
