import { randomBytes } from 'node:crypto';
import { access, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { accessQueue } from '../../src/cli/connect.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { type CliRun, hasLogged, type RunningCli, runCli, startCli } from '../support/cli.ts';
import { runInProcess } from '../support/in-process-command.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';

const CLIENT_SECRET = 'the-client-secret-of-the-tests';
const API_TOKEN = 'the-api-token-of-the-tests';

let sandbox: Sandbox;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
/** Everything any process wrote, to look for secrets in it. */
const written: string[] = [];
let ownerToken = '';

beforeAll(async () => {
  sandbox = await startSandbox({ clientSecret: CLIENT_SECRET });
  directory = await temporaryDirectory();
});

afterAll(async () => {
  await directory.remove();
  await sandbox.close();
});

/** An id that the sandbox does not know: it fails at once, with SESSION_NOT_FOUND. */
function unknownId(): string {
  return randomBytes(12).toString('hex');
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Waits until a program has ended, and keeps what it wrote. */
async function end(cli: RunningCli): Promise<CliRun> {
  const run = await cli.ended;
  written.push(run.stdout, run.stderr);
  return run;
}

describe('commands beside a start that holds the embedded queue', () => {
  let queue: TestQueue;
  let queueDirectory: string;
  let env: Record<string, string>;
  let service: RunningCli;

  beforeAll(async () => {
    queue = await createTestQueue('embedded');
    if (queue.config.target.kind !== 'embedded') throw new Error('an embedded queue was asked for');
    queueDirectory = queue.config.target.directory;
    env = {
      ...sandboxEnvironment(sandbox),
      QUEUE_URL: `embedded:${queueDirectory}`,
      ARCHIVE_URL: `file:${directory.path}/archive`,
      SHUTDOWN_GRACE: '20s',
    };
    service = startCli(['start'], { env: { ...env, API_TOKEN } });
    await service.waitFor(hasLogged('taking sessions'));
  });
  afterAll(async () => {
    service.kill('SIGKILL');
    await service.ended;
    await queue.remove();
  });

  const run = async (args: readonly string[], stdin?: string) => {
    const ended = await runInProcess(args, { env, ...(stdin !== undefined && { stdin }) });
    written.push(ended.stdout, ended.stderr);
    return ended;
  };

  it('a command finds the start that holds the embedded queue by a file that only its owner can read', async () => {
    const path = join(queueDirectory, 'owner.json');
    const owner = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;

    ownerToken = String(owner.token);
    expect(owner).toMatchObject({ pid: service.pid, defaultBotId: sandbox.botId });
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(service.log).toContainEqual(
      expect.objectContaining({ msg: 'listening', port: Number(new URL(String(owner.url)).port) }),
    );
    expect(service.log).toContainEqual(
      expect.objectContaining({
        msg: 'starting',
        queue: `embedded:${queueDirectory}`,
        archive: `file:${directory.path}/archive`,
      }),
    );
  });

  it('enqueue --wait ends when everything is archived', async () => {
    const ids = [
      sandbox.addSession({ transcription: 'Hello.' }),
      sandbox.addSession({ notReadyPolls: 2 }),
      sandbox.addSession({ recordings: [{ bytes: 400_000, mediaFaults: [{ breakAfterBytes: 100_000 }] }] }),
    ];

    const { code, stdout } = await run(['enqueue', ...ids, '--wait']);

    expect(code).toBe(0);
    for (const id of ids) expect(stdout).toMatch(new RegExp(`^${id} +queued$`, 'm'));
    expect(stdout).toContain('3 sessions: 3 queued\nended: 3 archived, 0 failed\n');

    const status = await run(['status', ...ids, '--json']);
    expect(status.code).toBe(0);
    const { sessions, unknown } = JSON.parse(status.stdout) as {
      sessions: { manifestKey: string }[];
      unknown: string[];
    };
    expect(unknown).toEqual([]);
    expect(sessions).toHaveLength(3);
    for (const { manifestKey } of sessions) {
      expect(await exists(join(directory.path, 'archive', manifestKey))).toBe(true);
    }
  });

  it('enqueue --wait names failed sessions with their codes, and ends with 1', async () => {
    const lost = unknownId();
    const fine = sandbox.addSession();

    const { code, stdout, stderr } = await run(['enqueue', lost, fine, '--wait', '--json']);

    expect(code).toBe(1);
    expect(stderr).toContain('error: 1 session failed');
    expect(JSON.parse(stdout)).toEqual({
      results: [
        { sessionId: lost, botId: sandbox.botId, outcome: 'queued' },
        { sessionId: fine, botId: sandbox.botId, outcome: 'queued' },
      ],
      counts: { queued: 2, requeued: 0, 'already-queued': 0, 'already-archived': 0 },
      badLines: { count: 0, first: [] },
      ended: {
        archived: 1,
        failed: 1,
        withoutVoicemail: 0,
        failures: [
          {
            sessionId: lost,
            botId: sandbox.botId,
            code: 'SESSION_NOT_FOUND',
            message: expect.stringMatching(/./),
          },
        ],
      },
    });
    const inWords = await run(['enqueue', lost, '--wait']);
    expect(inWords.stdout).toMatch(new RegExp(`^${lost} +requeued$`, 'm'));
    expect(inWords.stdout).toMatch(new RegExp(`^ {2}${lost} +SESSION_NOT_FOUND +\\S`, 'm'));
  });

  it('enqueue reads a list from standard input: plain, CSV or JSON lines', async () => {
    const [plain, csv, json, named] = [1, 2, 3, 4].map(() => sandbox.addSession());

    const first = await run(['enqueue', '-', '--wait'], `${plain}\n\n`);
    expect([first.code, first.stdout]).toEqual([0, '1 session: 1 queued\nended: 1 archived, 0 failed\n']);
    const second = await run(
      ['enqueue', '--file', '-', '--bot', 'st-not-meant', '--wait'],
      `botId,sessionId\n${sandbox.botId},${csv}\n`,
    );
    expect([second.code, second.stdout]).toEqual([0, '1 session: 1 queued\nended: 1 archived, 0 failed\n']);
    const third = await run(['enqueue', '-', '--wait'], `{"sessionId":"${json}"}\n"${named}"\n`);
    expect([third.code, third.stdout]).toEqual([0, '2 sessions: 2 queued\nended: 2 archived, 0 failed\n']);
  });

  it('enqueue queues the good lines of a file, names the bad ones, and ends with 1', async () => {
    const ids = [sandbox.addSession(), sandbox.addSession()];
    const file = join(directory.path, 'ids.txt');
    await writeFile(file, `${ids[0]}\nno id\n${ids[1]}\n\nneither/this\n`);

    const { code, stdout, stderr } = await run(['enqueue', '--file', file, '--wait']);

    expect(code).toBe(1);
    expect(stderr).toMatch(/^line 2: "no id" is no session id/m);
    expect(stderr).toMatch(/^line 5: "neither\/this" is no session id/m);
    expect(stderr).toContain('error: 2 lines could not be used; all other sessions are queued');
    expect(stdout).toBe('2 sessions: 2 queued\nended: 2 archived, 0 failed\n');
  });

  it('enqueue archives again only what is forced', async () => {
    const id = sandbox.addSession();
    await run(['enqueue', id, '--wait']);

    const again = await run(['enqueue', id, '--wait']);
    expect([again.code, again.stdout]).toEqual([
      0,
      `${id}  already archived\n1 session: 1 already archived\nended: 0 archived, 0 failed\n`,
    ]);
    const forced = await run(['enqueue', id, '--force', '--backfill', '--wait']);
    expect(forced.stdout).toContain('ended: 1 archived, 0 failed');
  });

  it('status and list show counts, lists and single sessions', async () => {
    const lost = unknownId();
    await run(['enqueue', lost, '--wait']);

    // Failures are counted by code at most every few seconds.
    await expect
      .poll(async () => (await run(['status'])).stdout)
      .toMatch(/\nfailed for: .*SESSION_NOT_FOUND \d/);
    const counts = await run(['status']);
    expect(counts.code).toBe(0);
    expect(counts.stdout).toMatch(
      /^queued +0\nactive +0\nwaiting +0\narchived +[1-9]\d*\nfailed +[1-9]\d*\n(.*\n)*All is well: /,
    );
    const stats = JSON.parse((await run(['status', '--json'])).stdout);
    expect(Object.keys(stats)).toEqual([
      'health',
      'states',
      'paused',
      'transcriptsPending',
      'backlog',
      'throughput',
      'failuresByCode',
      'rateLimit',
      'workers',
      'breakers',
    ]);
    expect(stats.failuresByCode.SESSION_NOT_FOUND).toBeGreaterThan(0);
    const list = await run([
      'status',
      '--state',
      'failed',
      '--code',
      'SESSION_NOT_FOUND',
      '--limit',
      '1',
      '--json',
    ]);
    expect(JSON.parse(list.stdout)).toMatchObject({
      sessions: [{ sessionId: lost, state: 'failed', error: { code: 'SESSION_NOT_FOUND' } }],
    });
    const single = await run(['status', lost]);
    expect(single.stdout).toMatch(/^state +failed$/m);
    expect(single.stdout).toMatch(/^last error +SESSION_NOT_FOUND: /m);
    const unknown = await run(['status', lost, 'never-seen']);
    expect(unknown.code).toBe(1);
    expect(unknown.stderr).toMatch(/error: .*never-seen/);
    expect(unknown.stdout).toContain(lost);
  });

  it('pause keeps sessions from being taken, cancel removes what waits, and resume ends the pause', async () => {
    const [first, second] = [sandbox.addSession(), sandbox.addSession()];
    expect((await run(['pause'])).stdout).toBe('the queue is paused\n');
    await run(['enqueue', first, second]);
    expect((await run(['status'])).stdout).toMatch(/^queued +2\n(.*\n)+the queue is paused: /);

    const dry = await run(['cancel', first, '--dry-run']);
    expect([dry.code, dry.stdout]).toEqual([0, `${first}  would be taken out of the queue\n`]);
    const one = await run(['cancel', first, '--json']);
    expect(JSON.parse(one.stdout)).toEqual({
      results: [{ sessionId: first, botId: sandbox.botId, outcome: 'cancelled' }],
    });
    const none = await run(['cancel', first]);
    expect([none.code, none.stdout]).toEqual([1, `${first}  unknown\n`]);
    expect((await run(['cancel', '--all', '--dry-run'])).stdout).toBe(
      '1 session would be taken out of the queue\n',
    );
    expect((await run(['cancel', '--backfills'])).stdout).toBe('0 sessions taken out of the queue\n');
    for (const wrong of [['cancel'], ['cancel', first, '--all'], ['cancel', '--code', 'NONE']]) {
      expect([wrong, (await run(wrong)).code]).toEqual([wrong, 2]);
    }

    expect((await run(['resume', '--json'])).stdout).toBe('{\n  "paused": false\n}\n');
    const ended = await run(['enqueue', second, '--wait']);
    expect(ended.stdout).toMatch(/already archived|ended: 1 archived, 0 failed/);
  });

  it('retry takes one session or all of a code, and nothing that has not failed', async () => {
    const lost = unknownId();
    const fine = sandbox.addSession();
    await run(['enqueue', lost, fine, '--wait']);

    const one = await run(['retry', lost]);
    expect([one.code, one.stdout]).toEqual([0, `${lost}  queued again\n`]);
    await run(['enqueue', lost, '--wait']);
    const none = await run(['retry', fine, 'never-seen', '--json']);
    expect(none.code).toBe(1);
    expect(JSON.parse(none.stdout)).toEqual({
      results: [
        { sessionId: fine, botId: sandbox.botId, outcome: 'not-failed' },
        { sessionId: 'never-seen', botId: sandbox.botId, outcome: 'unknown' },
      ],
    });
    const all = await run(['retry', '--code', 'SESSION_NOT_FOUND', '--json']);
    expect(all.code).toBe(0);
    expect(JSON.parse(all.stdout).requeued).toBeGreaterThan(0);
    expect((await run(['retry', '--code', 'RECORDING_EMPTY'])).stdout).toBe('0 sessions queued again\n');
  });

  it('a command does its work even when nobody reads its output', async () => {
    const id = sandbox.addSession();
    const cli = startCli(['enqueue', id, '--wait'], { env });
    cli.process.stdout.destroy();

    expect((await end(cli)).code).toBe(0);

    expect((await run(['status', id])).stdout).toMatch(/^state +archived$/m);
  });

  it('a second start refuses to run, and says which process holds the queue', async () => {
    const { code, stderr } = await run(['start']);

    expect(code).toBe(1);
    expect(stderr).toContain(`process ${service.pid} works on this embedded queue already`);
  });

  it('start ends with 0 on a signal, after its transfers, and removes its file', async () => {
    const slow = sandbox.addSession({
      recordings: [{ bytes: 300_000, mediaFaults: [{ bytesPerSecond: 200_000 }] }],
    });
    await run(['enqueue', slow]);
    await sandbox.waitFor((calls) =>
      calls.some((call) => call.sessionId === slow && call.bytesSent > 50_000),
    );

    service.kill('SIGTERM');
    const { code } = await end(service);

    expect(code).toBe(0);
    const messages = service.log.map(({ msg }) => msg);
    const last = messages.slice(messages.indexOf('stopping'));
    expect(last).toContain('archived');
    expect(last.at(-1)).toBe('stopped');
    expect(await exists(join(queueDirectory, 'owner.json'))).toBe(false);
  });

  it('a command opens the queue itself when nobody holds it, and does not wait for what nobody does', async () => {
    const id = sandbox.addSession();

    const waiting = await run(['enqueue', id, '--wait']);

    expect(waiting.code).toBe(1);
    expect(waiting.stdout).toContain('1 session: 1 queued');
    expect(waiting.stderr).toMatch(
      /error: the sessions are queued, but .*embedded.*voicemail-archiver start/,
    );
    expect((await run(['enqueue', id])).stderr).toContain('run "voicemail-archiver start"');
  });

  it('a command works after the holder of the queue was killed, leaving its file behind', async () => {
    const stalled = sandbox.addSession({ recordings: [{ mediaFaults: [{ stallAfterBytes: 1_000 }] }] });
    const first = startCli(['start'], { env });
    await first.waitFor(hasLogged('taking sessions'));
    await run(['enqueue', stalled]);
    await sandbox.waitFor((calls) =>
      calls.some((call) => call.sessionId === stalled && call.bytesSent >= 1_000),
    );

    first.kill('SIGTERM');
    await first.waitFor(hasLogged('stopping'));
    first.kill('SIGTERM');

    expect((await end(first)).code).toBe(1);
    expect(await exists(join(queueDirectory, 'owner.json'))).toBe(true);
    const status = await run(['status', stalled]);
    expect([status.code, status.stderr]).toEqual([0, '']);
    expect(await exists(join(queueDirectory, 'owner.json'))).toBe(false);
  });

  it('a command waits for a process that holds the queue without an API, and says so when it stays', async () => {
    const holder = await openBackend(queue.config, silent);
    const { config } = testConfig(env, queue.config);
    const signal = new AbortController().signal;

    const refused = accessQueue(config, { log: silent, signal, say: () => {}, holderWaitMs: 50 });
    await expect(refused).rejects.toThrow(/in use by another process, and that process has no API/);

    const patient = startCli(['status'], { env });
    await patient.waitFor(({ stderr }) => stderr.includes('waiting for that one'));
    await holder.close();
    expect((await end(patient)).code).toBe(0);
  });
});

describe('processes on a shared queue', () => {
  it('processes on a shared queue divide the work: one enqueues, one archives, one waits', async () => {
    const queue = await createTestQueue('redis');
    const { target, prefix, name } = queue.config;
    if (target.kind !== 'redis') throw new Error('a Redis queue was asked for');
    const env = {
      ...sandboxEnvironment(sandbox),
      QUEUE_URL: target.url,
      QUEUE_NAME: name,
      QUEUE_PREFIX: String(prefix),
      ARCHIVE_URL: `file:${directory.path}/shared-archive`,
      API_TOKEN,
    };
    const api = startCli(['api'], { env });
    const worker = startCli(['worker'], { env });
    await Promise.all([api.waitFor(hasLogged('listening')), worker.waitFor(hasLogged('taking sessions'))]);
    const port = api.log.find(({ msg }) => msg === 'listening')?.port;
    const ids = [sandbox.addSession(), sandbox.addSession()];

    const taken = await fetch(`http://127.0.0.1:${port}/v1/sessions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${API_TOKEN}`, 'content-type': 'application/json' },
      body: JSON.stringify({ sessionIds: [ids[0]] }),
    });
    const waited = await runInProcess(['enqueue', ...ids, '--wait', '--json'], { env });

    expect(taken.status).toBe(202);
    expect(waited.code).toBe(0);
    expect(JSON.parse(waited.stdout).results).toHaveLength(2);
    const shown = await runInProcess(['status', ...ids, '--json'], { env });
    expect(JSON.parse(shown.stdout).sessions.map(({ state }: { state: string }) => state)).toEqual([
      'archived',
      'archived',
    ]);
    api.kill('SIGINT');
    worker.kill('SIGTERM');
    expect([(await end(api)).code, (await end(worker)).code]).toEqual([0, 0]);
    await queue.remove();
  });

  it('enqueue reads a list of any length as it comes', async () => {
    const queue = await createTestQueue('redis');
    const { target, prefix, name } = queue.config;
    if (target.kind !== 'redis') throw new Error('a Redis queue was asked for');
    const env = {
      KORE_BOT_ID: sandbox.botId,
      QUEUE_URL: target.url,
      QUEUE_NAME: name,
      QUEUE_PREFIX: String(prefix),
      ARCHIVE_URL: `file:${directory.path}/shared-archive`,
    };
    const ids = Array.from({ length: 2_500 }, unknownId);
    const list = new PassThrough();
    const cli = startCli(['enqueue', '-', '--json'], { env, stdin: list });

    list.write(`${ids.slice(0, 2_000).join('\n')}\n`);
    await cli.waitFor(({ stdout }) => stdout.includes(`"${ids[0]}"`));
    list.end(ids.slice(2_000).join('\n'));
    const { code, stdout, stderr } = await end(cli);

    expect(code).toBe(0);
    const { results, counts, moved } = JSON.parse(stdout) as Record<string, { sessionId: string }[]>;
    expect(results?.map(({ sessionId }) => sessionId)).toEqual(ids);
    expect(counts).toMatchObject({ queued: ids.length });
    // Without a priority so many go behind live sessions; by the default of 60 calls in 60 s.
    expect(moved).toEqual({ priority: 'backfill', secondsAtRateLimit: ids.length });
    expect(stderr).toContain('More than 1,000 sessions: they go behind live ones');
    expect(stderr).toContain('At the rate limit (60 calls in 1m) they take about 41m 40s.');
    await queue.remove();
  });
});

describe('the sandbox command', () => {
  it('the command sandbox prints how to use it, answers requests, and ends with 0', async () => {
    const cli = startCli(['sandbox', '--port', '0', '--json']);
    await cli.waitFor(({ stdout }) => stdout.endsWith('}\n'));
    const { url, environment, sessions } = JSON.parse(cli.stdout);

    expect(environment).toMatchObject({
      KORE_HOST: url,
      KORE_ALLOW_PRIVATE_MEDIA: 'true',
      KORE_MEDIA_HOSTS: '127.0.0.1',
    });
    expect(sessions.length).toBeGreaterThan(5);
    const path = `/api/public/bot/${environment.KORE_BOT_ID}/voicemail?sessionId=${sessions[0].sessionId}`;
    expect((await fetch(`${url}${path}`)).status).toBe(401);
    cli.kill('SIGINT');
    expect((await cli.ended).code).toBe(0);
  });

  it('the command sandbox writes a .env that works as it is', async () => {
    const cli = startCli(['sandbox', '--port', '0', '--client-secret', CLIENT_SECRET]);
    await cli.waitFor(({ stdout }) => stdout.includes('ordinary voicemail'));
    const home = await temporaryDirectory();
    await writeFile(join(home.path, '.env'), cli.stdout);

    // Nothing is wrong with it if all that is missing is a shared queue.
    const { code, stderr } = await runCli(['worker'], { cwd: home.path });

    expect(code).toBe(2);
    expect(stderr.match(/^ {2}[A-Z_]+:/gm)).toEqual(['  QUEUE_URL:']);
    cli.kill('SIGTERM');
    expect((await cli.ended).code).toBe(0);
    await home.remove();
  });
});

describe('a fault of the program itself', () => {
  it.each([
    ['an exception', 'throw new Error("see https://kore.example/a?s=signature")'],
    ['a rejection', 'Promise.reject(new Error("see https://kore.example/a?s=signature"))'],
  ])('%s that nobody caught is logged without secrets, and ends the program with 1', async (_name, fault) => {
    const preload = `process.on('SIGUSR2', () => { ${fault} })`;
    const cli = startCli(['sandbox', '--port', '0', '--json'], {
      env: { NODE_OPTIONS: `--import=data:text/javascript;base64,${btoa(preload)}` },
    });
    await cli.waitFor(({ stdout }) => stdout.endsWith('}\n'));

    cli.kill('SIGUSR2');
    const { code, stderr } = await end(cli);

    expect(code).toBe(1);
    expect(cli.log).toContainEqual(expect.objectContaining({ level: 'fatal' }));
    expect(stderr).toContain('https://kore.example/a?[redacted]');
    expect(stderr).not.toContain('signature');
  });
});

describe('the output of all these processes', () => {
  it('the output of all these processes holds no secret, no token and no signed URL', () => {
    const everything = written.join('\n');
    expect(everything.length).toBeGreaterThan(10_000);
    expect(everything).not.toContain(CLIENT_SECRET);
    expect(everything).not.toContain(API_TOKEN);
    expect(ownerToken).toHaveLength(43);
    expect(everything).not.toContain(ownerToken);
    expect(everything).not.toMatch(/eyJ[\w-]+\.[\w-]+\./);
    expect(everything).not.toMatch(/[?&](e|n|s|X-Amz-Signature)=[^[]/);
  });
});
