import { userInfo } from 'node:os';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { AUDIT_LOG_ROUTES } from '../../src/api/audit-log.ts';
import { ROUTE_PERMISSIONS } from '../../src/api/roles.ts';
import { createAuditLog } from '../../src/audit-log/archive-audit-log.ts';
import type { ApiToken } from '../../src/config/config.ts';
import type { AuditLogEntry } from '../../src/domain/audit-log.ts';
import { openStore } from '../../src/storage/open.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import { type ApiSetup, type Ask, ask, openApiSetup } from '../support/api-server.ts';
import { silent } from '../support/queues.ts';

const TOKENS: ApiToken[] = [
  { name: 'crm', role: 'enqueue', token: 'token-of-the-crm-1' },
  { name: 'ada', role: 'operate', token: 'token-of-ada-1' },
  { name: 'bob', role: 'read', token: 'token-of-bob-1' },
  { name: 'eve', role: 'listen', token: 'token-of-eve-1' },
  { name: 'fay', role: 'listen', token: 'token-of-fay-1' },
];
const LOOPBACK_TOKEN = 'loopback-token-1';
/** Far longer than any of it takes. */
const WAIT = { timeout: 60_000, interval: 20 };
const never = new AbortController().signal;

let setup: ApiSetup;
let store: ArchiveStore;
let url: string;
let archived: string;
let waiting: string;

type Line = AuditLogEntry & { readonly at: string };

/** Everything in the audit log, the oldest first. */
async function lines(): Promise<Line[]> {
  const found: Line[] = [];
  for await (const { key } of store.list('audit/', never)) {
    const text = (await store.read(key, never))?.toString() ?? '';
    for (const line of text.split('\n').filter((one) => one !== '')) found.push(JSON.parse(line) as Line);
  }
  return found.sort((a, b) => (a.at < b.at ? -1 : 1));
}

/** Asks, and waits for what comes of it in the audit log. */
async function audited(
  path: string,
  { headers, ...options }: Ask & { as: string },
): Promise<[number, Line[]]> {
  const { as, ...rest } = options;
  const before = (await lines()).length;
  // What is noted is written in order: once this is there, so is all before it.
  const answer = await ask(url, path, {
    ...rest,
    headers: { ...headers, ...(as !== '' && { authorization: `Bearer ${as}` }) },
  });
  await ask(url, '/v1/pause', { method: 'DELETE', headers: { authorization: 'Bearer token-of-ada-1' } });
  const all = await vi.waitUntil(async () => {
    const now = await lines();
    return now.at(-1)?.action === 'resume' && now.length > before ? now : undefined;
  }, WAIT);
  return [answer.status, all.slice(before, -1)];
}

beforeAll(async () => {
  setup = await openApiSetup();
  store = await openStore(setup.config.archive);
  const auditLog = createAuditLog({ store, log: silent, times: { batchMs: 10 } });
  url = await setup.serve({ tokens: TOKENS }, { auditLog, loopbackToken: LOOPBACK_TOKEN });
  archived = setup.sandbox.addSession({ recordings: [{ seconds: 1 }], transcription: 'Please call back.' });
  waiting = setup.sandbox.addSession({ recordings: [{ seconds: 1 }] });
  const { botId } = setup.sandbox;
  await setup.runtime.operations.enqueue([{ botId, sessionId: archived }]);
  await setup.startWorker();
  await vi.waitUntil(
    async () => (await setup.runtime.operations.view({ botId, sessionId: archived }))?.state === 'archived',
    WAIT,
  );
  await setup.runtime.operations.pause();
  return async () => auditLog.close();
});

afterAll(async () => {
  await setup.close();
  await store.close();
});

describe('the audit log of the API', () => {
  it('the audit log knows each route that changes something by hand or hands out what is archived', () => {
    const needed = Object.entries(ROUTE_PERMISSIONS)
      .filter(([, permission]) => permission !== 'read' && permission !== 'any')
      .map(([route]) => route);
    expect(needed.filter((route) => !(route in AUDIT_LOG_ROUTES))).toEqual([]);
  });

  it('the audit log notes a download with who, what, from where and in which request', async () => {
    const [status, noted] = await audited(`/v1/sessions/${archived}/recordings/0`, {
      as: 'token-of-ada-1',
      headers: { 'x-request-id': 'request-1', range: 'bytes=0-9' },
    });
    expect(status).toBe(206);
    expect(noted).toEqual([
      {
        at: expect.any(String),
        actor: { name: 'ada', role: 'operate', via: 'api' },
        action: 'download',
        session: { botId: setup.sandbox.botId, sessionId: archived },
        details: { object: 'recording', n: 0, range: 'bytes=0-9' },
        requestId: 'request-1',
        address: '127.0.0.1',
      },
    ]);
  });

  it('the audit log notes a listen once, however many parts of the recording a player asks for', async () => {
    const path = `/v1/sessions/${archived}/recordings/0`;
    const part = (range: string, as = 'token-of-eve-1') => audited(path, { as, headers: { range } });
    expect((await part('bytes=0-'))[1]).toMatchObject([{ action: 'download', actor: { name: 'eve' } }]);
    expect(await part('bytes=400-')).toEqual([206, []]);
    expect(await part('bytes=100-200')).toEqual([206, []]);
    // Somebody else's listen, and a whole download, are others.
    expect((await part('bytes=400-', 'token-of-fay-1'))[1]).toHaveLength(1);
    expect((await audited(path, { as: 'token-of-eve-1' }))[1]).toHaveLength(1);
  });

  it.each(['transcript', 'manifest'])('the audit log notes a download of the %s', async (object) => {
    const [, noted] = await audited(`/v1/sessions/${archived}/${object}`, { as: 'token-of-ada-1' });
    expect(noted).toMatchObject([{ action: 'download', details: { object } }]);
    expect(JSON.stringify(noted)).not.toContain('call back');
  });

  it('the audit log notes what is queued by force, and not what is queued otherwise', async () => {
    const some = { sessionIds: [waiting] };
    expect((await audited('/v1/sessions', { as: 'token-of-the-crm-1', json: some }))[1]).toEqual([]);
    const forced = { ...some, force: true };
    const [, noted] = await audited('/v1/sessions', { as: 'token-of-the-crm-1', json: forced });
    expect(noted).toMatchObject([
      { actor: { name: 'crm', role: 'enqueue' }, action: 'enqueue.force', details: { sessions: 1, ...some } },
    ]);
  });

  it('the audit log notes nothing that was refused or came to nothing', async () => {
    const tries: [string, Ask & { as: string }, number][] = [
      [`/v1/sessions/${archived}/recordings/0`, { as: 'token-of-bob-1' }, 403],
      [`/v1/sessions/${archived}/recordings/0`, { as: 'no-token-at-all' }, 401],
      [`/v1/sessions/${archived}/recordings/7`, { as: 'token-of-ada-1' }, 404],
      [`/v1/sessions/${archived}/retry`, { as: 'token-of-ada-1', method: 'POST' }, 409],
      ['/v1/cancellations', { as: 'token-of-ada-1', json: { dryRun: true } }, 200],
      [`/v1/sessions/${archived}`, { as: 'token-of-bob-1' }, 200],
    ];
    for (const [path, options, expected] of tries) {
      expect([path, ...(await audited(path, options))]).toEqual([path, expected, []]);
    }
  });

  it('the audit log notes pauses, retries and schedules', async () => {
    const as = 'token-of-ada-1';
    expect((await audited('/v1/pause', { as, method: 'PUT' }))[1]).toMatchObject([{ action: 'pause' }]);
    const retries = { as, json: { code: 'KORE_UNAVAILABLE' } };
    expect((await audited('/v1/retries', retries))[1]).toMatchObject([
      { action: 'retry', details: { code: 'KORE_UNAVAILABLE' } },
    ]);
    const set = { as, method: 'PUT', json: { cron: '0 3 * * *', lookback: '48h' } };
    expect((await audited('/v1/schedules/nightly', set))[1]).toMatchObject([
      { action: 'schedule.set', details: { name: 'nightly', cron: '0 3 * * *', lookback: '48h' } },
    ]);
    expect((await audited('/v1/schedules/nightly', { as, method: 'DELETE' }))[1]).toMatchObject([
      { action: 'schedule.remove', details: { name: 'nightly' } },
    ]);
  });

  it('the audit log names the local user for commands of this machine', async () => {
    const [, noted] = await audited('/v1/pause', { as: LOOPBACK_TOKEN, method: 'PUT' });
    expect(noted).toMatchObject([{ actor: { name: userInfo().username, role: 'erase', via: 'cli' } }]);
  });

  it('the audit log notes log-ins to the dashboard that succeed', async () => {
    const form = {
      'content-type': 'application/x-www-form-urlencoded',
      origin: url,
      host: new URL(url).host,
    };
    const login = (token: string) => ({ as: '', method: 'POST', body: `token=${token}`, headers: form });
    const [status, noted] = await audited('/dashboard/login', login('token-of-ada-1'));
    expect(status).toBe(303);
    expect(noted).toMatchObject([
      { actor: { name: 'ada', role: 'operate', via: 'dashboard' }, action: 'log-in', address: '127.0.0.1' },
    ]);
    expect((await audited('/dashboard/login', login('wrong')))[1]).toEqual([]);
  });

  it('the audit log records what a logged-in user does, and the log-out', async () => {
    const headers = { origin: url, host: new URL(url).host };
    const login = await ask(url, '/login', {
      method: 'POST',
      body: 'token=token-of-ada-1',
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    });
    const cookie = String(login.headers['set-cookie']).split(';')[0] ?? '';
    const [, paused] = await audited('/v1/pause', { as: '', method: 'PUT', headers: { cookie, ...headers } });
    expect(paused.slice(-1)).toMatchObject([
      { actor: { name: 'ada', role: 'operate', via: 'dashboard' }, action: 'pause' },
    ]);
    const [status, out] = await audited('/logout', {
      as: '',
      method: 'POST',
      headers: { cookie, ...headers },
    });
    expect(status).toBe(303);
    expect(out).toMatchObject([{ actor: { name: 'ada', via: 'dashboard' }, action: 'log-out' }]);
  });

  it('the audit log holds none of the tokens', async () => {
    const text = JSON.stringify(await lines());
    for (const { token } of TOKENS) expect(text).not.toContain(token);
    expect(text).not.toContain(LOOPBACK_TOKEN);
  });
});
