/**
 * The whole program on a clock that is moved on as soon as nothing is left to do until later: what takes a day of
 * waiting, with the real pauses, takes seconds. Redis, the worker, the archive and the sandbox are real.
 */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { loadConfig } from '../../src/config/load.ts';
import type { EnqueueRequest } from '../../src/domain/requests.ts';
import type { JobQueue } from '../../src/jobs/backends/backend.ts';
import { openRuntime, type Runtime } from '../../src/runtime.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.ts';
import { createLogger } from '../../src/util/log.ts';

/** What may be set otherwise. */
export interface FastClockOptions {
  readonly redisUrl: string;
  readonly queueName: string;
  /** Variables of the product, beside those that lead to the sandbox. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** A program whose time can be skipped. There is one of them at a time in a process. */
export interface FastClock {
  readonly sandbox: Sandbox;
  readonly runtime: Runtime;
  /** Does something at a time (unix milliseconds). */
  at(time: number, action: () => Promise<void>): void;
  request(requests: readonly Omit<EnqueueRequest, 'botId'>[]): Promise<void>;
  /** Moves on until nothing is left to be done before that time (unix milliseconds). */
  runUntil(time: number): Promise<void>;
  stop(): Promise<void>;
}

/** BullMQ keeps delayed jobs by their time times this, plus a counter. */
const SCORE_PER_MS = 0x1000;
const POLL_MS = 2;

/** Starts it; the clock stands at `startAt` (unix milliseconds). */
export async function startOnFastClock(
  startAt: number,
  { redisUrl, queueName, environment }: FastClockOptions,
): Promise<FastClock> {
  mock.timers.enable({ apis: ['Date'], now: startAt });
  await using started = new AsyncDisposableStack();
  started.defer(() => mock.timers.reset());
  const directory = await mkdtemp(join(tmpdir(), 'voicemail-archiver-skipped-'));
  started.defer(() => rm(directory, { recursive: true }));
  const sandbox = started.adopt(
    await startSandbox({ accountId: 'o-1', keepCalls: 1_000_000, now: () => Date.now() }),
    (running) => running.close(),
  );
  const config = loadConfig(
    {
      KORE_HOST: sandbox.url,
      KORE_BOT_ID: sandbox.botId,
      KORE_CLIENT_ID: sandbox.clientId,
      KORE_CLIENT_SECRET: sandbox.clientSecret,
      KORE_RATE_LIMIT: '1000000/1s',
      KORE_MEDIA_HOSTS: '127.0.0.1',
      KORE_ALLOW_PRIVATE_MEDIA: 'true',
      // Its daily run lists sessions as well.
      COMPLETENESS: 'off',
      QUEUE_URL: redisUrl,
      QUEUE_NAME: queueName,
      ARCHIVE_URL: `file:${directory}`,
      ...environment,
    },
    { needs: ['kore'] },
  );
  if (!config.kore) throw new Error('Kore is configured');
  const runtime = started.adopt(await openRuntime(config, createLogger('fatal')), (opened) => opened.close());
  const worker = started.adopt(await runtime.startWorker(config.kore), (running) => running.stop());
  await worker.ready();
  const redis = started.adopt(new Redis(redisUrl), (client) => client.disconnect());
  const queues = Object.values(runtime.queue.bullmq);
  const actions: { readonly time: number; readonly action: () => Promise<void> }[] = [];
  const ending = started.move();

  /** Resolves when no job runs or could be taken. */
  const idle = async () => {
    for (let quiet = 0; quiet < 2; ) {
      const counts = await Promise.all(
        queues.map((queue) => queue.getJobCounts('active', 'waiting', 'prioritized')),
      );
      const isQuiet = counts.every((count) => Object.values(count).every((jobs) => jobs === 0));
      quiet = isQuiet ? quiet + 1 : 0;
      await sleep(POLL_MS);
    }
  };
  /** The jobs that wait for a time, with the time (unix milliseconds). */
  const delayed = async () => {
    const found = await Promise.all(
      queues.map(async (queue) => {
        const pairs = await redis.zrange(queue.toKey('delayed'), '0', '-1', 'WITHSCORES');
        return pairs
          .map((id, index) => ({ queue, id, dueAt: Math.floor(Number(pairs[index + 1]) / SCORE_PER_MS) }))
          .filter((_, index) => index % 2 === 0);
      }),
    );
    return found.flat().toSorted((a, b) => a.dueAt - b.dueAt);
  };

  const makeDue = async (queue: JobQueue, id: string) => {
    const job = await queue.getJob(id);
    try {
      await job?.promote();
    } catch (error) {
      // A worker that polled has taken it.
      if (await job?.isDelayed()) throw error;
    }
  };

  return {
    sandbox,
    runtime,
    at(time, action) {
      actions.push({ time, action });
      actions.sort((a, b) => a.time - b.time);
    },
    async request(requests) {
      await runtime.operations.enqueue(requests.map((one) => ({ ...one, botId: sandbox.botId })));
    },
    async runUntil(time) {
      for (;;) {
        await idle();
        const waiting = await delayed();
        const next = Math.min(
          waiting[0]?.dueAt ?? Number.POSITIVE_INFINITY,
          actions[0]?.time ?? Number.POSITIVE_INFINITY,
        );
        if (next > time) return;
        mock.timers.setTime(Math.max(next, Date.now()));
        while (actions[0] && actions[0].time <= Date.now()) await actions.shift()?.action();
        for (const { queue, id, dueAt } of waiting) {
          if (dueAt <= Date.now()) await makeDue(queue, id);
        }
      }
    },
    stop: () => ending.disposeAsync(),
  };
}
