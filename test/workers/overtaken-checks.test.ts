import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { SessionState } from '../../src/domain/views.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { currentRecordings, readManifest } from '../../src/storage/documents.ts';
import { manifestKey } from '../../src/storage/layout.ts';
import { wavOf } from '../support/audio.ts';
import { hashOf } from '../support/each-setup.ts';
import { createTestQueue, silent, type TestQueue, whyMissing } from '../support/queues.ts';
import { type OwnRedis, startOwnRedis } from '../support/redis-server.ts';
import { sandboxEnvironment, temporaryDirectory, testConfig } from '../support/services.ts';
import {
  type HandMadeWorker,
  type HoldPoint,
  openObserver,
  SHORT_LOCKS,
  startHandMadeWorker,
} from '../support/worker-parts.ts';

const WAIT_OPTIONS = { interval: 20, timeout: 60_000 };
const never = new AbortController().signal;

let sandbox: Sandbox;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let running: HandMadeWorker[] = [];

beforeAll(async () => {
  [sandbox, directory] = await Promise.all([startSandbox(), temporaryDirectory()]);
});
afterAll(() => Promise.all([sandbox.close(), directory.remove()]));
afterEach(async () => {
  for (const one of running) await one.stop();
  running = [];
});

const ref = (sessionId: string) => ({ sessionId, botId: sandbox.botId });
const configOf = (queue: TestQueue['config']) =>
  testConfig(
    { ...sandboxEnvironment(sandbox), ARCHIVE_URL: `file:${directory.path}`, SETTLE_WAIT: '0' },
    queue,
  );

async function startWorker(queue: TestQueue['config'], gates: Gates): Promise<HandMadeWorker> {
  const { config, kore } = configOf(queue);
  const parts = { config, kore, log: silent, tuning: SHORT_LOCKS };
  const worker = await startHandMadeWorker({ ...parts, reached: (point) => gates.pass(point) });
  running.push(worker);
  return worker;
}

async function stop(worker: HandMadeWorker): Promise<void> {
  running = running.filter((one) => one !== worker);
  await worker.stop();
}

const waitFor = ({ queue }: HandMadeWorker, sessionId: string, state: SessionState) =>
  vi.waitUntil(async () => (await queue.view(ref(sessionId)))?.state === state, WAIT_OPTIONS);

/** The hashes of an archived session, which view, manifest and objects agree on. */
async function agreedHashes({ queue, store }: HandMadeWorker, sessionId: string): Promise<string[]> {
  const view = await queue.view(ref(sessionId));
  const manifest = await readManifest(ref(sessionId), store, never);
  if (!manifest) throw new Error('there is no manifest');
  expect(view).toMatchObject({ state: 'archived', transcript: manifest.transcript.state });
  const named = currentRecordings(manifest).map(({ sha256 }) => sha256);
  expect(view?.recordings?.map(({ sha256 }) => sha256)).toEqual(named);
  const prefix = manifestKey(ref(sessionId)).replace('manifest.json', '');
  for (const { key, sha256 } of currentRecordings(manifest)) {
    const bytes = await store.read(prefix + key.slice(key.lastIndexOf('/') + 1), never);
    expect(bytes && hashOf(bytes)).toBe(sha256);
  }
  return named;
}

for (const kind of ['redis', 'postgres'] as const) {
  const missing = whyMissing(kind);
  describe.skipIf(missing !== undefined)(`a check overtaken by --force (${kind})`, () => {
    let queue: TestQueue;
    beforeAll(async () => {
      queue = await createTestQueue(kind);
    });
    afterAll(() => queue.remove());

    it.each([
      ['before it writes the manifest', 'manifest', 'done'],
      ['before it notes what it found, by one that is done', 'named', 'done'],
      ['before it notes what it found, by one that is in work', 'named', 'in work'],
    ] as const)(
      '%s leaves what the force archived',
      async (_, point, force) => {
        const gates = new Gates();
        const worker = await startWorker({ ...queue.config, name: `looked-${point}-${force.length}` }, gates);
        let content = wavOf(20_000);
        const sessionId = sandbox.addSession({
          recordings: [
            {
              fileName: 'one.wav',
              content: {
                contentType: 'audio/wav',
                bytes: content.length,
                slice: (start: number, end: number) => content.subarray(start, end),
              },
            },
            { fileName: 'two.wav', afterPolls: 1 },
          ],
          transcription: { texts: ['pineapple'], afterPolls: 1 },
        });
        // The first one is that of the archiving, the second one that of the check.
        const settling = gates.hold(point, 2);
        await worker.queue.enqueue([ref(sessionId)]);
        await settling.reached;
        await waitFor(worker, sessionId, 'archived');

        const old = hashOf(content);
        content = wavOf(20_000);
        expect(hashOf(content)).not.toBe(old);
        const forced = force === 'in work' ? gates.hold('answered', gates.count('answered') + 1) : undefined;
        await worker.queue.enqueue([{ ...ref(sessionId), force: true }]);
        if (forced) await forced.reached;
        else await waitFor(worker, sessionId, 'archived');

        settling.release();
        await vi.waitUntil(async () => (await worker.queue.stats()).transcriptsPending === 0, WAIT_OPTIONS);
        if (forced) {
          const view = await worker.queue.view(ref(sessionId));
          expect(view).toMatchObject({ state: 'active' });
          const job = await worker.queue.bullmq.sessions.getJob(`${sandbox.botId}.${sessionId}`);
          expect(job?.progress).not.toHaveProperty('transcript');
          forced.release();
          await waitFor(worker, sessionId, 'archived');
        }
        const hashes = await agreedHashes(worker, sessionId);
        expect(hashes).toHaveLength(2);
        expect(hashes).toContain(hashOf(content));
        expect(hashes).not.toContain(old);
      },
      120_000,
    );
  });
}

describe('an old copy of the queue', () => {
  let redis: OwnRedis;
  beforeAll(async () => {
    redis = await startOwnRedis();
  });
  afterAll(() => redis.stop());

  it.each(['queued', 'active', 'failed'] as const)(
    'an old copy of the queue, in which an archived session is %s, ends with what the archive has',
    async (state) => {
      const queue: TestQueue['config'] = {
        target: { kind: 'redis', url: redis.url, cluster: false },
        name: `earlier-${state}`,
        prefix: undefined,
      };
      const gates = new Gates();
      const observer = await openObserver(configOf(queue).config, silent);
      running.push(observer);
      const sessionId = state === 'failed' ? `unknown-${state}` : sandbox.addSession(SPEC);
      const held = state === 'active' ? gates.hold('recording', 1) : undefined;
      await observer.queue.enqueue([ref(sessionId)]);
      let worker = state === 'queued' ? undefined : await startWorker(queue, gates);
      if (held) await held.reached;
      if (state === 'failed') await waitFor(observer, sessionId, 'failed');
      const earlier = await dump(redis);

      if (state === 'failed') {
        sandbox.addSession({ ...SPEC, sessionId });
        await observer.queue.enqueue([ref(sessionId)]);
      }
      held?.release();
      worker ??= await startWorker(queue, gates);
      await waitFor(observer, sessionId, 'archived');
      await stop(worker);
      const hashes = await agreedHashes(observer, sessionId);
      const before = await observer.store.read(manifestKey(ref(sessionId)), never);
      const downloads = () => sandbox.calls.filter(({ route }) => route === 'media').length;
      const downloaded = downloads();

      await restore(redis, earlier);
      expect(await observer.queue.view(ref(sessionId))).toMatchObject({ state });
      const [outcome] = await observer.queue.enqueue([ref(sessionId)]);
      expect(outcome?.outcome).toBe(state === 'failed' ? 'requeued' : 'already-queued');
      await startWorker(queue, gates);
      await waitFor(observer, sessionId, 'archived');
      expect(await agreedHashes(observer, sessionId)).toEqual(hashes);
      expect(await observer.store.read(manifestKey(ref(sessionId)), never)).toEqual(before);
      expect(downloads()).toBe(downloaded);
    },
    120_000,
  );
});

const SPEC = {
  recordings: [{ fileName: 'one.wav' }, { fileName: 'two.wav' }],
  transcription: 'pineapple',
};

type Dumped = readonly (readonly [key: string, bytes: Buffer, ttlMs: number])[];

async function dump({ admin }: OwnRedis): Promise<Dumped> {
  const entries: [string, Buffer, number][] = [];
  for (const key of await admin.keys('*')) {
    const [bytes, ttl] = await Promise.all([admin.dumpBuffer(key), admin.pttl(key)]);
    if (bytes) entries.push([key, bytes, Math.max(0, ttl)]);
  }
  return entries;
}

async function restore({ admin }: OwnRedis, dumped: Dumped): Promise<void> {
  await admin.flushall();
  for (const [key, bytes, ttl] of dumped) await admin.restore(key, ttl, bytes);
}

/** Barriers at the points of a worker. */
class Gates {
  readonly #counts = new Map<HoldPoint, number>();
  readonly #held = new Map<string, { arrive: () => void; released: Promise<void> }>();

  /** How often a point was passed or reached. */
  count(point: HoldPoint): number {
    return this.#counts.get(point) ?? 0;
  }

  /** Holds the nth caller that gets to a point. */
  hold(point: HoldPoint, nth: number): { reached: Promise<void>; release: () => void } {
    const arrival = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    this.#held.set(`${point} ${nth}`, { arrive: arrival.resolve, released: release.promise });
    return { reached: arrival.promise, release: release.resolve };
  }

  async pass(point: HoldPoint): Promise<void> {
    const nth = this.count(point) + 1;
    this.#counts.set(point, nth);
    const gate = this.#held.get(`${point} ${nth}`);
    gate?.arrive();
    await gate?.released;
  }
}
