/** The faults of a chaos run, one after the other, each for a limited time. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Random } from '../support/random.ts';
import type { InjectedFault } from '../support/s3-proxy.ts';
import type { World } from './environment.ts';

/** A fault of a chaos run. */
interface Fault {
  readonly name: string;
  /** Resolves when all is well again. */
  run(world: World, random: Random): Promise<void>;
}

const SHORT_MS = 1_500;

/** Causes faults until `signal` is aborted, and leaves everything in order. @returns their names, in order. */
export async function causeFaults(world: World, random: Random, signal: AbortSignal): Promise<string[]> {
  const caused: string[] = [];
  while (!signal.aborted) {
    const fault = random.pick(FAULTS);
    caused.push(fault.name);
    await fault.run(world, random);
    await delay(random.below(400));
  }
  return caused;
}

const BUCKET_FAULTS: readonly InjectedFault[] = [
  { status: 503, code: 'SlowDown' },
  { status: 500, code: 'InternalError' },
  { status: 403, code: 'AccessDenied' },
  'drop request',
  'drop answer',
  'hang',
  'damage',
  'half answer',
];

const FAULTS: readonly Fault[] = [
  {
    name: 'a worker is killed',
    async run({ workers }, random) {
      await random.pick(workers).replace('SIGKILL');
    },
  },
  {
    name: 'a worker gets SIGTERM',
    async run({ workers }, random) {
      await random.pick(workers).replace('SIGTERM');
    },
  },
  {
    name: 'a worker is suspended',
    async run({ workers }, random) {
      const worker = random.pick(workers);
      worker.signal('SIGSTOP');
      await delay(random.below(2 * SHORT_MS));
      worker.signal('SIGCONT');
    },
  },
  {
    name: 'the queue is restarted',
    async run({ queue }) {
      await queue.restart?.();
    },
  },
  {
    name: 'the bucket answers badly',
    async run(world, random) {
      const fault = random.pick(BUCKET_FAULTS);
      const isPutsOnly = random.chance(0.3);
      world.spoilBucket(({ stage }) => {
        if (isPutsOnly && stage !== 'put' && stage !== 'part') return undefined;
        return random.chance(0.6) ? fault : undefined;
      });
      await delay(random.below(SHORT_MS));
      world.spoilBucket(undefined);
    },
  },
  {
    name: 'Kore answers badly',
    async run({ sandbox }, random) {
      sandbox.configure({
        outage: random.pick([
          { status: 500 },
          { status: 503, retryAfter: 1 },
          { page: 'html', status: 502 },
          { page: 'html' },
          { limit: '429-seconds' },
          { limit: '200-text' },
          { status: 401 },
          { dropConnection: true },
          { cutJson: true },
        ] as const),
      });
      await delay(random.below(SHORT_MS));
      sandbox.configure({ outage: undefined });
    },
  },
  {
    name: 'the media host answers badly',
    async run({ sandbox }, random) {
      sandbox.configure({
        mediaOutage: random.pick([
          { status: 503 },
          { status: 404 },
          { page: 'html' },
          { page: 'json' },
          { shortBy: Number.POSITIVE_INFINITY },
          { breakAfterBytes: 500 },
          { breakAfterBytes: 500, breakBy: 'reset' },
          { stallAfterBytes: 100 },
        ] as const),
      });
      await delay(random.below(SHORT_MS));
      sandbox.configure({ mediaOutage: undefined });
    },
  },
  {
    name: 'all URLs are revoked',
    async run({ sandbox }) {
      sandbox.revokeUrls();
    },
  },
];
