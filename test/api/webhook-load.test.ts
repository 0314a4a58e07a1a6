import { expect, it, vi } from 'vitest';
import { ask, openApiSetup } from '../support/api-server.ts';
import { wavOf } from '../support/audio.ts';

const SESSIONS = 1_000;
const SENDERS = 100;

it('a thousand notifications, a hundred at a time, are each answered 202 and archived once while a worker runs', async () => {
  const { sandbox, runtime, startWorker, serve, close } = await openApiSetup();
  const content = wavOf(1_000);
  const sessionIds = Array.from({ length: SESSIONS }, () =>
    sandbox.addSession({ recordings: [{ content }] }),
  );
  const url = await serve({ webhook: { secrets: ['the-secret'], sessionIdPaths: ['/metaInfo/sessionId'] } });
  await startWorker();

  const statuses: number[] = [];
  const left = sessionIds.values();
  const sender = async () => {
    for (const sessionId of left) {
      const notification = { json: { metaInfo: { sessionId } }, headers: { auth: 'the-secret' } };
      statuses.push((await ask(url, '/webhooks/voicemail', notification)).status);
    }
  };
  await Promise.all(Array.from({ length: SENDERS }, sender));

  expect(statuses).toEqual(sessionIds.map(() => 202));
  await vi.waitFor(
    async () => {
      const { states } = await runtime.operations.stats();
      expect(states).toEqual({ queued: 0, active: 0, waiting: 0, failed: 0, archived: SESSIONS });
    },
    { timeout: 90_000, interval: 500 },
  );
  const downloaded = sandbox.calls.filter(({ route }) => route === 'media').map((call) => call.sessionId);
  expect(downloaded.toSorted()).toEqual(sessionIds.toSorted());
  await close();
}, 120_000);
