import { afterAll, beforeAll, expect, it } from 'vitest';
import { jobId } from '../../src/jobs/session-job.ts';
import { type ApiSetup, ask, openApiSetup } from '../support/api-server.ts';

let setup: ApiSetup;
let url: string;
beforeAll(async () => {
  setup = await openApiSetup();
  url = await setup.serve();
});
afterAll(() => setup.close());

const numbered = (what: string, count: number) =>
  Array.from({ length: count }, (_, index) => `${what}-${index}`);
const post = async (body: object) => (await ask(url, '/v1/sessions', { json: body })).body;
/** How a session runs: `live`, or behind those. */
const statusOf = async (sessionId: string) => {
  const session = { sessionId, botId: setup.sandbox.botId };
  return (await setup.runtime.queue.statuses([session])).get(jobId(session));
};

it('a long list without a priority is queued behind live sessions, and the answer says so', async () => {
  const { rateLimit } = await setup.runtime.operations.stats();
  const { limit, windowSeconds } = rateLimit ?? { limit: 0, windowSeconds: 0 };

  const { moved } = await post({ sessionIds: numbered('long', 1_001) });
  expect(moved).toEqual({
    priority: 'backfill',
    reason: 'more than 1,000 sessions without a priority go behind live ones',
    secondsAtRateLimit: Math.ceil((1_001 * windowSeconds) / limit),
  });
  expect(await statusOf('long-7')).toBe('backfill');

  expect(await post({ sessionIds: numbered('short', 1_000) })).not.toHaveProperty('moved');
  expect(await statusOf('short-7')).toBe('live');
  expect(await post({ sessionIds: numbered('urgent', 1_001), priority: 'live' })).not.toHaveProperty('moved');
  expect(await statusOf('urgent-7')).toBe('live');
});
