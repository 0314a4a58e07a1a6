import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { BackfillView } from '../../src/backfills/operations.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { openStore } from '../../src/storage/open.ts';
import { wavOf } from '../support/audio.ts';
import type { RunningCli } from '../support/cli.ts';
import { KilledPrograms, urlOf } from '../support/killed-programs.ts';
import { sandboxEnvironment, temporaryDirectory } from '../support/services.ts';

const SESSIONS = 2_000;
const DAYS = 60;
const DAY_MS = 24 * 60 * 60 * 1000;
const MINUTE_MS = 60 * 1000;
/** More than the pages of one window hold. */
const ON_LAST_DAY = Math.floor(SESSIONS * 0.8);
const LIVE_INSERTS = 15;
const TIMEOUT_MS = 240_000;

let sandbox: Sandbox;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let programs: KilledPrograms;

beforeEach(async () => {
  sandbox = await startSandbox({ keepCalls: 1_000_000 });
  directory = await temporaryDirectory();
  programs = new KilledPrograms();
});

afterEach(async () => {
  await programs.close();
  await sandbox.close();
  await directory.remove();
});

it('a backfill archives every voicemail of 60 days once, though it is killed half-way', {
  timeout: TIMEOUT_MS,
}, async () => {
  // What began within the last hour may still get its recording, and would be waited for.
  const to = Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS - 120 * MINUTE_MS;
  const content = wavOf(1_000);
  const voicemails = new Set<string>();
  const add = (at: number, index: number) => {
    const hasVoicemail = index % 20 < 2;
    const sessionId = sandbox.addSession({
      sessionId: makeSessionId(new Date(at)),
      recordings: hasVoicemail ? [{ content }] : [],
      ...(hasVoicemail && { transcription: 'Please call me back.' }),
      listing: {
        ...(index % 10 === 0 && { rows: 2 }),
        ...([1, 4].includes(index % 15) && { isVoicemail: null }),
      },
    });
    if (hasVoicemail) voicemails.add(sessionId);
  };
  for (let index = 0; index < SESSIONS; index += 1) {
    const spread = index / SESSIONS;
    const before = index < ON_LAST_DAY ? spread * DAY_MS : spread * DAYS * DAY_MS;
    add(to - MINUTE_MS - before, index);
  }

  let inserted = 0;
  let started = start();
  let killed = false;
  const accepted = Promise.withResolvers<void>();
  sandbox.configure({
    async beforeListing(pages) {
      // The newest ones come while the listing goes on, and shift its pages.
      if (pages % 2 === 1 && inserted < LIVE_INSERTS) add(to - 1_000 * (1 + inserted), inserted++);
      if (pages === 15) {
        // Who asked for it is answered first, however soon the listing began.
        await accepted.promise;
        killed = true;
        started.kill('SIGKILL');
      }
    },
  });
  const call = await callerOf(started);
  const request = { from: new Date(to - DAYS * DAY_MS).toISOString(), to: new Date(to).toISOString() };
  const { id } = await call('POST', '/v1/backfills', request);
  accepted.resolve();
  await started.ended;
  expect(killed).toBe(true);

  await programs.forgetLocks();
  started = start();
  const callAgain = await callerOf(started);
  const view = await vi.waitUntil(
    async () => {
      const now = await callAgain('GET', `/v1/backfills/${id}`);
      return now.state === 'failed' || (now.state === 'listed' && now.open === 0) ? now : undefined;
    },
    { timeout: TIMEOUT_MS, interval: 500 },
  );
  started.kill('SIGTERM');
  await started.ended;

  expect(view).toMatchObject({ state: 'listed', source: 'calls', failed: 0, unreadable: 0 });
  expect(inserted).toBe(LIVE_INSERTS);
  expect(view.listed).toBe(SESSIONS + LIVE_INSERTS);
  expect(view.skipped + view.archived + view.withoutVoicemail).toBe(view.listed);
  expect((await manifests()).sort()).toEqual([...voicemails].sort());
  expect(sandbox.violations).toEqual([]);
});

function start(): RunningCli {
  return programs.start({
    ...sandboxEnvironment(sandbox),
    KORE_ACCOUNT_ID: sandbox.accountId,
    ARCHIVE_URL: `file:${directory.path}`,
  });
}

/** Calls the API of a running program. Its address is looked for once: its log is long. */
async function callerOf(program: RunningCli) {
  const url = await urlOf(program);
  return async (method: 'GET' | 'POST', path: string, body?: unknown): Promise<BackfillView> => {
    const response = await fetch(`${url}${path}`, {
      method,
      ...(body !== undefined && {
        body: JSON.stringify(body),
        headers: { 'content-type': 'application/json' },
      }),
    });
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
    return (await response.json()) as BackfillView;
  };
}

/** Session ids of all manifests, as often as there are some. */
async function manifests(): Promise<string[]> {
  const store = await openStore({ kind: 'file', directory: directory.path });
  const found: string[] = [];
  for await (const { key } of store.list('', new AbortController().signal)) {
    const [, sessionId] = /session_id=([^/]+)\/manifest\.json$/.exec(key) ?? [];
    if (sessionId !== undefined) found.push(sessionId);
  }
  return found;
}
