import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { wavOf } from '../support/audio.ts';
import { openSetup, type Setup } from '../support/pipeline.ts';

let setup: Setup;
beforeAll(async () => {
  setup = await openSetup('redis', 'file');
});
afterAll(() => setup.close());

/** Longer than a running session waits for a call, so that sessions go back into the queue. */
const RATE = { calls: 8, windowMs: 4_500 };
const CONCURRENCY = 3;
const SESSIONS = 24;

it('sessions that find the limit on calls reached wait, and keep their place', async () => {
  const pipeline = await setup.start({
    work: { concurrency: CONCURRENCY },
    kore: { rateLimit: RATE },
    startWorker: false,
  });
  const content = wavOf(500);
  const ids = Array.from({ length: SESSIONS }, () =>
    pipeline.sandbox.addSession({ recordings: [{ content }], transcription: 'Please call me back.' }),
  );
  await pipeline.enqueue(...ids);
  await pipeline.startWorker();
  const { operations } = pipeline;
  await vi.waitFor(async () => expect((await operations.stats()).states.waiting).toBeGreaterThan(0), 10_000);
  const { sessions } = await operations.list({ state: 'waiting' });
  for (const { nextAttemptAt, error } of sessions) {
    expect(nextAttemptAt).toBeDefined();
    expect(error?.code).toBe('KORE_RATE_LIMITED');
  }
  for (const id of ids) expect((await pipeline.ends(id)).state).toBe('archived');
  const asked = pipeline.sandbox.calls.flatMap(({ route, sessionId }) =>
    route === 'voicemail' && sessionId !== undefined ? [sessionId] : [],
  );
  expect(pipeline.log.some((line) => line.includes('"code":"KORE_RATE_LIMITED"'))).toBe(true);
  await pipeline.stop();
  expect(asked).toHaveLength(SESSIONS);
  // Those that run at the same time may overtake each other, and those that are taken as the wait ends.
  for (const [place, id] of asked.entries()) {
    expect(Math.abs(place - ids.indexOf(id))).toBeLessThan(2 * CONCURRENCY);
  }
});
