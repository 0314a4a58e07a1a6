import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { BackfillView } from '../../src/backfills/operations.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import type { SessionSpec } from '../../src/sandbox/spec.ts';
import { wavOf } from '../support/audio.ts';
import { openSetup, type Pipeline, type Setup } from '../support/pipeline.ts';
import { QUEUE_KINDS, whyMissing } from '../support/queues.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const FROM = Date.UTC(2026, 4, 1);
const RANGE = { from: new Date(FROM).toISOString(), to: new Date(FROM + 10 * DAY_MS).toISOString() };
const ACCOUNT = { accountId: 'o-1' };
const content = wavOf(1_000);

let sequence = 0;

/** A session that began within the range, with a transcript so that nothing is waited for. */
function add({ sandbox }: Pipeline, spec: SessionSpec = {}): string {
  sequence += 1;
  return sandbox.addSession({
    sessionId: makeSessionId(new Date(FROM + ((sequence * 7_919_000) % (10 * DAY_MS)))),
    recordings: [{ content }],
    transcription: 'Please call me back.',
    ...spec,
  });
}

function addMany(pipeline: Pipeline, count: number, spec: SessionSpec = {}): string[] {
  return Array.from({ length: count }, () => add(pipeline, spec));
}

function order({ sandbox }: Pipeline) {
  return { botId: sandbox.botId, ...RANGE };
}

/** Waits until a backfill is as wanted. */
async function until(
  { backfills, log }: Pipeline,
  id: string,
  holds: (view: BackfillView) => boolean,
): Promise<BackfillView> {
  let view: BackfillView | undefined;
  try {
    return await vi.waitUntil(
      async () => {
        view = await backfills.view(id);
        return view && holds(view) ? view : undefined;
      },
      { interval: 20, timeout: 60_000 },
    );
  } catch (cause) {
    throw new Error(`not as wanted: ${JSON.stringify(view)}\n${log.slice(-20).join('')}`, { cause });
  }
}

const isOver = ({ state, open }: BackfillView) => state === 'failed' || (state === 'listed' && open === 0);

for (const kind of QUEUE_KINDS) {
  const missing = whyMissing(kind);
  describe.skipIf(missing !== undefined)(`a backfill on ${kind}${missing ? ` (${missing})` : ''}`, () => {
    let setup: Setup;
    beforeAll(async () => {
      setup = await openSetup(kind, 'file');
    });
    afterAll(() => setup.close());

    it('a backfill ends when it is cancelled, and can be started again', async () => {
      const pipeline = await setup.start({ sandbox: ACCOUNT, kore: ACCOUNT, startWorker: false });
      addMany(pipeline, 3);
      const { id } = await pipeline.backfills.start(order(pipeline));
      expect(await pipeline.backfills.cancel(id)).toBe('cancelled');
      expect(await pipeline.backfills.view(id)).toMatchObject({ state: 'cancelled' });
      expect(await pipeline.backfills.cancel('no-such-id')).toBeUndefined();

      await pipeline.startWorker();
      const ended = await until(pipeline, id, ({ finishedAt }) => finishedAt !== undefined);
      expect(ended).toMatchObject({ state: 'cancelled', listed: 0, queued: 0 });
      expect(await pipeline.backfills.cancel(id)).toBe('ended');

      expect((await pipeline.backfills.start(order(pipeline))).id).toBe(id);
      expect(await until(pipeline, id, isOver)).toMatchObject({ state: 'listed', queued: 3 });
      await pipeline.stop();
    });

    it('a backfill archives what is missing, and two of the same range at once are one', async () => {
      const pipeline = await setup.start({ sandbox: ACCOUNT, kore: ACCOUNT, startWorker: false });
      const archivedBefore = addMany(pipeline, 3);
      await pipeline.startWorker();
      await pipeline.enqueue(...archivedBefore);
      await Promise.all(archivedBefore.map((id) => pipeline.ends(id)));

      const missingOnes = addMany(pipeline, 30);
      addMany(pipeline, 12, { recordings: [] });
      add(pipeline, { listing: { channel: 'rtm' } });
      const [first, second] = await Promise.all([
        pipeline.backfills.start(order(pipeline)),
        pipeline.backfills.start(order(pipeline)),
      ]);
      expect(first.id).toBe(second.id);

      expect(await until(pipeline, first.id, isOver)).toMatchObject({
        state: 'listed',
        source: 'calls',
        listed: 45,
        skipped: 3,
        queued: 30,
        alreadyQueued: 0,
        withoutVoicemail: 12,
        archived: 30,
        failed: 0,
        open: 0,
      });
      expect((await pipeline.archived()).filter((key) => key.endsWith('/manifest.json'))).toHaveLength(33);
      expect(
        (await pipeline.operations.view({ botId: pipeline.sandbox.botId, sessionId: missingOnes[0] ?? '' }))
          ?.state,
      ).toBe('archived');

      // Once it has ended, the same range is looked through anew.
      add(pipeline);
      const again = await pipeline.backfills.start(order(pipeline));
      expect(again.id).toBe(first.id);
      expect(await until(pipeline, again.id, isOver)).toMatchObject({ skipped: 33, queued: 1, archived: 1 });
      expect((await pipeline.backfills.list()).map(({ id }) => id)).toEqual([first.id]);
      await pipeline.stop();
    });
  });
}

describe('a backfill', () => {
  let setup: Setup;
  beforeAll(async () => {
    setup = await openSetup('redis', 'file');
  });
  afterAll(() => setup.close());

  it('a backfill counts sessions that turn out to have no voicemail, and lists none of them as failed', async () => {
    // A page in place of the recording fails only when its time is up.
    const pipeline = await setup.start({ work: { recordingWaitMs: 0 } });
    const voicemails = addMany(pipeline, 5);
    const without = [
      ...addMany(pipeline, 4, { recordings: [] }),
      add(pipeline, { recordings: [], statuses: ['media_unavailable'] }),
    ];
    const broken = add(pipeline, {
      recordings: [{ content, mediaFaults: [{ page: 'html', times: Number.POSITIVE_INFINITY }] }],
    });
    const { id } = await pipeline.backfills.start({ ...order(pipeline), source: 'sessions' });
    expect(await until(pipeline, id, isOver)).toMatchObject({
      source: 'sessions',
      listed: 11,
      queued: 11,
      archived: 5,
      withoutVoicemail: 5,
      failed: 1,
    });
    const failed = await pipeline.operations.list({ state: 'failed' });
    expect(failed.sessions.map(({ sessionId }) => sessionId)).toEqual([broken]);
    for (const sessionId of without) {
      expect(await pipeline.operations.view({ botId: pipeline.sandbox.botId, sessionId })).toBeUndefined();
    }
    expect((await pipeline.ends(voicemails[0] ?? '')).state).toBe('archived');
    await pipeline.stop();
  });

  it('a backfill waits for a call that is in progress, and for one whose recording may still come', async () => {
    const pipeline = await setup.start();
    const ongoing = add(pipeline, { statuses: ['call_in_progress', 'call_in_progress', 'success'] });
    const now = Date.now();
    const recent = add(pipeline, { sessionId: makeSessionId(new Date(now - 60_000)), notReadyPolls: 2 });
    await pipeline.backfills.start({
      botId: pipeline.sandbox.botId,
      from: new Date(now - 3_600_000).toISOString(),
      to: new Date(now).toISOString(),
    });
    await pipeline.backfills.start(order(pipeline));
    expect((await pipeline.ends(ongoing)).state).toBe('archived');
    expect((await pipeline.ends(recent)).state).toBe('archived');
    await pipeline.stop();
  });

  it('a backfill only reports what is missing in a dry run', async () => {
    const pipeline = await setup.start({ sandbox: ACCOUNT, kore: ACCOUNT });
    const missing = addMany(pipeline, 25);
    addMany(pipeline, 5, { recordings: [] });
    const { id } = await pipeline.backfills.start({ ...order(pipeline), dryRun: true });
    expect(await until(pipeline, id, isOver)).toMatchObject({
      dryRun: true,
      listed: 30,
      withoutVoicemail: 5,
      missing: 25,
      queued: 0,
      archived: 0,
    });
    expect([...(await pipeline.backfills.sessions(id, 100))].sort()).toEqual(missing.sort());
    expect(await pipeline.backfills.sessions(id, 10)).toHaveLength(10);
    expect(await pipeline.archived()).toEqual([]);
    expect(Object.values((await pipeline.operations.stats()).states)).toEqual([0, 0, 0, 0, 0]);
    expect(pipeline.sandbox.calls.filter(({ route }) => route === 'voicemail')).toEqual([]);
    await pipeline.stop();
  });

  it.each([
    ['lists as failed', true],
    ['has forgotten', false],
  ])(
    'a backfill archives again a session of which only a part is saved, and that the queue %s',
    async (_, isKnown) => {
      const first = await setup.start({ sandbox: ACCOUNT, kore: ACCOUNT, work: { recordingWaitMs: 0 } });
      const page = { page: 'html', times: Number.POSITIVE_INFINITY } as const;
      const sessionId = add(first, {
        recordings: [{ content }, { content: wavOf(2_000), mediaFaults: [page] }],
      });
      await first.enqueue(sessionId);
      const { missing, state } = await first.ends(sessionId);
      expect([state, missing?.length]).toEqual(['failed', 1]);
      first.sandbox.session(sessionId).recordings[1]?.faults.clear();

      const pipeline = isKnown
        ? first
        : await setup.start({ existingSandbox: first.sandbox, kore: { ...ACCOUNT } });
      const dry = await pipeline.backfills.start({ ...order(pipeline), dryRun: true });
      expect(await until(pipeline, dry.id, isOver)).toMatchObject({ listed: 1, skipped: 0, missing: 1 });
      const { id } = await pipeline.backfills.start(order(pipeline));
      const over = { listed: 1, skipped: 0, queued: 1, archived: 1, failed: 0 };
      expect(await until(pipeline, id, isOver)).toMatchObject(over);
      expect((await pipeline.ends(sessionId)).state).toBe('archived');
      const downloads = pipeline.sandbox.calls.filter(
        (call) => call.route === 'media' && call.sessionId === sessionId && call.recording === 0,
      );
      expect(downloads).toHaveLength(1);
      if (!isKnown) await pipeline.stop();
      await first.stop();
    },
  );

  it('a backfill archives again what was removed from the archive, up to the present', async () => {
    const pipeline = await setup.start({ sandbox: ACCOUNT, kore: ACCOUNT });
    const began = new Date(Date.now() - 5_000);
    const sessionId = add(pipeline, { sessionId: makeSessionId(began) });
    const run = async () => {
      const from = new Date(began.getTime() - DAY_MS).toISOString();
      const { id } = await pipeline.backfills.start({ botId: pipeline.sandbox.botId, from });
      return until(pipeline, id, isOver);
    };
    const archived = { listed: 1, skipped: 0, queued: 1, archived: 1 };
    expect(await run()).toMatchObject(archived);
    const { target } = setup.archive;
    if (target.kind !== 'file') throw new Error('an archive in a directory was asked for');
    await rm(join(target.directory, `bot_id=${pipeline.sandbox.botId}`), { recursive: true });
    expect(await run()).toMatchObject(archived);
    expect((await pipeline.manifest(sessionId)).sessionId).toBe(sessionId);
    await pipeline.stop();
  });

  it('a backfill waits while Kore refuses its listing, holds up no session, and continues by itself', async () => {
    const pipeline = await setup.start({ sandbox: { scopes: ['SmartAssist Voicemail'] } });
    const listed = add(pipeline);
    const { id } = await pipeline.backfills.start(order(pipeline));
    const waiting = await until(pipeline, id, ({ state }) => state === 'waiting');
    expect(waiting.error).toMatchObject({ code: 'KORE_UNAUTHORIZED' });
    expect(waiting.nextAttemptAt).toBeDefined();
    const live = add(pipeline);
    await pipeline.enqueue(live);
    expect((await pipeline.ends(live)).state).toBe('archived');

    pipeline.sandbox.configure({ scopes: ['SmartAssist Voicemail', 'Bot Sessions'] });
    expect(await until(pipeline, id, isOver)).toMatchObject({ state: 'listed', skipped: 1, archived: 1 });
    expect((await pipeline.ends(listed)).state).toBe('archived');
    await pipeline.stop();
  });

  it('a backfill waits as long as Kore says when a limit is reached', async () => {
    const pipeline = await setup.start({ sandbox: { rateLimit: { calls: 1, windowMs: 1_000 } } });
    const { id } = await pipeline.backfills.start(order(pipeline));
    // Two windows of under 7 days each are two calls.
    expect(await until(pipeline, id, isOver)).toMatchObject({ state: 'listed', listed: 0 });
    const statuses = pipeline.sandbox.calls.map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(2);
    await pipeline.stop();
  });

  it('a backfill fails with a clear message when call details are asked for without an account', async () => {
    const pipeline = await setup.start();
    const { id } = await pipeline.backfills.start({ ...order(pipeline), source: 'calls' });
    const { state, error } = await until(pipeline, id, isOver);
    expect(state).toBe('failed');
    expect(error?.message).toContain('KORE_ACCOUNT_ID');
    await pipeline.stop();
  });

  it('a backfill lets a live session go before the 5,000 of a backfill', { timeout: 120_000 }, async () => {
    const concurrency = 2;
    const pipeline = await setup.start({ work: { concurrency } });
    const { sandbox } = pipeline;
    addMany(pipeline, 5_000);
    const live = add(pipeline, { sessionId: makeSessionId(new Date(FROM - DAY_MS)) });
    const { id } = await pipeline.backfills.start(order(pipeline));
    await vi.waitUntil(() => pipeline.log.some((line) => line.includes('"backfill has listed everything"')), {
      timeout: 60_000,
    });
    await sandbox.waitFor((calls) => calls.filter(({ route }) => route === 'media').length > 20);
    await pipeline.enqueue(live);
    const takenBefore = sandbox.calls.filter(({ route }) => route === 'voicemail').length;
    await pipeline.ends(live);
    const taken = sandbox.calls
      .filter(({ route }) => route === 'voicemail')
      .map(({ sessionId }) => sessionId);
    expect(taken.indexOf(live) - takenBefore).toBeLessThanOrEqual(2 * concurrency);
    expect((await pipeline.backfills.view(id))?.open).toBeGreaterThan(1_000);
    await pipeline.stop();
  });

  it('a backfill leaves live sessions their share of the rate limit', async () => {
    const pipeline = await setup.start({ kore: { rateLimit: { calls: 12, windowMs: 120_000 } } });
    addMany(pipeline, 30);
    const { id } = await pipeline.backfills.start(order(pipeline));
    await until(pipeline, id, ({ archived }) => archived >= 6);
    await vi.waitUntil(() => pipeline.log.some((line) => line.includes('"session waits"')), {
      timeout: 60_000,
    });
    const live = add(pipeline);
    await pipeline.enqueue(live);
    expect((await pipeline.ends(live)).state).toBe('archived');
    expect((await pipeline.backfills.view(id))?.open).toBeGreaterThan(10);
    await pipeline.stop();
  });
});
