import type { Cluster, Redis } from 'ioredis';
import type { SessionState } from '../../domain/views.ts';
import type { SessionJob } from '../session-job.ts';
import type { FoundJob, JobIndex } from './backend.ts';
import { answered } from './connection-errors.ts';
import { type LuaScript, luaScript, runScript } from './redis-client.ts';

/*
 * BullMQ keeps jobs in lists and sets by their states, through which they move: a reader who pages through one of those
 * misses what moves meanwhile. So there is one sorted set of all jobs, scored by when they were added, and for each
 * error code one of the jobs whose last error it was, with the same scores. They may name jobs that are gone or done
 * (dropped when met, and by sweeps), and they hold a job before its own key does, so that none is missing.
 */

/** Where the indexes of a queue are. */
export function redisIndexKeys(queueKey: string) {
  return {
    jobs: `${queueKey}:session-index`,
    errors: (code: string) => `${queueKey}:session-errors:${code}`,
    /** Of one call, within which it is deleted again. */
    narrowed: `${queueKey}:session-narrowed`,
  };
}

/** What is read of a job's hash, in this order. */
const FIELDS = [
  'data',
  'name',
  'progress',
  'returnvalue',
  'failedReason',
  'atm',
  'timestamp',
  'processedOn',
  'finishedOn',
] as const;

/** The code of a job's last error; by the reason where BullMQ failed it by itself, or an older version did. */
const CODE_OF = `
local function codeOf(progress, reason)
  local isRead, decoded = false, nil
  if progress and progress ~= '0' then isRead, decoded = pcall(cjson.decode, progress) end
  if isRead and type(decoded) == 'table' and type(decoded.error) == 'table' then return decoded.error.code end
  if not reason or reason == '' then return nil end
  return string.match(reason, '^([A-Z_]+): ') or 'INTERNAL'
end
`;

/**
 * Walks down an index and returns the jobs that match, and how far it came.
 *
 * KEYS: the index, completed, failed, delayed, active, and a key of its own. ARGV: prefix of the jobs' keys, state,
 * code, bot with a dot, text, earliest and latest score, score and id to go on after, jobs wanted, steps at most, few.
 */
const FIND = luaScript(`
${CODE_OF}
local base, state, code, bot, text = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local lowerText = string.lower(text)
local afterAt, afterId = ARGV[8], ARGV[9]
local wanted, steps = tonumber(ARGV[10]), tonumber(ARGV[11])

local active = {}
local activeIds = redis.call('LRANGE', KEYS[5], 0, -1)
for _, id in ipairs(activeIds) do active[id] = true end

-- Of a state in which only few jobs are, nothing else is walked over.
local walk = KEYS[1]
local set = ({archived = KEYS[2], failed = KEYS[3], partial = KEYS[3], waiting = KEYS[4]})[state]
if code == '' and state == 'active' then
  walk = KEYS[6]
  for _, id in ipairs(activeIds) do
    local at = redis.call('ZSCORE', KEYS[1], id)
    if at then redis.call('ZADD', walk, at, id) end
  end
elseif code == '' and set and redis.call('ZCARD', set) <= tonumber(ARGV[12]) then
  walk = KEYS[6]
  redis.call('ZINTERSTORE', walk, 2, KEYS[1], set, 'WEIGHTS', 1, 0)
end

local start
if afterId == '' then
  start = redis.call('ZCOUNT', walk, '(' .. ARGV[7], '+inf')
else
  -- A mark finds the place even if what was there is gone, or was added again since.
  local mark = afterId .. '\\1'
  redis.call('ZADD', walk, afterAt, mark)
  start = redis.call('ZREVRANK', walk, mark)
  redis.call('ZREM', walk, mark)
  local score = redis.call('ZSCORE', walk, afterId)
  if score and tonumber(score) == tonumber(afterAt) then start = start + 1 end
end
local stop = redis.call('ZCOUNT', walk, ARGV[6], '+inf')
local rows = {}
if start < stop then
  -- Without scores, which take longer to write down than all the rest.
  rows = redis.call('ZREVRANGE', walk, start, math.min(start + steps, stop) - 1)
end

local function stateOf(id)
  if redis.call('ZSCORE', KEYS[2], id) then return 'archived' end
  if redis.call('ZSCORE', KEYS[3], id) then return 'failed' end
  if redis.call('ZSCORE', KEYS[4], id) then return 'waiting' end
  return active[id] and 'active' or 'queued'
end

local found, gone = {}, {}
local walked = 0
for index, id in ipairs(rows) do
  walked = index
  local isNamed = bot == '' or string.find(id, bot, 1, true) == 1
  if isNamed and text ~= '' then
    local from = string.find(id, '.', 1, true) or 0
    isNamed = string.find(id, text, from + 1, true) or string.find(id, lowerText, from + 1, true)
  end
  if isNamed then
    local now = stateOf(id)
    if state == '' or now == state or (state == 'partial' and now == 'failed') then
      local fields = redis.call('HMGET', base .. id, ${FIELDS.map((field) => `'${field}'`).join(', ')})
      if not fields[1] then
        table.insert(gone, id)
      elseif code ~= '' and (now == 'archived' or codeOf(fields[3], fields[5]) ~= code) then
        table.insert(gone, id)
      elseif state ~= 'partial' or string.find(fields[3] or '', '"partial":true', 1, true) then
        table.insert(found, {id, redis.call('ZSCORE', walk, id), now, fields})
        if #found == wanted then break end
      end
    end
  end
end
local lastId = rows[walked] or ''
local lastAt = walked > 0 and redis.call('ZSCORE', walk, lastId) or ''
for _, id in ipairs(gone) do redis.call('ZREM', KEYS[1], id) end
if walk == KEYS[6] then redis.call('DEL', walk) end
local isEnd = start + walked >= stop
return {found, lastId, lastAt, isEnd and 1 or 0}
`);

/**
 * The members of one of BullMQ's sets or lists that an index lacks, as with jobs of an older version, are put into it.
 * KEYS: index, source. ARGV: prefix of the jobs' keys, prefix of the indexes of codes, `list` or `set`, first, last.
 */
const INDEX_MORE = luaScript(`
${CODE_OF}
local ids
if ARGV[3] == 'list' then ids = redis.call('LRANGE', KEYS[2], ARGV[4], ARGV[5])
else ids = redis.call('ZRANGE', KEYS[2], ARGV[4], ARGV[5]) end
for _, id in ipairs(ids) do
  if not redis.call('ZSCORE', KEYS[1], id) then
    local fields = redis.call('HMGET', ARGV[1] .. id, 'timestamp', 'progress', 'failedReason', 'finishedOn')
    if fields[1] then
      redis.call('ZADD', KEYS[1], fields[1], id)
      local code = codeOf(fields[2], fields[3])
      if code then redis.call('ZADD', ARGV[2] .. code, fields[1], id) end
    end
  end
end
return #ids
`);

/** How many jobs there are, and how many are in the index. KEYS: index, lists (2), sets (4). */
const COUNTS = luaScript(`
local jobs = 0
for index = 2, 3 do jobs = jobs + redis.call('LLEN', KEYS[index]) end
for index = 4, 7 do jobs = jobs + redis.call('ZCARD', KEYS[index]) end
return {jobs, redis.call('ZCARD', KEYS[1])}
`);

/**
 * Drops members of an index whose jobs are gone, or, of an index of codes, done or failing otherwise. KEYS: index,
 * completed. ARGV: prefix of the jobs' keys, code or '', first, last. Returns how many it kept and read.
 */
const SWEEP = luaScript(`
${CODE_OF}
local ids = redis.call('ZRANGE', KEYS[1], ARGV[3], ARGV[4])
local kept = 0
for _, id in ipairs(ids) do
  local isKept
  if ARGV[2] == '' then
    isKept = redis.call('EXISTS', ARGV[1] .. id) == 1
  else
    local fields = redis.call('HMGET', ARGV[1] .. id, 'progress', 'failedReason')
    isKept = not redis.call('ZSCORE', KEYS[2], id) and codeOf(fields[1], fields[2]) == ARGV[2]
  end
  if isKept then kept = kept + 1 else redis.call('ZREM', KEYS[1], id) end
end
return {kept, #ids}
`);

/** Members that one script reads: a millisecond or two, in which the server does nothing else. */
const STEPS = 4_000;
const INDEXED_AT_ONCE = 1_000;
/** Members that one sweep reads, of each index. */
const SWEPT_AT_ONCE = 2_000;
/** Jobs that are lists in Redis, and those that are sorted sets. */
const LISTS = ['wait', 'active'] as const;
const SETS = ['prioritized', 'delayed', 'completed', 'failed'] as const;
/** Up to this number, the jobs of a state are read one by one instead of by the index: a script takes some 10 ms. */
const FEW = 5_000;

/** What {@link redisJobIndex} works with. */
export interface RedisIndexOptions {
  readonly client: () => Redis | Cluster;
  /** The key of a queue, with its prefix. */
  readonly queueKey: (name: string) => string;
  /** `ERROR_CODES` */
  readonly codes: readonly string[];
}

/** The index of jobs in Redis. */
export function redisJobIndex({ client, queueKey, codes }: RedisIndexOptions): JobIndex {
  /** Each script is short, so one that is not answered in time means that the server hangs. */
  const run = (script: LuaScript, keys: readonly string[], ...values: readonly (string | number)[]) =>
    answered(runScript(client(), script, keys, values));
  /** Where the next sweep of each index begins. */
  const swept = new Map<string, number>();

  const completeIndex = async (name: string) => {
    const key = queueKey(name);
    const index = redisIndexKeys(key);
    const sources = [...LISTS, ...SETS].map((source) => `${key}:${source}`);
    const counts = await run(COUNTS, [index.jobs, ...sources]);
    const [jobs = 0, indexed = 0] = (counts as unknown[]).map(Number);
    if (indexed >= jobs) return;
    for (const source of [...LISTS, ...SETS]) {
      const kind = LISTS.some((list) => list === source) ? 'list' : 'set';
      for (let first = 0; ; first += INDEXED_AT_ONCE) {
        const last = first + INDEXED_AT_ONCE - 1;
        const args = [`${key}:`, index.errors(''), kind, first, last];
        const read = await run(INDEX_MORE, [index.jobs, `${key}:${source}`], ...args);
        if (Number(read) < INDEXED_AT_ONCE) break;
      }
    }
  };

  return {
    async find(name, filter, after, limit) {
      // At the beginning of a list only, which all of its pages rest on.
      if (!after) await completeIndex(name);
      const key = queueKey(name);
      const index = redisIndexKeys(key);
      const walk = filter.code === undefined ? index.jobs : index.errors(filter.code);
      const found: FoundJob[] = [];
      for (let from = after; found.length < limit; ) {
        const sets = ['completed', 'failed', 'delayed', 'active'].map((set) => `${key}:${set}`);
        const part = (await run(
          FIND,
          [walk, ...sets, index.narrowed],
          `${key}:`,
          filter.isPartial ? 'partial' : (filter.state ?? ''),
          filter.code ?? '',
          filter.botId === undefined ? '' : `${filter.botId}.`,
          filter.text ?? '',
          filter.from ?? '-inf',
          filter.to ?? '+inf',
          from?.at ?? '',
          from?.id ?? '',
          limit - found.length,
          STEPS,
          FEW,
        )) as FindReply;
        const [jobs, lastId, lastAt, isEnd] = part;
        found.push(...jobs.map(foundJob));
        if (isEnd === 1) break;
        from = { id: lastId, at: Number(lastAt) };
      }
      return found;
    },
    async adding(name, ids, at) {
      const scored = ids.flatMap((id) => [at, id]);
      if (ids.length > 0) await client().zadd(redisIndexKeys(queueKey(name)).jobs, ...scored);
    },
    async sweep(name) {
      await completeIndex(name);
      const key = queueKey(name);
      const index = redisIndexKeys(key);
      for (const code of ['', ...codes]) {
        const walk = code === '' ? index.jobs : index.errors(code);
        const first = swept.get(walk) ?? 0;
        const args = [`${key}:`, code, first, first + SWEPT_AT_ONCE - 1];
        const reply = await run(SWEEP, [walk, `${key}:completed`], ...args);
        const [kept = 0, read = 0] = (reply as unknown[]).map(Number);
        swept.set(walk, read < SWEPT_AT_ONCE ? 0 : first + kept);
      }
    },
  };
}

/** Jobs (id, score, state, fields), then how far the walk came, and whether that is the end. */
type FindReply = readonly [
  jobs: readonly (readonly [
    id: string,
    at: string,
    state: SessionState,
    fields: readonly (string | null)[],
  ])[],
  lastId: string,
  lastAt: string,
  isEnd: number,
];

function foundJob([id, at, state, fields]: FindReply[0][number]): FoundJob {
  const [data, name, progress, returnvalue, failedReason, attempts, timestamp, processedOn, finishedOn] =
    fields;
  const job: SessionJob = {
    name: name ?? '',
    data: JSON.parse(data ?? '{}'),
    progress: JSON.parse(progress ?? '0'),
    returnvalue: JSON.parse(returnvalue ?? 'null'),
    failedReason: failedReason ?? '',
    attemptsMade: Number(attempts ?? 0),
    timestamp: Number(timestamp),
    ...(processedOn && { processedOn: Number(processedOn) }),
    ...(finishedOn && { finishedOn: Number(finishedOn) }),
  };
  return { id, at: Number(at), state, job };
}
