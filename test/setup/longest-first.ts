import { relative } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * Files that take long, the longest first: started late, one of them would run alone while a core is idle.
 * Where times were kept of an earlier run (a fresh clone has none), vitest orders the rest by them.
 */
const LONG = [
  'workers/outages',
  'workers/faulty-media-hosts',
  'workers/main',
  'cli/commands',
  'workers/faults-and-stops',
  'workers/irregular-kore-answers',
  'jobs/queue-away',
  'jobs/consumer',
  'jobs/redis-topologies',
  'page/actions',
  'completeness/truth',
  'workers/dependencies',
  'workers/property',
  'cli/signals',
  'chaos/chaos',
  'workers/ownership',
  'backfills/backfill',
  'workers/redis-failover',
  'page/views',
  'backfills/killed',
  'backfills/schedule',
  'workers/irregular-recordings',
  'notifications/killed',
  'library/package',
  'workers/parts',
  'jobs/event-feed',
  'kore/irregular-answers',
  'jobs/queue',
  'transfer/property',
  'transfer/memory-use',
  'jobs/open-queues',
  'notifications/delivery',
  'cli/closing',
  'cli/custody',
  'cli/audit-log',
  'page/hostile',
  'page/search',
  'doctor/doctor',
  'bench/simulate',
  'storage/stores',
  'api/webhook-load',
  'workers/calls',
  'storage/s3-faults',
  'verification/verify-signatures',
  'verification/verify',
].map((name) => `test/${name}.test.ts`);

/** Begins the longest test files first. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId, project }: TestSpecification) => {
      const at = LONG.indexOf(relative(project.config.root, moduleId));
      return at === -1 ? LONG.length : at;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}
