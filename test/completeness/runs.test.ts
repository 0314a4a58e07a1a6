import { createHmac } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { parseMetaPointers } from '../../src/config/parsers.ts';
import { boundedCall, createCallFilter } from '../../src/domain/call.ts';
import { type CompletenessOrder, DAY_MS, type DayReport, dayOf } from '../../src/domain/completeness.ts';
import { callOfRow } from '../../src/kore/listings/listing.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { readManifest } from '../../src/storage/documents.ts';
import { openStore } from '../../src/storage/open.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';

const TIMEOUT_MS = 60_000;
const signal = new AbortController().signal;

let queue: TestQueue;
const closers: (() => Promise<void>)[] = [];

beforeAll(async () => {
  queue = await createTestQueue('redis');
});

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

afterAll(() => queue.remove());

interface World {
  readonly sandbox: Sandbox;
  readonly runtime: Runtime;
  readonly directory: string;
  compute(order?: Partial<CompletenessOrder>): Promise<DayReport>;
  ended(...sessionIds: string[]): Promise<void>;
}

const DAY = dayOf(Date.now() - 3 * DAY_MS);

/** A session of {@link DAY}. */
function idAt(minute: number): string {
  return makeSessionId(new Date(Date.parse(DAY) + minute * 60_000));
}

async function open(environment: Readonly<Record<string, string>> = {}): Promise<World> {
  const sandbox = await startSandbox({ accountId: 'o-1' });
  closers.push(() => sandbox.close());
  const { path, remove } = await temporaryDirectory();
  closers.push(remove);
  const { config, kore } = testConfig(
    { ...sandboxEnvironment(sandbox), ...environment, ARCHIVE_URL: `file:${path}` },
    queue.config,
  );
  const runtime = await openRuntime(config, silent);
  closers.push(() => runtime.close());
  const worker = await runtime.startWorker(kore);
  closers.push(() => worker.stop());
  await worker.ready();
  return {
    sandbox,
    runtime,
    directory: path,
    async compute(order = {}) {
      const { id } = await runtime.completeness.start({ botId: sandbox.botId, from: DAY, to: DAY, ...order });
      const run = await vi.waitUntil(
        async () => {
          const now = await runtime.completeness.run(id);
          return now?.state === 'completed' || now?.state === 'failed' ? now : undefined;
        },
        { timeout: TIMEOUT_MS, interval: 50 },
      );
      const [day] = run.days;
      if (!day) throw new Error(`no day was computed: ${JSON.stringify(run)}`);
      return day;
    },
    async ended(...sessionIds) {
      for (const sessionId of sessionIds) {
        await vi.waitUntil(
          async () => {
            const view = await runtime.operations.view({ botId: sandbox.botId, sessionId });
            return view === undefined || view.state === 'archived';
          },
          { timeout: TIMEOUT_MS, interval: 50 },
        );
      }
    },
  };
}

describe('a completeness run', () => {
  it('a completeness run archives what is missing, remembers sessions without voicemail, and then calls the day complete', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const { sandbox, compute, ended } = await open();
    const withVoicemail = sandbox.addSession({ sessionId: idAt(10), transcription: 'Hello.' });
    const without = sandbox.addSession({ sessionId: idAt(20), recordings: [] });

    // The sessions history does not tell which sessions have a voicemail.
    const first = await compute({ write: true });
    expect(first).toMatchObject({ listed: 2, unknown: 2, missing: 0, queued: 2, complete: false });
    expect(first.basis).toMatchObject({ source: 'sessions', withFlag: 0 });
    await ended(withVoicemail, without);

    const asked = sandbox.calls.filter(({ route }) => route === 'voicemail').length;
    const second = await compute({ write: true });
    expect(second).toMatchObject({ listed: 2, archived: 1, withoutVoicemail: 1, queued: 0 });
    expect(second).toMatchObject({ complete: true, reasons: [] });
    expect(sandbox.calls.filter(({ route }) => route === 'voicemail').length).toBe(asked);
  });

  it('a completeness run reports that Kore could not be listed, and keeps an earlier report of that day', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const { sandbox, runtime, compute } = await open();
    const lost = sandbox.addSession({ sessionId: idAt(30) });
    const seen = await compute({ write: true, reportOnly: true });
    expect(seen).toMatchObject({ listed: 1, unknown: 1 });

    sandbox.configure({ scopes: ['SmartAssist Voicemail'] });
    const unseen = await compute({ write: true, reportOnly: true });
    expect(unseen).toMatchObject({
      complete: false,
      // What was listed before is known all the same.
      listed: 1,
      reasons: ['listing-failed', 'unknown'],
      error: { code: 'KORE_UNAUTHORIZED' },
    });
    const written = await runtime.completeness.reports(sandbox.botId, [DAY]);
    expect(written).toEqual([seen]);
    expect(await runtime.operations.view({ botId: sandbox.botId, sessionId: lost })).toBeUndefined();
  });

  it('a completeness run reports a day that nobody computed as not computed', async () => {
    const { sandbox, runtime } = await open();

    const [report] = await runtime.completeness.reports(sandbox.botId, [DAY]);

    expect(report).toMatchObject({ date: DAY, complete: false, reasons: ['not-computed'] });
  });
});

function hashOf(number: string, key: string): string {
  return `hmac-sha256:${createHmac('sha256', key).update(number).digest('hex')}`;
}

describe('call metadata', () => {
  it("call metadata is read under Kore's names for it", () => {
    const row = {
      sessionId: 's-1',
      sessionTags: { callerNumber: '+15550100' },
      dialedNumber: '+15550199',
      queues: [{ name: 'Claims' }],
      direction: 'inbound',
      sessionStartTime: '2026-01-02 03:04:05',
      sessionEndTime: '2026-01-02T03:05:05.000Z',
      tags: ['vip', { name: 'late' }, 7],
      authToken: 'secret',
    };

    expect(callOfRow(row)).toEqual({
      from: '+15550100',
      to: '+15550199',
      queue: 'Claims',
      direction: 'inbound',
      startedAt: '2026-01-02T03:04:05.000Z',
      endedAt: '2026-01-02T03:05:05.000Z',
      tags: ['vip', 'late', '7'],
    });
    expect(callOfRow({ sessionId: 's-1', from: { name: 'x' }, tags: [] })).toBeUndefined();
  });

  it('call metadata has unreadable numbers where they are hashed, the same for the same number', () => {
    const keep = createCallFilter('hashed', 'the key');
    const kept = keep({ from: '+15550100', to: '+15550199', queue: 'Claims' });

    const expected = createHmac('sha256', 'the key').update('+15550100').digest('hex');
    expect(kept).toEqual({
      from: `hmac-sha256:${expected}`,
      to: expect.stringMatching(/^hmac-sha256:[0-9a-f]{64}$/),
      queue: 'Claims',
    });
    expect(keep({ from: '+15550100' })?.from).toBe(kept?.from);
    for (const written of ['+1 555-0100', 'tel:+15550100', 'sip:+15550100@gateway.example']) {
      expect(keep({ from: written })?.from).toBe(kept?.from);
    }
    // Members of a webhook may be numbers as well.
    expect(
      keep({ meta: { caller: '+1 (555) 0100', id: 'c-7', list: [{ ani: 15550100 }], code: 42 } })?.meta,
    ).toEqual({
      caller: kept?.from,
      id: 'c-7',
      list: [{ ani: hashOf('15550100', 'the key') }],
      code: 42,
    });
    expect(createCallFilter('off', 'the key')({ from: '+15550100' })).toBeUndefined();
  });

  it('call metadata is bounded, and what exceeds the bounds is left out', () => {
    const call = boundedCall({ from: '+15550100', meta: { note: 'x'.repeat(5_000) }, queue: 'Claims' });

    expect(call).toEqual({ from: '+15550100', queue: 'Claims' });
  });

  it.each(['/metaInfo/auth_token', '/metaInfo/Authorization', '/data/clientSecret/x', '/password'])(
    'call metadata of a webhook must not be the secret %s',
    (pointer) => {
      expect(() => parseMetaPointers(`/metaInfo/customerId,${pointer}`)).toThrow(/names a secret/);
    },
  );

  describe.each(['calls', 'sessions'] as const)('call metadata of the listing %s', (source) => {
    const number = '+1 (555) 010-0100';
    const endedAt = new Date(Date.parse(DAY) + 41 * 60_000);
    const listed = { from: number, queue: 'Claims', direction: 'inbound', endedAt, tags: ['vip'] };
    const times = {
      startedAt: new Date(Date.parse(DAY) + 40 * 60_000).toISOString(),
      endedAt: endedAt.toISOString(),
    };
    const shared = { ...times, tags: ['vip'] };
    const rest = source === 'calls' ? { ...shared, queue: 'Claims', direction: 'inbound' } : shared;

    it.each(['on', 'hashed', 'off'] as const)(
      'call metadata of a listing goes into the manifest, and out of the queue, by backfill and by completeness: CALL_METADATA=%s',
      { timeout: TIMEOUT_MS },
      async (mode) => {
        const { sandbox, runtime, directory, compute } = await open({
          CALL_METADATA: mode,
          KORE_ACCOUNT_ID: 'o-1',
        });
        const kept =
          mode === 'off'
            ? undefined
            : { ...rest, from: mode === 'on' ? number : hashOf('+15550100100', sandbox.clientSecret) };
        const store = await openStore({ kind: 'file', directory });
        onTestFinished(() => store.close());
        const check = async (sessionId: string) => {
          const session = { botId: sandbox.botId, sessionId };
          await vi.waitUntil(async () => (await runtime.operations.view(session))?.state === 'archived', {
            timeout: TIMEOUT_MS,
            interval: 50,
          });
          expect((await readManifest(session, store, signal))?.call).toEqual(kept);
          const job = await runtime.queue.bullmq.sessions.getJob(`${session.botId}.${sessionId}`);
          expect(job?.data).not.toHaveProperty('call');
          // One check for the voicemail, and none for what the listing contained.
          const polls = sandbox.calls.filter(
            (call) => call.route === 'voicemail' && call.sessionId === sessionId,
          );
          expect(polls).toHaveLength(1);
        };
        const add = () =>
          sandbox.addSession({ sessionId: idAt(40), transcription: 'Hello.', listing: { call: listed } });

        const byCompleteness = add();
        await compute({ source });
        await check(byCompleteness);

        const byBackfill = add();
        await runtime.backfills.start({
          botId: sandbox.botId,
          from: `${DAY}T00:00:00Z`,
          to: `${DAY}T23:00:00Z`,
          source,
        });
        await check(byBackfill);
        expect(sandbox.violations).toEqual([]);
      },
    );
  });
});
