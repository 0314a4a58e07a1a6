import { generateKeyPair, SignJWT } from 'jose';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Api } from '../../src/api/http-server.ts';
import { createLoginCookies, LOGIN_SECONDS } from '../../src/api/login/login-cookie.ts';
import { type ApiOptions, createApi } from '../../src/api/server.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { failureReason } from '../../src/jobs/session-job.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { startSandbox } from '../../src/sandbox/sandbox.ts';
import { createLogger } from '../../src/util/log.ts';
import { apiTokens } from '../support/api-server.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';
import { ARCHIVED, workOff } from '../support/work-off.ts';

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

describe('log-in and log-out', () => {
  let url: string;
  beforeAll(async () => {
    url = await serve([TOKEN]);
  });

  it('the dashboard sends a browser to the log-in page, and tells a program what to send', async () => {
    const browser = await ask(url, '', 'GET', HTML);
    expect(browser).toMatchObject({ status: 303, headers: { location: '/dashboard/login' } });
    const form = await ask(url, '/login', 'GET', HTML);
    expect(form).toMatchObject({ status: 200, headers: { 'content-type': 'text/html; charset=utf-8' } });
    expect(form.text).toContain('type="password"');

    for (const path of ['/queues/api/queues', '/queues/queue/sessions']) {
      const program = await ask(url, path, 'GET', {});
      expect(program.status).toBe(401);
      expect(program.headers['www-authenticate']).toMatch(/^Bearer/);
      expect(JSON.parse(program.text)).toMatchObject({ code: 'UNAUTHORIZED' });
    }
  });

  it('the dashboard accepts the credentials of the API from programs', async () => {
    expect((await ask(url, '/queues/api/queues', 'GET', { authorization: `Bearer ${TOKEN}` })).status).toBe(
      200,
    );
    expect((await ask(url, '/queues/api/queues', 'GET', { authorization: 'Bearer wrong' })).status).toBe(401);
  });

  it('a log-in with a valid token sets a cookie that scripts and other sites cannot read', async () => {
    const { status, headers } = await logIn(url, TOKEN);

    expect(status).toBe(303);
    expect(headers.location).toBe('/dashboard');
    const [value, ...attributes] = String(headers['set-cookie']).split('; ');
    expect(attributes).toEqual(['Path=/', `Max-Age=${LOGIN_SECONDS}`, 'HttpOnly', 'SameSite=Strict']);
    expect(value).not.toContain(TOKEN);
    const [at, board] = await Promise.all(
      ['', '/queues'].map((path) => ask(url, path, 'GET', { ...HTML, cookie: String(value) })),
    );
    expect(at).toMatchObject({ status: 303, headers: { location: '/dashboard/queues' } });
    expect(board?.status).toBe(200);
  });

  it('the cookie is marked Secure when the browser speaks https with a proxy', async () => {
    const { headers } = await logIn(url, TOKEN, {
      'sec-fetch-site': 'same-origin',
      'x-forwarded-proto': 'https, http',
    });
    expect(headers['set-cookie']).toMatch(/; Secure$/);
  });

  it('a log-in with a wrong token sets no cookie', async () => {
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
  ])('the dashboard refuses a log-in and a log-out from %s', async (_, headers) => {
    const cookie = await cookieOf(url);
    expect((await logIn(url, TOKEN, headers)).status).toBe(403);
    expect((await ask(url, '/logout', 'POST', { ...headers, cookie })).status).toBe(403);
  });

  it('the dashboard accepts a log-in from its own pages, also where the browser sends no more than the origin', async () => {
    expect((await logIn(url, TOKEN, { origin: url })).status).toBe(303);
  });

  it('a log-out ends the log-in of the browser', async () => {
    const cookie = await cookieOf(url);
    const { status, headers } = await ask(url, '/logout', 'POST', { cookie, origin: url });
    expect(status).toBe(303);
    expect(headers['set-cookie']).toMatch(/^archiver_session=; Path=\/; Max-Age=0;/);
    expect((await ask(url, '/queues/api/queues', 'GET', { cookie })).status).toBe(401);
    // Another process, or the same one later.
    const other = await serve([TOKEN, OTHER_TOKEN]);
    expect((await ask(other, '/queues/api/queues', 'GET', { cookie })).status).toBe(401);
    expect((await ask(other, '/queues/api/queues', 'GET', { cookie: await cookieOf(url) })).status).toBe(200);
  });

  it('a log-out ends the event streams of this log-in, also in another process, and no others', async () => {
    const other = await serve([TOKEN], { events: runtime.events });
    const [cookie, stays] = await Promise.all([cookieOf(url), cookieOf(url)]);
    const listen = async (headers: Headers) => {
      const { statusCode, body } = await request(`${other}/v1/events`, { headers });
      expect(statusCode).toBe(200);
      let isOver = false;
      body.on('end', () => {
        isOver = true;
      });
      body.on('error', () => undefined);
      body.resume();
      return { body, isOver: () => isOver };
    };
    const own = { 'sec-fetch-site': 'same-origin' };
    const [ends, another, program] = await Promise.all([
      listen({ cookie, ...own }),
      listen({ cookie: stays, ...own }),
      listen({ authorization: `Bearer ${TOKEN}` }),
    ]);
    await ask(url, '/logout', 'POST', { cookie, origin: url });
    await expect.poll(ends.isOver, { timeout: 10_000 }).toBe(true);
    expect([another.isOver(), program.isOver()]).toEqual([false, false]);
    for (const { body } of [another, program]) body.destroy();
  });

  it('a log-in outlives a restart, and ends when its token is removed', async () => {
    const both = await serve([TOKEN, OTHER_TOKEN]);
    const [first, second] = await Promise.all([cookieOf(both, TOKEN), cookieOf(both, OTHER_TOKEN)]);

    const rotated = await serve([OTHER_TOKEN]);

    expect((await ask(rotated, '/queues/api/queues', 'GET', { cookie: first })).status).toBe(401);
    expect((await ask(rotated, '/queues/api/queues', 'GET', { cookie: second })).status).toBe(200);
  });

  it('a log-in opens the API to pages of this server alone', async () => {
    const cookie = await cookieOf(url);
    const send = async (method: 'GET' | 'PUT', path: string, headers: Headers) => {
      const { statusCode, body } = await request(`${url}${path}`, {
        method,
        headers: { cookie, ...headers },
      });
      await body.dump();
      return statusCode;
    };
    const foreign: Headers[] = [
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site' },
      { 'sec-fetch-site': 'none' },
      { origin: 'https://evil.example' },
      { origin: 'null' },
    ];
    for (const own of [{ 'sec-fetch-site': 'same-origin' }, { origin: url }]) {
      expect(await send('GET', '/v1/stats', own)).toBe(200);
      expect(await send('PUT', '/v1/pause', own)).toBe(200);
    }
    for (const headers of foreign) {
      expect(await send('GET', '/v1/stats', headers), JSON.stringify(headers)).toBe(403);
      expect(await send('PUT', '/v1/pause', headers), JSON.stringify(headers)).toBe(403);
    }
    // Where a browser tells nothing, it may read, as the cookie comes with no request of another site.
    expect(await send('GET', '/v1/stats', {})).toBe(200);
    expect(await send('PUT', '/v1/pause', {})).toBe(403);
    expect(await send('GET', '/v1/stats', { authorization: 'Bearer wrong' })).toBe(401);
    await ask(url, '/logout', 'POST', { cookie, origin: url });
    expect(await send('GET', '/v1/stats', {})).toBe(401);
    await runtime.operations.resume();
  });

  it('a log-in leads back to the page that was asked for, on this server alone', async () => {
    const form = { 'content-type': 'application/x-www-form-urlencoded', 'sec-fetch-site': 'same-origin' };
    const logInTo = async (next: string) =>
      (await ask(url, '/login', 'POST', form, new URLSearchParams({ token: TOKEN, next }).toString())).headers
        .location;
    expect(await logInTo('/sessions?state=failed&q=67ab')).toBe('/sessions?state=failed&q=67ab');
    for (const next of [
      'https://evil.example',
      '//evil.example',
      '/\\evil.example',
      '/\t/evil.example',
      'x',
    ]) {
      expect(await logInTo(next), next).toBe('/dashboard');
    }
    const page = await request(`${url}/sessions?state=failed`, { headers: HTML });
    await page.body.dump();
    expect(page.headers.location).toBe('/login?next=%2Fsessions%3Fstate%3Dfailed');
  });
});

describe('a log-in', () => {
  const tokens = apiTokens(TOKEN);
  const operator = { name: 'token-1', roles: ['operate'] as const };
  const guard = { identify: async (token: string) => (token === TOKEN ? operator : undefined) };

  it('a log-in ends after a working day', async () => {
    let now = Date.now();
    const logins = createLoginCookies({ tokens, guard, ended: runtime.queue, now: () => now });
    const cookie = (await logins.issue(TOKEN)) ?? '';
    now += (LOGIN_SECONDS - 2) * 1000;
    expect(await logins.find(cookie)).toMatchObject(operator);
    now += 2000;
    expect(await logins.find(cookie)).toBeUndefined();
  });

  it('a log-in can be neither prolonged nor forged', async () => {
    const logins = createLoginCookies({ tokens, guard, ended: runtime.queue });
    const [version = '', payload = '', signed = ''] = ((await logins.issue(TOKEN)) ?? '').split('.');
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
    expect(await logins.find([version, payload, signed].join('.'))).toMatchObject(operator);
    for (const parts of tampered) expect(await logins.find(parts.join('.')), parts.join('.')).toBeUndefined();
  });

  it('a log-in by a JSON web token keeps its roles without storing it, and ends with it', async () => {
    const { privateKey } = await generateKeyPair('ES256');
    const jwt = await new SignJWT({}).setProtectedHeader({ alg: 'ES256' }).sign(privateKey);
    let now = Date.now();
    const holder = { name: 'somebody', roles: ['read'] as const, expiresAt: Math.floor(now / 1000) + 600 };
    for (const known of [[], tokens]) {
      const logins = createLoginCookies({
        tokens: known,
        guard: { identify: async (token) => (token === jwt ? holder : undefined) },
        ended: runtime.queue,
        now: () => now,
      });
      const cookie = (await logins.issue(jwt)) ?? '';
      expect(cookie).not.toContain(jwt.split('.')[1]);
      expect(cookie).not.toContain(jwt.split('.')[2]);
      expect(await logins.find(cookie)).toMatchObject({ name: 'somebody', roles: ['read'] });
      now += 601_000;
      expect(await logins.find(cookie)).toBeUndefined();
      now -= 601_000;
    }
  });

  it('a log-in by a JSON web token works where the token ends within a second or names a role twice', async () => {
    const holder = {
      name: 'somebody',
      roles: Array.from({ length: 3 }, () => 'read' as const),
      expiresAt: Date.now() / 1000 + 600.5,
    };
    const own = { identify: async () => holder };
    const logins = createLoginCookies({ tokens, guard: own, ended: runtime.queue });
    expect(await logins.find((await logins.issue('a.b.c')) ?? '')).toMatchObject({ name: 'somebody' });
  });
});

describe('the dashboard without credentials', () => {
  let url: string;
  beforeAll(async () => {
    url = await serve([]);
  });

  it('the dashboard without credentials is open on this machine, without a log-in', async () => {
    const page = await ask(url, '/queues', 'GET', HTML);
    expect(page.status).toBe(200);
    expect(await ask(url, '/login', 'GET', HTML)).toMatchObject({
      status: 303,
      headers: { location: '/dashboard' },
    });
  });

  it('the dashboard without credentials is closed to pages of other names and origins', async () => {
    for (const headers of [
      { host: 'evil.example' },
      { origin: 'https://evil.example' },
      { 'sec-fetch-site': 'cross-site' },
    ]) {
      expect((await ask(url, '/queues/api/queues', 'GET', headers)).status).toBe(403);
    }
  });
});

describe('the dashboard', () => {
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
    const { text } = await ask(url, '/queues/api/queues?activeQueue=sessions&status=failed', 'GET', {
      authorization,
    });
    const { queues } = JSON.parse(text) as { queues: { name: string; jobs: Record<string, unknown>[] }[] };
    return queues.find(({ name }) => name === 'sessions')?.jobs;
  };

  it('the dashboard shows both queues, with session ids and error codes, and no paths of this program', async () => {
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
  ])('the dashboard answers 400 for the query %s', async (query) => {
    const { status } = await ask(url, `/queues/api/queues?activeQueue=sessions&${query}`, 'GET', {
      authorization,
    });
    expect(status).toBe(400);
  });

  it('the dashboard refuses every request that would change a queue', async () => {
    const forbidden = [
      ['PUT', `/queues/api/queues/sessions/${FAILED}/retry`],
      ['PUT', `/queues/api/queues/sessions/${FAILED}/clean`],
      ['PUT', `/queues/api/queues/sessions/${FAILED}/promote`],
      ['PUT', '/queues/api/queues/sessions/retry/failed'],
      ['PUT', '/queues/api/queues/sessions/clean/failed'],
      ['PUT', '/queues/api/queues/sessions/pause'],
      ['PUT', '/queues/api/queues/pause'],
      ['PUT', '/queues/api/queues/sessions/obliterate'],
      ['PUT', '/queues/api/queues/sessions/empty'],
      ['POST', '/queues/api/queues/sessions/add'],
    ] as const;
    for (const [method, path] of forbidden) {
      const { status } = await ask(url, path, method, { authorization });
      expect([404, 405], `${method} ${path}: ${status}`).toContain(status);
    }
    expect(await failedJobs()).toHaveLength(1);
    const { text } = await ask(url, '/queues/api/queues', 'GET', { authorization });
    const { queues } = JSON.parse(text) as { queues: { readOnlyMode: boolean }[] };
    expect(queues.map(({ readOnlyMode }) => readOnlyMode)).toEqual([true, true]);
  });

  it.each([
    ['GET', '/queues/api/queues?status=%00', 400],
    ['GET', '/queues/api/queues?activeQueue=%1b%5b2J', 400],
    ['GET', '/queues/api/queues?status=x&status=y', 400],
    ['GET', '/queues/api/queues?activeQueue=%25a', 400],
    ['GET', '/queues/static/%00', 403],
    ['PUT', '/queues/api/queues/sessions/retry/failed', 405],
  ] as const)('the dashboard says what is wrong with a request: %s %s', async (method, path, status) => {
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

  it('the dashboard may only be framed and scripted by itself', async () => {
    const { headers } = await ask(url, '/queues', 'GET', { authorization });
    expect(headers['content-security-policy']).toContain("script-src 'self'");
    expect(headers['content-security-policy']).toContain("frame-ancestors 'none'");
  });

  it('the dashboard shows no error for a session that was archived in the end, whatever came before', async () => {
    await runtime.queue.retry({ sessionId: '67ab573f3685d1ba99541234', botId: BOT });
    const backend = await openBackend(queue.config, silent);
    await workOff(backend, queue.config.name, 1, () => ARCHIVED);
    await backend.close();
    const path = '/queues/api/queues?activeQueue=sessions&status=completed';
    const { text } = await ask(url, path, 'GET', { authorization });
    const { queues } = JSON.parse(text) as { queues: { jobs: Record<string, unknown>[] }[] };
    expect(queues.flatMap(({ jobs }) => jobs).map(({ name }) => name)).toEqual(['67ab573f3685d1ba99541234']);
  });
});
