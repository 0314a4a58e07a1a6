import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { permissionOf, ROUTE_PERMISSIONS } from '../../src/api/roles.ts';
import { ROLES, type Role } from '../../src/domain/requests.ts';
import { type ApiSetup, ask, openApiSetup } from '../support/api-server.ts';
import { type Issuer, startIssuer } from '../support/jwks.ts';

const SESSION = '67ab573f3685d1ba99541234';

/** A request to each route, and the roles that may make it. */
const ROUTES: readonly [method: string, path: string, roles: readonly Role[]][] = [
  ['GET', '/v1/whoami', ROLES],
  ['GET', '/v1/error-codes', ROLES],
  ['GET', '/v1/stats', ['read', 'listen', 'operate', 'erase']],
  ['GET', '/v1/sessions', ['read', 'listen', 'operate', 'erase']],
  ['GET', `/v1/sessions/${SESSION}`, ['read', 'listen', 'operate', 'erase']],
  ['GET', '/v1/backfills', ['read', 'listen', 'operate', 'erase']],
  ['GET', '/v1/backfills/1', ['read', 'listen', 'operate', 'erase']],
  ['GET', '/v1/completeness', ['read', 'listen', 'operate', 'erase']],
  ['GET', '/v1/completeness/1', ['read', 'listen', 'operate', 'erase']],
  ['POST', '/v1/completeness', ['operate', 'erase']],
  ['GET', '/v1/schedules', ['read', 'listen', 'operate', 'erase']],
  ['GET', '/v1/events?lastEventId=no-such-id', ['read', 'listen', 'operate', 'erase']],
  ['GET', `/v1/sessions/${SESSION}/recordings/0`, ['listen', 'operate', 'erase']],
  ['GET', `/v1/sessions/${SESSION}/transcript`, ['listen', 'operate', 'erase']],
  ['GET', `/v1/sessions/${SESSION}/manifest`, ['listen', 'operate', 'erase']],
  ['DELETE', `/v1/sessions/${SESSION}`, ['operate', 'erase']],
  ['POST', '/v1/sessions/retry', ['operate', 'erase']],
  ['POST', '/v1/sessions/cancel', ['operate', 'erase']],
  ['POST', '/v1/cancellations', ['operate', 'erase']],
  ['PUT', '/v1/pause', ['operate', 'erase']],
  ['DELETE', '/v1/pause', ['operate', 'erase']],
  ['POST', `/v1/sessions/${SESSION}/erase`, ['erase']],
  ['GET', `/v1/sessions/${SESSION}/erasure`, ['read', 'listen', 'operate', 'erase']],
  ['GET', `/v1/sessions/${SESSION}/hold`, ['read', 'listen', 'operate', 'erase']],
  ['PUT', `/v1/sessions/${SESSION}/hold`, ['operate', 'erase']],
  ['DELETE', `/v1/sessions/${SESSION}/hold`, ['operate', 'erase']],
  ['GET', '/v1/holds', ['read', 'listen', 'operate', 'erase']],
  ['POST', '/v1/sessions', ['enqueue', 'operate', 'erase']],
  ['POST', `/v1/sessions/${SESSION}/retry`, ['operate', 'erase']],
  ['POST', '/v1/retries', ['operate', 'erase']],
  ['POST', '/v1/backfills', ['operate', 'erase']],
  ['DELETE', '/v1/backfills/1', ['operate', 'erase']],
  ['PUT', '/v1/schedules/nightly', ['operate', 'erase']],
  ['DELETE', '/v1/schedules/nightly', ['operate', 'erase']],
];

let setup: ApiSetup;
let issuer: Issuer;
let url: string;

beforeAll(async () => {
  [setup, issuer] = await Promise.all([openApiSetup(), startIssuer()]);
  const tokens = ROLES.map((role) => ({ name: `the-${role}`, role, token: `token-that-may-${role}` }));
  const { completeness } = setup.runtime;
  url = await setup.serve({ tokens, jwt: issuer.jwt }, { completeness });
});
afterAll(async () => {
  await setup.close();
  await issuer.close();
});

const send = (method: string, path: string, token: string) =>
  ask(url, path, {
    method,
    headers: { authorization: `Bearer ${token}` },
    // A body that no route takes: who gets as far as that may make the request.
    ...(method !== 'GET' && method !== 'DELETE' && { json: { notAField: true } }),
  });

describe.each(ROLES)('the role %s', (role) => {
  it.each(ROUTES)('the role is allowed or refused as documented: %s %s', async (method, path, roles) => {
    const { status, body, headers } = await send(method, path, `token-that-may-${role}`);

    if (roles.includes(role)) {
      expect([status, body.code]).not.toEqual([403, 'FORBIDDEN']);
      expect([200, 204, 400, 404]).toContain(status);
    } else {
      expect([status, body.code]).toEqual([403, 'FORBIDDEN']);
      expect(body.detail).toContain(role);
      expect(headers['www-authenticate']).toContain('insufficient_scope');
    }
  });
});

it('a role is decided for each route that the API describes', async () => {
  const { body } = await ask(url, '/openapi.json');
  const described = Object.entries(body.paths as Record<string, object>).flatMap(([path, methods]) =>
    path.startsWith('/v1/')
      ? Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`)
      : [],
  );
  expect(described.filter((route) => ROUTE_PERMISSIONS[route] === undefined)).toEqual([]);
  const asked = ROUTES.map(([method, path]) => `${method} ${path}`);
  expect(asked).toHaveLength(described.length);
  expect(() => permissionOf('GET', '/v1/no-such-route')).toThrow(/no role is defined/);
});

describe('a JSON web token', () => {
  const cases: readonly [string, Record<string, unknown>, number, number][] = [
    ['without the claim may operate', {}, 200, 400],
    ['may do what its role permits', { role: 'read' }, 200, 403],
    ['may do what all of its roles permit', { role: ['enqueue', 'read'] }, 200, 403],
    ['may have its roles in one text', { role: 'read operate' }, 200, 400],
    ['may do nothing with a role that there is not', { role: 'admin' }, 403, 403],
    ['may do nothing with a claim that names no role', { role: { operate: true } }, 403, 403],
  ];

  it.each(cases)('a JSON web token %s', async (_what, claims, reading, retrying) => {
    const token = await issuer.token({ claims });
    expect((await send('GET', '/v1/stats', token)).status).toBe(reading);
    expect((await send('POST', '/v1/retries', token)).status).toBe(retrying);
  });
});

describe('the dashboard', () => {
  it('the dashboard can be read by whoever may read, and changed by nobody', async () => {
    const headers = (role: Role) => ({ headers: { authorization: `Bearer token-that-may-${role}` } });
    const queues = '/dashboard/queues/api/queues';
    expect((await ask(url, queues, headers('read'))).status).toBe(200);
    const retry = { method: 'PUT', ...headers('erase') };
    expect((await ask(url, `${queues}/sessions/retry/failed`, retry)).status).toBe(405);
    expect((await ask(url, queues, headers('enqueue'))).status).toBe(403);
  });
});
