import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, inject, it } from 'vitest';
import { sessionPrefix } from '../../src/storage/layout.ts';
import { openStore } from '../../src/storage/open.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import { archiveDirectly } from '../support/archived-sessions.ts';
import { hasLogged, startCli } from '../support/cli.ts';
import { runInProcess } from '../support/in-process-command.ts';
import { embeddedServiceEnvironment } from '../support/queues.ts';
import { temporaryDirectory } from '../support/services.ts';

const TIMEOUT_MS = 120_000;
const BOT = 'st-1';
const ONE = '67ab573f3685d1ba99541234';
const TWO = '67ab573f3685d1ba99541235';
const never = new AbortController().signal;

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let store: ArchiveStore;
let env: Record<string, string>;

beforeEach(async () => {
  directory = await temporaryDirectory();
  env = {
    QUEUE_URL: inject('redisUrl'),
    QUEUE_PREFIX: `test-${randomUUID()}`,
    ARCHIVE_URL: `file:${directory.path}/archive`,
    KORE_BOT_ID: BOT,
  };
  store = await openStore({ kind: 'file', directory: `${directory.path}/archive` });
  for (const sessionId of [ONE, TWO]) await archiveDirectly(store, { sessionId, botId: BOT });
});
afterEach(async () => {
  await store.close();
  await directory.remove();
});

const run = (...args: string[]) => runInProcess(args, { env });
const json = async (...args: string[]) => {
  const { code, stdout } = await run(...args, '--json');
  return { code, body: JSON.parse(stdout) as Record<string, unknown> };
};

async function left(sessionId: string): Promise<string[]> {
  const prefix = sessionPrefix({ sessionId, botId: BOT });
  const names: string[] = [];
  for await (const { key } of store.list(prefix, never)) names.push(key.slice(prefix.length));
  return names;
}

/** Who did what, by the audit log. */
async function audited(): Promise<Record<string, unknown>[]> {
  const lines: Record<string, unknown>[] = [];
  for await (const { key } of store.list('audit/', never)) {
    const text = (await store.read(key, never))?.toString() ?? '';
    for (const line of text.trim().split('\n')) lines.push(JSON.parse(line) as Record<string, unknown>);
  }
  return lines.sort((a, b) => (String(a.at) < String(b.at) ? -1 : 1));
}

describe('erase and hold', { timeout: TIMEOUT_MS }, () => {
  it('erase deletes what is not held, and its exit code says that something was refused', async () => {
    const dry = await run('erase', ONE, TWO, '--dry-run');
    expect(dry).toMatchObject({ code: 0 });
    expect(dry.stdout).toContain(`${ONE}  would be erased: 4 objects with 4 versions`);

    const set = await run('hold', 'set', TWO, '--reason', 'case 7');
    expect(set).toMatchObject({ code: 0, stdout: expect.stringMatching(new RegExp(`^${TWO} +held`)) });
    expect((await json('hold', 'list')).body).toMatchObject({
      holds: [{ sessionId: TWO, reason: 'case 7' }],
    });
    expect((await json('hold', 'list', ONE)).body).toEqual({ holds: [] });

    const erased = await run('erase', ONE, TWO, '--reason', 'request 114');
    expect(erased.code).toBe(1);
    expect(erased.stdout).toContain(`${ONE}  erased: 4 objects with 4 versions`);
    expect(erased.stdout).toMatch(
      new RegExp(`^${TWO} +refused: session ${TWO} is under a legal hold since`, 'm'),
    );
    expect(erased.stderr).toContain('1 session may not be erased');
    expect(await left(ONE)).toEqual(['tombstone.json']);
    expect(await left(TWO)).toContain('manifest.json');

    const status = await run('status', ONE);
    expect(status.code).toBe(0);
    expect(status.stdout).toMatch(/^erased +\d{4}-/m);
    expect(status.stdout).toMatch(/^reason +request 114$/m);
    const both = await json('status', ONE, TWO);
    expect(both.body).toMatchObject({
      sessions: [{ sessionId: TWO, state: 'archived' }],
      erased: [{ sessionId: ONE, state: 'erased', reason: 'request 114' }],
      unknown: [],
    });
    const forced = await run('enqueue', ONE, '--force');
    expect(forced.stdout).toContain(`${ONE}  was erased: not archived again`);
    expect((await run('hold', 'set', ONE)).code).toBe(1);
    expect((await run('verify', ONE)).code).toBe(0);

    expect(await run('hold', 'release', TWO)).toMatchObject({ code: 0 });
    expect(await run('hold', 'release', TWO)).toMatchObject({ code: 1 });
    const last = await json('erase', TWO);
    expect(last).toMatchObject({ code: 0, body: { results: [{ outcome: 'erased', objects: 4 }] } });
    expect((await audited()).map(({ action, details, session }) => [action, session, details])).toEqual([
      ['hold.set', { botId: BOT, sessionId: TWO }, { reason: 'case 7' }],
      ['erase', { botId: BOT, sessionId: ONE }, { objects: 4, versions: 4, reason: 'request 114' }],
      ['enqueue.force', undefined, expect.anything()],
      ['hold.release', { botId: BOT, sessionId: TWO }, undefined],
      ['erase', { botId: BOT, sessionId: TWO }, { objects: 4, versions: 4 }],
    ]);
  });

  it('erase and hold go through the process that holds the embedded queue', async () => {
    env = { ...env, ...(await embeddedServiceEnvironment(directory.path)) };
    const service = startCli(['start'], { env });
    try {
      await service.waitFor(hasLogged('taking sessions'));
      expect(await run('hold', 'set', ONE)).toMatchObject({ code: 0 });
      expect(await run('erase', ONE)).toMatchObject({
        code: 1,
        stdout: expect.stringContaining('refused: session'),
      });
      expect(await run('erase', TWO, '--reason', 'asked')).toMatchObject({ code: 0 });
      expect((await run('status', TWO)).stdout).toMatch(/^reason +asked$/m);
    } finally {
      service.kill('SIGTERM');
      await service.ended;
    }
    expect((await audited()).map(({ action }) => action)).toEqual(['hold.set', 'erase']);
  });

  it('erase and hold need ids, and a reason that is not too long', async () => {
    expect(await run('erase')).toMatchObject({ code: 2 });
    expect(await run('erase', ONE, '--reason', 'x'.repeat(501))).toMatchObject({ code: 2 });
    expect(await run('hold', 'set')).toMatchObject({ code: 2 });
  });
});
