import { generateKeyPair } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createGuard } from '../../src/api/access.ts';
import { WrongCredentials } from '../../src/api/request-limits.ts';
import { createLogger } from '../../src/util/log.ts';
import { type ApiSetup, apiTokens, ask, openApiSetup } from '../support/api-server.ts';
import { type Issuer, startIssuer } from '../support/jwks.ts';

let setup: ApiSetup;
beforeAll(async () => {
  setup = await openApiSetup();
});
afterAll(() => setup.close());

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });

describe('JSON web tokens', () => {
  let issuer: Issuer;
  let url: string;
  beforeAll(async () => {
    issuer = await startIssuer();
    url = await setup.serve({ tokens: apiTokens('a-static-token'), jwt: issuer.jwt });
  });
  afterAll(() => issuer.close());

  it('a JSON web token of the issuer for this audience is accepted, beside the static tokens', async () => {
    expect((await ask(url, '/v1/stats', bearer(await issuer.token()))).status).toBe(200);
    expect((await ask(url, '/v1/stats', bearer('a-static-token'))).status).toBe(200);
    const several = await issuer.token({ claims: { aud: ['another', issuer.jwt.audience] } });
    expect((await ask(url, '/v1/stats', bearer(several))).status).toBe(200);
  });

  const wrong: readonly [string, () => Promise<string>][] = [
    ['is not signed (alg: none)', async () => issuer.unsigned()],
    [
      'is signed with the public key as a secret (HS256)',
      () => issuer.token({ header: { alg: 'HS256' }, key: new TextEncoder().encode(issuer.publicKey) }),
    ],
    [
      'is signed by another key under the name of the right one',
      async () => issuer.token({ key: (await generateKeyPair('ES256')).privateKey }),
    ],
    ['names a key that there is not', () => issuer.token({ header: { kid: 'nobodys' } })],
    ['has expired', () => issuer.token({ expiresIn: -60 })],
    ['never expires', () => issuer.token({ expiresIn: null })],
    ['is not valid yet', () => issuer.token({ claims: { nbf: Math.floor(Date.now() / 1000) + 600 } })],
    ['is for another audience', () => issuer.token({ claims: { aud: 'another' } })],
    ['is of another issuer', () => issuer.token({ claims: { iss: 'https://elsewhere.example/' } })],
    ['was changed after it was signed', async () => (await issuer.token()).replace(/\.\w{4}/, '.AAAA')],
    ['lacks its signature', async () => (await issuer.token()).replace(/[^.]+$/, '')],
    ['is no token at all', async () => 'a.b.c'],
  ];

  it.each(wrong)('a JSON web token is refused when one %s', async (_how, make) => {
    const token = await make();

    const { status, body, headers, text } = await ask(url, '/v1/stats', bearer(token));

    expect([status, body.code]).toEqual([401, 'UNAUTHORIZED']);
    expect(headers['www-authenticate']).toBe('Bearer realm="voicemail-archiver", error="invalid_token"');
    expect(text).not.toContain(token);
  });

  it('a JSON web token may have expired a little, as clocks differ', async () => {
    expect((await ask(url, '/v1/stats', bearer(await issuer.token({ expiresIn: -2 })))).status).toBe(200);
  });

  it('JSON web tokens alone leave loopback open without credentials, and a token closes the API', async () => {
    const closed = await setup.serve({ jwt: issuer.jwt });

    expect((await ask(closed, '/v1/stats')).status).toBe(401);
    expect((await ask(closed, '/v1/stats', bearer(await issuer.token()))).status).toBe(200);
  });

  it('a JSON web token is neither accepted nor refused while the keys cannot be fetched, and accepted afterwards', async () => {
    const fresh = await setup.serve({ tokens: apiTokens('a-static-token'), jwt: issuer.jwt });
    const token = await issuer.token();
    issuer.answerWith(500);

    const { status, body, headers } = await ask(fresh, '/v1/stats', bearer(token));

    expect([status, body.code]).toEqual([503, 'KEYS_UNAVAILABLE']);
    expect(Number(headers['retry-after'])).toBeGreaterThan(0);
    expect((await ask(fresh, '/v1/stats', bearer('a-static-token'))).status).toBe(200);
    expect((await ask(fresh, '/v1/stats', bearer('not-the-token'))).status).toBe(401);
    issuer.answerWith(200);
    expect((await ask(fresh, '/v1/stats', bearer(token))).status).toBe(200);
  });

  it('the keys for JSON web tokens are fetched once, not for each request', async () => {
    const fresh = await setup.serve({ jwt: issuer.jwt });
    const before = issuer.fetches();

    const answers = await Promise.all(
      Array.from({ length: 20 }, async () => ask(fresh, '/v1/stats', bearer(await issuer.token()))),
    );

    expect(answers.every(({ status }) => status === 200)).toBe(true);
    expect(issuer.fetches() - before).toBe(1);
  });
});

describe('access to the API', () => {
  it('the API tells the dashboard whether a token is right, and whether one is needed', async () => {
    const wrongCredentials = new WrongCredentials({ log: createLogger('silent') });
    const loopbackToken = 'of-this-process';
    const guard = createGuard({ tokens: apiTokens('one', 'two'), loopbackToken, wrongCredentials });

    expect(guard.isOpen).toBe(false);
    expect(await guard.identify('two')).toEqual({ name: 'token-2', roles: ['operate'] });
    expect(await guard.identify(loopbackToken)).toEqual({
      name: 'command',
      roles: ['erase'],
      isCommand: true,
    });
    expect(await guard.identify('three')).toBeUndefined();
    expect(createGuard({ tokens: [], loopbackToken, wrongCredentials }).isOpen).toBe(true);
  });
});

describe('every answer of the API', () => {
  const paths: readonly [string, string, number][] = [
    ['GET', '/livez', 200],
    ['GET', '/v1/stats', 200],
    ['GET', '/v1/sessions/unknown', 404],
    ['GET', '/nowhere', 404],
    ['DELETE', '/v1/stats', 405],
    ['GET', '/v1/sessions/%zz', 400],
    ['GET', `/v1/sessions/${'a'.repeat(600)}`, 414],
  ];

  it.each(paths)(
    'every answer to %s %s has a request id and keeps browsers from guessing its type',
    async (method, path, status) => {
      const url = await setup.serve();

      const own = await ask(url, path, { method });
      const given = await ask(url, path, { method, headers: { 'x-request-id': 'order-66:a/b' } });

      expect([own.status, given.status]).toEqual([status, status]);
      expect(own.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
      expect(given.headers).toMatchObject({
        'x-request-id': 'order-66:a/b',
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
        'cache-control': 'no-store',
        'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
      });
    },
  );

  it.each(['a b', 'x'.repeat(129), '{"$ne":1}', '<script>'])(
    'no answer repeats the request id %s',
    async (id) => {
      const { headers } = await ask(await setup.serve(), '/livez', { headers: { 'x-request-id': id } });

      expect(headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
    },
  );

  it('every answer leaves a line with its request id in the log, and a failed one leaves one more', async () => {
    const lines: string[] = [];
    const broken = { ...setup.runtime.operations, stats: () => Promise.reject(new TypeError('a bug')) };
    const url = await setup.serve(
      {},
      { operations: broken, log: createLogger('debug', (line) => lines.push(line)) },
    );

    const { status, body } = await ask(url, '/v1/stats', { headers: { 'x-request-id': 'mine' } });

    expect([status, body.code]).toEqual([500, 'INTERNAL']);
    expect(JSON.stringify(body)).not.toContain('a bug');
    const mine = lines.map((line) => JSON.parse(line)).filter(({ requestId }) => requestId === 'mine');
    expect(mine).toMatchObject([
      { msg: 'request failed', code: 'INTERNAL', err: { message: 'a bug' } },
      { msg: 'answered', status: 500, route: '/v1/stats' },
    ]);
  });
});
