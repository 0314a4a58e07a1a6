import { randomUUID } from 'node:crypto';
import { userInfo } from 'node:os';
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { openStore } from '../../src/storage/open.ts';
import { hasLogged, startCli } from '../support/cli.ts';
import { runInProcess } from '../support/in-process-command.ts';
import { embeddedServiceEnvironment } from '../support/queues.ts';
import { temporaryDirectory } from '../support/services.ts';

const TIMEOUT_MS = 120_000;
const SESSION = '67ab573f3685d1ba99541234';

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let env: Record<string, string>;

beforeEach(async () => {
  directory = await temporaryDirectory();
  env = {
    QUEUE_URL: inject('redisUrl'),
    QUEUE_PREFIX: `test-${randomUUID()}`,
    ARCHIVE_URL: `file:${directory.path}/archive`,
    KORE_BOT_ID: 'st-1',
  };
});

afterEach(() => directory.remove());

async function lines(): Promise<Record<string, unknown>[]> {
  const store = await openStore({ kind: 'file', directory: `${directory.path}/archive` });
  const never = new AbortController().signal;
  const found: Record<string, unknown>[] = [];
  for await (const { key } of store.list('audit/', never)) {
    const text = (await store.read(key, never))?.toString() ?? '';
    found.push(
      ...text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Record<string, unknown>),
    );
  }
  await store.close();
  return found.sort((a, b) => (String(a.at) < String(b.at) ? -1 : 1));
}

const run = async (...args: string[]) => expect(await runInProcess(args, { env })).toMatchObject({ code: 0 });

it('a command that opens the queue itself notes what it changes, with the user', {
  timeout: TIMEOUT_MS,
}, async () => {
  await run('enqueue', SESSION);
  await run('status');
  expect(await lines()).toEqual([]);
  await run('pause');
  await run('enqueue', SESSION, '--force');
  await run('cancel', '--all', '--dry-run');
  await run('cancel', SESSION);
  await run('retry', '--all');
  await run('schedule', 'set', 'nightly', '--cron', '0 3 * * *', '--lookback', '48h');
  await run('schedule', 'remove', 'nightly');
  await run('resume');

  const noted = await lines();
  expect(noted.map(({ action }) => action)).toEqual([
    'pause',
    'enqueue.force',
    'cancel',
    'retry',
    'schedule.set',
    'schedule.remove',
    'resume',
  ]);
  const actor = { name: userInfo().username, role: 'erase', via: 'cli' };
  expect(noted.filter((line) => JSON.stringify(line.actor) !== JSON.stringify(actor))).toEqual([]);
  expect(noted[1]).toMatchObject({ details: { botId: 'st-1', sessions: 1, sessionIds: [SESSION] } });
  expect(noted[2]).toMatchObject({ session: { botId: 'st-1', sessionId: SESSION } });
});

it('AUDIT_LOG=off turns the audit log of commands off', { timeout: TIMEOUT_MS }, async () => {
  env.AUDIT_LOG = 'off';
  await run('pause');
  await run('resume');
  expect(await lines()).toEqual([]);
});

it('a command that goes through another process is noted there, and written when that stops', {
  timeout: TIMEOUT_MS,
}, async () => {
  env = { ...env, ...(await embeddedServiceEnvironment(directory.path)) };
  const service = startCli(['start'], { env });
  await service.waitFor(hasLogged('taking sessions'));
  await run('pause');
  service.kill('SIGTERM');
  await service.ended;
  expect(await lines()).toMatchObject([
    { action: 'pause', actor: { name: userInfo().username, via: 'cli' }, address: '127.0.0.1' },
  ]);
});
