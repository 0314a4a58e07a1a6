import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openBackend } from '../../src/jobs/backends/open.ts';
import type { LockTimes, TakenJob } from '../../src/jobs/consumer.ts';
import { SessionQueue } from '../../src/jobs/session-queue.ts';
import { createTestQueue, QUEUE_KINDS, silent, whyMissing } from '../support/queues.ts';
import { ARCHIVED, workOff } from '../support/work-off.ts';

const PROCESS = fileURLToPath(new URL('../support/consumer-process.ts', import.meta.url));
const SESSIONS = 50;
const CONCURRENCY = 3;
/** A dead worker's sessions are locked for 20 seconds otherwise, and found by the second of the checks every 5 seconds. */
const LOCKS: LockTimes = { durationMs: 5_000, stalledIntervalMs: 500 };
const TAKEOVER_TIMEOUT_MS = 120_000;

// All at once: each of them only waits until the locks have run out.
describe.concurrent('a worker killed with SIGKILL', () => {
  for (const kind of QUEUE_KINDS) {
    const missing = whyMissing(kind);
    const after =
      kind === 'embedded'
        ? 'a job of a killed worker runs again when the directory is opened again'
        : 'a job of a killed worker runs again in another one';
    const title = `${after} (${kind}${missing ? `: ${missing}` : ''})`;
    it.skipIf(missing !== undefined)(title, { timeout: TAKEOVER_TIMEOUT_MS }, async () => {
      const server = await createTestQueue(kind);
      try {
        const child = spawn(
          process.execPath,
          [
            PROCESS,
            JSON.stringify(server.config),
            String(SESSIONS),
            String(CONCURRENCY),
            JSON.stringify(LOCKS),
          ],
          { stdio: ['ignore', 'pipe', 'inherit'] },
        );
        await says(child, 'taken');
        child.kill('SIGKILL');
        await once(child, 'exit');

        const backend = await openBackend(server.config, silent);
        const queue = new SessionQueue(backend, server.config.name, silent);
        expect((await queue.stats()).states).toMatchObject({
          active: CONCURRENCY,
          queued: SESSIONS - CONCURRENCY,
        });
        const attempts: number[] = [];
        const decide = ({ attemptsMade }: TakenJob) => {
          attempts.push(attemptsMade);
          return ARCHIVED;
        };
        const taken = await workOff(backend, server.config.name, SESSIONS, decide, LOCKS);
        expect(new Set(taken).size).toBe(SESSIONS);
        expect(attempts).toEqual(taken.map(() => 0));
        expect((await queue.stats()).states).toEqual({
          queued: 0,
          active: 0,
          waiting: 0,
          archived: SESSIONS,
          failed: 0,
        });
        await queue.close();
        await backend.close();
      } finally {
        await server.remove();
      }
    });
  }
});

/** Resolves when the process prints the word, rejects when it ends before. */
async function says(child: ChildProcess, word: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    if (output.includes(word)) resolve();
  });
  child.once('exit', (code) => reject(new Error(`ended with ${code} before it said ${word}: ${output}`)));
  await promise;
}
