/** Completeness on each queue and archive: sessions that a worker archived, failed and erased, compared with Kore's. */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type CompletenessOrder, DAY_MS, type DayReport, dayOf } from '../../src/domain/completeness.ts';
import type { SessionRef } from '../../src/domain/session.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { makeSessionId } from '../../src/sandbox/seeded-values.ts';
import type { SessionSpec } from '../../src/sandbox/spec.ts';
import { buildManifest, serialize } from '../../src/storage/documents.ts';
import { manifestKey, partialManifestKey } from '../../src/storage/layout.ts';
import type { SessionWorker } from '../../src/workers/worker.ts';
import { type ArchiveKind, openTestArchive, type TestArchive } from '../support/archive-stores.ts';
import { put } from '../support/archived-sessions.ts';
import { stubAwsEnvironment } from '../support/pipeline.ts';
import { createTestQueue, type QueueKind, silent, type TestQueue, whyMissing } from '../support/queues.ts';
import { sandboxEnvironment, testConfig } from '../support/services.ts';

const WAIT = { timeout: 100_000, interval: 50 };
const never = new AbortController().signal;
const [PURGED, FIRST, SECOND] = [5, 4, 3].map((days) => dayOf(Date.now() - days * DAY_MS)) as [
  string,
  string,
  string,
];

const SETUPS: readonly [QueueKind, ArchiveKind][] = [
  ['postgres', 'file'],
  ['embedded', 'file'],
  ['redis', 's3'],
];

describe.each(SETUPS)('completeness on a queue on %s and an archive on %s', (queueKind, archiveKind) => {
  const missing = whyMissing(queueKind);
  let archive: TestArchive;
  let queue: TestQueue;
  let sandbox: Sandbox;
  let runtime: Runtime;
  let worker: SessionWorker;

  beforeAll(async () => {
    if (missing) return;
    [archive, queue, sandbox] = await Promise.all([
      openTestArchive(archiveKind),
      createTestQueue(queueKind),
      startSandbox({ accountId: 'o-1' }),
    ]);
    stubAwsEnvironment(archive);
    const environment = { ...sandboxEnvironment(sandbox), KORE_ACCOUNT_ID: 'o-1', KORE_RETENTION: '5d' };
    const { config, kore } = testConfig(environment, queue.config);
    runtime = await openRuntime({ ...config, archive: archive.target }, silent);
    worker = await runtime.startWorker(kore);
    await worker.ready();
  });
  afterAll(async () => {
    if (missing) return;
    await worker.stop();
    await runtime.close();
    await Promise.all([archive.close(), queue.remove(), sandbox.close()]);
  });

  let count = 0;
  const add = (date: string, spec: SessionSpec = {}): SessionRef => {
    count += 1;
    const sessionId = makeSessionId(new Date(Date.parse(date) + count * 60_000));
    return { botId: sandbox.botId, sessionId: sandbox.addSession({ sessionId, ...spec }) };
  };
  const ends = (session: SessionRef, state: string) =>
    vi.waitUntil(async () => (await runtime.operations.view(session))?.state === state, WAIT);
  const compute = async (order: Partial<CompletenessOrder> = {}): Promise<readonly DayReport[]> => {
    const whole = { botId: sandbox.botId, from: PURGED, to: SECOND, reportOnly: true, write: true };
    const { id } = await runtime.completeness.start({ ...whole, ...order });
    const run = await vi.waitUntil(async () => {
      const now = await runtime.completeness.run(id);
      return now?.state === 'completed' || now?.state === 'failed' ? now : undefined;
    }, WAIT);
    expect(run.error).toBeUndefined();
    return run.days;
  };

  it.skipIf(missing)(
    'completeness counts the outcome of each session, and sees what changes on its day',
    async () => {
      const archived = [add(FIRST), add(FIRST), add(SECOND), add(SECOND)];
      const failing = add(FIRST, { statuses: ['media_unavailable'] });
      await runtime.operations.enqueue([...archived, failing]);
      for (const session of archived) await ends(session, 'archived');
      await ends(failing, 'failed');
      const [erased, kept, other] = archived as [SessionRef, SessionRef, SessionRef];
      await runtime.custody.erase(erased);
      add(FIRST, { listing: { isVoicemail: 'NO' } });
      const untold = add(FIRST, { listing: { isVoicemail: null } });
      const lost = add(FIRST);
      const partial = add(SECOND);
      const manifest = (session: SessionRef) =>
        buildManifest({
          session,
          archivedAt: new Date(),
          recordings: [],
          transcript: { state: 'absent' },
        });
      await put(archive.store, partialManifestKey(partial), serialize({ ...manifest(partial), missing: [] }));
      const forgotten = {
        botId: sandbox.botId,
        sessionId: makeSessionId(new Date(Date.parse(PURGED) + 60_000)),
      };
      await put(archive.store, manifestKey(forgotten), serialize(manifest(forgotten)));

      const [purged, first, second] = await compute();
      expect(purged).toMatchObject({ listed: 0, archivedUnlisted: 1, complete: false, hoursLeft: 0 });
      expect(purged?.reasons).toContain('purged');
      expect(first).toMatchObject({
        ...{ listed: 6, archived: 1, transcriptPending: 1, erased: 1, failed: 1, missing: 1, unknown: 1 },
        ...{ withoutVoicemail: 1, partial: 0, waiting: 0, queued: 0, complete: false },
        failedByCode: { RECORDING_UNAVAILABLE: 1 },
        hoursLeft: expect.any(Number),
      });
      expect(second).toMatchObject({ listed: 3, archived: 2, partial: 1, missing: 0 });
      expect(await runtime.completeness.reports(sandbox.botId, [PURGED, FIRST, SECOND])).toEqual([
        purged,
        first,
        second,
      ]);

      await archive.store.versions.hide(manifestKey(other), never);
      await runtime.queue.forget(other);
      const [, firstAgain, secondAgain] = await compute();
      expect(facts(firstAgain)).toEqual(facts(first));
      expect(secondAgain).toMatchObject({ listed: 3, archived: 1, partial: 1, missing: 1 });

      // Without reportOnly, the same run queues what is missing, and not what was erased.
      const [queueing] = await compute({ from: FIRST, to: FIRST, reportOnly: false });
      expect(queueing?.queued).toBe(2);
      await ends(lost, 'archived');
      await ends(untold, 'archived');
      const [last] = await compute({ from: FIRST, to: FIRST });
      expect(last).toMatchObject({ archived: 3, erased: 1, missing: 0, unknown: 0, failed: 1 });
      expect(await runtime.custody.erasure(erased)).toMatchObject({ state: 'erased' });
      expect(await runtime.operations.view(kept)).toMatchObject({ state: 'archived' });
    },
  );
});

/** The contents of a report, without the time and source of its computation. */
function facts(report: DayReport | undefined) {
  const { computedAt: _, basis: __, hoursLeft: ___, ...rest } = report ?? {};
  return rest;
}
