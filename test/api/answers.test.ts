/** Calls every operation of the OpenAPI document once and compares the answer with the document. */

import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ROUTE_PERMISSIONS } from '../../src/api/roles.ts';
import { type ApiSetup, type Ask, ask, openApiSetup } from '../support/api-server.ts';

const TOKEN = 'the-token-of-the-api';
const SECRET = 'the-secret-of-the-webhook';
const headers = { authorization: `Bearer ${TOKEN}` };
const HOUR_MS = 3_600_000;

/** What is read of the document. */
interface Document {
  readonly paths: Readonly<
    Record<string, Readonly<Record<string, { readonly responses: Readonly<Record<string, Response>> }>>>
  >;
  readonly components: object;
}
interface Response {
  readonly content?: Readonly<Record<string, { readonly schema: object }>>;
}

let setup: ApiSetup;
let url: string;
let document: Document;
beforeAll(async () => {
  setup = await openApiSetup();
  url = await setup.serve({
    tokens: [{ name: 'all', role: 'erase', token: TOKEN }],
    webhook: { secrets: [SECRET], sessionIdPaths: ['/sessionId'] },
  });
  document = (await ask(url, '/openapi.json')).body as unknown as Document;
});
afterAll(() => setup.close());

it('the recorded answers cover every route that a role is defined for', () => {
  const described = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`),
  );
  expect(described).toEqual(expect.arrayContaining(Object.keys(ROUTE_PERMISSIONS)));
});

it('each operation answers as recorded, when it succeeds and when it fails', async () => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  ajv.addSchema({ $id: 'openapi', components: document.components });
  const answered = new Set<string>();
  const send = async (operation: string, path: string, status: number, request: Ask = {}) => {
    const [method = '', template = ''] = operation.split(' ');
    const answer = await ask(url, path, { method, headers, ...request });
    expect(answer.status, `${method} ${path}: ${answer.text}`).toBe(status);
    const { responses } = document.paths[template]?.[method.toLowerCase()] ?? { responses: {} };
    const [mediaType, said] =
      Object.entries((responses[status] ?? responses.default)?.content ?? {})[0] ?? [];
    if (status !== 204)
      expect(answer.headers['content-type'], operation).toContain(mediaType?.split(/[;*]/)[0]);
    if (said && mediaType?.endsWith('json')) {
      const schema = JSON.parse(JSON.stringify(said.schema).replaceAll('"#/', '"openapi#/'));
      const validate = ajv.compile(schema);
      expect(validate(answer.body), `${operation}: ${ajv.errorsText(validate.errors)}`).toBe(true);
    }
    if (status < 400) answered.add(`${method.toLowerCase()} ${template}`);
    return answer.body;
  };
  const { sandbox } = setup;
  // Kore knows nothing of the last one.
  const [good, cancelled, bad] = [
    sandbox.addSession({ transcription: 'Please call me back.' }),
    sandbox.addSession(),
    'ffffffffffffffffffffffff',
  ];
  const session = (id: string) => `/v1/sessions/${id}`;
  const stateOf = async (id: string) =>
    (await send('GET /v1/sessions/{id}', session(id), 200)).state as string;

  await send('PUT /v1/pause', '/v1/pause', 200);
  await send('POST /v1/sessions', '/v1/sessions', 202, { json: { sessionIds: [good, cancelled, bad] } });
  await send('POST /v1/sessions', '/v1/sessions', 400, { json: { sessionIds: [] } });
  expect(await stateOf(good)).toBe('queued');
  await send('GET /v1/stats', '/v1/stats', 200);
  await send('DELETE /v1/sessions/{id}', session(cancelled), 200);
  await setup.startWorker();
  await send('DELETE /v1/pause', '/v1/pause', 200);
  await expect
    .poll(() => Promise.all([good, bad].map(stateOf)), { timeout: 20_000 })
    .toEqual(['archived', 'failed']);

  await send('GET /v1/sessions', '/v1/sessions', 200);
  await send('GET /v1/sessions', '/v1/sessions?state=failed&code=&limit=1&cursor=', 200);
  await send('GET /v1/sessions/{id}', session('nobody'), 404);
  await send('GET /v1/sessions/{id}/recordings/{n}', `${session(good)}/recordings/0`, 200);
  await send('GET /v1/sessions/{id}/transcript', `${session(good)}/transcript`, 200);
  await send('GET /v1/sessions/{id}/manifest', `${session(good)}/manifest`, 200);
  await send('GET /v1/stats', '/v1/stats', 200);
  await send('GET /v1/whoami', '/v1/whoami', 200);
  await send('GET /v1/error-codes', '/v1/error-codes', 200);
  await send('POST /v1/sessions/{id}/retry', `${session(bad)}/retry`, 202);
  await send('POST /v1/sessions/{id}/retry', `${session(good)}/retry`, 409);
  for (const [path, json] of [
    ['/v1/sessions/retry', { all: true }],
    ['/v1/retries', {}],
  ] as const) {
    await send(`POST ${path}`, path, 202, { json });
  }
  await send('DELETE /v1/sessions/{id}', session(good), 409);
  for (const [path, json] of [
    ['/v1/sessions/cancel', { all: true, dryRun: true }],
    ['/v1/cancellations', { dryRun: true }],
  ] as const) {
    await send(`POST ${path}`, path, 200, { json });
  }

  await send('PUT /v1/sessions/{id}/hold', `${session(good)}/hold`, 200, { json: { reason: 'a case' } });
  await send('GET /v1/sessions/{id}/hold', `${session(good)}/hold`, 200);
  await send('GET /v1/holds', '/v1/holds', 200);
  await send('POST /v1/sessions/{id}/erase', `${session(good)}/erase`, 409);
  await send('DELETE /v1/sessions/{id}/hold', `${session(good)}/hold`, 200);
  await send('POST /v1/sessions/{id}/erase', `${session(good)}/erase`, 200, {
    json: { reason: 'asked for' },
  });
  await send('GET /v1/sessions/{id}/erasure', `${session(good)}/erasure`, 200);
  await send('GET /v1/sessions/{id}', session(good), 410);

  const from = new Date(Date.now() - HOUR_MS).toISOString();
  const listing = Promise.withResolvers<void>();
  sandbox.configure({ beforeListing: () => listing.promise });
  const { id } = await send('POST /v1/backfills', '/v1/backfills', 202, { json: { from } });
  await send('GET /v1/backfills', '/v1/backfills', 200);
  await send('GET /v1/backfills/{id}', `/v1/backfills/${id}`, 200);
  await send('DELETE /v1/backfills/{id}', `/v1/backfills/${id}`, 200);
  listing.resolve();
  await send('GET /v1/backfills/{id}', '/v1/backfills/none', 404);
  const nightly = { cron: '0 3 * * *', lookback: '48h' };
  await send('PUT /v1/schedules/{name}', '/v1/schedules/nightly', 200, { json: nightly });
  await send('GET /v1/schedules', '/v1/schedules', 200);
  await send('DELETE /v1/schedules/{name}', '/v1/schedules/nightly', 204);
  await send('GET /v1/completeness', `/v1/completeness?from=${from}`, 200);
  // Of days to come there is no end.
  await send('GET /v1/completeness', '/v1/completeness?to=2999-12-31', 200);
  const order = { json: { from: from.slice(0, 10), reportOnly: true, write: true } };
  const run = await send('POST /v1/completeness', '/v1/completeness', 202, order);
  const readRun = () => send('GET /v1/completeness/{id}', `/v1/completeness/${run.id}`, 200);
  await expect.poll(async () => (await readRun()).state, { timeout: 20_000 }).toBe('completed');
  await send('GET /v1/completeness', '/v1/completeness', 200);

  const notice = { headers: { auth: SECRET }, json: { sessionId: good } };
  await send('POST /webhooks/voicemail', '/webhooks/voicemail', 202, notice);
  await send('POST /webhooks/voicemail', '/webhooks/voicemail', 401, { json: { sessionId: good } });
  for (const path of ['/livez', '/readyz', '/metrics', '/openapi.json', '/docs', '/']) {
    await send(`GET ${path}`, path, 200);
  }

  // Those are looked at in events.test.ts and dashboard.test.ts.
  const elsewhere = ['get /v1/events', 'get /dashboard'];
  const all = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method} ${path}`),
  );
  expect(all.filter((operation) => !answered.has(operation)).sort()).toEqual(elsewhere.sort());
});
