/** What happens to a job's lock behind the back of its worker. */

import { Redis } from 'ioredis';
import type { Backend } from '../../src/jobs/backends/backend.ts';

interface Sql {
  query(text: string, params: readonly unknown[]): Promise<unknown>;
}

/** Removes the lock of a job, as if it had expired. */
export async function stealLock(backend: Backend, name: string, jobId: string): Promise<void> {
  const { connection, prefix } = backend.options('producer');
  if (connection instanceof Redis) {
    await connection.del(`${prefix}:${name}:${jobId}:lock`);
    return;
  }
  await (connection as Sql).query(
    'update bullmq.job set lock_token = null, locked_until_ms = 0 where queue = $1 and id = $2',
    [backend.queueName(name), jobId],
  );
}

/** Leaves a job as BullMQ does when its workers died more often than they may. */
export async function pretendStalls(backend: Backend, name: string, jobId: string): Promise<void> {
  const { connection, prefix } = backend.options('producer');
  const reason = 'job stalled more than allowable limit';
  if (connection instanceof Redis) {
    await connection.hset(`${prefix}:${name}:${jobId}`, { stc: '2000000000', defa: reason });
    return;
  }
  await (connection as Sql).query(
    'update bullmq.job set stalled_count = 2000000000, deferred_failure = $3 where queue = $1 and id = $2',
    [backend.queueName(name), jobId, reason],
  );
}
