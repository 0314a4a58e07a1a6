/** Programs on a shared queue that a test kills, and starts again beside what they left there. */

import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import { inject } from 'vitest';
import { hasLogged, type RunningCli, startCli } from './cli.ts';

/** `start` as often as a test wants it, always on the same queue. */
export class KilledPrograms {
  /** Where their queue is. */
  readonly queue = { QUEUE_URL: inject('redisUrl'), QUEUE_PREFIX: `test-${randomUUID()}` } as const;
  readonly #started: RunningCli[] = [];

  /** Starts one; it may not take sessions yet. */
  start(environment: Readonly<Record<string, string>>): RunningCli {
    const program = startCli(['start'], { env: { ...environment, ...this.queue } });
    this.#started.push(program);
    return program;
  }

  /** All that they wrote to their logs. */
  get log(): string {
    return this.#started.map(({ stderr }) => stderr).join('');
  }

  /** Removes the locks of a killed worker, which last 20 seconds, as if that time had passed. */
  async forgetLocks(): Promise<void> {
    await this.#remove(':*:lock');
  }

  /** Kills those that still run, and removes the queue. */
  async close(): Promise<void> {
    for (const program of this.#started) program.kill('SIGKILL');
    await Promise.all(this.#started.map(({ ended }) => ended));
    await this.#remove(':*');
  }

  async #remove(pattern: string): Promise<void> {
    const redis = new Redis(this.queue.QUEUE_URL);
    try {
      const keys = await redis.keys(this.queue.QUEUE_PREFIX + pattern);
      if (keys.length > 0) await redis.unlink(keys);
    } finally {
      redis.disconnect();
    }
  }
}

/** Waits until a program takes sessions. @returns where its API is. */
export async function urlOf(program: RunningCli): Promise<string> {
  await program.waitFor(hasLogged('taking sessions'));
  return `http://127.0.0.1:${program.log.find(({ msg }) => msg === 'listening')?.port}`;
}
