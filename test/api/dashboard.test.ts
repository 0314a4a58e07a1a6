import { generateKeyPair, SignJWT } from 'jose';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDashboardSessions, SESSION_SECONDS } from '../../src/api/dashboard/session.ts';
import { type Api, type ApiOptions, createApi } from '../../src/api/server.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { failureReason } from '../../src/jobs/session-job.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { startSandbox } from '../../src/sandbox/sandbox.ts';
import { createLogger } from '../../src/util/log.ts';
import { apiTokens } from '../support/api.ts';
import { ARCHIVED, workOff } from '../support/consume.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';

const TOKEN = 'a-token-of-the-api-0123456789';
const OTHER_TOKEN = 'another-token-of-the-api-01234';
const BOT = 'st-dashboard';

let queue: TestQueue;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let runtime: Runtime;
const apis: Api[] = [];

beforeAll(async () => {
  [queue, directory] = await Promise.all([createTestQueue('redis'), temporaryDirectory()]);
  const sandbox = await startSandbox();
  const { config } = testConfig(
    { ...sandboxEnvironment(sandbox), ARCHIVE_URL: `file:${directory.path}` },
    queue.config,
  );
  await sandbox.close();
  runtime = await openRuntime(config, silent);
});

afterAll(async () => {
  await Promise.all(apis.map((api) => api.close()));
  await runtime.close();
  await Promise.all([queue.remove(), directory.remove()]);
});

async function serve(tokens: readonly string[], changes: Partial<ApiOptions> = {}): Promise<string> {
  const api = createApi({
    operations: runtime.operations,
    queue: runtime.queue,
    check: (signal) => runtime.check(signal),
    http: { host: '127.0.0.1', port: 0, tokens: apiTokens(...tokens) },
    defaultBotId: BOT,
    log: silent,
    ...changes,
  });
  apis.push(api);
  return (await api.listen()).url;
}

type Headers = Readonly<Record<string, string>>;

async function ask(
  url: string,
  path: string,
  method: 'GET' | 'PUT' | 'POST',
  headers: Headers,
  body?: string,
) {
  const response = await request(`${url}/dashboard${path}`, { method, headers, ...(body && { body }) });
  return { status: response.statusCode, headers: response.headers, text: await response.body.text() };
}

const HTML = { accept: 'text/html,application/xhtml+xml' };

function logIn(url: string, token: string, headers: Headers = { 'sec-fetch-site': 'same-origin' }) {
  const form = { 'content-type': 'application/x-www-form-urlencoded', ...headers };
  return ask(url, '/login', 'POST', form, new URLSearchParams({ token }).toString());
}

/** The cookie that a browser would send from then on. */
async function cookieOf(url: string, token = TOKEN): Promise<string> {
  const { headers } = await logIn(url, token);
  return String(headers['set-cookie']).split(';')[0] ?? '';
}

describe('the way into the dashboard', () => {
  let url: string;
  beforeAll(async () => {
    url = await serve([TOKEN]);
  });

  it('leads a browser to the login, and tells a program what to send', async () => {
    const browser = await ask(url, '', 'GET', HTML);
    expect(browser).toMatchObject({ status: 303, headers: { location: '/dashboard/login' } });
    const form = await ask(url, '/login', 'GET', HTML);
    expect(form).toMatchObject({ status: 200, headers: { 'content-type': 'text/html; charset=utf-8' } });
    expect(form.text).toContain('type="password"');

    for (const path of ['/api/queues', '/queue/sessions']) {
      const program = await ask(url, path, 'GET', {});
      expect(program.status).toBe(401);
      expect(program.headers['www-authenticate']).toMatch(/^Bearer/);
      expect(JSON.parse(program.text)).toMatchObject({ code: 'UNAUTHORIZED' });
    }
  });

  it('takes the credentials of the API from programs', async () => {
    expect((await ask(url, '/api/queues', 'GET', { authorization: `Bearer ${TOKEN}` })).status).toBe(200);
    expect((await ask(url, '/api/queues', 'GET', { authorization: 'Bearer wrong' })).status).toBe(401);
  });

  it('gives who knows a token a cookie that scripts, other sites and other paths do not get', async () => {
    const { status, headers } = await logIn(url, TOKEN);

    expect(status).toBe(303);
    expect(headers.location).toBe('/dashboard');
    const [value, ...attributes] = String(headers['set-cookie']).split('; ');
    expect(attributes).toEqual([
      'Path=/dashboard',
      `Max-Age=${SESSION_SECONDS}`,
      'HttpOnly',
      'SameSite=Strict',
    ]);
    expect(value).not.toContain(TOKEN);
    expect((await ask(url, '', 'GET', { ...HTML, cookie: String(value) })).status).toBe(200);
  });

  it('marks the cookie for https alone when the browser speaks that with a proxy', async () => {
    const { headers } = await logIn(url, TOKEN, {
      'sec-fetch-site': 'same-origin',
      'x-forwarded-proto': 'https, http',
    });
    expect(headers['set-cookie']).toMatch(/; Secure$/);
  });

  it('gives nobody else one', async () => {
    for (const token of ['wrong', '', `${TOKEN} x`]) {
      const { status, headers, text } = await logIn(url, token);
      expect(status).toBe(401);
      expect(headers['set-cookie']).toBeUndefined();
      expect(text).toContain('role="alert"');
    }
    const json = { 'content-type': 'application/json', 'sec-fetch-site': 'same-origin' };
    expect((await ask(url, '/login', 'POST', json, JSON.stringify({ token: TOKEN }))).status).toBe(401);
  });

  it.each([
    ['another site', { 'sec-fetch-site': 'cross-site' }],
    ['a sister site', { 'sec-fetch-site': 'same-site' }],
    ['another origin, from a browser without Sec-Fetch-Site', { origin: 'https://evil.example' }],
    ['an origin that is kept secret', { origin: 'null' }],
    ['nobody knows where', {}],
  ])('takes no login, logout or change from %s', async (_, headers) => {
    const cookie = await cookieOf(url);
    expect((await logIn(url, TOKEN, headers)).status).toBe(403);
    expect((await ask(url, '/logout', 'POST', { ...headers, cookie })).status).toBe(403);
    const retry = await ask(url, '/api/queues/sessions/a.b/retry', 'PUT', { ...headers, cookie });
    expect(retry.status).toBe(403);
    expect(JSON.parse(retry.text)).toMatchObject({ code: 'FORBIDDEN' });
  });

  it('takes them from its own pages, also where the browser tells no more than the origin', async () => {
    expect((await logIn(url, TOKEN, { origin: url })).status).toBe(303);
  });

  it('ends with a logout', async () => {
    const cookie = await cookieOf(url);
    const { status, headers } = await ask(url, '/logout', 'POST', { cookie, origin: url });
    expect(status).toBe(303);
    expect(headers['set-cookie']).toMatch(/^archiver_session=; Path=\/dashboard; Max-Age=0;/);
    expect((await ask(url, '/api/queues', 'GET', { cookie })).status).toBe(401);
    // Another process, or the same one later.
    const other = await serve([TOKEN, OTHER_TOKEN]);
    expect((await ask(other, '/api/queues', 'GET', { cookie })).status).toBe(401);
    expect((await ask(other, '/api/queues', 'GET', { cookie: await cookieOf(url) })).status).toBe(200);
  });

  it('outlives a restart, and is closed when its token is taken away', async () => {
    const both = await serve([TOKEN, OTHER_TOKEN]);
    const [first, second] = await Promise.all([cookieOf(both, TOKEN), cookieOf(both, OTHER_TOKEN)]);

    const rotated = await serve([OTHER_TOKEN]);

    expect((await ask(rotated, '/api/queues', 'GET', { cookie: first })).status).toBe(401);
    expect((await ask(rotated, '/api/queues', 'GET', { cookie: second })).status).toBe(200);
  });

  it('opens the dashboard alone', async () => {
    const response = await request(`${url}/v1/stats`, { headers: { cookie: await cookieOf(url) } });
    await response.body.dump();
    expect(response.statusCode).toBe(401);
  });
});

describe('the sessions of the dashboard', () => {
  const tokens = apiTokens(TOKEN);
  const operator = { name: 'token-1', roles: ['operate'] as const };
  const guard = { identify: async (token: string) => (token === TOKEN ? operator : undefined) };

  it('end after a working day', async () => {
    let now = Date.now();
    const sessions = createDashboardSessions({ tokens, guard, ended: runtime.queue, now: () => now });
    const session = (await sessions.open(TOKEN)) ?? '';
    now += (SESSION_SECONDS - 2) * 1000;
    expect(await sessions.find(session)).toEqual(operator);
    now += 2000;
    expect(await sessions.find(session)).toBeUndefined();
  });

  it('can be neither prolonged nor made up', async () => {
    const sessions = createDashboardSessions({ tokens, guard, ended: runtime.queue });
    const [version = '', payload = '', signed = ''] = ((await sessions.open(TOKEN)) ?? '').split('.');
    const read = JSON.parse(Buffer.from(payload, 'base64url').toString());
    const write = (changes: object) =>
      Buffer.from(JSON.stringify({ ...read, ...changes })).toString('base64url');
    const tampered = [
      [version, write({ expiresAt: read.expiresAt + 1 }), signed],
      [version, write({ holder: { name: 'x', roles: ['erase'] } }), signed],
      [version, payload, `${signed}AA`],
      [version, payload, signed.slice(0, -2)],
      [version, payload, signed, signed],
      [version, payload, ''],
      ['s1', payload, signed],
      [''],
      [version],
    ];
    expect(await sessions.find([version, payload, signed].join('.'))).toEqual(operator);
    for (const parts of tampered)
      expect(await sessions.find(parts.join('.')), parts.join('.')).toBeUndefined();
  });

  it('of a JSON web token do not hold it, keep its roles, and end with it', async () => {
    const { privateKey } = await generateKeyPair('ES256');
    const jwt = await new SignJWT({}).setProtectedHeader({ alg: 'ES256' }).sign(privateKey);
    let now = Date.now();
    const holder = { name: 'somebody', roles: ['read'] as const, expiresAt: Math.floor(now / 1000) + 600 };
    for (const known of [[], tokens]) {
      const sessions = createDashboardSessions({
        tokens: known,
        guard: { identify: async (token) => (token === jwt ? holder : undefined) },
        ended: runtime.queue,
        now: () => now,
      });
      const session = (await sessions.open(jwt)) ?? '';
      expect(session).not.toContain(jwt.split('.')[1]);
      expect(session).not.toContain(jwt.split('.')[2]);
      expect(await sessions.find(session)).toEqual({ name: 'somebody', roles: ['read'] });
      now += 601_000;
      expect(await sessions.find(session)).toBeUndefined();
      now -= 601_000;
    }
  });

  it('of a token that ends within a second or names a role twice are sessions as well', async () => {
    const holder = {
      name: 'somebody',
      roles: Array.from({ length: 3 }, () => 'read' as const),
      expiresAt: Date.now() / 1000 + 600.5,
    };
    const own = { identify: async () => holder };
    const sessions = createDashboardSessions({ tokens, guard: own, ended: runtime.queue });
    expect(await sessions.find((await sessions.open('a.b.c')) ?? '')).toMatchObject({ name: 'somebody' });
  });
});

describe('the dashboard without credentials', () => {
  let url: string;
  beforeAll(async () => {
    url = await serve([]);
  });

  it('is open on this machine, without a login', async () => {
    const page = await ask(url, '', 'GET', HTML);
    expect(page.status).toBe(200);
    expect(page.text).not.toContain('Log out');
    expect(await ask(url, '/login', 'GET', HTML)).toMatchObject({
      status: 303,
      headers: { location: '/dashboard' },
    });
  });

  it('is closed to pages of other names and origins', async () => {
    for (const headers of [
      { host: 'evil.example' },
      { origin: 'https://evil.example' },
      { 'sec-fetch-site': 'cross-site' },
    ]) {
      expect((await ask(url, '/api/queues', 'GET', headers)).status).toBe(403);
    }
    const change = await ask(url, '/api/queues/sessions/a.b/retry', 'PUT', { origin: 'http://localhost:1' });
    expect(change.status).toBe(403);
  });
});

describe('what the dashboard shows and does', () => {
  const authorization = `Bearer ${TOKEN}`;
  const FAILED = `${BOT}.67ab573f3685d1ba99541234`;
  let url: string;

  beforeAll(async () => {
    url = await serve([TOKEN]);
    await runtime.queue.enqueue([{ sessionId: '67ab573f3685d1ba99541234', botId: BOT }]);
    const backend = await openBackend(queue.config, silent);
    await workOff(backend, queue.config.name, 1, () => ({
      kind: 'fail',
      reason: failureReason('RECORDING_EMPTY', 'the recording has no bytes'),
    }));
    await backend.close();
  });

  const failedJobs = async () => {
    const { text } = await ask(url, '/api/queues?activeQueue=sessions&status=failed', 'GET', {
      authorization,
    });
    const { queues } = JSON.parse(text) as { queues: { name: string; jobs: Record<string, unknown>[] }[] };
    return queues.find(({ name }) => name === 'sessions')?.jobs;
  };

  it('is both queues, with sessions under their ids and error codes, and no paths of this program', async () => {
    const [job, ...others] = (await failedJobs()) ?? [];
    expect(others).toEqual([]);
    expect(job).toMatchObject({
      id: FAILED,
      name: '67ab573f3685d1ba99541234 · RECORDING_EMPTY',
      failedReason: 'RECORDING_EMPTY: the recording has no bytes',
      stacktrace: [],
    });
  });

  it.each([
    'jobsPerPage=101',
    'jobsPerPage=0',
    'jobsPerPage=1e9',
    'jobsPerPage=10&jobsPerPage=20',
    'page=-1',
    'page=x',
    'status=none',
  ])('is no more than a page, and nothing for the query %s', async (query) => {
    const { status } = await ask(url, `/api/queues?activeQueue=sessions&${query}`, 'GET', { authorization });
    expect(status).toBe(400);
  });

  it('changes nothing but what failed', async () => {
    const forbidden = [
      ['PUT', `/api/queues/sessions/${FAILED}/clean`],
      ['PUT', `/api/queues/sessions/${FAILED}/promote`],
      ['PUT', '/api/queues/sessions/clean/failed'],
      ['PUT', '/api/queues/sessions/pause'],
      ['PUT', '/api/queues/pause'],
      ['PUT', '/api/queues/sessions/obliterate'],
      ['PUT', '/api/queues/sessions/empty'],
      ['POST', '/api/queues/sessions/add'],
    ] as const;
    for (const [method, path] of forbidden) {
      const { status } = await ask(url, path, method, { authorization });
      expect([404, 405], `${method} ${path}: ${status}`).toContain(status);
    }
    const transcripts = `/api/queues/sessions-transcripts/${FAILED}/retry`;
    expect((await ask(url, transcripts, 'PUT', { authorization })).status).toBe(405);
    expect(await failedJobs()).toHaveLength(1);
  });

  it.each([
    ['GET', '/api/queues?status=%00', 400],
    ['GET', '/api/queues?activeQueue=%1b%5b2J', 400],
    ['GET', '/api/queues?status=x&status=y', 400],
    ['GET', '/api/queues?activeQueue=%25a', 400],
    ['GET', '/static/%00', 403],
    ['PUT', '/api/queues/sessions/retry/failed', 400],
  ] as const)('answers what is wrong with a request: %s %s', async (method, path, status) => {
    const lines: string[] = [];
    const own = await serve([], { log: createLogger('warn', (line) => lines.push(line)) });
    const body = method === 'PUT' ? { body: '{' } : {};
    const response = await request(`${own}/dashboard${path}`, {
      method,
      headers: { 'content-type': 'application/json', origin: own },
      ...body,
    });
    await response.body.dump();
    expect([response.statusCode, lines]).toEqual([status, []]);
  });

  it('may only be framed and scripted by itself', async () => {
    const { headers } = await ask(url, '', 'GET', { authorization });
    expect(headers['content-security-policy']).toContain("script-src 'self'");
    expect(headers['content-security-policy']).toContain("frame-ancestors 'none'");
  });

  it('runs a failed session again as the API does, with nothing left of its failure', async () => {
    const { status } = await ask(url, `/api/queues/sessions/${FAILED}/retry`, 'PUT', { authorization });
    expect(status).toBe(204);
    const view = await runtime.operations.view({ sessionId: '67ab573f3685d1ba99541234', botId: BOT });
    expect(view).toMatchObject({ state: 'queued', attempts: 0 });
    expect(view).not.toHaveProperty('error');
    const again = await ask(url, `/api/queues/sessions/${FAILED}/retry`, 'PUT', { authorization });
    expect(again.status).toBe(400);
  });

  it('does not run an archived session again', async () => {
    const backend = await openBackend(queue.config, silent);
    await workOff(backend, queue.config.name, 1, () => ARCHIVED);
    await backend.close();

    for (const path of [`/api/queues/sessions/${FAILED}/retry`, '/api/queues/sessions/retry/completed']) {
      expect((await ask(url, path, 'PUT', { authorization })).status, path).toBe(409);
    }
    const view = await runtime.operations.view({ sessionId: '67ab573f3685d1ba99541234', botId: BOT });
    expect(view?.state).toBe('archived');
  });
});
