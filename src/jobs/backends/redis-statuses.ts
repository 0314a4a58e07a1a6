import type { Cluster, Redis } from 'ioredis';
import type { JobQueue, JobStatus } from './backend.ts';
import { luaScript, runScript } from './redis-client.ts';

/**
 * The statuses of jobs, each as a {@link JobStatus} or empty. BullMQ keeps finished jobs in one sorted set per outcome;
 * a job in neither is still to be worked on. KEYS: completed, failed. ARGV: prefix of the jobs' keys, ids.
 */
const STATUSES = luaScript(`
local statuses = {}
for index = 2, #ARGV do
  local id, status = ARGV[index], ''
  local fields = redis.call('HMGET', ARGV[1] .. id, 'timestamp', 'priority')
  if fields[1] then
    if redis.call('ZSCORE', KEYS[2], id) then status = 'failed'
    elseif redis.call('ZSCORE', KEYS[1], id) then status = 'completed'
    elseif tonumber(fields[2] or '0') > 0 then status = 'backfill'
    else status = 'live' end
  end
  statuses[index - 1] = status
end
return statuses
`);
/** Jobs that one script reads: half a millisecond, in which the server does nothing else. */
const STATUSES_AT_ONCE = 1_000;

/** The status of each job that there is, by its id. */
export async function readStatuses(
  client: Redis | Cluster,
  queue: JobQueue,
  ids: readonly string[],
): Promise<Map<string, JobStatus>> {
  const keys = [queue.toKey('completed'), queue.toKey('failed')];
  const parts: Promise<unknown>[] = [];
  for (let from = 0; from < ids.length; from += STATUSES_AT_ONCE) {
    const values = [queue.toKey(''), ...ids.slice(from, from + STATUSES_AT_ONCE)];
    parts.push(runScript(client, STATUSES, keys, values));
  }
  const statuses = new Map<string, JobStatus>();
  const read = (await Promise.all(parts)) as (JobStatus | '')[][];
  for (const [index, status] of read.flat().entries()) {
    if (status !== '') statuses.set(ids[index] ?? '', status);
  }
  return statuses;
}

/**
 * When the job was added that has waited longest of those that a worker could take, or 0. Jobs without a priority are
 * lists, taken from their ends.
 * KEYS: wait, paused, prioritized. ARGV: prefix of the jobs' keys.
 */
const OLDEST = luaScript(`
local oldest = 0
local first = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
for _, id in ipairs({redis.call('LINDEX', KEYS[1], -1) or '', redis.call('LINDEX', KEYS[2], -1) or '', first or ''}) do
  local at = id ~= '' and tonumber(redis.call('HGET', ARGV[1] .. id, 'timestamp') or nil)
  if at and (oldest == 0 or at < oldest) then oldest = at end
end
return oldest
`);

/** Unix milliseconds; `undefined` where no job waits to be taken. */
export async function readOldestQueuedAt(
  client: Redis | Cluster,
  queue: JobQueue,
): Promise<number | undefined> {
  const keys = ['wait', 'paused', 'prioritized'].map((list) => queue.toKey(list));
  return Number(await runScript(client, OLDEST, keys, [queue.toKey('')])) || undefined;
}
