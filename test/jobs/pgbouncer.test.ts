import { chmod, chown, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Backend } from '../../src/jobs/backends/backend.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { EventFeed } from '../../src/jobs/event-feed.ts';
import { SessionQueue } from '../../src/jobs/session-queue.ts';
import { findProgram, freePort, searchPath, startServer } from '../setup/process.ts';
import { createTestQueue, silent, type TestQueue, whyMissing } from '../support/queues.ts';
import { ARCHIVED, workOff } from '../support/work-off.ts';

const PROGRAM = findProgram('pgbouncer', [...searchPath(), '/usr/sbin']);
const MISSING =
  whyMissing('postgres') ??
  (PROGRAM === undefined ? 'needs PgBouncer (Debian: apt-get install pgbouncer)' : undefined);

/** PgBouncer refuses to be root. */
async function unprivileged(directory: string) {
  if (process.getuid?.() !== 0) return {};
  const passwd = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'));
  const [, , uid, gid] = passwd.find(([name]) => name === 'nobody') ?? [];
  const user = { uid: Number(uid), gid: Number(gid) };
  await chown(directory, user.uid, user.gid);
  return user;
}

/** Pools the sessions of a server; everybody is let in as the server's own user. */
async function startPgBouncer(database: string) {
  const { hostname, port: serverPort, pathname, username } = new URL(database);
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-pgbouncer-'));
  const port = await freePort();
  const file = join(directory, 'pgbouncer.ini');
  const lines = [
    '[databases]',
    `queue = host=${hostname} port=${serverPort} dbname=${pathname.slice(1)} user=${username}`,
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    'unix_socket_dir =',
    'auth_type = any',
    'pool_mode = session',
    'default_pool_size = 60',
  ];
  await writeFile(file, `${lines.join('\n')}\n`);
  await chmod(file, 0o644);
  const server = await startServer(PROGRAM ?? '', [file], 'process up', await unprivileged(directory));
  return {
    url: `postgres://anybody@127.0.0.1:${port}/queue`,
    async stop() {
      await server.stop('SIGKILL');
      await rm(directory, { recursive: true });
    },
  };
}

describe.skipIf(MISSING !== undefined)(
  `a queue on PostgreSQL behind PgBouncer${MISSING ? ` (${MISSING})` : ''}`,
  () => {
    let server: TestQueue;
    let pgbouncer: Awaited<ReturnType<typeof startPgBouncer>>;
    let backend: Backend;
    beforeAll(async () => {
      server = await createTestQueue('postgres');
      const { target } = server.config;
      if (target.kind !== 'postgres') throw new Error('the queue is none on PostgreSQL');
      pgbouncer = await startPgBouncer(target.url);
      backend = await openBackend(
        { ...server.config, target: { kind: 'postgres', url: pgbouncer.url } },
        silent,
      );
    });
    afterAll(async () => {
      await backend.close();
      await pgbouncer.stop();
      await server.remove();
    });

    it('sessions are queued, archived and reported at once through PgBouncer', async () => {
      const queue = new SessionQueue(backend, server.config.name, silent);
      const feed = new EventFeed(backend, server.config.name, silent);
      const session = { botId: 'st-1', sessionId: '67aa38026e199c8f470e0001' };
      const subscription = await feed.subscribe(await backend.lastEventId(server.config.name));
      expect(await queue.enqueue([session])).toMatchObject([{ outcome: 'queued' }]);
      await workOff(backend, server.config.name, 1, () => ARCHIVED);
      const names: string[] = [];
      while (!names.includes('archived')) {
        for (const { name } of (await subscription.next(60_000)) ?? []) names.push(name);
      }
      expect(names).toEqual(expect.arrayContaining(['queued', 'active', 'archived']));
      expect((await queue.view(session))?.state).toBe('archived');
      subscription.close();
      await feed.close();
      await queue.close();
    });
  },
);
