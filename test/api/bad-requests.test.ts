import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { generateKeyPair } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Problem } from '../../src/api/schemas/sessions.ts';
import { type ApiSetup, type Ask, apiTokens, ask, openApiSetup } from '../support/api-server.ts';
import { type Issuer, startIssuer } from '../support/jwks.ts';

const TOKEN = 'the-token-of-the-api';
const SECRET = 'the-secret-of-the-webhook';

let setup: ApiSetup;
let issuer: Issuer;
let url: string;
beforeAll(async () => {
  issuer = await startIssuer();
  setup = await openApiSetup();
  url = await setup.serve({
    tokens: apiTokens(TOKEN),
    jwt: issuer.jwt,
    webhook: { secrets: [SECRET], sessionIdPaths: ['/sessionId'] },
  });
});
afterAll(async () => {
  await setup.close();
  await issuer.close();
});

const JSON_TYPE = { 'content-type': 'application/json' };
const raw = (body: string | Uint8Array, headers: Record<string, string> = JSON_TYPE): Ask => ({
  method: 'POST',
  body,
  headers,
});
const ids = (count: number) => Array.from({ length: count }, () => randomBytes(12).toString('hex'));
const post = (json: unknown): Ask => ({ method: 'POST', json });

/** What is wrong, the path, the request, the status and the code of the problem. */
type Bad = readonly [string, string, Ask, number, string];

const SESSIONS = '/v1/sessions';
const WEBHOOK = '/webhooks/voicemail';

const methods: readonly Bad[] = [
  ['PUT on sessions', SESSIONS, { method: 'PUT', json: {} }, 405, 'METHOD_NOT_ALLOWED'],
  ['DELETE on a retry', `${SESSIONS}/a/retry`, { method: 'DELETE' }, 405, 'METHOD_NOT_ALLOWED'],
  ['PATCH on a session', `${SESSIONS}/a`, { method: 'PATCH', json: {} }, 405, 'METHOD_NOT_ALLOWED'],
  ['GET on a retry', `${SESSIONS}/a/retry`, {}, 405, 'METHOD_NOT_ALLOWED'],
  ['POST on stats', '/v1/stats', post({}), 405, 'METHOD_NOT_ALLOWED'],
  ['GET on the webhook', WEBHOOK, {}, 405, 'METHOD_NOT_ALLOWED'],
  ['OPTIONS on sessions', SESSIONS, { method: 'OPTIONS' }, 405, 'METHOD_NOT_ALLOWED'],
  ['TRACE on sessions', SESSIONS, { method: 'TRACE' }, 405, 'METHOD_NOT_ALLOWED'],
  ['PROPFIND on sessions', SESSIONS, { method: 'PROPFIND' }, 405, 'METHOD_NOT_ALLOWED'],
  ['POST on health', '/livez', post({}), 405, 'METHOD_NOT_ALLOWED'],
  ['an unknown path', '/v1/session', {}, 404, 'NOT_FOUND'],
  ['another version', '/v2/sessions', {}, 404, 'NOT_FOUND'],
  ['a slash at the end', `${SESSIONS}/`, {}, 400, 'INVALID_REQUEST'],
  ['capitals', '/V1/sessions', {}, 404, 'NOT_FOUND'],
  ['a file of the machine', '/docs/static/../../../../etc/passwd', {}, 404, 'NOT_FOUND'],
  ['the same, encoded', '/docs/static/..%2f..%2f..%2fpackage.json', {}, 404, 'NOT_FOUND'],
];

const bodies: readonly Bad[] = [
  ['no body', SESSIONS, { method: 'POST' }, 400, 'INVALID_REQUEST'],
  ['an empty body', SESSIONS, raw(''), 400, 'INVALID_REQUEST'],
  ['JSON that is cut off', SESSIONS, raw('{"sessionIds":["a"'), 400, 'INVALID_REQUEST'],
  ['two JSON texts', SESSIONS, raw('{"sessionIds":["a"]}{}'), 400, 'INVALID_REQUEST'],
  ['JSON with comments', SESSIONS, raw('{/**/"sessionIds":["a"]}'), 400, 'INVALID_REQUEST'],
  ['JSON in UTF-16', SESSIONS, raw(Buffer.from('{"sessionIds":["a"]}', 'utf16le')), 400, 'INVALID_REQUEST'],
  ['bytes that are no UTF-8', SESSIONS, raw(Buffer.from([0x22, 0xff, 0xfe, 0x22])), 400, 'INVALID_REQUEST'],
  ['null', SESSIONS, post(null), 400, 'INVALID_REQUEST'],
  ['a number', SESSIONS, post(1), 400, 'INVALID_REQUEST'],
  ['a list', SESSIONS, post(['a']), 400, 'INVALID_REQUEST'],
  ['nesting without end', SESSIONS, raw('['.repeat(100_000)), 400, 'INVALID_REQUEST'],
  ['a prototype', SESSIONS, raw('{"sessionIds":["a"],"__proto__":{}}'), 400, 'INVALID_REQUEST'],
  [
    'a constructor',
    SESSIONS,
    raw('{"sessionIds":["a"],"constructor":{"prototype":{}}}'),
    400,
    'INVALID_REQUEST',
  ],
  ['an unknown field', SESSIONS, post({ sessionIds: ['a'], bot: 'b' }), 400, 'INVALID_REQUEST'],
  ['text', SESSIONS, raw('a', { 'content-type': 'text/plain' }), 415, 'UNSUPPORTED_MEDIA_TYPE'],
  [
    'a form',
    SESSIONS,
    raw('sessionIds=a', { 'content-type': 'application/x-www-form-urlencoded' }),
    415,
    'UNSUPPORTED_MEDIA_TYPE',
  ],
  ['XML', SESSIONS, raw('<a/>', { 'content-type': 'application/xml' }), 415, 'UNSUPPORTED_MEDIA_TYPE'],
  ['no content type', SESSIONS, raw(Buffer.from('{}'), {}), 415, 'UNSUPPORTED_MEDIA_TYPE'],
  [
    'a content type that is none',
    SESSIONS,
    raw('{}', { 'content-type': 'json' }),
    415,
    'UNSUPPORTED_MEDIA_TYPE',
  ],
  [
    'a compressed body',
    SESSIONS,
    raw(gzipSync('{"sessionIds":["a"]}'), { ...JSON_TYPE, 'content-encoding': 'gzip' }),
    415,
    'UNSUPPORTED_MEDIA_TYPE',
  ],
  ['3 MB', SESSIONS, raw(`"${'x'.repeat(3_000_000)}"`), 413, 'PAYLOAD_TOO_LARGE'],
];

const sessionIds: readonly Bad[] = [
  ['an empty list', SESSIONS, post({ sessionIds: [] }), 400, 'INVALID_REQUEST'],
  ['10,001 ids', SESSIONS, post({ sessionIds: ids(10_001) }), 400, 'INVALID_REQUEST'],
  ['an id that is a number', SESSIONS, post({ sessionIds: [5] }), 400, 'INVALID_REQUEST'],
  ['an id that is null', SESSIONS, post({ sessionIds: [null] }), 400, 'INVALID_REQUEST'],
  ['an empty id', SESSIONS, post({ sessionIds: [''] }), 400, 'INVALID_REQUEST'],
  ['an id with a slash', SESSIONS, post({ sessionIds: ['../a'] }), 400, 'INVALID_REQUEST'],
  ['an id with a colon', SESSIONS, post({ sessionIds: ['a:b'] }), 400, 'INVALID_REQUEST'],
  ['an id with a line break', SESSIONS, post({ sessionIds: ['a\n'] }), 400, 'INVALID_REQUEST'],
  ['an id with a NUL', SESSIONS, post({ sessionIds: ['a\0'] }), 400, 'INVALID_REQUEST'],
  ['an id in Cyrillic', SESSIONS, post({ sessionIds: ['а'] }), 400, 'INVALID_REQUEST'],
  ['an id of 129', SESSIONS, post({ sessionIds: ['a'.repeat(129)] }), 400, 'INVALID_REQUEST'],
  ['a bot that is none', SESSIONS, post({ sessionIds: ['a'], botId: 'b c' }), 400, 'INVALID_REQUEST'],
  ['a priority that is none', SESSIONS, post({ sessionIds: ['a'], priority: 1 }), 400, 'INVALID_REQUEST'],
  ['force as text', SESSIONS, post({ sessionIds: ['a'], force: 'true' }), 400, 'INVALID_REQUEST'],
  ['an id of 129 in the path', `${SESSIONS}/${'a'.repeat(129)}`, {}, 400, 'INVALID_REQUEST'],
  ['an id of 600 in the path', `${SESSIONS}/${'a'.repeat(600)}`, {}, 414, 'URI_TOO_LONG'],
  ['an encoded slash', `${SESSIONS}/a%2Fb`, {}, 400, 'INVALID_REQUEST'],
  ['an encoded NUL', `${SESSIONS}/a%00`, {}, 400, 'INVALID_REQUEST'],
  ['a broken encoding', `${SESSIONS}/%zz`, {}, 400, 'INVALID_REQUEST'],
  ['an encoding that is no UTF-8', `${SESSIONS}/%ff`, {}, 400, 'INVALID_REQUEST'],
  ['a session nobody knows', `${SESSIONS}/nobody`, {}, 404, 'SESSION_NOT_FOUND'],
  ['a retry of one', `${SESSIONS}/nobody/retry`, { method: 'POST' }, 404, 'SESSION_NOT_FOUND'],
];

const queries: readonly Bad[] = [
  ['an unknown state', `${SESSIONS}?state=lost`, {}, 400, 'INVALID_REQUEST'],
  ['a state in capitals', `${SESSIONS}?state=FAILED`, {}, 400, 'INVALID_REQUEST'],
  ['two states', `${SESSIONS}?state=failed&state=queued`, {}, 400, 'INVALID_REQUEST'],
  ['an unknown code', `${SESSIONS}?code=NOPE`, {}, 400, 'INVALID_REQUEST'],
  ['a limit of 0', `${SESSIONS}?limit=0`, {}, 400, 'INVALID_REQUEST'],
  ['a limit of 1001', `${SESSIONS}?limit=1001`, {}, 400, 'INVALID_REQUEST'],
  ['a limit of 1.5', `${SESSIONS}?limit=1.5`, {}, 400, 'INVALID_REQUEST'],
  ['a limit without end', `${SESSIONS}?limit=1e400`, {}, 400, 'INVALID_REQUEST'],
  ['a limit that is text', `${SESSIONS}?limit=ten`, {}, 400, 'INVALID_REQUEST'],
  ['a cursor that is none', `${SESSIONS}?cursor=../../x`, {}, 400, 'INVALID_REQUEST'],
  ['a cursor of another list', `${SESSIONS}?state=failed&cursor=waiting:3`, {}, 400, 'INVALID_REQUEST'],
  ['a cursor of 65', `${SESSIONS}?cursor=${'a'.repeat(65)}`, {}, 400, 'INVALID_REQUEST'],
  ['an unknown parameter', `${SESSIONS}/a?bot=b`, {}, 400, 'INVALID_REQUEST'],
  ['two bots', `${SESSIONS}/a?botId=b&botId=c`, {}, 400, 'INVALID_REQUEST'],
  ['a bot of brackets', `${SESSIONS}/a?botId[$ne]=b`, {}, 400, 'INVALID_REQUEST'],
  ['an unknown retry code', '/v1/retries', post({ code: 'NOPE' }), 400, 'INVALID_REQUEST'],
];

const BACKFILLS = '/v1/backfills';
const NIGHTLY = '/v1/schedules/nightly';
const put = (json: unknown): Ask => ({ method: 'PUT', json });
const from = '2026-01-02T00:00:00Z';
const backfills: readonly Bad[] = [
  ['a backfill without a beginning', BACKFILLS, post({}), 400, 'INVALID_REQUEST'],
  ['a backfill from a day', BACKFILLS, post({ from: '2026-01-02' }), 400, 'INVALID_REQUEST'],
  ['a backfill without a zone', BACKFILLS, post({ from: '2026-01-02T00:00:00' }), 400, 'INVALID_REQUEST'],
  [
    'a backfill from the 31st of June',
    BACKFILLS,
    post({ from: '2026-06-31T00:00:00Z' }),
    400,
    'INVALID_REQUEST',
  ],
  [
    'a backfill that ends before it begins',
    BACKFILLS,
    post({ from, to: '2026-01-01T00:00:00Z' }),
    400,
    'INVALID_REQUEST',
  ],
  ['a backfill of nothing', BACKFILLS, post({ from, to: from }), 400, 'INVALID_REQUEST'],
  ['a backfill from another source', BACKFILLS, post({ from, source: 'tapes' }), 400, 'INVALID_REQUEST'],
  ['an unknown backfill', `${BACKFILLS}/nobody`, {}, 404, 'NOT_FOUND'],
  ['a schedule without a timetable', NIGHTLY, put({ lookback: '48h' }), 400, 'INVALID_REQUEST'],
  ['a timetable that is none', NIGHTLY, put({ cron: 'nightly', lookback: '48h' }), 400, 'INVALID_REQUEST'],
  ['a 61st minute', NIGHTLY, put({ cron: '61 3 * * *', lookback: '48h' }), 400, 'INVALID_REQUEST'],
  ['a lookback that is none', NIGHTLY, put({ cron: '0 3 * * *', lookback: 'long' }), 400, 'INVALID_REQUEST'],
  [
    'a schedule of a wrong name',
    '/v1/schedules/a%20b',
    put({ cron: '0 3 * * *', lookback: '1h' }),
    400,
    'INVALID_REQUEST',
  ],
  ['an unknown schedule', '/v1/schedules/unknown', { method: 'DELETE' }, 404, 'NOT_FOUND'],
  ['POST on a schedule', NIGHTLY, post({}), 405, 'METHOD_NOT_ALLOWED'],
  ['POST on metrics', '/metrics', post({}), 405, 'METHOD_NOT_ALLOWED'],
  [
    'an event id that is none',
    '/v1/events',
    { headers: { 'last-event-id': 'yesterday' } },
    400,
    'INVALID_REQUEST',
  ],
];

const webhook = (body: string | Uint8Array, headers: Record<string, string> = {}): Ask =>
  raw(body, { ...JSON_TYPE, auth: SECRET, ...headers });
const notifications: readonly Bad[] = [
  ['without a body', WEBHOOK, { method: 'POST', headers: { auth: SECRET } }, 400, 'INVALID_REQUEST'],
  ['of text', WEBHOOK, webhook('hello'), 400, 'INVALID_REQUEST'],
  ['that is no UTF-8', WEBHOOK, webhook(Buffer.from([0xff])), 400, 'INVALID_REQUEST'],
  ['without a session id', WEBHOOK, webhook('{}'), 400, 'INVALID_REQUEST'],
  ['with a number for one', WEBHOOK, webhook('{"sessionId":7}'), 400, 'INVALID_REQUEST'],
  ['of 2 MB', WEBHOOK, webhook(`"${'x'.repeat(2_000_000)}"`), 413, 'PAYLOAD_TOO_LARGE'],
  [
    'that is compressed',
    WEBHOOK,
    webhook(gzipSync('{"sessionId":"a"}'), { 'content-encoding': 'gzip' }),
    415,
    'UNSUPPORTED_MEDIA_TYPE',
  ],
  ['with a wrong secret', WEBHOOK, webhook('{"sessionId":"a"}', { auth: 'x' }), 401, 'UNAUTHORIZED'],
  ['with a wrong secret and no JSON', WEBHOOK, webhook('hello', { auth: 'x' }), 401, 'UNAUTHORIZED'],
];

const authorization = (value: string): Ask => ({ headers: { authorization: value } });
const credentials: readonly (readonly [string, () => Promise<Ask>])[] = [
  ['none', async () => ({ headers: { authorization: '' } })],
  ['the scheme alone', async () => authorization('Bearer')],
  ['an empty token', async () => authorization('Bearer ')],
  ['another token', async () => authorization('Bearer another-token')],
  ['half a token', async () => authorization(`Bearer ${TOKEN.slice(0, -1)}`)],
  ['the token in capitals', async () => authorization(`Bearer ${TOKEN.toUpperCase()}`)],
  ['the token without a scheme', async () => authorization(TOKEN)],
  ['the token as a password', async () => authorization(`Basic ${btoa(`:${TOKEN}`)}`)],
  ['two tokens', async () => authorization(`Bearer ${TOKEN}, Bearer ${TOKEN}`)],
  ['the secret of the webhook', async () => authorization(`Bearer ${SECRET}`)],
  ['the token in another header', async () => ({ headers: { authorization: '', auth: TOKEN } })],
  ['a header of 10 kB', async () => authorization(`Bearer ${' '.repeat(10_000)}x`)],
  ['a JWT with alg: none', async () => authorization(`Bearer ${issuer.unsigned()}`)],
  [
    'a JWT by a wrong key',
    async () => {
      const { privateKey } = await generateKeyPair('ES256');
      return authorization(`Bearer ${await issuer.token({ key: privateKey })}`);
    },
  ],
  ['a JWT that has expired', async () => authorization(`Bearer ${await issuer.token({ expiresIn: -3600 })}`)],
  [
    'a JWT that is not valid yet',
    async () => {
      const nbf = Math.floor(Date.now() / 1000) + 3600;
      return authorization(`Bearer ${await issuer.token({ claims: { nbf } })}`);
    },
  ],
  [
    'a JWT for another audience',
    async () => authorization(`Bearer ${await issuer.token({ claims: { aud: 'x' } })}`),
  ],
  [
    'a JWT of another issuer',
    async () => authorization(`Bearer ${await issuer.token({ claims: { iss: 'x' } })}`),
  ],
  [
    'a JWT signed by a secret',
    async () => {
      const key = new TextEncoder().encode(issuer.publicKey);
      return authorization(`Bearer ${await issuer.token({ header: { alg: 'HS256' }, key })}`);
    },
  ],
  ['a JWT of five parts', async () => authorization('Bearer a.b.c.d.e')],
];

/** Checks that an answer is a problem document like any other. */
async function expectProblem(path: string, options: Ask, status: number, code: string) {
  const headers = { authorization: `Bearer ${TOKEN}`, ...options.headers };
  const answer = await ask(url, path, { ...options, headers });

  expect([answer.status, answer.body.code], answer.text).toEqual([status, code]);
  expect(answer.headers['content-type']).toBe('application/problem+json; charset=utf-8');
  expect(answer.headers['x-request-id']).toBeTypeOf('string');
  expect(answer.headers['x-content-type-options']).toBe('nosniff');
  expect(Problem.parse(answer.body)).toMatchObject({ type: 'about:blank', status });
  expect(answer.text).not.toMatch(new RegExp(`${TOKEN}|${SECRET}|node_modules|\\bat .*:\\d+:\\d+`));
  return answer;
}

describe('an invalid request', () => {
  it.each([...methods, ...bodies, ...sessionIds, ...queries, ...backfills])(
    'a request with %s: %s is refused, and the answer names what is wrong',
    async (_what, path, options, status, code) => {
      const answer = await expectProblem(path, options, status, code);

      if (status === 405) expect(answer.headers.allow).toMatch(/^[A-Z]+(, [A-Z]+)*$/);
    },
  );

  it.each(credentials)('a request with %s for credentials is refused', async (_what, make) => {
    const answer = await expectProblem('/v1/stats', await make(), 401, 'UNAUTHORIZED');

    expect(answer.headers['www-authenticate']).toMatch(/^Bearer realm="voicemail-archiver"/);
  });
});

describe('an invalid notification', () => {
  it.each(notifications)(
    'a notification %s is answered with its documented status',
    async (_what, path, options, status, code) => {
      await expectProblem(path, options, status, code);
    },
  );
});

describe('malformed HTTP', () => {
  const request = (...lines: string[]) => `${[...lines, '', ''].join('\r\n')}`;
  const host = 'Host: localhost';
  const malformed: readonly [string, string, number, string][] = [
    ['no HTTP at all', 'hello there\r\n\r\n', 400, 'INVALID_REQUEST'],
    ['a method that there is not', request('FETCH /livez HTTP/1.1', host), 400, 'INVALID_REQUEST'],
    ['another protocol', request('GET /livez SIP/2.0', host), 400, 'INVALID_REQUEST'],
    ['a header without a colon', request('GET /livez HTTP/1.1', host, 'nonsense'), 400, 'INVALID_REQUEST'],
    ['no host', request('GET /livez HTTP/1.1'), 400, 'INVALID_REQUEST'],
    [
      'a length that is none',
      request('POST /v1/sessions HTTP/1.1', host, 'Content-Length: many'),
      400,
      'INVALID_REQUEST',
    ],
    [
      'a length and chunks, which two servers would read differently',
      request('POST /v1/sessions HTTP/1.1', host, 'Content-Length: 5', 'Transfer-Encoding: chunked'),
      400,
      'INVALID_REQUEST',
    ],
    [
      'chunks that are none',
      `${request('POST /v1/sessions HTTP/1.1', host, `Authorization: Bearer ${TOKEN}`, 'Content-Type: application/json', 'Transfer-Encoding: chunked')}zz\r\n`,
      400,
      'INVALID_REQUEST',
    ],
    ['a path of 20 kB', request(`GET /${'a'.repeat(20_000)} HTTP/1.1`, host), 431, 'HEADERS_TOO_LARGE'],
    [
      'headers of 20 kB',
      request('GET /livez HTTP/1.1', host, `X: ${'a'.repeat(20_000)}`),
      431,
      'HEADERS_TOO_LARGE',
    ],
  ];

  it.each(malformed)(
    '%s is answered by a problem document, and nothing else',
    async (_what, sent, status, code) => {
      const { port } = new URL(url);
      const socket = connect(Number(port), '127.0.0.1');
      await once(socket, 'connect');
      socket.write(sent);

      const answer = await text(socket);

      const [head = '', body = ''] = answer.split('\r\n\r\n');
      expect(head).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
      expect(head.toLowerCase()).toContain('content-type: application/problem+json');
      expect(head.toLowerCase()).toContain('x-request-id: ');
      expect(Problem.parse(JSON.parse(body))).toMatchObject({ status, code });
    },
  );

  it('malformed HTTP does not take the server down', async () => {
    expect((await ask(url, '/livez')).status).toBe(200);
  });
});
