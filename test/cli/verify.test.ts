import { readdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { parseManifest } from '../../src/storage/documents.ts';
import { manifestKey } from '../../src/storage/layout.ts';
import { openStore } from '../../src/storage/open.ts';
import type { Finding } from '../../src/verification/findings.ts';
import type { SessionWorker } from '../../src/workers/worker.ts';
import { archiveDirectly, type StoredSession } from '../support/archived-sessions.ts';
import { wavOf } from '../support/audio.ts';
import { startCli } from '../support/cli.ts';
import { runInProcess } from '../support/in-process-command.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';

const LONG_AGO = new Date(Date.UTC(2026, 0, 1));

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

beforeAll(async () => {
  directory = await temporaryDirectory();
});
afterAll(() => directory.remove());

/** Makes all files so old that nothing of them is still going on. */
async function age(path: string): Promise<void> {
  for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) await utimes(join(entry.parentPath, entry.name), LONG_AGO, LONG_AGO);
  }
}

interface Report {
  readonly findings: readonly Finding[];
  readonly sessions: number;
  readonly complete: boolean;
  readonly counts: Readonly<Record<string, number>>;
  readonly repair?: { readonly queued: number; readonly alreadyQueued: number };
}

/** Runs `verify --json`. */
async function verify(env: Readonly<Record<string, string>>, ...args: string[]) {
  const run = await runInProcess(['verify', '--json', ...args], { env });
  expect(run.stdout, run.stderr).not.toBe('');
  return { code: run.code, stderr: run.stderr, report: JSON.parse(run.stdout) as Report };
}

describe('verify', () => {
  let archived: StoredSession[];
  let path: string;
  let env: Record<string, string>;

  beforeAll(async () => {
    path = join(directory.path, 'archive');
    env = { ARCHIVE_URL: `file:${path}` };
    const store = await openStore({ kind: 'file', directory: path });
    archived = [];
    for (const day of [1, 2, 3, 4, 5]) {
      const sessionId = makeSessionId(new Date(Date.UTC(2026, 4, day)));
      archived.push(await archiveDirectly(store, { botId: 'st-1', sessionId }));
    }
    await age(path);
  });

  it('verify says that nothing is wrong, and needs no configuration but the archive', async () => {
    const run = await runInProcess(['verify'], { env });
    expect(run).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^5 sessions, 20 objects, [\d,]+ bytes: nothing is wrong\n$/),
      stderr: '',
    });
    const [first] = archived;
    const id = first?.session.sessionId ?? '';
    expect(await verify(env, id, '--bot', 'st-1')).toMatchObject({
      code: 0,
      report: { findings: [], sessions: 1, complete: true },
    });
    expect(await verify(env, '--from', '2026-05-02', '--to', '2026-05-04')).toMatchObject({
      report: { sessions: 2 },
    });
  });

  it('verify continues after it was killed, and names all it has found', { timeout: 120_000 }, async () => {
    const checkpoint = join(directory.path, 'checkpoint');
    const [first, second, third, , fifth] = archived;
    if (!first || !second || !third || !fifth) throw new Error('there are five');
    const flipped = join(path, first.recordingKeys[0]);
    const bytes = await readFile(flipped);
    await writeFile(
      flipped,
      bytes.map((byte, index) => (index === 999 ? byte ^ 1 : byte)),
    );
    await rm(join(path, second.recordingKeys[0]));
    await rm(join(path, fifth.manifestKey));
    await age(path);
    // What was just written is waited for, so it is in the middle when it is killed.
    const held = join(path, third.recordingKeys[0]);
    await rename(held, `${held}.away`);
    await writeFile(held, 'half');
    const soon = new Date(Date.now() + 60_000);
    await utimes(held, soon, soon);
    const args = ['--checkpoint', checkpoint, '--concurrency', '1'];
    const killed = startCli(['verify', ...args], { env });
    await killed.waitFor(({ stdout }) => stdout.includes('missing'));
    await vi.waitFor(async () => expect(await readFile(checkpoint, 'utf8')).toContain('missing'), {
      timeout: 60_000,
    });
    killed.kill('SIGKILL');
    await killed.ended;
    await rm(held);
    await rename(`${held}.away`, held);
    // What was found is not lost, nor checked again.
    await writeFile(flipped, bytes);

    expect(await runInProcess(['verify', ...args, '--from', '2026-05-01'], { env })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('other sessions or dates'),
    });
    const { code, report } = await verify(env, ...args);
    expect(code).toBe(1);
    expect(report.findings.map(({ kind, key }) => `${kind} ${key}`)).toEqual([
      `changed ${first.recordingKeys[0]}`,
      `missing ${second.recordingKeys[0]}`,
      ...[fifth.recordingKeys[0], fifth.transcriptKey, fifth.recordingKeys[1]].map(
        (key) => `orphaned ${key}`,
      ),
    ]);
    expect(report).toMatchObject({
      sessions: 5,
      complete: true,
      counts: { missing: 1, changed: 1, unreadable: 0, partial: 0, orphaned: 3 },
    });
    await expect(readFile(checkpoint)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('verify writes a line for each finding, and ends with 1', async () => {
    await writeFile(join(path, 'bot_id=st-1', 'odd\u001b[2Jname'), 'x');
    await age(path);
    const run = await runInProcess(['verify'], { env });
    expect(run.code).toBe(1);
    expect(run.stderr).toContain('5 findings in file:');
    const lines = run.stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(6);
    expect(lines[1]).toMatch(
      /^missing {5}bot_id=st-1\/date=2026-05-02\/session_id=\w+\/one\.wav {2}its manifest/,
    );
    expect(lines[0]).toContain('odd\\u{1b}[2Jname');
    expect(lines[5]).toMatch(/: 1 missing, 0 changed, 0 unreadable, 0 partial, 4 orphaned$/);
  });

  it('verify does not take a missing directory for an archive in which nothing is wrong', async () => {
    const run = await runInProcess(['verify'], { env: { ARCHIVE_URL: `file:${path}-unmounted` } });
    expect(run).toMatchObject({ code: 1, stderr: expect.stringContaining('there is no archive in') });
  });

  it.each([
    [['verify', 'some-id'], 'which bot?'],
    [['verify', 'some-id', '--bot', 'st-1', '--from', '2026-05-01'], 'either ids, or --from and --to'],
    [['verify', '--from', '2026-05-02', '--to', '2026-05-02'], '--from must be before --to'],
    [['verify', '--to', 'tomorrow'], 'like 2026-01-31'],
    [['verify', '--to', '2026-02-30'], 'like 2026-01-31'],
    [['verify', '--concurrency', '0'], 'whole number from 1'],
    [['verify', '--checkpoint', '/nowhere/at/all'], "/nowhere/at/all can't be read and written (ENOENT)"],
  ])('wrong usage of verify ends with exit code 2: %j', async (args, words) => {
    expect(await runInProcess(args, { env })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(words),
    });
  });
});

describe('verify --repair', () => {
  let sandbox: Sandbox;
  let queue: TestQueue;
  let runtime: Runtime;
  let worker: SessionWorker;
  let path: string;
  let env: Record<string, string>;

  beforeAll(async () => {
    path = join(directory.path, 'repaired');
    [sandbox, queue] = await Promise.all([startSandbox(), createTestQueue('redis')]);
    const { target, prefix = '', name } = queue.config;
    if (target.kind !== 'redis') throw new Error('Redis was asked for');
    env = { ARCHIVE_URL: `file:${path}`, QUEUE_URL: target.url, QUEUE_PREFIX: prefix, QUEUE_NAME: name };
    const { config, kore } = testConfig({ ...sandboxEnvironment(sandbox), ...env }, queue.config);
    runtime = await openRuntime(config, silent);
    worker = await runtime.startWorker(kore);
    await worker.ready();
  });
  afterAll(async () => {
    await worker.stop();
    await runtime.close();
    await queue.remove();
    await sandbox.close();
  });

  /** Waits until a session has ended so. */
  const ends = async (sessionId: string, state: 'archived' | 'failed') => {
    const isSo = async () =>
      (await runtime.operations.view({ botId: sandbox.botId, sessionId }))?.state === state;
    await vi.waitUntil(isSo, { interval: 20, timeout: 60_000 });
  };

  it('verify --repair retries only the missing part of a session that is saved in part', {
    timeout: 120_000,
  }, async () => {
    const { botId } = sandbox;
    const page = { page: 'html', times: Number.POSITIVE_INFINITY } as const;
    const sessionId = sandbox.addSession({
      recordings: [{ fileName: 'one.wav' }, { fileName: 'two.wav', mediaFaults: [page] }],
      transcription: 'Please call me back.',
    });
    await runtime.operations.enqueue([{ botId, sessionId }]);
    const isPartial = async () =>
      (await runtime.operations.view({ botId, sessionId }))?.error?.code === 'RECORDING_NOT_AUDIO';
    await vi.waitUntil(isPartial, { interval: 20, timeout: 60_000 });
    // As if it had failed long ago, and the queue had forgotten it.
    await vi.waitUntil(async () => (await runtime.operations.cancel({ botId, sessionId })) === 'cancelled', {
      interval: 20,
      timeout: 60_000,
    });
    const media = () =>
      sandbox.calls.filter((call) => call.route === 'media' && call.sessionId === sessionId);
    const downloads = media().filter((call) => call.route === 'media' && call.recording === 0).length;
    expect(downloads).toBe(1);
    sandbox.session(sessionId).recordings[1]?.faults.clear();
    await age(path);
    const { report } = await verify(env, '--repair');
    expect(report.counts).toMatchObject({ partial: 1, changed: 0, missing: 0 });
    expect(report.repair).toEqual({ queued: 1, alreadyQueued: 0 });
    await ends(sessionId, 'archived');
    expect(media().filter((call) => call.route === 'media' && call.recording === 0)).toHaveLength(downloads);
  });

  it('verify --repair fixes all that Kore still has, and leaves the rest as it is', {
    timeout: 120_000,
  }, async () => {
    const { botId } = sandbox;
    const ids = Array.from({ length: 6 }, () =>
      sandbox.addSession({ recordings: [{ content: wavOf(2_000) }], transcription: 'Please call me back.' }),
    );
    await runtime.operations.enqueue(ids.map((sessionId) => ({ botId, sessionId })));
    for (const id of ids) await ends(id, 'archived');
    const store = await openStore({ kind: 'file', directory: path });
    const gone = await archiveDirectly(store, { botId, sessionId: makeSessionId(LONG_AGO) });

    const at = (key: string) => join(path, key);
    const manifests = await Promise.all(
      ids.map(async (sessionId) => {
        const key = manifestKey({ botId, sessionId });
        return { key, ...parseManifest(await readFile(at(key)), key) };
      }),
    );
    const recordingOf = (index: number) => at(manifests[index]?.recordings[0]?.key ?? '');
    const manifestOf = (index: number) => at(manifests[index]?.key ?? '');
    await writeFile(recordingOf(0), 'changed');
    await rm(recordingOf(1));
    await rm(manifestOf(2));
    await writeFile(manifestOf(3), '{');
    await writeFile(at(manifests[4]?.transcript.key ?? ''), '{}');
    await writeFile(at(gone.recordingKeys[0]), 'changed');
    await writeFile(at('foreign'), 'x');
    await age(path);
    const before = await readFile(at(gone.manifestKey));

    const first = await verify(env, '--repair');
    expect(first.code).toBe(1);
    expect(first.report.counts).toEqual({
      missing: 1,
      changed: 3,
      unreadable: 1,
      partial: 0,
      orphaned: 3,
      forged: 0,
      unlisted: 0,
    });
    expect(first.report.repair).toEqual({ queued: 6, alreadyQueued: 0 });
    await ends(gone.session.sessionId, 'failed');
    for (const id of ids) await ends(id, 'archived');
    const isIdle = async () => {
      const { states } = await runtime.operations.stats();
      return states.queued + states.active + states.waiting === 0;
    };
    await vi.waitUntil(isIdle, { timeout: 60_000 });

    await age(path);
    const second = await verify(env);
    expect(second.report.findings.map(({ kind, key }) => `${kind} ${key}`)).toEqual([
      'orphaned foreign',
      `changed ${gone.recordingKeys[0]}`,
    ]);
    expect(await readFile(at(gone.manifestKey))).toEqual(before);
    expect(await readFile(at(gone.recordingKeys[0]), 'utf8')).toBe('changed');
    for (const [index, manifest] of manifests.entries()) {
      const fixed = parseManifest(await readFile(manifestOf(index)), manifest.key);
      expect(fixed.recordings).toMatchObject(manifest.recordings.map(({ sha256 }) => ({ sha256 })));
      expect(fixed.transcript).toEqual(manifest.transcript);
    }
  });
});
