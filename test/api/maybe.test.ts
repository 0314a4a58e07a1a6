import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { createRemoteOperations } from '../../src/api/client.ts';
import { createMetrics } from '../../src/observability/metrics/metrics.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { VERSION } from '../../src/util/process.ts';
import { type ApiSetup, apiTokens, ask, openApiSetup } from '../support/api-server.ts';
import { runCli } from '../support/cli.ts';
import { silent } from '../support/queues.ts';

const TOKEN = 'the-token-of-the-api';
const HEADERS = { authorization: `Bearer ${TOKEN}` };
/** A session of that day has had time enough to show a voicemail. */
const LONG_AGO = Date.UTC(2026, 0, 5);

let setup: ApiSetup;
let url: string;
let metrics: ReturnType<typeof createMetrics>;
beforeAll(async () => {
  setup = await openApiSetup();
  url = await setup.serve({ tokens: apiTokens(TOKEN) });
  metrics = createMetrics({ stats: () => setup.runtime.operations.stats(), version: VERSION, log: silent });
  const worker = await setup.runtime.startWorker(setup.kore, metrics);
  await worker.ready();
  stopWorker = () => worker.stop();
});
let stopWorker: () => Promise<void> = async () => {};
afterAll(async () => {
  await stopWorker();
  await setup.close();
});

let days = 0;
/** The id of a session that began long ago, another one each time. */
const oldId = () => makeSessionId(new Date(LONG_AGO + days++ * 86_400_000));
const view = (sessionId: string) => setup.runtime.operations.view({ sessionId, botId: setup.sandbox.botId });
const isIn = (sessionId: string, state: string | undefined) =>
  vi.waitFor(async () => expect((await view(sessionId))?.state).toBe(state), { timeout: 60_000 });
const counted = async () =>
  Number(/^voicemail_sessions_without_voicemail_total (\d+)$/m.exec(await metrics.render())?.[1]);

it('a session enqueued as maybe is archived where it has a voicemail, and counted, not failed, where it has none', async () => {
  const withVoicemail = setup.sandbox.addSession({ sessionId: oldId() });
  const without = setup.sandbox.addSession({ sessionId: oldId(), recordings: [] });
  const unavailable = setup.sandbox.addSession({ sessionId: oldId(), statuses: ['media_unavailable'] });
  const unknown = oldId();
  const before = await counted();

  const answer = await ask(url, '/v1/sessions', {
    json: { sessionIds: [withVoicemail, without, unavailable, unknown], maybe: true },
    headers: HEADERS,
  });

  expect(answer.status).toBe(202);
  await isIn(withVoicemail, 'archived');
  for (const sessionId of [without, unavailable, unknown]) await isIn(sessionId, undefined);
  await vi.waitFor(async () => expect(await counted()).toBe(before + 3), { timeout: 60_000 });
  expect((await ask(url, '/v1/stats', { headers: HEADERS })).body).toMatchObject({ states: { failed: 0 } });
});

it('a session can be enqueued as maybe through the API of another process', async () => {
  const remote = createRemoteOperations(url, TOKEN);
  const { botId } = setup.sandbox;
  const sessionId = setup.sandbox.addSession({ sessionId: oldId(), recordings: [] });
  const before = await counted();

  const results = await remote.enqueue([{ sessionId, botId, maybe: true }]);

  expect(results).toEqual([{ sessionId, botId, outcome: 'queued' }]);
  await vi.waitFor(async () => expect(await counted()).toBe(before + 1), { timeout: 60_000 });
  await isIn(sessionId, undefined);
  await remote.close();
});

it('a maybe session that an older version queued, under its older name, is still one', async () => {
  const { botId } = setup.sandbox;
  const sessionId = setup.sandbox.addSession({ sessionId: oldId(), recordings: [] });
  const before = await counted();

  const data = { sessionId, botId, candidate: true };
  await setup.runtime.queue.bullmq.sessions.add('session', data, { jobId: `${botId}.${sessionId}` });

  await vi.waitFor(async () => expect(await counted()).toBe(before + 1), { timeout: 60_000 });
  await vi.waitFor(async () => expect(await view(sessionId)).toBeUndefined());
});

it('"enqueue --maybe --wait" ends with 0, and counts the sessions without voicemail', async () => {
  const withVoicemail = setup.sandbox.addSession({ sessionId: oldId() });
  const without = setup.sandbox.addSession({ sessionId: oldId(), recordings: [] });
  const { target, name, prefix } = setup.config.queue;
  const env = {
    KORE_BOT_ID: setup.sandbox.botId,
    QUEUE_URL: 'url' in target ? target.url : '',
    QUEUE_NAME: name,
    ...(prefix !== undefined && { QUEUE_PREFIX: prefix }),
    ARCHIVE_URL: `file:${'directory' in setup.config.archive ? setup.config.archive.directory : ''}`,
  };

  const run = await runCli(['enqueue', withVoicemail, without, '--maybe', '--wait'], { env });

  expect(run.stdout).toContain('ended: 1 archived, 1 without a voicemail, 0 failed');
  expect(run.code).toBe(0);
});
