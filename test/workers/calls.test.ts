/** How many calls to Kore a session costs, counted at the sandbox, with the default settings. */

import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { type FastClock, startOnFastClock } from '../support/fast-clock.ts';
import { createTestQueue, type TestQueue } from '../support/queues.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const START = Date.UTC(2026, 0, 5, 9);
const ASKING = ['voicemail', 'calls', 'sessions'];
const RECORDINGS = [{ seconds: 0.1 }];
const SPOKEN = 'Please call me back.';

let queue: TestQueue;
beforeAll(async () => {
  queue = await createTestQueue('redis');
});
afterAll(() => queue.remove());

describe.each([
  ['with call details', { KORE_ACCOUNT_ID: 'o-1' }],
  ['without call details', {}],
] as const)('%s', (_, environment) => {
  let time: FastClock;
  beforeAll(async () => {
    if (queue.config.target.kind !== 'redis') throw new Error('the queue is on Redis');
    const redisUrl = queue.config.target.url;
    time = await startOnFastClock(START, { redisUrl, queueName: `calls-${randomUUID()}`, environment });
  });
  afterAll(() => time.stop());

  let from = 0;
  beforeEach(() => {
    from = time.sandbox.calls.length;
  });
  /** Minutes since the test began of each call so far. */
  const calls = (route?: string, sessionId?: string) =>
    time.sandbox.calls
      .slice(from)
      .filter((call) => (route ? call.route === route : ASKING.includes(call.route)))
      .filter((call) => sessionId === undefined || call.sessionId === sessionId);
  const ageOfLast = (began: number) => ((calls().at(-1)?.at ?? 0) - began) / MINUTE_MS;
  const newId = (agoMs = 0) => makeSessionId(new Date(Date.now() - agoMs));

  it('a session that is ready costs one call, and one check after SETTLE_WAIT', async () => {
    const began = Date.now();
    const sessionId = time.sandbox.addSession({ recordings: RECORDINGS, transcription: SPOKEN });
    await time.request([{ sessionId }]);
    await time.runUntil(began + 50 * MINUTE_MS);
    expect(calls()).toHaveLength(1);
    await time.runUntil(began + 40 * HOUR_MS);
    expect(calls()).toHaveLength(2);
    expect(ageOfLast(began)).toBeCloseTo(60, 0);
  });

  it('a transcript and a recording that come late share a check', async () => {
    const began = Date.now();
    const sessionId = time.sandbox.addSession({
      recordings: [...RECORDINGS, { seconds: 0.2, afterPolls: 1 }],
      transcription: { texts: [SPOKEN], afterPolls: 1 },
    });
    await time.request([{ sessionId }]);
    await time.runUntil(began + 50 * MINUTE_MS);
    expect(calls()).toHaveLength(2);
    const session = { sessionId, botId: time.sandbox.botId };
    expect(await time.runtime.operations.view(session)).toMatchObject({
      transcript: 'archived',
      recordings: [{}, {}],
    });
    await time.runUntil(began + 40 * HOUR_MS);
    expect(calls()).toHaveLength(3);
  });

  it('a transcript that never comes costs a check an hour for a day, and the settling check is one of them', async () => {
    const began = Date.now();
    const sessionId = time.sandbox.addSession({ recordings: RECORDINGS });
    await time.request([{ sessionId }]);
    await time.runUntil(began + 40 * HOUR_MS);
    // Some more at the beginning, which grow apart.
    expect(calls().length).toBeLessThanOrEqual(24 + 7);
    expect(ageOfLast(began)).toBeCloseTo(24 * 60, 0);
    const view = await time.runtime.operations.view({ sessionId, botId: time.sandbox.botId });
    expect(view?.transcript).toBe('absent');
  });

  it('a transcript of an old session is polled for some minutes, not for a day', async () => {
    const began = Date.now();
    const sessionId = time.sandbox.addSession({ sessionId: newId(72 * HOUR_MS), recordings: RECORDINGS });
    await time.request([{ sessionId }]);
    await time.runUntil(began + 40 * HOUR_MS);
    expect(calls().length).toBeLessThanOrEqual(4);
    expect(ageOfLast(began)).toBeCloseTo(10, 0);
  });

  it('sessions that may have no voicemail are distinguished by call details, many with a call', async () => {
    const began = Date.now();
    const ids = Array.from({ length: 40 }, () => newId(1_000));
    for (const [index, sessionId] of ids.entries()) {
      const recordings = index % 4 === 0 ? RECORDINGS : [];
      time.sandbox.addSession({ sessionId, recordings, transcription: SPOKEN });
    }
    await time.request(ids.map((sessionId) => ({ sessionId, maybe: true })));
    await time.runUntil(began + 55 * MINUTE_MS);
    if ('KORE_ACCOUNT_ID' in environment) {
      // Those with a voicemail, the first two of the ten minutes, and a listing with each of five polls.
      expect(calls('voicemail').length).toBeLessThanOrEqual(14);
      expect(calls('calls').length).toBeLessThanOrEqual(7);
    } else {
      expect(calls('calls')).toHaveLength(0);
      expect(calls('voicemail').length).toBeLessThanOrEqual(10 + 5 * 30);
    }
    await time.runUntil(began + 40 * HOUR_MS);
    const { states } = await time.runtime.operations.stats();
    expect(states).toMatchObject({ failed: 0, waiting: 0, queued: 0 });
    for (const [index, sessionId] of ids.entries()) {
      const view = await time.runtime.operations.view({ sessionId, botId: time.sandbox.botId });
      expect(view?.state).toBe(index % 4 === 0 ? 'archived' : undefined);
    }
  });

  it('a backfill knows from the listing when a session began whose id does not say it', async () => {
    const began = Date.now();
    const startedAt = new Date(began - 30 * HOUR_MS);
    const sessionId = `no-object-id-${randomUUID()}`;
    // Whether it has a voicemail the row does not tell.
    time.sandbox.addSession({ sessionId, recordings: [], listing: { startedAt, isVoicemail: null } });
    const { id } = await time.runtime.backfills.start({
      botId: time.sandbox.botId,
      from: new Date(began - 31 * HOUR_MS).toISOString(),
      to: new Date(began - 29 * HOUR_MS).toISOString(),
    });
    await vi.waitFor(
      async () => expect(await time.runtime.backfills.view(id)).toMatchObject({ state: 'listed', queued: 1 }),
      { timeout: 60_000 },
    );
    await time.runUntil(began + 40 * HOUR_MS);
    expect(calls('voicemail', sessionId)).toHaveLength(1);
  });

  it('an archived session costs no call when it is queued again', async () => {
    const ids = Array.from({ length: 5 }, () =>
      time.sandbox.addSession({
        sessionId: newId(2 * HOUR_MS),
        recordings: RECORDINGS,
        transcription: SPOKEN,
      }),
    );
    await time.request(ids.map((sessionId) => ({ sessionId })));
    await time.runUntil(Date.now() + HOUR_MS);
    expect(calls()).toHaveLength(5);
    await time.request(ids.map((sessionId) => ({ sessionId })));
    await time.runUntil(Date.now() + 40 * HOUR_MS);
    expect(calls()).toHaveLength(5);
  });
});
