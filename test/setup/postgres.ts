import { execFile } from 'node:child_process';
import { chown, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findProgram, freePort, searchPath, startServer } from './process.ts';

const run = promisify(execFile);

/** Debian keeps the server's programs here, by version, and not on the search path. */
const DEBIAN_ROOT = '/usr/lib/postgresql';
/** Whom the server may run as when we are root, which it refuses to be. */
const SERVER_USERS = ['postgres', 'nobody'] as const;

/** A PostgreSQL server of this run's own, or `undefined` where it is not installed. */
export async function startPostgres(): Promise<{ url: string; stop(): Promise<void> } | undefined> {
  const directories = [...(await debianDirectories()), ...searchPath()];
  const initdb = findProgram('initdb', directories);
  const postgres = findProgram('postgres', directories);
  if (!initdb || !postgres) return undefined;

  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-postgres-'));
  const user = process.getuid?.() === 0 ? await serverUser() : undefined;
  if (user) await chown(directory, user.uid, user.gid);
  const options = { ...user, cwd: directory };
  const data = join(directory, 'data');
  await run(
    initdb,
    ['--pgdata', data, '--username', 'archiver', '--auth', 'trust', '--encoding', 'UTF8', '--no-sync'],
    options,
  );
  const port = await freePort();
  const server = await startServer(
    postgres,
    // biome-ignore format: one option a line
    [
      '-D', data,
      '-p', String(port),
      '-c', 'listen_addresses=127.0.0.1',
      '-c', `unix_socket_directories=${directory}`,
      '-c', 'fsync=off',
      '-c', 'max_connections=200',
    ],
    'database system is ready to accept connections',
    options,
  );
  return {
    url: `postgres://archiver@127.0.0.1:${port}/postgres`,
    async stop() {
      // SIGINT is its fast shutdown: clients are sent away.
      await server.stop('SIGINT');
      await rm(directory, { recursive: true });
    },
  };
}

/** Newest version first. */
async function debianDirectories(): Promise<string[]> {
  const versions = await readdir(DEBIAN_ROOT).catch(() => []);
  return versions.sort((a, b) => Number(b) - Number(a)).map((version) => join(DEBIAN_ROOT, version, 'bin'));
}

async function serverUser(): Promise<{ uid: number; gid: number }> {
  const lines = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'));
  for (const name of SERVER_USERS) {
    const [, , uid, gid] = lines.find(([user]) => user === name) ?? [];
    if (uid !== undefined && gid !== undefined) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new Error(`PostgreSQL refuses to run as root, and there is no user ${SERVER_USERS.join(' or ')}`);
}
