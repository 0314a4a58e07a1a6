/**
 * What outages cost: Kore or the bucket is unavailable for some minutes while sessions wait, and comes back. A table of how
 * many attempts that used up, how much was downloaded in vain, and how long after the end the last session was archived.
 * Figures only, never a verdict.
 *
 * `npm run bench:outage -- --help` lists the options. It needs `redis-server`.
 */

import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { createLogger } from '../src/util/log.ts';
import { startRedis } from '../test/setup/redis.ts';
import { OUTAGE_KINDS, runOutage } from '../test/support/outage.ts';
import { openTestBucket, PLAIN_S3 } from '../test/support/s3.ts';
import { columns } from './table.ts';

const USAGE = `npm run bench:outage -- [options]
  --sessions N   sessions that wait (default 200)
  --seconds N    how long each outage lasts (default 180)
  --bytes N      of each recording (default 300000)
  --only TEXT    only outages whose names hold it`;

const { values: options } = parseArgs({
  options: {
    sessions: { type: 'string', default: '200' },
    seconds: { type: 'string', default: '180' },
    bytes: { type: 'string', default: '300000' },
    only: { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
});
if (options.help) console.log(USAGE);
else await bench();

async function bench(): Promise<void> {
  await using servers = new AsyncDisposableStack();
  const redis = servers.adopt(await startRedis(), (server) => server.stop());
  const bucket = servers.adopt(await openTestBucket(), (opened) => opened.close());
  const { endpoint, region, credentials } = bucket;
  const rows = [['outage', 'begins', 'archived', 'failed', 'attempts burnt', 'in vain', 'last one after']];
  const kinds = OUTAGE_KINDS.filter((name) => name.includes(options.only));
  const begins = ['quiet', 'in the middle'] as const;
  for (const [kind, begin] of kinds.flatMap((one) => begins.map((when) => [one, when] as const))) {
    const result = await runOutage({
      kind,
      begins: begin,
      sessions: Number(options.sessions),
      lastsMs: Number(options.seconds) * 1000,
      recordingBytes: Number(options.bytes),
      queue: {
        target: { kind: 'redis', url: redis.url, cluster: false },
        name: `outage-${randomUUID()}`,
        prefix: undefined,
      },
      archive: { kind: 's3', bucket: bucket.bucket, prefix: randomUUID(), s3: PLAIN_S3 },
      connection: { endpoint, region, credentials },
      log: createLogger('error'),
    });
    rows.push([
      kind,
      begin,
      String(result.archived),
      String(result.failed),
      String(result.attemptsBurnt),
      `${((100 * result.bytesInVain) / result.bytesStored).toFixed(1)} %`,
      `${result.secondsAfterEnd.toFixed(1)} s`,
    ]);
    console.error(rows.at(-1)?.join('  '));
  }
  console.log(columns(rows));
}
