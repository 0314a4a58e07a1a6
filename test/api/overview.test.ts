import { hostname } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ERROR_CODES } from '../../src/domain/errors.ts';
import { VERSION } from '../../src/util/process.ts';
import { type ApiSetup, apiTokens, ask, openApiSetup } from '../support/api-server.ts';
import { type Issuer, startIssuer } from '../support/jwks.ts';

const SESSION = '67ab573f3685d1ba99541234';

let setup: ApiSetup;
let issuer: Issuer;
let url: string;
beforeAll(async () => {
  [setup, issuer] = await Promise.all([openApiSetup(), startIssuer()]);
  url = await setup.serve({
    tokens: [...apiTokens('the-token'), { name: 'viewer', role: 'read', token: 'the-viewer' }],
    jwt: issuer.jwt,
  });
});
afterAll(async () => {
  await setup.close();
  await issuer.close();
});

const as = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });

describe('GET /v1/whoami', () => {
  it('GET /v1/whoami names the token and its role', async () => {
    expect((await ask(url, '/v1/whoami', as('the-viewer'))).body).toEqual({
      name: 'viewer',
      role: 'read',
      permissions: ['read'],
    });
  });

  it('GET /v1/whoami says what all roles of a JSON web token permit, and when it expires', async () => {
    const token = await issuer.token({ claims: { sub: 'jane', role: ['enqueue', 'read'] }, expiresIn: 600 });
    const { body } = await ask(url, '/v1/whoami', as(token));
    expect(body).toMatchObject({ name: 'jane', role: 'enqueue', permissions: ['read', 'enqueue'] });
    const [, claims = ''] = token.split('.');
    const { exp } = JSON.parse(Buffer.from(claims, 'base64url').toString()) as { exp: number };
    expect(body.expiresAt).toBe(new Date(exp * 1000).toISOString());
  });

  it('GET /v1/whoami says so where no credentials are needed', async () => {
    const open = await setup.serve();
    expect((await ask(open, '/v1/whoami')).body).toMatchObject({ name: 'local', role: 'erase' });
  });
});

describe('GET /v1/error-codes', () => {
  it('GET /v1/error-codes explains every code, without Markdown', async () => {
    const { status, body, text } = await ask(url, '/v1/error-codes', as('the-viewer'));
    expect(status).toBe(200);
    const codes = body.codes as { code: string; meaning: string; fix: string }[];
    expect(codes.map(({ code }) => code)).toEqual(ERROR_CODES);
    expect(codes.every(({ meaning, fix }) => meaning !== '' && fix !== '')).toBe(true);
    expect(text).not.toContain('`');
    expect(codes).toContainEqual(
      expect.objectContaining({ code: 'SESSION_NOT_FOUND', retryable: false, waits: 'SESSION_WAIT' }),
    );
  });
});

describe('GET /v1/stats', () => {
  it('GET /v1/stats reports the backlog at the rate limit, a pause, and the workers that live', async () => {
    const stats = async () => (await ask(url, '/v1/stats', as('the-viewer'))).body;
    await ask(url, '/v1/sessions', { json: { sessionIds: [SESSION, 'another'] }, ...as('the-token') });

    const { limit, windowSeconds } = (await stats()).rateLimit as Record<string, number>;
    expect(await stats()).toMatchObject({
      health: { level: 'trouble', text: 'No worker is alive: 2 sessions are queued.' },
      workers: [],
      backlog: {
        sessions: 2,
        secondsUntilDone: Math.ceil((2 * (windowSeconds ?? 0)) / (limit ?? 1)),
      },
      rateLimit: { used: 0 },
    });

    await ask(url, '/v1/pause', { method: 'PUT', ...as('the-token') });
    const { pausedSince, health } = await stats();
    expect(pausedSince).toMatch(/^\d{4}-\d\d-\d\dT/);
    expect(health).toMatchObject({
      level: 'waiting',
      text: expect.stringMatching(/^Paused since .* wait\.$/),
    });
    expect((await stats()).backlog).toEqual({ sessions: 2 });
    await ask(url, '/v1/pause', { method: 'PUT', ...as('the-token') });
    expect((await stats()).pausedSince).toBe(pausedSince);
    await ask(url, '/v1/pause', { method: 'DELETE', ...as('the-token') });
    expect((await stats()).pausedSince).toBeUndefined();

    await setup.startWorker();
    await expect
      .poll(async () => (await stats()).workers)
      .toEqual([
        {
          id: expect.any(String),
          host: hostname(),
          pid: process.pid,
          version: VERSION,
          startedAt: expect.any(String),
          seenAt: expect.any(String),
          concurrency: setup.config.work.concurrency,
          active: expect.any(Number),
        },
      ]);
    await expect.poll(async () => (await stats()).rateLimit).toMatchObject({ limit, windowSeconds });
  });
});
