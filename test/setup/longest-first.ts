import { relative } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * Files that take long, the longest first: begun late, one of them would go on alone while a core has nothing to do.
 * Where times were kept of an earlier run (a fresh clone has none), vitest orders the rest by them.
 */
const LONG = [
  'workers/outages',
  'cli/signals',
  'chaos/chaos',
  'jobs/queue-away',
  'audit/verify-signatures',
  'completeness/truth',
  'cli/commands',
  'backfills/killed',
  'workers/ownership',
  'workers/main',
  'workers/trouble',
  'notifications/killed',
  'jobs/redis-topologies',
  'backfills/schedule',
  'jobs/consumer',
  'workers/parts',
  'transfer/memory-use',
  'cli/custody',
  'cli/audit',
  'field/audio',
  'field/media',
  'field/kore',
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
