import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BackfillView } from '../../src/backfills/operations.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { wavOf } from '../support/audio.ts';
import { hasLogged, type RunningCli, startCli } from '../support/cli.ts';
import { runInProcess } from '../support/in-process-command.ts';
import { createTestQueue, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory } from '../support/services.ts';

const MAY = ['--from', '2026-05-01', '--to', '2026-05-03T00:00:00Z'];

let sandbox: Sandbox;
let queue: TestQueue;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let env: Record<string, string>;

beforeAll(async () => {
  sandbox = await startSandbox();
  directory = await temporaryDirectory();
  queue = await createTestQueue('embedded');
  if (queue.config.target.kind !== 'embedded') throw new Error('an embedded queue was asked for');
  env = {
    ...sandboxEnvironment(sandbox),
    KORE_ACCOUNT_ID: sandbox.accountId,
    QUEUE_URL: `embedded:${queue.config.target.directory}`,
    ARCHIVE_URL: `file:${directory.path}`,
    // A recording that is no audio is given up at once.
    RECORDING_WAIT: '0',
  };
});

afterAll(async () => {
  await queue.remove();
  await directory.remove();
  await sandbox.close();
});

function add(hasVoicemail: boolean): string {
  const at = Date.UTC(2026, 4, 2) + sandbox.sessions.size * 1000;
  return sandbox.addSession({
    sessionId: makeSessionId(new Date(at)),
    recordings: hasVoicemail ? [{ content: wavOf(1_000) }] : [],
    transcription: 'Please call me back.',
  });
}

describe('commands beside a running start', () => {
  let service: RunningCli;
  let url: string;

  beforeAll(async () => {
    service = startCli(['start'], { env });
    await service.waitFor(hasLogged('taking sessions'));
    url = `http://127.0.0.1:${service.log.find(({ msg }) => msg === 'listening')?.port}`;
  });

  afterAll(async () => {
    service.kill('SIGTERM');
    expect((await service.ended).code).toBe(0);
  });

  it('backfill --dry-run names what is missing, and backfill --wait archives it', async () => {
    const missing = [add(true), add(true)];
    add(false);
    const dry = await runInProcess(['backfill', ...MAY, '--dry-run', '--json'], { env });
    expect(dry).toMatchObject({ code: 0 });
    const report = JSON.parse(dry.stdout) as BackfillView & { missingSessions: string[] };
    expect(report).toMatchObject({ state: 'listed', listed: 3, missing: 2, withoutVoicemail: 1, queued: 0 });
    expect(report.missingSessions.sort()).toEqual(missing.sort());

    const run = await runInProcess(['backfill', ...MAY, '--wait'], { env });
    expect(run).toMatchObject({ code: 0 });
    expect(run.stdout).toMatch(/archived by now +2\n/);
    const again = await runInProcess(['backfill', ...MAY, '--wait', '--json'], { env });
    expect(JSON.parse(again.stdout)).toMatchObject({ listed: 3, skipped: 2, queued: 0 });
  });

  it('backfill --wait ends with 1 when a session failed', async () => {
    sandbox.addSession({
      sessionId: makeSessionId(new Date(Date.UTC(2026, 5, 2))),
      recordings: [
        { content: wavOf(1_000), mediaFaults: [{ page: 'html', times: Number.POSITIVE_INFINITY }] },
      ],
    });
    const run = await runInProcess(['backfill', '--from', '2026-06-01', '--to', '2026-06-03', '--wait'], {
      env,
    });
    expect(run).toMatchObject({ code: 1, stderr: expect.stringContaining('1 session failed') });
  });

  it('the command schedule sets, lists and removes schedules', async () => {
    const set = ['schedule', 'set', 'nightly', '--cron', '0 3 * * *', '--lookback', '48h'];
    expect(await runInProcess(set, { env })).toMatchObject({ code: 0, stdout: 'nightly: set\n' });
    const list = await runInProcess(['schedule', 'list', '--json'], { env });
    expect(JSON.parse(list.stdout)).toEqual({
      schedules: [
        {
          name: 'nightly',
          cron: '0 3 * * *',
          lookbackMs: 172_800_000,
          nextRunAt: expect.stringMatching(/T03:00:00\.000Z$/),
        },
      ],
    });
    expect((await runInProcess(['schedule', 'list'], { env })).stdout).toMatch(
      /^nightly {2}0 3 \* \* \* {2}goes back 2d/,
    );
    const removed = await runInProcess(['schedule', 'remove', 'nightly', '--json'], { env });
    expect(JSON.parse(removed.stdout)).toEqual({ name: 'nightly', removed: true });
    expect(await runInProcess(['schedule', 'remove', 'nightly'], { env })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('there is no schedule nightly'),
    });
  });

  it('the API says what is wrong with a request for a backfill', async () => {
    const send = async (method: string, path: string, body?: unknown) => {
      const response = await fetch(url + path, {
        method,
        ...(body !== undefined && {
          body: JSON.stringify(body),
          headers: { 'content-type': 'application/json' },
        }),
      });
      return { status: response.status, text: await response.text() };
    };
    const turned = { from: '2026-05-03T00:00:00Z', to: '2026-05-01T00:00:00Z' };
    expect(await send('POST', '/v1/backfills', turned)).toMatchObject({
      status: 400,
      text: expect.stringContaining('before'),
    });
    expect(await send('POST', '/v1/backfills', { from: 'yesterday' })).toMatchObject({ status: 400 });
    expect(await send('GET', '/v1/backfills/bf-none')).toMatchObject({ status: 404 });
    const cron = { cron: '0 25 * * *', lookback: '48h' };
    expect(await send('PUT', '/v1/schedules/nightly', cron)).toMatchObject({
      status: 400,
      text: expect.stringContaining('no cron expression'),
    });
    expect(await send('PUT', '/v1/schedules/weekly', { cron: '0 4 * * sun', lookback: '14d' })).toMatchObject(
      {
        status: 200,
        text: expect.stringContaining('"nextRunAt"'),
      },
    );
    expect(await send('DELETE', '/v1/schedules/weekly')).toEqual({ status: 204, text: '' });
    expect(await send('DELETE', '/v1/schedules/weekly')).toMatchObject({ status: 404 });
    expect((await send('GET', '/v1/schedules')).text).toBe('{"schedules":[]}');
    expect((await send('GET', '/v1/backfills')).text).toContain('"state":"listed"');
    const description = await send('GET', '/openapi.json');
    expect(description.text).toContain('"/v1/backfills/{id}"');
    expect(description.text).toContain('"/v1/schedules/{name}"');
  });
});

describe('wrong usage', () => {
  it.each([
    [['backfill'], '--from'],
    [['backfill', '--from', 'yesterday'], 'like 2026-01-31'],
    [['backfill', '--from', '2026-05-02', '--to', '2026-05-01'], '--from must be before --to'],
    [['backfill', '--from', '2999-05-02'], '--from is in the future'],
    [['schedule', 'set', 'nightly', '--cron', 'daily', '--lookback', '48h'], 'no cron expression'],
    [['schedule', 'set', 'nightly', '--cron', '0 3 * * *'], '--lookback'],
  ])('wrong usage of backfill and schedule ends with exit code 2: %j', async (args, words) => {
    const run = await runInProcess(args, { env: {} });
    expect(run).toMatchObject({ code: 2, stderr: expect.stringContaining(words) });
  });
});
