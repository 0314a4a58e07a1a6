import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { type BackendFactory, createRedisBackend, type IQueueBackend } from 'bullmq';
import { Cluster, type Redis } from 'ioredis';
import { ERROR_CODES } from '../../domain/errors.ts';
import { withinTime } from '../../util/async.ts';
import type { Logger } from '../../util/log.ts';
import type { StoredEvent } from '../job-events.ts';
import { type Backend, type BoardNote, type JobQueue, MINUTES_KEPT } from './backend.ts';
import { createConnectionLog } from './connection-errors.ts';
import {
  createRedisClient,
  luaScript,
  type RedisRole,
  type RedisTarget,
  redisKeyPrefix,
  redisLocation,
  runScript,
} from './redis-client.ts';
import { redisIndexKeys, redisJobIndex } from './redis-index.ts';
import { readOldestQueuedAt, readStatuses } from './redis-statuses.ts';

/** The number of active jobs from which commands wait a moment to be sent together. */
const MANY_ACTIVE_JOBS = 4;
/** A server that takes a connection and no command within this time is loading its data, or hangs. */
const CHECK_TIMEOUT_MS = 5_000;

/**
 * A sliding window as a sorted set of the times at which calls were taken, by the server's clock.
 * KEYS: calls, pause. ARGV: calls allowed, window in ms, unique member.
 */
const TAKE_CALL = luaScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local pausedUntil = tonumber(redis.call('GET', KEYS[2]) or '0')
if pausedUntil > now then return pausedUntil - now end
local allowed, window = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local taken = redis.call('ZCARD', KEYS[1])
if taken < allowed then
  redis.call('ZADD', KEYS[1], now, ARGV[3])
  redis.call('PEXPIRE', KEYS[1], window)
  return 0
end
local blocking = redis.call('ZRANGE', KEYS[1], taken - allowed, taken - allowed, 'WITHSCORES')
return math.max(1, tonumber(blocking[2]) + window - now)
`);

/** Only ever prolongs a pause. KEYS: pause. ARGV: milliseconds. */
const PAUSE_CALLS = luaScript(`
local time = redis.call('TIME')
local until_ = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
if until_ > tonumber(redis.call('GET', KEYS[1]) or '0') then
  redis.call('SET', KEYS[1], until_, 'PX', ARGV[1])
end
return 0
`);

/** Calls taken within the window, and the end of a pause (0 for none). KEYS: calls, pause. ARGV: window in ms. */
const CALL_USAGE = luaScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local pausedUntil = tonumber(redis.call('GET', KEYS[2]) or '0')
if pausedUntil <= now then pausedUntil = 0 end
return {redis.call('ZCOUNT', KEYS[1], now - tonumber(ARGV[1]), '+inf'), pausedUntil}
`);

/**
 * Puts a note on a board and takes those down that have had their time. Each is kept as its times and its text.
 * KEYS: board. ARGV: id, text, milliseconds.
 */
const POST = luaScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local longest = now + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], longest .. ' ' .. now .. ' ' .. ARGV[2])
local notes = redis.call('HGETALL', KEYS[1])
for index = 1, #notes, 2 do
  local until_ = tonumber(string.match(notes[index + 1], '^%d+'))
  if until_ <= now then redis.call('HDEL', KEYS[1], notes[index])
  elseif until_ > longest then longest = until_ end
end
redis.call('PEXPIREAT', KEYS[1], longest)
return 0
`);

/** What is on a board, and the server's time before it. KEYS: board. */
const POSTS = luaScript(`
local time = redis.call('TIME')
return {time[1] * 1000 + math.floor(time[2] / 1000), redis.call('HGETALL', KEYS[1])}
`);

/**
 * Stores a job's progress and publishes it, as BullMQ's `updateProgress` does, but only for the holder of its lock. An
 * error in it goes into the index of its code. KEYS: job, its lock, events, meta, index of jobs, index of the error's
 * code. ARGV: token, job id, progress, code or ''.
 */
const SAVE_PROGRESS = luaScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'progress', ARGV[3])
local kept = redis.call('HGET', KEYS[4], 'opts.maxLenEvents') or 10000
redis.call('XADD', KEYS[3], 'MAXLEN', '~', kept, '*', 'event', 'progress', 'jobId', ARGV[2], 'data', ARGV[3])
if ARGV[4] ~= '' then
  local addedAt = redis.call('ZSCORE', KEYS[5], ARGV[2])
  if addedAt then redis.call('ZADD', KEYS[6], addedAt, ARGV[2]) end
end
return 1
`);

/**
 * Stores and publishes the progress of a completed job, unless the stored progress has a higher revision.
 * KEYS: job, completed jobs, events, meta. ARGV: job id, progress, revision (0 for none).
 */
const NOTE_COMPLETED = luaScript(`
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local before = cjson.decode(redis.call('HGET', KEYS[1], 'progress') or '0')
if type(before) == 'table' and tonumber(ARGV[3]) > 0 and (tonumber(before.revision) or 0) > tonumber(ARGV[3]) then
  return 0
end
redis.call('HSET', KEYS[1], 'progress', ARGV[2])
local kept = redis.call('HGET', KEYS[4], 'opts.maxLenEvents') or 10000
redis.call('XADD', KEYS[3], 'MAXLEN', '~', kept, '*', 'event', 'progress', 'jobId', ARGV[1], 'data', ARGV[2])
return 1
`);

/**
 * Puts delayed jobs without a priority at the end of the list from which workers take.
 * KEYS: delayed, wait, meta, events, marker. ARGV: prefix of the jobs' keys, ids, the one that is taken first at last.
 */
const PUT_IN_FRONT = luaScript(`
local kept = redis.call('HGET', KEYS[3], 'opts.maxLenEvents') or 10000
local moved = 0
for index = 2, #ARGV do
  local id = ARGV[index]
  local priority = tonumber(redis.call('HGET', ARGV[1] .. id, 'priority')) or 0
  if priority == 0 and redis.call('ZREM', KEYS[1], id) == 1 then
    redis.call('RPUSH', KEYS[2], id)
    redis.call('HSET', ARGV[1] .. id, 'delay', 0)
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', kept, '*', 'event', 'waiting', 'jobId', id, 'prev', 'delayed')
    moved = moved + 1
  end
end
if moved > 0 and redis.call('HEXISTS', KEYS[3], 'paused') == 0 then redis.call('ZADD', KEYS[5], 0, '0') end
return moved
`);

/** Where BullMQ keeps how often a job's workers died, and that it is to fail for that. */
const STALL_FIELDS = ['stc', 'defa'] as const;

/** The reasons of failed jobs are read in batches, so that no reply is very long. */
const FAILURES_PER_REPLY = 1_000;

/** The queue on Redis: a single server, Sentinel or a cluster. */
export function openRedisBackend(target: RedisTarget, prefix: string | undefined, log: Logger): Backend {
  const connections = new Map<RedisRole, Redis | Cluster>();
  const location = redisLocation(target);
  const keyPrefix = redisKeyPrefix(target, prefix);

  const connectionLog = createConnectionLog(location, log);
  let lastFault: Error | undefined;
  let activeJobs = 0;

  const connect = (role: RedisRole): Redis | Cluster => {
    const existing = connections.get(role);
    if (existing) return existing;
    const client = createRedisClient(target, role, () => activeJobs >= MANY_ACTIVE_JOBS);
    client.on('error', (error: Error) => {
      lastFault = error;
      connectionLog.failed(error);
    });
    client.on('ready', () => {
      lastFault = undefined;
      connectionLog.works();
    });
    connections.set(role, client);
    return client;
  };
  const callKeys = (name: string) =>
    [`${keyPrefix}:${name}:calls`, `${keyPrefix}:${name}:calls-paused`] as const;

  /** Distinguishes the calls of this process from those of others. */
  const caller = randomUUID();
  let calls = 0;

  const rememberedKey = (name: string, text: string) => `${keyPrefix}:${name}:remembered:${text}`;
  const boardKey = (name: string, board: string) => `${keyPrefix}:${name}:board:${board}`;
  const eventsKey = (name: string) => `${keyPrefix}:${name}:events`;

  return {
    location,
    shared: true,
    reportFault: (error) => connectionLog.failed(error),
    factory: createRedisBackend as unknown as BackendFactory<IQueueBackend, unknown>,
    queueName: (name) => name,
    options: (role) => ({
      // BullMQ's listeners connect for themselves, with this one's options.
      connection: connect(role === 'listener' ? 'consumer' : role),
      prefix: keyPrefix,
    }),
    activeJobsChanged(change) {
      activeJobs += change;
    },
    statuses: (queue, ids) => readStatuses(connect('producer'), queue, ids),
    oldestQueuedAt: (queue) => readOldestQueuedAt(connect('producer'), queue),
    async saveProgress(name, jobId, token, progress) {
      const job = `${keyPrefix}:${name}:${jobId}`;
      const meta = `${keyPrefix}:${name}:meta`;
      const text = JSON.stringify(progress);
      const code = errorCodeOf(progress);
      const index = redisIndexKeys(`${keyPrefix}:${name}`);
      const keys = [job, `${job}:lock`, eventsKey(name), meta, index.jobs, index.errors(code)] as const;
      const client = connect('consumer');
      return (await runScript(client, SAVE_PROGRESS, keys, [token, jobId, text, code])) === 1;
    },
    async noteCompleted(name, jobId, progress) {
      const queueKey = `${keyPrefix}:${name}`;
      const keys = [
        `${queueKey}:${jobId}`,
        `${queueKey}:completed`,
        eventsKey(name),
        `${queueKey}:meta`,
      ] as const;
      const values = [jobId, JSON.stringify(progress), progress.revision ?? 0] as const;
      return (await runScript(connect('producer'), NOTE_COMPLETED, keys, values)) === 1;
    },
    async promote(queue, jobId) {
      const job = await queue.getJob(jobId);
      try {
        await job?.promote();
        return job !== undefined;
      } catch (error) {
        // It is not delayed, or no longer.
        if (await job?.isDelayed()) throw error;
        return false;
      }
    },
    async putInFront(name, jobIds) {
      const base = `${keyPrefix}:${name}:`;
      const keys = ['delayed', 'wait', 'meta', 'events', 'marker'].map((key) => `${base}${key}`);
      await runScript(connect('consumer'), PUT_IN_FRONT, keys, [base, ...jobIds.toReversed()]);
    },
    async forgetStalls(name, jobId) {
      await connect('producer').hdel(`${keyPrefix}:${name}:${jobId}`, ...STALL_FIELDS);
    },
    async lastEventId(name) {
      const [newest] = await connect('producer').xrevrange(eventsKey(name), '+', '-', 'COUNT', 1);
      return newest?.[0] ?? '0-0';
    },
    async eventsAfter(name, after, limit) {
      const read = await connect('producer').xread('COUNT', limit, 'STREAMS', eventsKey(name), after);
      const [[, entries] = ['', []]] = read ?? [];
      return entries.map(([id, pairs]) => storedEvent(id, pairs));
    },
    isEventId: (text) => /^\d{1,15}-\d{1,15}$/.test(text),
    async minuteCounts(queue, outcome) {
      const { meta, data } = await queue.getMetrics(outcome, 0, MINUTES_KEPT - 1);
      return {
        latestAt: meta.prevTS || undefined,
        latest: meta.count - meta.prevCount,
        earlier: data,
      };
    },
    index: redisJobIndex({
      client: () => connect('producer'),
      queueKey: (name) => `${keyPrefix}:${name}`,
      codes: ERROR_CODES,
    }),
    failureCounts: (queue, limit) => countFailures(connect('producer'), queue, limit),
    async takeCall(name, allowed, windowMs) {
      calls += 1;
      const values = [allowed, windowMs, `${caller}:${calls}`];
      // An active session waits until an outage of the queue is over: it must not fail because of it.
      return Number(await runScript(connect('consumer'), TAKE_CALL, callKeys(name), values));
    },
    async pauseCalls(name, milliseconds) {
      const [, paused] = callKeys(name);
      await runScript(connect('consumer'), PAUSE_CALLS, [paused], [Math.ceil(milliseconds)]);
    },
    async remember(name, text, milliseconds) {
      await connect('producer').set(
        rememberedKey(name, text),
        '',
        'PX',
        Math.max(1, Math.ceil(milliseconds)),
      );
    },
    async remembers(name, text) {
      return (await connect('producer').exists(rememberedKey(name, text))) === 1;
    },
    async callUsage(name, windowMs) {
      const usage = await runScript(connect('producer'), CALL_USAGE, callKeys(name), [windowMs]);
      const [used = 0, pausedUntil = 0] = (usage as unknown[]).map(Number);
      return { used, pausedUntil: pausedUntil || undefined };
    },
    async post(name, board, { id, text }, milliseconds) {
      await runScript(
        connect('producer'),
        POST,
        [boardKey(name, board)],
        [id, text, Math.ceil(milliseconds)],
      );
    },
    async posts(name, board) {
      const [now, pairs] = (await runScript(connect('producer'), POSTS, [boardKey(name, board)], [])) as [
        number,
        string[],
      ];
      return boardNotes(pairs, now);
    },
    async removeNote(name, board, id) {
      await connect('producer').hdel(boardKey(name, board), id);
    },
    async check() {
      const client = connect('producer');
      const asked = ask(client);
      try {
        if (await withinTime(asked, CHECK_TIMEOUT_MS)) return;
      } catch (error) {
        // The command's own error only says that it was given up; the connection's says why.
        throw lastFault ?? error;
      }
      // Its end comes later, and says nothing new.
      asked.catch(() => undefined);
      throw lastFault ?? new Error('it answers no command: it is loading its data, or hangs');
    },
    async close() {
      for (const client of connections.values()) client.disconnect();
      connections.clear();
    },
  };
}

/** BullMQ keeps failed jobs in a sorted set by when they failed, and each one's reason with it. */
async function countFailures(
  client: Redis | Cluster,
  queue: JobQueue,
  limit: number,
): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (let start = 0; start < limit; start += FAILURES_PER_REPLY) {
    const end = Math.min(start + FAILURES_PER_REPLY, limit) - 1;
    const ids = await client.zrevrange(queue.toKey('failed'), start, end);
    if (ids.length === 0) break;
    const pipeline = client.pipeline();
    for (const id of ids) pipeline.hget(queue.toKey(id), 'failedReason');
    for (const [error, reason] of (await pipeline.exec()) ?? []) {
      if (error) throw error;
      const [before = ''] = String(reason ?? '').split(':', 1);
      counts.set(before, (counts.get(before) ?? 0) + 1);
    }
  }
  return counts;
}

/** The code of the error that a session's job remembers; empty where there is none. */
function errorCodeOf(progress: object): string {
  const { error }: { error?: unknown } = progress;
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
}

/** The notes of a board that have not had their time. A hash lists names and values in turn. */
function boardNotes(pairs: readonly string[], now: number): BoardNote[] {
  const notes: BoardNote[] = [];
  for (let index = 0; index + 1 < pairs.length; index += 2) {
    const [, until, at, text = ''] = /^(\d+) (\d+) (.*)$/s.exec(pairs[index + 1] ?? '') ?? [];
    if (Number(until) > now) notes.push({ id: pairs[index] ?? '', text, at: Number(at) });
  }
  return notes;
}

/** A stream's entry lists names and values in turn. */
function storedEvent(id: string, pairs: readonly string[]): StoredEvent {
  const fields: Record<string, string> = {};
  for (let index = 0; index + 1 < pairs.length; index += 2) {
    fields[pairs[index] ?? ''] = pairs[index + 1] ?? '';
  }
  return { id, fields };
}

/** A cluster takes no command before it has connected for the first time; a single server keeps them by itself. */
async function ask(client: Redis | Cluster): Promise<void> {
  if (client instanceof Cluster && client.status !== 'ready') {
    await once(client, 'ready', { signal: AbortSignal.timeout(CHECK_TIMEOUT_MS) });
  }
  await client.ping();
}
