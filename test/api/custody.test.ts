import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createRemoteOperations } from '../../src/api/client.ts';
import { sessionPrefix } from '../../src/storage/layout.ts';
import { openStore } from '../../src/storage/open.ts';
import { type ApiSetup, type Ask, ask, openApiSetup } from '../support/api-server.ts';

const OPERATOR = 'token-that-may-operate';
const ERASER = 'token-that-may-erase';
const never = new AbortController().signal;

let setup: ApiSetup;
let url: string;

beforeAll(async () => {
  setup = await openApiSetup();
  url = await setup.serve({
    tokens: [
      { name: 'operator', role: 'operate', token: OPERATOR },
      { name: 'eraser', role: 'erase', token: ERASER },
    ],
    webhook: { secrets: ['the-secret-of-the-hook'], sessionIdPaths: ['/sessionId'] },
  });
  await setup.startWorker();
});
afterAll(() => setup.close());

const send = (path: string, token: string, options: Ask = {}) =>
  ask(url, `/v1/${path}`, { ...options, headers: { authorization: `Bearer ${token}` } });

async function archived(): Promise<string> {
  const id = setup.sandbox.addSession({ transcription: 'pineapple umbrella' });
  await send('sessions', OPERATOR, { json: { sessionIds: [id] } });
  await vi.waitFor(
    async () => {
      const { body } = await send(`sessions/${id}`, OPERATOR);
      expect(body).toMatchObject({ state: 'archived' });
    },
    { timeout: 30_000 },
  );
  return id;
}

/** Names of what is archived of a session. */
async function left(sessionId: string): Promise<string[]> {
  const store = await openStore(setup.config.archive);
  const prefix = sessionPrefix({ sessionId, botId: setup.sandbox.botId });
  const names: string[] = [];
  for await (const { key } of store.list(prefix, never)) names.push(key.slice(prefix.length));
  await store.close();
  return names;
}

describe('POST /v1/sessions/{id}/erase', () => {
  it('an erase request needs the role erase', async () => {
    const id = await archived();
    const before = await left(id);
    expect((await ask(url, `/v1/sessions/${id}/erase`, { method: 'POST' })).status).toBe(401);
    const { status, body } = await send(`sessions/${id}/erase`, OPERATOR, { method: 'POST' });
    expect([status, body.code]).toEqual([403, 'FORBIDDEN']);
    expect(await left(id)).toEqual(before);
  });

  it('an erase request deletes the session, which answers 410 from then on and is not archived again', async () => {
    const id = await archived();
    const dry = await send(`sessions/${id}/erase`, ERASER, { json: { dryRun: true } });
    expect([dry.status, dry.body.outcome]).toEqual([200, 'would-erase']);
    expect(await left(id)).toContain('manifest.json');

    const { status, body } = await send(`sessions/${id}/erase`, ERASER, { json: { reason: 'asked' } });
    expect(status).toBe(200);
    expect(body).toMatchObject({ sessionId: id, outcome: 'erased', objects: 3, versions: 3 });
    expect(await left(id)).toEqual(['tombstone.json']);

    const gone = ['', '/manifest', '/transcript', '/recordings/0'].map((path) =>
      send(`sessions/${id}${path}`, OPERATOR),
    );
    const retry = send(`sessions/${id}/retry`, OPERATOR, { method: 'POST' });
    const hold = send(`sessions/${id}/hold`, OPERATOR, { method: 'PUT' });
    for (const answer of await Promise.all([...gone, retry, hold])) {
      expect([answer.status, answer.body.code]).toEqual([410, 'ERASED']);
      expect(answer.body.detail).toContain(`session ${id} was erased at `);
      expect(answer.body.detail).toContain('(asked)');
    }
    const erasure = await send(`sessions/${id}/erasure`, OPERATOR);
    expect(erasure.body).toMatchObject({ sessionId: id, state: 'erased', reason: 'asked' });

    for (const force of [false, true]) {
      const queued = await send('sessions', OPERATOR, { json: { sessionIds: [id], force } });
      expect(queued.status).toBe(202);
      expect(queued.body.results).toEqual([{ sessionId: id, outcome: 'already-archived', erased: true }]);
    }
    const hook = await ask(url, '/webhooks/voicemail', {
      json: { sessionId: id },
      headers: { auth: 'the-secret-of-the-hook' },
    });
    expect(hook.status).toBe(202);
    expect((await send(`sessions/${id}`, OPERATOR)).status).toBe(410);
    expect(await left(id)).toEqual(['tombstone.json']);
  });

  it('an erase request is refused while the session is on hold, and the answer says so', async () => {
    const id = await archived();
    expect((await send(`sessions/${id}/hold`, OPERATOR)).body.code).toBe('NOT_HELD');
    const set = await send(`sessions/${id}/hold`, OPERATOR, { method: 'PUT', json: { reason: 'case 7' } });
    expect(set.body).toMatchObject({ outcome: 'held', isLocked: false, hold: { reason: 'case 7' } });
    expect((await send(`sessions/${id}/hold`, OPERATOR)).body).toMatchObject({ reason: 'case 7' });
    expect((await send('holds', OPERATOR)).body.holds).toEqual([
      expect.objectContaining({ sessionId: id, reason: 'case 7' }),
    ]);
    const before = await left(id);

    const refused = await send(`sessions/${id}/erase`, ERASER, { method: 'POST' });
    expect([refused.status, refused.body.code]).toEqual([409, 'HELD']);
    expect(refused.body.detail).toContain('until it is released: nothing was deleted');
    expect(await left(id)).toEqual(before);

    const released = await send(`sessions/${id}/hold`, OPERATOR, { method: 'DELETE' });
    expect([released.status, released.body.outcome]).toEqual([200, 'released']);
    const { history } = (await send(`sessions/${id}`, OPERATOR)).body as { history: { event: string }[] };
    expect(history.slice(-2).map(({ event }) => event)).toEqual(['held', 'released']);
    const again = await send(`sessions/${id}/hold`, OPERATOR, { method: 'DELETE' });
    expect([again.status, again.body.code]).toEqual([404, 'NOT_HELD']);
    expect((await send(`sessions/${id}/erase`, ERASER, { method: 'POST' })).status).toBe(200);
  });

  it('an erase request with too long a reason is refused', async () => {
    const { status, body } = await send('sessions/abc/erase', ERASER, { json: { reason: 'x'.repeat(501) } });
    expect([status, body.code]).toEqual([400, 'INVALID_REQUEST']);
  });
});

it('erase, hold and release give the same results from another process', async () => {
  const session = { sessionId: await archived(), botId: setup.sandbox.botId };
  const remote = createRemoteOperations(url, ERASER);
  const { custody } = remote;
  try {
    expect(await custody.erasure(session)).toBeUndefined();
    expect(await custody.hold(session)).toBeUndefined();
    expect(await custody.releaseHold(session)).toEqual({ ...session, outcome: 'not-held' });
    expect(await custody.setHold(session, 'case 8')).toMatchObject({ outcome: 'held' });
    expect(await custody.hold(session)).toMatchObject({ reason: 'case 8' });
    expect(await custody.holds(session.botId)).toEqual([expect.objectContaining(session)]);
    expect(await custody.erase(session)).toMatchObject({
      outcome: 'refused',
      why: 'held',
      message: expect.stringContaining('case 8'),
    });
    expect(await custody.releaseHold(session)).toEqual({ ...session, outcome: 'released' });
    expect(await custody.erase(session, { reason: 'asked' })).toMatchObject({ outcome: 'erased' });
    expect(await custody.erase(session)).toMatchObject({ outcome: 'already-erased' });
    expect(await custody.setHold(session)).toEqual({ ...session, outcome: 'erased' });
    expect(await custody.erasure(session)).toMatchObject({ state: 'erased', reason: 'asked' });
    expect(await remote.view(session)).toBeUndefined();
    expect(await remote.retry(session)).toBe('unknown');
    expect(await remote.enqueue([session])).toEqual([
      { ...session, outcome: 'already-archived', erased: true },
    ]);
  } finally {
    await remote.close();
  }
});
