import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTestArchive, type TestArchive } from '../support/archive-stores.ts';
import { OUTAGE_KINDS, runOutage } from '../support/outage.ts';
import { createTestQueue, silent, type TestQueue } from '../support/queues.ts';

/** More than are worked on at once, so that some wait their turn when it begins. */
const SESSIONS = 24;
/** Long enough for pauses of a single session to grow to many seconds. */
const LASTS_MS = 3_000;
/** A bucket that hangs is given up after half a minute otherwise. */
const TIME_LIMITS = { socketMs: 5_000, requestMs: 15_000 };

// All at once: each of them mostly waits.
describe.concurrent('an outage', () => {
  let queue: TestQueue;
  let archive: TestArchive;

  beforeAll(async () => {
    [queue, archive] = await Promise.all([createTestQueue('redis'), openTestArchive('s3')]);
  });
  afterAll(async () => {
    await Promise.all([queue.remove(), archive.close()]);
  });

  const begins = ['quiet', 'in the middle'] as const;
  it.each(OUTAGE_KINDS.flatMap((kind) => begins.map((begin) => [kind, begin] as const)))(
    'an outage in which %s, and that begins %s, uses up no attempt and downloads nothing twice',
    { timeout: 180_000 },
    async (kind, begin) => {
      const { connection } = archive.options;
      if (!connection) throw new Error('a bucket was asked for');
      const result = await runOutage({
        kind,
        begins: begin,
        sessions: SESSIONS,
        lastsMs: LASTS_MS,
        recordingBytes: 40_000,
        queue: { ...queue.config, name: `outage-${randomUUID()}` },
        archive: archive.target,
        connection,
        timeLimits: TIME_LIMITS,
        log: silent,
      });
      expect(result).toMatchObject({
        archived: SESSIONS,
        failed: 0,
        attemptsBurnt: 0,
        breakerOpened: true,
        breakerClosed: true,
        takenMeanwhile: 0,
      });
      expect(result.bytesInVain / result.bytesStored).toBeLessThan(0.05);
    },
  );
});
