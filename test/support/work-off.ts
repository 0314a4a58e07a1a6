import type { Backend } from '../../src/jobs/backends/backend.ts';
import { Consumer, type JobDecision, type LockTimes, type TakenJob } from '../../src/jobs/consumer.ts';
import { silent } from './queues.ts';

/** Long enough for anything that is going to finish. */
const GRACE_MS = 20_000;

/** What to do with a job. */
export type Decide = (job: TakenJob) => JobDecision | Promise<JobDecision>;

/**
 * Takes jobs one after another, with locks as usual or as given, tells each what `decide` says, and ends once `count` have been decided on.
 * @returns the session ids in the order taken.
 */
export async function workOff(
  backend: Backend,
  queueName: string,
  count: number,
  decide: Decide,
  locks?: LockTimes,
): Promise<string[]> {
  const taken: string[] = [];
  const enough = Promise.withResolvers<void>();
  const consumer = new Consumer(backend, queueName, {
    concurrency: 1,
    log: silent,
    ...(locks && { locks }),
    async handle(job) {
      // One more may be taken before the stop has come through.
      if (taken.length === count) return { kind: 'give-back' };
      taken.push(job.data.sessionId);
      try {
        return await decide(job);
      } catch (error) {
        enough.reject(error);
        return { kind: 'give-back' };
      } finally {
        if (taken.length === count) enough.resolve();
      }
    },
  });
  try {
    await enough.promise;
  } finally {
    await consumer.stop(GRACE_MS);
  }
  return taken;
}

/** What a session came to, for tests that do not archive anything. */
export const ARCHIVED = {
  kind: 'done',
  result: {
    transcript: 'pending',
    recordings: [{ key: 'a/b.wav', bytes: 3, sha256: '00', contentType: 'audio/wav', durationSeconds: 1 }],
    manifestKey: 'a/manifest.json',
  },
} as const satisfies JobDecision;
