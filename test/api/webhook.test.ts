import { createHmac, randomBytes } from 'node:crypto';
import { SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { OTHER_EVENTS } from '../../src/api/webhook/notification.ts';
import type { WebhookConfig } from '../../src/config/config.ts';
import { QueueUnavailableError } from '../../src/jobs/backends/backend.ts';
import { createTokenSigner } from '../../src/kore/client.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { readPointer } from '../../src/util/json.ts';
import { createLogger } from '../../src/util/log.ts';
import { type ApiSetup, type Ask, apiTokens, ask, openApiSetup } from '../support/api-server.ts';

const SECRETS = ['the-new-secret', 'the-old-secret'];
const APP = { clientId: 'cs-the-app', clientSecret: 'the-secret-of-the-app' };
const PATHS = ['/sessionId', '/metaInfo/sessionId', '/data/sessionId', '/session/id'];
const WEBHOOK: WebhookConfig = { secrets: SECRETS, sessionIdPaths: PATHS, app: APP };
const PATH = '/webhooks/voicemail';

let setup: ApiSetup;
let url: string;
beforeAll(async () => {
  setup = await openApiSetup();
  url = await setup.serve({ tokens: apiTokens('a-token-of-the-api'), webhook: WEBHOOK });
});
afterAll(() => setup.close());

const NO_METRICS = { contentType: 'text/plain', render: async () => '' };
const newId = () => randomBytes(12).toString('hex');
const post = (options: Ask, at = url) => ask(at, PATH, { method: 'POST', ...options });
/** A notification with the right secret. */
const notify = (json: unknown, at = url) => post({ json, headers: { auth: 'the-new-secret' } }, at);
const sign = (body: string | Uint8Array, secret: string) =>
  `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;

interface KoreTokenChanges {
  readonly appId?: unknown;
  readonly alg?: string;
  readonly secret?: string;
  /** `null` for none. */
  readonly exp?: number | null;
  readonly claims?: Readonly<Record<string, unknown>>;
}

/** A token as Kore's BotKit sends it. */
function koreToken({
  appId = APP.clientId,
  alg = 'HS256',
  secret = APP.clientSecret,
  exp = now() + 300,
  claims = {},
}: KoreTokenChanges) {
  const payload = { appId, ...(exp !== null && { exp }), ...claims };
  const token = new SignJWT(payload).setProtectedHeader({ alg, typ: 'JWT' });
  return token.sign(new TextEncoder().encode(secret));
}
const now = () => Math.floor(Date.now() / 1000);

describe('the metadata of a notification', () => {
  it('the metadata of a notification is what WEBHOOK_META names, without possible secrets', async () => {
    const at = await setup.serve({
      tokens: apiTokens('a-token-of-the-api'),
      webhook: { ...WEBHOOK, metaPaths: ['/metaInfo/customer', '/metaInfo/department', '/metaInfo/none'] },
    });
    const sessionId = newId();
    const metaInfo = JSON.stringify({
      sessionId,
      customer: { id: 'c-7', auth_token: 'must-not-be-kept', deep: { apiKey: 'must-not-be-kept', tier: 2 } },
      department: 'Claims',
      other: 'not asked for',
    });

    expect((await notify({ metaInfo }, at)).status).toBe(202);

    const job = await setup.runtime.queue.bullmq.sessions.getJob(`${setup.sandbox.botId}.${sessionId}`);
    expect(job?.data).toMatchObject({
      sessionId,
      call: { meta: { customer: { id: 'c-7', deep: { tier: 2 } }, department: 'Claims' } },
    });
    expect(JSON.stringify(job?.data)).not.toMatch(/must-not-be-kept|not asked for/);
  });
});

describe('the caller of a Kore event', () => {
  it.each<[string, object, object | undefined]>([
    ['is kept as the call tells it', { callerNumber: '+1 555 0100 222' }, { from: '+1 555 0100 222' }],
    ['is kept from its tags', { sessionTags: { callerNumber: '+15550100222' } }, { from: '+15550100222' }],
    ['is nobody whose name is no number', { from: 'user-7', callerNumber: { token: 'x' } }, undefined],
  ])('the caller of a Kore event %s', async (_title, metadata, call) => {
    const sessionId = newId();
    const CCAIMetaInfo = { sessionId, ...metadata };
    expect((await notify({ event: 'conversation_terminated', CCAIMetaInfo })).status).toBe(202);

    const job = await setup.runtime.queue.bullmq.sessions.getJob(`${setup.sandbox.botId}.${sessionId}`);
    expect(job?.data.call).toEqual(call);
  });

  it('the caller of a Kore event is hashed, or left out where there is no key for that', async () => {
    const callOf = async (changes: Partial<WebhookConfig>) => {
      const at = await setup.serve({ webhook: { ...WEBHOOK, callMetadata: 'hashed', ...changes } });
      const sessionId = newId();
      await notify({ CCAIMetaInfo: { sessionId, callerNumber: '+15550100222' } }, at);
      const job = await setup.runtime.queue.bullmq.sessions.getJob(`${setup.sandbox.botId}.${sessionId}`);
      return job?.data.call;
    };
    expect(await callOf({})).toEqual({ from: expect.stringMatching(/^hmac-sha256:[0-9a-f]{64}$/) });
    expect(await callOf({ app: undefined })).toBeUndefined();
  });
});

describe('CALL_METADATA', () => {
  it.each([
    ['hashed', { caller: expect.stringMatching(/^hmac-sha256:[0-9a-f]{64}$/), department: 'Claims' }],
    ['off', undefined],
  ] as const)('CALL_METADATA=%s decides which fields of a webhook are kept', async (callMetadata, meta) => {
    const at = await setup.serve({
      tokens: apiTokens('a-token-of-the-api'),
      webhook: { ...WEBHOOK, callMetadata, metaPaths: ['/metaInfo/caller', '/metaInfo/department'] },
    });
    const sessionId = newId();
    const metaInfo = { sessionId, caller: '+15550100', department: 'Claims' };
    expect((await notify({ metaInfo }, at)).status).toBe(202);

    const job = await setup.runtime.queue.bullmq.sessions.getJob(`${setup.sandbox.botId}.${sessionId}`);
    expect(job?.data.call).toEqual(meta && { meta });
    expect(JSON.stringify(job?.data)).not.toContain('5550100');
  });
});

describe('a notification', () => {
  it('a notification is answered 202 once the queue holds the session', async () => {
    const sessionId = newId();

    const { status, body } = await notify({ sessionId });

    expect([status, body]).toEqual([202, { results: [{ sessionId, outcome: 'queued' }] }]);
    const { botId } = setup.sandbox;
    expect(await setup.runtime.operations.view({ sessionId, botId })).toMatchObject({ state: 'queued' });
    expect((await notify({ sessionId })).body).toEqual({
      results: [{ sessionId, outcome: 'already-queued' }],
    });
  });

  const authentic: readonly [string, (body: string) => Promise<Record<string, string>>][] = [
    ['the secret in "auth"', async () => ({ auth: 'the-new-secret' })],
    ['the old secret, during a rotation', async () => ({ auth: 'the-old-secret' })],
    ['the secret as a bearer token', async () => ({ authorization: 'Bearer the-new-secret' })],
    ['a signature of the body', async (body) => ({ 'x-signature': sign(body, 'the-new-secret') })],
    [
      'a signature in capitals, by the old secret',
      async (body) => ({
        'x-signature': sign(body, 'the-old-secret')
          .replace(/[a-f]/g, (hex) => hex.toUpperCase())
          .replace('shA256', 'sha256'),
      }),
    ],
    ['a token of the Kore app', async () => ({ token: await koreToken({}) })],
    ['a token by the other algorithm', async () => ({ token: await koreToken({ alg: 'HS512' }) })],
    ['a token for an hour', async () => ({ token: await koreToken({ exp: now() + 3_600 }) })],
    [
      'a token whose exp is in milliseconds',
      async () => ({ token: await koreToken({ exp: Date.now() + 300_000 }) }),
    ],
    [
      'one right credential among wrong ones',
      async (body) => ({ auth: 'wrong', token: 'a.b.c', 'x-signature': sign(body, 'the-new-secret') }),
    ],
  ];

  it.each(authentic)('a notification is accepted with %s', async (_how, headersFor) => {
    const body = JSON.stringify({ sessionId: newId() });

    expect((await post({ body, headers: await headersFor(body) })).status).toBe(202);
  });

  const forged: readonly [string, (body: string) => Promise<Record<string, string>>][] = [
    ['no credentials', async () => ({})],
    ['another secret', async () => ({ auth: 'another-secret' })],
    ['an empty secret', async () => ({ auth: '' })],
    ['both secrets in one', async () => ({ auth: SECRETS.join(',') })],
    ['a token of the API', async () => ({ authorization: 'Bearer a-token-of-the-api' })],
    ['the secret under another scheme', async () => ({ authorization: 'Basic the-new-secret' })],
    ['a signature of another body', async () => ({ 'x-signature': sign('{}', 'the-new-secret') })],
    ['a signature by another secret', async (body) => ({ 'x-signature': sign(body, 'another-secret') })],
    [
      'a signature without its algorithm',
      async (body) => ({ 'x-signature': sign(body, 'the-new-secret').slice('sha256='.length) }),
    ],
    ['a signature cut short', async (body) => ({ 'x-signature': sign(body, 'the-new-secret').slice(0, -2) })],
    ['a token by another secret', async () => ({ token: await koreToken({ secret: 'another-secret' }) })],
    ['a token of another app', async () => ({ token: await koreToken({ appId: 'cs-another' }) })],
    ['a token of a list of apps', async () => ({ token: await koreToken({ appId: [APP.clientId] }) })],
    ['a token that has expired', async () => ({ token: await koreToken({ exp: now() - 60 }) })],
    ['a token by another algorithm', async () => ({ token: await koreToken({ alg: 'HS384' }) })],
    ['a token without exp', async () => ({ token: await koreToken({ exp: null }) })],
    ['a token for two hours', async () => ({ token: await koreToken({ exp: now() + 7_200 }) })],
    [
      'a token whose exp is text',
      async () => ({ token: await koreToken({ claims: { exp: '9999999999' } }) }),
    ],
    [
      'a token that has expired, in milliseconds',
      async () => ({ token: await koreToken({ exp: Date.now() - 60_000 }) }),
    ],
    [
      'a token that holds for two hours, in milliseconds',
      async () => ({ token: await koreToken({ exp: Date.now() + 7_200_000 }) }),
    ],
    [
      'a token that does not hold yet',
      async () => ({ token: await koreToken({ claims: { nbf: now() + 60 } }) }),
    ],
    [
      'a token that this project signed for Kore',
      async () => ({ token: createTokenSigner(APP)(Date.now()) }),
    ],
    [
      'a token with our audience among others',
      async () => ({
        token: await koreToken({ claims: { aud: ['x', 'https://idproxy.kore.ai/authorize'] } }),
      }),
    ],
    [
      'a token that is not signed',
      async () => ({
        token: (await koreToken({})).replace(/^[^.]+/, 'eyJhbGciOiJub25lIn0').replace(/[^.]+$/, ''),
      }),
    ],
  ];

  it.each(forged)('a notification is refused with %s', async (_how, headersFor) => {
    const sessionId = newId();
    const body = JSON.stringify({ sessionId });
    // One of its own each: many wrong ones in a row are slowed.
    const own = await setup.serve({ webhook: WEBHOOK });

    const answer = await post({ body, headers: await headersFor(body) }, own);

    expect([answer.status, answer.body.code]).toEqual([401, 'UNAUTHORIZED']);
    expect(answer.headers['www-authenticate']).toMatch(/^Bearer /);
    const { botId } = setup.sandbox;
    expect(await setup.runtime.operations.view({ sessionId, botId })).toBeUndefined();
  });

  it('a notification is signed over the bytes as they were sent, not as they are read', async () => {
    const body = `{ "sessionId" :\r\n"${newId()}", "who": "J\\u00fcrgen" }`;

    expect((await post({ body, headers: { 'x-signature': sign(body, 'the-new-secret') } })).status).toBe(202);
    const rewritten = JSON.stringify(JSON.parse(body));
    const forgery = { body: rewritten, headers: { 'x-signature': sign(body, 'the-new-secret') } };
    expect((await post(forgery)).status).toBe(401);
  });

  it('a notification with a token of the Kore app is refused where the app is not known', async () => {
    const { app: _, ...withoutApp } = WEBHOOK;
    const other = await setup.serve({ webhook: withoutApp });

    expect((await post({ json: {}, headers: { token: await koreToken({}) } }, other)).status).toBe(401);
  });

  it('a notification is answered 404 without WEBHOOK_SECRET', async () => {
    const without = await setup.serve();

    const answer = await notify({ sessionId: newId() }, without);

    expect([answer.status, answer.body.code]).toEqual([404, 'NOT_FOUND']);
    expect(answer.body.detail).toContain('WEBHOOK_SECRET');
  });
});

describe('the session id', () => {
  const places: readonly [string, (id: string) => unknown][] = [
    ['/sessionId', (id) => ({ sessionId: id })],
    ['/metaInfo/sessionId', (id) => ({ metaInfo: { sessionId: id }, text: 'Hello' })],
    ['/data/sessionId', (id) => ({ data: { sessionId: id } })],
    ['/session/id', (id) => ({ session: { id } })],
    ['blanks around it', (id) => ({ sessionId: `  ${id}\n` })],
    ['metaInfo as JSON text', (id) => ({ metaInfo: JSON.stringify({ sessionId: id, auth_token: 'x' }) })],
    ['JSON text in JSON text', (id) => ({ data: JSON.stringify({ sessionId: id, inner: '{"a":"{}"}' }) })],
    ['below CCAIMetaInfo', (id) => ({ CCAIMetaInfo: { sessionId: id, source: 'rtm' } })],
    ['below CCAIMetaInfo in data', (id) => ({ data: { CCAIMetaInfo: { metaInfo: { sessionId: id } } } })],
    ['below CCAIMetaInfo in payload', (id) => ({ payload: { CCAIMetaInfo: { sessionId: id } } })],
    ['below ccaiMetaInfo in others', (id) => ({ a: { 'b/c': { d: { ccaiMetaInfo: { sessionId: id } } } } })],
    ['CCAIMetaInfo as JSON text', (id) => ({ event: { CCAIMetaInfo: JSON.stringify({ sessionId: id }) } })],
    ['payload', (id) => ({ payload: { sessionId: id } })],
    ['body in message', (id) => ({ message: { body: JSON.stringify({ metaInfo: { sessionId: id } }) } })],
    ['metaInfo encoded twice', (id) => ({ metaInfo: JSON.stringify(JSON.stringify({ sessionId: id })) })],
    ['a body encoded twice', (id) => JSON.stringify({ metaInfo: { sessionId: id } })],
    ['a list of one', (id) => [{ sessionId: id }]],
    [
      'the first place with one',
      (id) => ({ sessionId: null, metaInfo: { sessionId: '' }, data: { sessionId: id } }),
    ],
  ];

  it.each(places)('the session id is found at %s', async (_place, make) => {
    const sessionId = newId();

    expect((await notify(make(sessionId))).body).toEqual({ results: [{ sessionId, outcome: 'queued' }] });
  });

  it('the session id is found where the configuration says, and nowhere else', async () => {
    const sessionIdPaths = ['/call~1er/0/id', '/x'];
    const other = await setup.serve({ webhook: { ...WEBHOOK, sessionIdPaths } });
    const sessionId = newId();

    expect((await notify({ 'call/er': [{ id: sessionId }] }, other)).body).toMatchObject({
      results: [{ sessionId }],
    });
    expect((await notify({ sessionId }, other)).status).toBe(400);
  });

  it.each(['application/json', 'text/plain; charset=utf-8', 'application/vnd.kore+json', undefined])(
    'the session id is read from JSON that calls itself %s',
    async (type) => {
      const sessionId = newId();
      const headers = { auth: 'the-new-secret', ...(type !== undefined && { 'content-type': type }) };

      const { status } = await post({ body: Buffer.from(JSON.stringify({ sessionId })), headers });

      expect(status).toBe(202);
    },
  );

  it('the session id is read from a form', async () => {
    const sessionId = newId();
    const headers = { auth: 'the-new-secret', 'content-type': 'application/x-www-form-urlencoded' };

    expect((await post({ body: `x=1&sessionId=${sessionId}`, headers })).status).toBe(202);
  });

  it('the bot of a session is the one that the notification names, otherwise the default', async () => {
    const id = newId();
    await notify({ sessionId: id, botId: 'st-named' });
    await notify({ sessionId: id, metaInfo: { botId: 'st-in-meta' } });
    await notify({ sessionId: id, botId: 'no bot, but a sentence' });

    for (const botId of ['st-named', 'st-in-meta', setup.sandbox.botId]) {
      expect(await setup.runtime.operations.view({ sessionId: id, botId })).toMatchObject({
        state: 'queued',
      });
    }
  });

  const nowhere: readonly [string, unknown, RegExp][] = [
    ['is missing', { session: 'x' }, /no session id at \/sessionId, \/metaInfo/],
    ['is a number', { sessionId: 42 }, /what the body has at \/sessionId is no session id/],
    ['is a path', { data: { sessionId: '../../etc' } }, /what the body has at \/data\/sessionId/],
    ['is of an object that is none', 'sessionId', /no session id/],
    ['would be inherited', [], /no session id/],
  ];

  it.each(nowhere)('the answer asks for a session id when the body %s', async (_how, json, detail) => {
    const { status, body } = await notify(json);

    expect([status, body.code]).toEqual([400, 'INVALID_REQUEST']);
    expect(body.detail).toMatch(detail);
  });
});

describe('a Kore event', () => {
  const maybeOf = async (sessionId: string) => {
    const { sessions } = setup.runtime.queue.bullmq;
    return (await sessions.getJob(`${setup.sandbox.botId}.${sessionId}`))?.data.maybe;
  };

  const ends: readonly [string, (sessionId: string) => unknown][] = [
    [
      'conversation_terminated',
      (sessionId) => ({ event: 'conversation_terminated', CCAIMetaInfo: { sessionId } }),
    ],
    ['that has no name', (sessionId) => ({ CCAIMetaInfo: { sessionId } })],
    ['that is not nested', (sessionId) => ({ eventType: 'conversation_terminated', sessionId })],
    [
      'disposition_submitted',
      (sessionId) => ({ event: { name: 'disposition_submitted' }, CCAIMetaInfo: { sessionId } }),
    ],
    ['nobody knows', (sessionId) => ({ event: 'something_new', CCAIMetaInfo: { sessionId } })],
  ];

  it.each(ends)('a Kore event %s enqueues its session as a maybe', async (_event, make) => {
    const sessionId = newId();

    const answer = await notify(make(sessionId));

    expect([answer.status, answer.body]).toEqual([202, { results: [{ sessionId, outcome: 'queued' }] }]);
    expect(await maybeOf(sessionId)).toBe(true);
  });

  it.each(OTHER_EVENTS)('a Kore event %s is counted, and nothing is queued', async (event) => {
    const sessionId = newId();
    const counted: string[] = [];
    const metrics = { webhook: { onNotification: (kind: string) => counted.push(kind) } };
    const url = await setup.serve({ webhook: WEBHOOK }, { metrics: { ...NO_METRICS, ...metrics } });

    const { status, body } = await notify({ event, CCAIMetaInfo: { sessionId } }, url);

    expect([status, body, counted]).toEqual([202, { results: [] }, ['other-event']]);
    expect(await setup.runtime.operations.view({ sessionId, botId: setup.sandbox.botId })).toBeUndefined();
  });

  it('a Kore event does not make a maybe of a certain session, and a notification makes a maybe certain', async () => {
    const known = newId();
    await notify({ sessionId: known });
    await notify({ event: 'conversation_terminated', CCAIMetaInfo: { sessionId: known } });
    expect(await maybeOf(known)).toBeUndefined();

    const unsure = newId();
    await notify({ event: 'conversation_terminated', CCAIMetaInfo: { sessionId: unsure } });
    await notify({ sessionId: unsure });
    expect(await maybeOf(unsure)).toBe(false);
  });
});

describe('a notification without a session id', () => {
  it('a notification without a session id logs the names of its members, bounded and printable, and no value', async () => {
    const lines: string[] = [];
    const url = await setup.serve(
      { webhook: WEBHOOK },
      { log: createLogger('info', (line) => lines.push(line)) },
    );

    const odd = { [`\u001b[2J${'n'.repeat(10_000)}`]: 'pineapple', metaInfo: { auth_token: 'pineapple' } };
    const many = Object.fromEntries(Array.from({ length: 5_000 }, (_, n) => [`m${n}`, 'pineapple']));
    const { status } = await notify({ ...odd, ...many }, url);

    expect(status).toBe(400);
    const line = lines.find((text) => text.includes('names no session')) ?? '';
    const { level, members } = JSON.parse(line);
    expect(level).toBe('warn');
    expect(members).toHaveLength(30);
    expect(members).toEqual(expect.arrayContaining(['metaInfo', 'metaInfo.auth_token', 'm1']));
    expect(members[0]).toMatch(/^\[2Jn+…$/);
    expect(line.length).toBeLessThan(2_000);
    expect(line).not.toContain('pineapple');
  });
});

it('the metadata of a notification comes into the manifest', { timeout: 60_000 }, async () => {
  const own = await openApiSetup();
  try {
    const at = await own.serve({
      tokens: apiTokens('a-token-of-the-api'),
      webhook: { ...WEBHOOK, metaPaths: ['/metaInfo/department'] },
    });
    await own.startWorker();
    const sessionId = own.sandbox.addSession({ transcription: 'Hello.' });
    const metaInfo = JSON.stringify({ department: 'Claims', auth_token: 'must-not-be-kept' });
    await notify({ CCAIMetaInfo: { sessionId, callerNumber: '+15550100222' }, metaInfo }, at);

    const manifest = await vi.waitUntil(
      async () => {
        const answer = await ask(at, `/v1/sessions/${sessionId}/manifest`, {
          headers: { authorization: 'Bearer a-token-of-the-api' },
        });
        return answer.status === 200 && answer;
      },
      { timeout: 50_000, interval: 50 },
    );
    expect(manifest.body.call).toEqual({ from: '+15550100222', meta: { department: 'Claims' } });
    expect(manifest.text).not.toContain('must-not-be-kept');
  } finally {
    await own.close();
  }
});

describe('a signed body that is repeated', () => {
  const signed = (body: string, at = url) =>
    post({ body, headers: { 'x-signature': sign(body, 'the-new-secret') } }, at);

  it('a signed body that is repeated for an archived session is answered so, and costs no call to Kore', async () => {
    const own = await openApiSetup();
    try {
      const at = await own.serve({ webhook: WEBHOOK });
      await own.startWorker();
      // With a transcript, so that nobody looks for one meanwhile.
      const sessionId = own.sandbox.addSession({ transcription: 'Hello.' });
      const noVoicemail = own.sandbox.addSession({
        sessionId: makeSessionId(new Date('2026-01-01')),
        recordings: [],
      });
      const body = JSON.stringify({ sessionId });
      const maybe = JSON.stringify({
        event: 'conversation_terminated',
        CCAIMetaInfo: { sessionId: noVoicemail },
      });
      const { botId } = own.sandbox;
      await signed(body, at);
      await signed(maybe, at);
      await vi.waitFor(
        async () => {
          expect(await own.runtime.operations.view({ sessionId, botId })).toMatchObject({
            state: 'archived',
          });
          expect(await own.runtime.operations.view({ sessionId: noVoicemail, botId })).toBeUndefined();
          expect(own.sandbox.calls.filter((call) => call.sessionId === noVoicemail).length).toBeGreaterThan(
            0,
          );
        },
        { timeout: 60_000 },
      );
      const before = own.sandbox.calls.length;

      const again = await signed(body, at);
      const maybeAgain = await signed(maybe, at);

      expect(again.body).toEqual({ results: [{ sessionId, outcome: 'already-archived' }] });
      expect(maybeAgain.body).toEqual({ results: [{ sessionId: noVoicemail, outcome: 'already-queued' }] });
      expect(await own.runtime.queue.takeable()).toBe(0);
      expect(own.sandbox.calls.length).toBe(before);
    } finally {
      await own.close();
    }
  });

  it('a signed body that is repeated is accepted again when the queue has lost its session', async () => {
    const sessionId = newId();
    const body = JSON.stringify({ sessionId });
    await signed(body);
    await setup.runtime.queue.bullmq.sessions.remove(`${setup.sandbox.botId}.${sessionId}`);

    expect((await signed(body)).body).toEqual({ results: [{ sessionId, outcome: 'queued' }] });
  });
});

it('a pointer reads only own members of the body', () => {
  const value = JSON.parse('{"a":{"b":["x",{"~/":1}]},"":{"":"empty"},"__proto__":{"p":2}}');
  expect(readPointer(value, '/a/b/0')).toBe('x');
  expect(readPointer(value, '/a/b/1/~0~1')).toBe(1);
  expect(readPointer(value, '//')).toBe('empty');
  expect(readPointer(value, '/__proto__/p')).toBe(2);
  for (const nowhere of ['/a/b/2', '/a/b/01', '/a/b/length', '/constructor', '/a/b/0/0', '/toString/name']) {
    expect(readPointer(value, nowhere)).toBeUndefined();
  }
});

it('no part of a notification is ever logged, whatever its outcome', async () => {
  const lines: string[] = [];
  const log = createLogger('trace', (line) => lines.push(line));
  const away = {
    ...setup.runtime.operations,
    enqueue: () => Promise.reject(new QueueUnavailableError('connection lost')),
  };
  const failing = await setup.serve({ webhook: WEBHOOK }, { log, operations: away });
  const json = { sessionId: newId(), transcript: 'pineapple umbrella' };

  const { status, body, headers } = await notify(json, failing);
  await post({ json, headers: { auth: 'wrong-secret-of-somebody' } }, failing);
  await post({ body: '{"pineapple umbrella', headers: { auth: 'the-new-secret' } }, failing);

  expect([status, body.code]).toEqual([503, 'QUEUE_UNAVAILABLE']);
  expect(Number(headers['retry-after'])).toBeGreaterThan(0);
  await vi.waitFor(() => expect(lines.filter((line) => line.includes('"answered"'))).toHaveLength(3), {
    timeout: 60_000,
  });
  expect(lines.join('')).not.toMatch(/pineapple|the-new-secret|wrong-secret/);
});
