import { randomUUID } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, expect, inject, it, vi } from 'vitest';
import { type CompletenessRun, DAY_MS, type DayReport, dayOf } from '../../src/domain/completeness.ts';
import { openRuntime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { buildManifest, serialize } from '../../src/storage/documents.ts';
import {
  manifestKey,
  partialManifestKey,
  sessionPrefix,
  withoutVoicemailKey,
} from '../../src/storage/layout.ts';
import { hasLogged, type RunningCli, startCli } from '../support/cli.ts';
import { silent } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';

const DAYS = 10;
const SESSIONS_A_DAY = 500;
/** The first day is older than that when the test runs, and the second is not. */
const RETENTION_DAYS = DAYS + 1;
const TIMEOUT_MS = 240_000;

/** What becomes of the sessions of a day, of each 20 the same. */
const FATES = [
  ...new Array<'none'>(7).fill('none'),
  ...new Array<'archived'>(6).fill('archived'),
  'partial',
  'lost',
  'erased',
  'silent',
  'noted',
  'queued',
  'pending',
] as const;
type Fate = (typeof FATES)[number] | 'failed' | 'forgotten';

let sandbox: Sandbox;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let prefix: string;
const programs: RunningCli[] = [];

beforeEach(async () => {
  sandbox = await startSandbox({ keepCalls: 1_000_000 });
  directory = await temporaryDirectory();
  prefix = `test-${randomUUID()}`;
});

afterEach(async () => {
  for (const program of programs.splice(0)) {
    program.kill('SIGKILL');
    await program.ended;
  }
  await sandbox.close();
  await directory.remove();
  await withRedis(async (redis) => {
    const keys = await redis.keys(`${prefix}:*`);
    if (keys.length > 0) await redis.unlink(keys);
  });
});

it('completeness reports the truth of each of 10 days, though it is killed half-way, and a change of the archive in its day alone', {
  timeout: TIMEOUT_MS,
}, async () => {
  const today = Date.parse(dayOf(Date.now()));
  const dates = Array.from({ length: DAYS }, (_, index) => dayOf(today - (DAYS + 1 - index) * DAY_MS));
  const [purged = '', ...others] = dates;
  const fates = new Map<string, Map<string, Fate>>();
  await Promise.all(dates.map(async (date) => fates.set(date, await fill(date, date === purged))));
  await fillQueue(fates);

  const started = start();
  let killed = false;
  sandbox.configure({
    beforeListing(pages) {
      if (pages !== 25) return;
      killed = true;
      started.kill('SIGKILL');
    },
  });
  await started.waitFor(hasLogged('taking sessions'));
  const order = { from: purged, to: dates.at(-1), reportOnly: true, write: true };
  await callerOf(started)('POST', '/v1/completeness', order);
  await started.ended;
  expect(killed).toBe(true);

  await forgetLocks();
  const again = start();
  await again.waitFor(hasLogged('taking sessions'));
  const call = callerOf(again);
  const compute = async (body: object) => {
    const { id } = await call<CompletenessRun>('POST', '/v1/completeness', body);
    return vi.waitUntil(
      async () => {
        const run = await call<CompletenessRun>('GET', `/v1/completeness/${id}`);
        return run.state === 'completed' || run.state === 'failed' ? run : undefined;
      },
      { timeout: TIMEOUT_MS, interval: 250 },
    );
  };
  const first = await compute(order);
  expect(first.state).toBe('completed');
  expect(first.days.map(judged)).toEqual(dates.map((date) => truthOf(date, fates.get(date))));
  expect(first.days.map(({ reasons }) => reasons.includes('purged'))).toEqual(
    dates.map((date) => date === purged),
  );
  // What was computed is what is written, for years.
  const written = await call<{ days: DayReport[] }>(
    'GET',
    `/v1/completeness?from=${purged}&to=${dates.at(-1)}`,
  );
  expect(written.days).toEqual(first.days);
  expect(first.days[3]?.basis).toMatchObject({ source: 'calls', rows: expect.any(Number) });
  // A page has 100 sessions: sessions are not requested one by one.
  expect(first.days.every(({ basis }) => (basis?.pages ?? 0) <= 2 * Math.ceil(SESSIONS_A_DAY / 100))).toBe(
    true,
  );
  expect(sandbox.calls.filter(({ route }) => route === 'calls').length).toBeLessThan(150);

  // A manifest is deleted, one comes, one is there in part, and Kore shows a session late: each changes its day.
  const [deleted = '', added = '', parted = '', late = ''] = others;
  const one = (date: string, fate: Fate) => {
    const [sessionId = ''] = [...(fates.get(date) ?? [])].find(([, found]) => found === fate) ?? [];
    return { botId: sandbox.botId, sessionId };
  };
  const change = async (date: string, from: Fate, to: Fate) => {
    const session = one(date, from);
    fates.get(date)?.set(session.sessionId, to);
    await rm(join(directory.path, sessionPrefix(session)), { recursive: true, force: true });
    await archiveAs(session, to);
  };
  await change(deleted, 'archived', 'lost');
  await change(added, 'lost', 'archived');
  await change(parted, 'archived', 'partial');
  const lateId = addVoicemail(late, 3_601_000);
  fates.get(late)?.set(lateId, 'lost');

  const second = await compute(order);
  expect(second.days.map(judged)).toEqual(dates.map((date) => truthOf(date, fates.get(date))));
  const changed = second.days.filter(
    (day, index) =>
      JSON.stringify(judged(day)) !== JSON.stringify(first.days[index] && judged(first.days[index])),
  );
  const changedDates = [deleted, added, parted, late];
  expect(changed.map(({ date }) => date)).toEqual(changedDates);

  // Without `reportOnly` the same run queues what is missing: then it waits, once.
  const some = { ...order, from: deleted, to: late };
  const queueing = await compute({ ...some, reportOnly: false });
  const count = (date: string, ...wanted: Fate[]) =>
    [...(fates.get(date) ?? [])].filter(([, fate]) => wanted.includes(fate)).length;
  expect(queueing.days.map(({ queued }) => queued)).toEqual(
    changedDates.map((date) => count(date, 'lost', 'silent', 'partial')),
  );
  const last = await compute(some);
  expect(last.days.map(({ missing, unknown, queued }) => [missing, unknown, queued])).toEqual(
    changedDates.map(() => [0, 0, 0]),
  );
  expect(last.days.map(({ waiting }) => waiting)).toEqual(
    changedDates.map((date) => count(date, 'lost', 'silent', 'queued')),
  );
  const metrics = await (await fetch(`${addressOf(again)}/metrics`)).text();
  const latest = [...last.days, ...second.days.filter(({ date }) => !changedDates.includes(date))];
  // The first days are in the last quarter of the retention.
  const atRisk = latest.reduce((sum, day) => sum + day.atRisk, 0);
  expect(atRisk).toBeGreaterThan(0);
  expect(metrics).toContain(`voicemail_at_risk ${atRisk}\n`);
  for (const { date, missing } of latest) {
    expect(metrics).toContain(`voicemail_missing{day="${date}"} ${missing}\n`);
  }
  expect(sandbox.violations).toEqual([]);
});

/** Fills a day, in the sandbox and in the archive. One that Kore has forgotten is in the archive alone. */
async function fill(date: string, isPurged: boolean): Promise<Map<string, Fate>> {
  const fates = new Map<string, Fate>();
  for (let index = 0; index < SESSIONS_A_DAY; index += 1) {
    const fate = index === 0 ? 'failed' : (FATES[index % FATES.length] ?? 'none');
    const afterMs = Math.floor((index / SESSIONS_A_DAY) * DAY_MS);
    if (isPurged) {
      if (fate !== 'archived') continue;
      const sessionId = makeSessionId(new Date(Date.parse(date) + afterMs));
      fates.set(sessionId, 'forgotten');
      await archiveAs({ botId: sandbox.botId, sessionId }, fate);
      continue;
    }
    const hasVoicemail = fate !== 'none';
    const sessionId = sandbox.addSession({
      sessionId: makeSessionId(new Date(Date.parse(date) + afterMs)),
      recordings: [],
      statuses: [fate === 'failed' ? 'media_unavailable' : 'success'],
      listing: {
        isVoicemail: fate === 'silent' || fate === 'noted' ? null : hasVoicemail ? 'YES' : 'NO',
        ...(index % 50 === 0 && { rows: 2 }),
        // The listing has another time than the id tells, also one of the day before or after.
        ...(index % 7 === 0 && {
          startedAt: new Date(Date.parse(date) + afterMs + (index % 2 ? 1 : -1) * 600_000),
        }),
      },
    });
    fates.set(sessionId, fate);
    await archiveAs({ botId: sandbox.botId, sessionId }, fate);
  }
  return fates;
}

function addVoicemail(date: string, afterMs: number): string {
  return sandbox.addSession({
    sessionId: makeSessionId(new Date(Date.parse(date) + afterMs)),
    recordings: [],
    listing: { isVoicemail: 'YES' },
  });
}

/** Writes into the archive's directory, without waiting for the disk. @param key relative. */
async function put(key: string, body: Buffer | string): Promise<void> {
  const path = join(directory.path, key);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, body);
}

/** Puts into the archive what that fate leaves there. */
async function archiveAs(session: { botId: string; sessionId: string }, fate: Fate): Promise<void> {
  const manifest = () =>
    buildManifest({
      session,
      archivedAt: new Date(),
      recordings: [],
      transcript: { state: fate === 'pending' ? 'pending' : 'absent' },
    });
  if (fate === 'archived' || fate === 'pending') await put(manifestKey(session), serialize(manifest()));
  if (fate === 'partial') await put(partialManifestKey(session), serialize({ ...manifest(), missing: [] }));
  if (fate === 'erased') {
    // Something may be left beside a tombstone for a moment.
    await put(manifestKey(session), serialize(manifest()));
    await put(`${sessionPrefix(session)}tombstone.json`, '{}');
  }
  if (fate === 'noted') await put(withoutVoicemailKey(session), '{}');
}

/** Lets some sessions fail and some wait, in a queue that is paused after that. */
async function fillQueue(fates: ReadonlyMap<string, ReadonlyMap<string, Fate>>): Promise<void> {
  const of = (wanted: Fate) =>
    [...fates.values()].flatMap((day) =>
      [...day].flatMap(([sessionId, fate]) => (fate === wanted ? [{ botId: sandbox.botId, sessionId }] : [])),
    );
  const { QUEUE_URL: _, ...environment } = environmentOf();
  const { config, kore } = testConfig(environment, {
    target: { kind: 'redis', url: inject('redisUrl'), cluster: false },
    name: 'voicemail-archive',
    prefix,
  });
  const runtime = await openRuntime(config, silent);
  try {
    const worker = await runtime.startWorker(kore);
    await worker.ready();
    const failing = of('failed');
    await runtime.operations.enqueue(failing);
    await vi.waitUntil(async () => (await runtime.operations.stats()).states.failed === failing.length, {
      timeout: TIMEOUT_MS,
      interval: 100,
    });
    await runtime.operations.pause();
    await worker.stop();
    await runtime.operations.enqueue(of('queued'));
    for (const session of of('pending')) await runtime.queue.awaitTranscript(session, 0);
  } finally {
    await runtime.close();
  }
}

/** What a report has to count. */
function truthOf(date: string, fates: ReadonlyMap<string, Fate> = new Map()) {
  const all = [...fates.values()];
  const count = (...wanted: Fate[]) => all.filter((fate) => wanted.includes(fate)).length;
  return {
    date,
    botId: sandbox.botId,
    complete: false,
    listed: all.length - count('forgotten'),
    archived: count('archived', 'pending'),
    transcriptPending: count('pending'),
    partial: count('partial'),
    waiting: count('queued'),
    failed: count('failed'),
    failedByCode: count('failed') > 0 ? { RECORDING_UNAVAILABLE: count('failed') } : {},
    withoutVoicemail: count('none', 'noted'),
    erased: count('erased'),
    unknown: count('silent'),
    missing: count('lost'),
    archivedUnlisted: count('forgotten'),
  };
}

/** The part of a report that {@link truthOf} tells. */
function judged(report: DayReport) {
  const { date, botId, complete, listed, archived, transcriptPending, partial, waiting } = report;
  const { failed, failedByCode, withoutVoicemail, erased, unknown, missing, archivedUnlisted } = report;
  return {
    ...{ date, botId, complete, listed, archived, transcriptPending, partial, waiting },
    ...{ failed, failedByCode, withoutVoicemail, erased, unknown, missing, archivedUnlisted },
  };
}

function environmentOf() {
  return {
    ...sandboxEnvironment(sandbox),
    KORE_ACCOUNT_ID: sandbox.accountId,
    KORE_RETENTION: `${RETENTION_DAYS}d`,
    QUEUE_URL: inject('redisUrl'),
    QUEUE_PREFIX: prefix,
    ARCHIVE_URL: `file:${directory.path}`,
  };
}

function start(): RunningCli {
  const program = startCli(['start'], { env: environmentOf() });
  programs.push(program);
  return program;
}

function addressOf(program: RunningCli): string {
  return `http://127.0.0.1:${program.log.find(({ msg }) => msg === 'listening')?.port}`;
}

function callerOf(program: RunningCli) {
  const address = addressOf(program);
  return async <T>(method: 'GET' | 'POST', path: string, body?: unknown): Promise<T> => {
    const response = await fetch(`${address}${path}`, {
      method,
      ...(body !== undefined && {
        body: JSON.stringify(body),
        headers: { 'content-type': 'application/json' },
      }),
    });
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
    return (await response.json()) as T;
  };
}

/** Removes the locks of a killed worker, which last 20 seconds, as if that time had passed. */
async function forgetLocks(): Promise<void> {
  await withRedis(async (redis) => {
    const locks = await redis.keys(`${prefix}:*:lock`);
    if (locks.length > 0) await redis.unlink(locks);
  });
}

async function withRedis(use: (redis: Redis) => Promise<void>): Promise<void> {
  const redis = new Redis(inject('redisUrl'));
  try {
    await use(redis);
  } finally {
    await redis.quit();
  }
}
