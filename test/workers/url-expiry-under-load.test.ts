import { afterAll, beforeAll, expect, it } from 'vitest';
import { wavOf } from '../support/audio.ts';
import { openSetup, type Setup } from '../support/pipeline.ts';
import { reportUrlUse } from '../support/url-use.ts';

let setup: Setup;
beforeAll(async () => {
  setup = await openSetup('redis', 'file');
});
afterAll(() => setup.close());

/** Far longer than a download waits, and far shorter than all of them take together on a slow machine. */
const LIFE_SECONDS = 60;
const SESSIONS = 150;

it('no URL expires unseen when many sessions arrive at once', async () => {
  const pipeline = await setup.start({ sandbox: { urlLifetimeSeconds: LIFE_SECONDS }, startWorker: false });
  const content = wavOf(1_000);
  const lives = new Map<string, readonly number[]>();
  const ids = Array.from({ length: SESSIONS }, (_, index) => {
    // Some have expired when they are issued, some twice.
    const lifetimeSeconds = [...[-10, -10].slice(0, index % 10 < 2 ? 1 + (index % 10) : 0), LIFE_SECONDS];
    const sessionId = pipeline.sandbox.addSession({
      recordings: [{ content, lifetimeSeconds }],
      transcription: 'Please call me back.',
    });
    lives.set(sessionId, lifetimeSeconds);
    return sessionId;
  });
  await pipeline.enqueue(...ids);
  await pipeline.startWorker();
  for (const id of ids) expect((await pipeline.ends(id)).state).toBe('archived');
  const storm = reportUrlUse(pipeline.sandbox.calls, (sessionId, answer) => {
    const own = lives.get(sessionId) ?? [];
    return own[Math.min(answer, own.length - 1)] ?? 0;
  });
  await pipeline.stop();
  const expired = [...lives.values()].reduce((sum, own) => sum + own.length - 1, 0);
  expect(storm).toMatchObject({ expired, unseen: 0, metadataCalls: SESSIONS + expired });
  expect(storm.secondsLeft).toHaveLength(SESSIONS);
  expect(Math.min(...storm.secondsLeft)).toBeGreaterThan(0);
});
