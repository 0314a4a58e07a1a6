import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openRuntime } from '../../src/runtime.ts';
import { createLivenessCheck, type WorkerActivity } from '../../src/workers/liveness.ts';
import { type ApiSetup, apiTokens, ask, openApiSetup } from '../support/api-server.ts';
import { silent } from '../support/queues.ts';

const MINUTE_MS = 60_000;

/** A worker by a clock of its own, that started at 0 and was first looked at when it was idle. */
function watch(idleTimeoutMs = MINUTE_MS) {
  const state = { now: 0, waiting: 0 as number | Error };
  let activity: WorkerActivity = { lastTakenAt: 0, activeSessions: 0, concurrency: 16, heldUntil: undefined };
  const check = createLivenessCheck({
    activity: () => activity,
    waiting: async () => {
      if (state.waiting instanceof Error) throw state.waiting;
      return state.waiting;
    },
    idleTimeoutMs,
    now: () => state.now,
  });
  /** Goes on by so many seconds, and asks. */
  return async (seconds: number, changes: Partial<WorkerActivity> & { waiting?: number | Error } = {}) => {
    const { waiting = state.waiting, ...rest } = changes;
    state.now += seconds * 1_000;
    state.waiting = waiting;
    activity = { ...activity, ...rest };
    return check();
  };
}

describe('a worker', () => {
  it('a worker is not alive when it takes nothing for a minute while sessions wait', async () => {
    const askLater = watch();

    expect((await askLater(10, { waiting: 3 })).alive).toBe(true);
    expect((await askLater(59)).alive).toBe(true);
    expect(await askLater(1)).toEqual({
      alive: false,
      reason: 'the worker has taken no session for 60 s, though 3 wait and it could',
    });
    expect((await askLater(1, { lastTakenAt: 70_500 })).alive).toBe(true);
  });

  it('a worker is alive while nothing waits, and its minute starts when something does', async () => {
    const askLater = watch();

    expect((await askLater(36_000)).alive).toBe(true);
    expect((await askLater(30, { waiting: 1 })).alive).toBe(true);
    expect((await askLater(40, { waiting: 0 })).alive).toBe(true);
    expect((await askLater(40, { waiting: 1 })).alive).toBe(true);
  });

  it('a worker is alive while it works on as much as it may, and while it is held on purpose', async () => {
    const askLater = watch();

    expect((await askLater(10, { waiting: 5, activeSessions: 16 })).alive).toBe(true);
    expect((await askLater(600)).alive).toBe(true);
    expect((await askLater(1, { activeSessions: 15, heldUntil: 2_000_000 })).alive).toBe(true);
    expect((await askLater(600)).alive).toBe(true);
    expect((await askLater(2_000, { heldUntil: undefined })).alive).toBe(true);
    expect((await askLater(60)).alive).toBe(false);
  });

  it('a worker is alive while the queue does not answer, and the check ends well within a second', async () => {
    const check = createLivenessCheck({
      activity: () => ({ lastTakenAt: 0, activeSessions: 0, concurrency: 1, heldUntil: undefined }),
      waiting: () => new Promise(() => undefined),
      checkMs: 10,
    });

    expect(await check()).toEqual({ alive: true });
  });

  it('a worker is alive while the queue cannot be reached, which another start would not fix', async () => {
    const askLater = watch();

    expect((await askLater(10, { waiting: new Error('connection refused') })).alive).toBe(true);
    expect((await askLater(600)).alive).toBe(true);
  });
});

describe('/livez', () => {
  let setup: ApiSetup;
  beforeAll(async () => {
    setup = await openApiSetup();
  });
  afterAll(() => setup.close());

  it('/livez answers 503 with the reason while the process does not do its work', async () => {
    let liveness: { alive: boolean; reason?: string } = { alive: false, reason: 'the worker is stuck' };
    const url = await setup.serve({ tokens: apiTokens('a-token') }, { liveness: async () => liveness });

    const { status, body } = await ask(url, '/livez');
    expect([status, body.code, body.detail]).toEqual([503, 'NOT_ALIVE', 'the worker is stuck']);

    liveness = { alive: true };
    expect(await ask(url, '/livez')).toMatchObject({ status: 200, body: { status: 'ok' } });
  });

  it('/livez reports a worker that is connected and takes nothing though a session waits, until it takes it', async () => {
    const { config, kore } = setup;
    const idle = await openRuntime(config, silent);
    const worker = await idle.startWorker(kore);
    await worker.ready();
    // It takes nothing more from now on, and does not know that: as if it were stuck.
    await worker.stop();
    const liveness = createLivenessCheck({
      activity: () => worker.activity(),
      waiting: () => idle.queue.takeable(),
      idleTimeoutMs: 100,
    });
    const url = await setup.serve({}, { liveness });
    expect((await ask(url, '/livez')).status).toBe(200);

    await ask(url, '/v1/sessions', { json: { sessionIds: [setup.sandbox.addSession()] } });

    await expect.poll(async () => (await ask(url, '/livez')).status).toBe(503);
    await setup.startWorker();
    await expect.poll(async () => (await ask(url, '/livez')).status).toBe(200);
    await idle.close();
  });
});
