import { PutObjectRetentionCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { Config, KoreConfig } from '../../src/config/config.ts';
import type { SessionRef } from '../../src/domain/session.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { SessionQueue } from '../../src/jobs/session-queue.ts';
import { createCustodyOperations } from '../../src/operations/custody.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import { sessionPrefix } from '../../src/storage/layout.ts';
import { openStore } from '../../src/storage/open.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import type { Finding } from '../../src/verification/findings.ts';
import { verifyArchive } from '../../src/verification/verify.ts';
import type { SessionWorker } from '../../src/workers/worker.ts';
import { wavOf } from '../support/audio.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';
import { NEEDS_REAL_S3, REAL_S3 } from '../support/s3.ts';
import { sandboxEnvironment, testConfig } from '../support/services.ts';
import {
  openVersionedArchive,
  VERSIONED_ARCHIVE_KINDS,
  type VersionedArchive,
} from '../support/versioned-archives.ts';
import { type HoldPoint, startHandMadeWorker } from '../support/worker-parts.ts';

const never = new AbortController().signal;
const WAIT = { interval: 20, timeout: 60_000 };
const RECORDINGS = ['one.wav', 'two.wav'];
const DAY_MS = 24 * 60 * 60 * 1_000;
/** A day of its own, which a backfill lists. */
const FROM = Date.UTC(2026, 4, 1);

for (const kind of VERSIONED_ARCHIVE_KINDS) {
  const isMissing = kind === 'locked bucket' && !REAL_S3;
  const title = `an archive in a ${kind}${isMissing ? ` (skipped: ${NEEDS_REAL_S3})` : ''}`;
  describe.skipIf(isMissing)(title, () => {
    let archive: VersionedArchive;
    let queue: TestQueue;
    let sandbox: Sandbox;
    let config: Config;
    let kore: KoreConfig;
    let runtime: Runtime;
    let worker: SessionWorker;
    let store: ArchiveStore;
    let count = 0;

    beforeAll(async () => {
      [archive, queue, sandbox] = await Promise.all([
        openVersionedArchive(kind),
        createTestQueue('redis'),
        startSandbox({ accountId: 'o-1' }),
      ]);
      const environment = { ...sandboxEnvironment(sandbox), ...archive.environment, KORE_ACCOUNT_ID: 'o-1' };
      ({ config, kore } = testConfig(environment, queue.config));
      runtime = await openRuntime(config, silent);
      store = await openStore(config.archive);
      worker = await runtime.startWorker(kore);
      await worker.ready();
    });
    afterAll(async () => {
      await worker.stop();
      await Promise.all([runtime.close(), store.close()]);
      await Promise.all([archive.close(), queue.remove(), sandbox.close()]);
    });

    const addSession = (): SessionRef => {
      count += 1;
      const sessionId = sandbox.addSession({
        sessionId: makeSessionId(new Date(FROM + count * 1_000)),
        recordings: RECORDINGS.map((fileName) => ({ fileName, content: wavOf(2_000) })),
        transcription: 'pineapple umbrella',
      });
      return { sessionId, botId: sandbox.botId };
    };
    const left = (session: SessionRef) => archive.versionsBelow(sessionPrefix(session));
    const isGone = (session: SessionRef) => async () =>
      (await runtime.operations.view(session)) === undefined;
    const ends = async (session: SessionRef) => {
      const view = await vi.waitUntil(async () => {
        const now = await runtime.operations.view(session);
        return now?.state === 'archived' || now?.state === 'failed' ? now : undefined;
      }, WAIT);
      expect(view.state).toBe('archived');
    };
    const archiveAgain = async (session: SessionRef) => {
      const before = await runtime.operations.view(session);
      await runtime.operations.enqueue([{ ...session, force: true }]);
      await vi.waitUntil(async () => {
        const now = await runtime.operations.view(session);
        return now?.state === 'archived' && now.finishedAt !== before?.finishedAt;
      }, WAIT);
    };
    const archived = async () => {
      const session = addSession();
      await runtime.operations.enqueue([session]);
      await ends(session);
      return session;
    };
    const verify = async (session: SessionRef) => {
      const findings: Finding[] = [];
      const onFinding = async (finding: Finding) => void findings.push(finding);
      const scope = { kind: 'sessions' as const, sessions: [session] };
      await verifyArchive(scope, { store, concurrency: 2, settleMs: 0, onFinding }, never);
      return findings.map(({ kind: what, key }) => `${what} ${key.slice(key.lastIndexOf('/') + 1)}`).sort();
    };

    describe('erasing a session', () => {
      it('erasing a session deletes every version of it, leaves a record without personal data, and removes its job', async () => {
        const session = await archived();
        await archiveAgain(session);
        const before = await left(session);
        // By force each recording and the manifest were written once more.
        expect(before.length).toBe(archive.server ? 7 : 4);

        const foreseen = await runtime.custody.erase(session, { dryRun: true });
        expect(foreseen).toEqual({
          ...session,
          outcome: 'would-erase',
          objects: 4,
          versions: before.length,
        });
        expect(await left(session)).toEqual(before);

        const result = await runtime.custody.erase(session, { reason: 'asked\u0007 on\nthe phone' });
        expect(result).toMatchObject({ outcome: 'erased', objects: 4, versions: before.length });
        expect(new Set(await left(session))).toEqual(new Set(['tombstone.json']));
        const record = await store.read(`${sessionPrefix(session)}tombstone.json`, never);
        expect(JSON.parse(record?.toString() ?? '')).toEqual({
          schemaVersion: 1,
          ...session,
          state: 'erased',
          erasedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
          reason: 'asked on the phone',
        });
        expect(await runtime.operations.view(session)).toBeUndefined();
        expect(await runtime.custody.erasure(session)).toMatchObject({ state: 'erased' });
        expect(await verify(session)).toEqual([]);
        expect(await runtime.custody.erase(session)).toMatchObject({
          outcome: 'already-erased',
          versions: 0,
        });
      });

      it('an erased session does not come back by enqueue, force, a long list, retry and the nightly backfill', async () => {
        const session = await archived();
        await runtime.custody.erase(session);
        const gone = await left(session);

        for (const force of [false, true]) {
          const [result] = await runtime.operations.enqueue([{ ...session, force }]);
          expect(result).toEqual({ ...session, outcome: 'already-archived', erased: true });
        }
        expect(await runtime.operations.retry(session)).toBe('unknown');

        // A long list is not compared with the archive beforehand: the worker finds out.
        const others = Array.from({ length: 100 }, () => ({ ...addSession(), force: true }));
        const results = await runtime.operations.enqueue([{ ...session, force: true }, ...others]);
        expect(results[0]).toEqual({ ...session, outcome: 'queued' });
        await vi.waitUntil(isGone(session), WAIT);
        for (const other of others) await ends(other);

        const { id } = await runtime.backfills.start({
          botId: sandbox.botId,
          from: new Date(FROM).toISOString(),
          to: new Date(FROM + DAY_MS).toISOString(),
        });
        const done = await vi.waitUntil(async () => {
          const view = await runtime.backfills.view(id);
          return view?.state === 'listed' && view.open === 0 ? view : undefined;
        }, WAIT);
        expect(done.listed).toBeGreaterThan(100);
        expect(done).toMatchObject({ queued: 0, skipped: done.listed });
        expect(await runtime.operations.view(session)).toBeUndefined();
        expect(await left(session)).toEqual(gone);
      });

      it('a session that is not archived yet can be erased', async () => {
        const session = addSession();
        expect(await runtime.custody.erase(session)).toMatchObject({ outcome: 'erased', objects: 0 });
        expect((await runtime.operations.enqueue([session]))[0]).toMatchObject({ erased: true });
      });

      it.for<HoldPoint>(['answered', 'recording', 'transcript', 'manifest'])(
        'leaves nothing of what a second worker was writing meanwhile (%s)',
        async (point) => {
          const own = { ...config, queue: { ...config.queue, name: `held-${point}` } };
          const reached = Promise.withResolvers<void>();
          const goOn = Promise.withResolvers<void>();
          const hand = await startHandMadeWorker({
            config: own,
            kore,
            log: silent,
            tuning: {},
            async reached(at) {
              if (at !== point) return;
              reached.resolve();
              await goOn.promise;
            },
          });
          onTestFinished(() => hand.stop());
          const custody = createCustodyOperations({
            queue: hand.queue,
            store,
            log: silent,
            workerWaitMs: 100,
          });
          const session = addSession();
          await hand.queue.enqueue([session]);
          await reached.promise;

          expect(await custody.erase(session)).toMatchObject({ outcome: 'erased' });
          expect(new Set(await left(session))).toEqual(new Set(['tombstone.json']));
          goOn.resolve();

          await vi.waitUntil(async () => (await hand.queue.view(session)) === undefined, WAIT);
          expect(new Set(await left(session))).toEqual(new Set(['tombstone.json']));
          expect(await verify(session)).toEqual([]);
        },
      );

      it('erasing a session waits for the worker that runs it, and removes its job from the queue', async () => {
        const session = addSession();
        await runtime.operations.enqueue([session]);
        expect(await runtime.custody.erase(session)).toMatchObject({ outcome: 'erased' });
        expect(await runtime.operations.view(session)).toBeUndefined();
        expect(new Set(await left(session))).toEqual(new Set(['tombstone.json']));
      });

      it('an erasure that was interrupted is completed by a second request, and nothing is archived meanwhile', async () => {
        const session = await archived();
        let deleted = 0;
        const breaking: ArchiveStore = {
          ...store,
          versions: {
            ...store.versions,
            delete: async (version, signal) => {
              deleted += 1;
              if (deleted === 3) throw new Error('killed');
              await store.versions.delete(version, signal);
            },
          },
        };
        const backend = await openBackend(config.queue, silent);
        const sessions = new SessionQueue(backend, config.queue.name, silent);
        onTestFinished(async () => {
          await sessions.close();
          await backend.close();
        });
        const custody = createCustodyOperations({ queue: sessions, store: breaking, log: silent });

        await expect(custody.erase(session, { reason: 'asked' })).rejects.toThrow('killed');
        expect(await runtime.custody.erasure(session)).toMatchObject({ state: 'erasing', reason: 'asked' });
        expect((await left(session)).length).toBe(3);
        const [result] = await runtime.operations.enqueue([{ ...session, force: true }]);
        expect(result).toMatchObject({ outcome: 'already-archived', erased: true });
        const found = await verify(session);
        expect(found).toContain('changed tombstone.json');
        expect(found).toHaveLength(3);

        expect(await runtime.custody.erase(session)).toMatchObject({ outcome: 'erased', objects: 2 });
        expect(await runtime.custody.erasure(session)).toMatchObject({ state: 'erased', reason: 'asked' });
        expect(new Set(await left(session))).toEqual(new Set(['tombstone.json']));
        expect(await verify(session)).toEqual([]);
      });

      it('verify reports whatever lies beside the record of an erasure', async () => {
        const session = await archived();
        await runtime.custody.erase(session);
        const key = `${sessionPrefix(session)}one.wav`;
        await store.write(key, Buffer.from('back again'), { contentType: 'audio/wav' }, 'replace', never);
        expect(await verify(session)).toEqual(['orphaned one.wav']);
        expect(await runtime.custody.erase(session)).toMatchObject({ outcome: 'erased', objects: 1 });
        expect(await verify(session)).toEqual([]);
      });
    });

    describe('holding a session', () => {
      it('a session on hold cannot be erased until it is released, even if it is archived again', async () => {
        const session = await archived();
        const held = await runtime.custody.setHold(session, 'case 7');
        expect(held).toMatchObject({ outcome: 'held', isLocked: archive.server !== undefined });
        expect(await runtime.custody.hold(session)).toMatchObject({ ...session, reason: 'case 7' });
        expect(await runtime.custody.holds()).toContainEqual(expect.objectContaining(session));
        expect(await runtime.custody.setHold(session)).toMatchObject({
          outcome: 'already-held',
          hold: { reason: 'case 7' },
        });
        await archiveAgain(session);
        expect(await verify(session)).toEqual([]);
        const before = await left(session);
        expect(before).toContain('hold.json');
        if (archive.server) {
          const holds = await archive.holdsBelow(sessionPrefix(session));
          expect(holds).toHaveLength(8);
          expect(holds.filter((one) => !one.endsWith(' ON'))).toEqual([]);
        }

        for (const dryRun of [true, false]) {
          expect(await runtime.custody.erase(session, { dryRun })).toMatchObject({
            outcome: 'refused',
            why: 'held',
            message: expect.stringContaining('(case 7), until it is released: nothing was deleted'),
          });
        }
        expect(await left(session)).toEqual(before);
        expect(await runtime.custody.erasure(session)).toBeUndefined();

        expect(await runtime.custody.releaseHold(session)).toEqual({ ...session, outcome: 'released' });
        expect(await runtime.custody.releaseHold(session)).toEqual({ ...session, outcome: 'not-held' });
        expect(await runtime.custody.hold(session)).toBeUndefined();
        expect((await archive.holdsBelow(sessionPrefix(session))).filter((one) => / ON$/.test(one))).toEqual(
          [],
        );
        expect(await runtime.custody.erase(session)).toMatchObject({ outcome: 'erased' });
        expect(new Set(await left(session))).toEqual(new Set(['tombstone.json']));
      });

      it('a hold of an erased session is refused', async () => {
        const session = await archived();
        await runtime.custody.erase(session);
        expect(await runtime.custody.setHold(session)).toEqual({ ...session, outcome: 'erased' });
        expect(new Set(await left(session))).toEqual(new Set(['tombstone.json']));
      });

      it('a hold between the check and the record of an erasure stops the erasure', async () => {
        const session = await archived();
        const backend = await openBackend(config.queue, silent);
        const sessions = new SessionQueue(backend, config.queue.name, silent);
        onTestFinished(async () => {
          await sessions.close();
          await backend.close();
        });
        const hold = { schemaVersion: 1, ...session, setAt: '2026-05-01T00:00:00.000Z' };
        const racing: ArchiveStore = {
          ...store,
          async write(key, ...rest) {
            if (key.endsWith('tombstone.json')) {
              const body = Buffer.from(JSON.stringify(hold));
              const info = { contentType: 'application/json' };
              await store.write(`${sessionPrefix(session)}hold.json`, body, info, 'absent', never);
            }
            return store.write(key, ...rest);
          },
        };
        const custody = createCustodyOperations({ queue: sessions, store: racing, log: silent });
        expect(await custody.erase(session)).toMatchObject({ outcome: 'refused', why: 'held' });
        expect(await runtime.custody.erasure(session)).toBeUndefined();
        expect(await verify(session)).toEqual([]);
        await runtime.custody.releaseHold(session);
      });
    });

    it.skipIf(kind === 'directory')(
      'a locked object keeps its session from being erased, and the error says until when',
      async () => {
        const session = await archived();
        const until = new Date(Date.now() + DAY_MS);
        const [locked] = (await left(session)).filter((name) => name.endsWith('.wav'));
        await archive.server?.client.send(
          new PutObjectRetentionCommand({
            Bucket: archive.server.bucket,
            Key: store.fullKey(`${sessionPrefix(session)}${locked}`),
            Retention: { Mode: 'GOVERNANCE', RetainUntilDate: until },
          }),
        );
        const before = await left(session);
        expect(await runtime.custody.erase(session)).toMatchObject({
          outcome: 'refused',
          why: 'locked',
          message: expect.stringContaining(`(GOVERNANCE) until ${until.toISOString().slice(0, 19)}`),
        });
        expect(await left(session)).toEqual(before);
        expect(await runtime.custody.erasure(session)).toBeUndefined();
        // The store itself refuses as well.
        for await (const version of store.versions.list(sessionPrefix(session), never)) {
          if (!version.key.endsWith(`/${locked}`)) continue;
          const deleting = store.versions.delete(version, never);
          await expect(deleting).rejects.toMatchObject({ code: 'ARCHIVE_DENIED' });
        }
        expect(await left(session)).toEqual(before);
      },
    );
  });
}
