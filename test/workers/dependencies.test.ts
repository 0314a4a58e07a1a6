/** Outages of some of those a service depends on, as people and programs see them: one real service, from outside. */

import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { ask } from '../support/api-server.ts';
import { wavOf } from '../support/audio.ts';
import { hasLogged, type RunningCli, startCli } from '../support/cli.ts';
import { runInProcess } from '../support/in-process-command.ts';
import { type MediaServer, respond, serve, startMediaServer } from '../support/media-server.ts';
import { createTestQueue, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory } from '../support/services.ts';

const WAIT_OPTIONS = { interval: 100, timeout: 100_000 };
const OPENED = 'a dependency is unavailable: nothing that needs it is begun until it works again';
const CLOSED = 'a dependency works again';

let queue: TestQueue;
let sandbox: Sandbox;
/** Another media host than that of the sandbox. */
let elsewhere: MediaServer;
let host: string;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let env: Record<string, string>;
let service: RunningCli;
let url: string;

beforeAll(async () => {
  [queue, sandbox, elsewhere, directory] = await Promise.all([
    createTestQueue('embedded'),
    startSandbox(),
    startMediaServer(),
    temporaryDirectory(),
  ]);
  host = `localhost:${new URL(elsewhere.origin).port}`;
  if (queue.config.target.kind !== 'embedded') throw new Error('an embedded queue was asked for');
  env = {
    ...sandboxEnvironment(sandbox),
    KORE_MEDIA_HOSTS: '127.0.0.1,localhost',
    QUEUE_URL: `embedded:${queue.config.target.directory}`,
    ARCHIVE_URL: `file:${directory.path}`,
    // No session is retried in time by its own pauses.
    RETRY_DELAY: '30m',
    POLL_DELAY: '30m',
  };
  service = startCli(['start'], { env });
  await service.waitFor(hasLogged('taking sessions'));
  url = `http://127.0.0.1:${service.log.find(({ msg }) => msg === 'listening')?.port}`;
}, 120_000);
afterAll(async () => {
  service.kill('SIGTERM');
  await service.ended;
  await Promise.all([queue.remove(), sandbox.close(), elsewhere.close(), directory.remove()]);
});

async function enqueue(...sessionIds: string[]): Promise<void> {
  const { status } = await ask(url, '/v1/sessions', { method: 'POST', json: { sessionIds } });
  expect(status).toBe(202);
}

const view = async (sessionId: string) =>
  (await ask(url, `/v1/sessions/${sessionId}`)).body as Readonly<Record<string, unknown>>;

async function reaches(state: string, ...sessionIds: string[]): Promise<void> {
  let views: unknown[] = [];
  const areThere = async () => {
    views = await Promise.all(sessionIds.map(view));
    return views.every((one) => (one as { state: string }).state === state);
  };
  await vi.waitUntil(areThere, WAIT_OPTIONS).catch((error: unknown) => {
    throw new Error(`not ${state}: ${JSON.stringify(views)}`, { cause: error });
  });
}

/** Everywhere that tells how a dependency stands. */
async function shown(dependency: string) {
  const [ready, stats, metrics, status] = await Promise.all([
    ask(url, '/readyz'),
    ask(url, '/v1/stats'),
    ask(url, '/metrics'),
    runInProcess(['status'], { env }),
  ]);
  const named = (list: unknown) =>
    (list as { dependency: string; state: string }[] | undefined)?.find(
      (one) => one.dependency === dependency,
    );
  const gauge = metrics.text
    .split('\n')
    .find((line) => line.startsWith(`voicemail_breaker_open{dependency="${dependency}"}`));
  return {
    readyz: [ready.status, named(ready.body.dependencies)?.state],
    stats: named(stats.body.breakers),
    metric: gauge?.split(' ').at(-1),
    status: status.stdout.split('\n').filter((line) => line.includes('is unavailable')),
  };
}

const outageEvents = (dependency: string) =>
  service.log.filter((line) => line.dependency === dependency).map(({ msg }) => msg);

const onOtherHost = () =>
  sandbox.addSession({ recordings: [{ fileUrl: `http://${host}/${Math.random()}.wav?s=signature` }] });

it('a single session finds the end of an outage of Kore, whatever wait it was given', async () => {
  sandbox.configure({ outage: { status: 503, retryAfter: 3_600 } });
  const sessionId = sandbox.addSession({});
  await enqueue(sessionId);
  await service.waitFor(() => outageEvents('kore').length > 0);
  await reaches('waiting', sessionId);
  expect(await view(sessionId)).toMatchObject({ attempts: 0, error: { code: 'KORE_UNAVAILABLE' } });
  expect(await shown('kore')).toEqual({
    readyz: [200, 'open'],
    stats: expect.objectContaining({ state: 'open', code: 'KORE_UNAVAILABLE' }),
    metric: '1',
    status: [expect.stringMatching(/^kore is unavailable for .*, sessions wait for it: .*503/)],
  });

  sandbox.configure({ outage: undefined });
  await reaches('archived', sessionId);
  expect(await shown('kore')).toEqual({
    readyz: [200, 'closed'],
    stats: { dependency: 'kore', state: 'closed' },
    metric: '0',
    status: [],
  });
  expect(outageEvents('kore')).toEqual([OPENED, CLOSED]);
}, 120_000);

it.each([
  ['that answers with errors', respond(503, 'away', { 'retry-after': 3_600 }), 'DOWNLOAD_FAILED'],
  [
    'that shows a page in place of audio',
    respond(200, '<!doctype html><title>Away</title>'),
    'RECORDING_NOT_AUDIO',
  ],
] as const)(
  'a media host %s keeps its own sessions waiting, and no others',
  async (_, away, code) => {
    const dependency = `media:${host}`;
    const before = outageEvents(dependency).length;
    elsewhere.handle(away);
    const waiting = Array.from({ length: 6 }, onOtherHost);
    await enqueue(...waiting);
    await service.waitFor(() => outageEvents(dependency).length > before);
    await reaches('waiting', ...waiting);
    const others = Array.from({ length: 3 }, () => sandbox.addSession({}));
    await enqueue(...others);
    await reaches('archived', ...others);
    for (const sessionId of waiting) expect(await view(sessionId)).toMatchObject({ attempts: 0 });
    expect(await shown(dependency)).toEqual({
      readyz: [200, 'open'],
      stats: expect.objectContaining({ state: 'open', code }),
      metric: '1',
      status: [expect.stringContaining(`${dependency} is unavailable for `)],
    });

    // In the middle of another recording when the host works again.
    const running = sandbox.addSession({
      recordings: [
        { bytes: 100_000, mediaFaults: [{ bytesPerSecond: 20_000 }] },
        { fileUrl: `http://${host}/late.wav?s=signature` },
      ],
    });
    await enqueue(running);
    await reaches('active', running);
    elsewhere.handle(serve(wavOf(20_000)));
    await reaches('archived', ...waiting, running);
    for (const sessionId of [...waiting, running])
      expect(await view(sessionId)).toMatchObject({ attempts: 1 });
    expect(await shown(dependency)).toMatchObject({ stats: undefined, status: [] });
    expect(outageEvents(dependency).slice(before)).toEqual([OPENED, CLOSED]);
  },
  120_000,
);

it('a session of which a part is lost for good shows what is missing, and counts as partial', async () => {
  const partial = async () => {
    const { text } = await ask(url, '/metrics');
    return Number(/^voicemail_sessions_partial_total(?:\{\})? (\d+)$/m.exec(text)?.[1]);
  };
  expect(await partial()).toBe(0);
  const sessionId = sandbox.addSession({
    recordings: [{ fileName: 'good.wav' }, { fileName: 'bad.wav', fileUrl: 'ftp://127.0.0.1/bad.wav' }],
  });
  await enqueue(sessionId);
  await reaches('failed', sessionId);

  const { stdout } = await runInProcess(['status', sessionId], { env });
  expect(stdout).toMatch(/^recording +.*good\.wav \(/m);
  expect(stdout).toMatch(/^missing +bad\.wav \(RECORDING_HOST_NOT_ALLOWED: /m);
  expect(await partial()).toBe(1);
}, 60_000);
