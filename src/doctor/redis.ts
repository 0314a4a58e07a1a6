/** The queue on Redis: that it can be used, and that it keeps what it is given. */

import type { QueueConfig } from '../config/config.ts';
import { inspectRedis, type RedisFindings, type RedisServer } from '../jobs/inspect-redis.ts';
import { type RedisTarget, redisLocation } from '../jobs/redis.ts';
import { type CheckResult, failed, ok, skipped, warning } from './check.ts';
import { redisFault } from './redis-fault.ts';

const QUEUE = 'queue';
const EVICTION = 'queue eviction';
const PERSISTENCE = 'queue persistence';

const FULL_SHARE = 0.9;

/** Three results: of use at all, never evicts, survives a restart. */
export async function checkRedis(
  config: QueueConfig & { readonly target: RedisTarget },
  signal: AbortSignal,
): Promise<readonly CheckResult[]> {
  let found: RedisFindings;
  try {
    found = await inspectRedis(config, signal);
  } catch (error) {
    if (signal.aborted) throw error;
    const { message, mend } = redisFault(error as Error, config.target);
    const unknown = 'the server could not be asked';
    return [
      failed(QUEUE, `no use of ${redisLocation(config.target)}: ${message}`, mend),
      skipped(EVICTION, unknown),
      skipped(PERSISTENCE, unknown),
    ];
  }
  return [
    checkUse(found, config.target),
    worstOf(found.servers, checkEviction),
    worstOf(found.servers, checkPersistence),
  ];
}

/** A cluster is as good as the worst of its servers, whose result names it. */
function worstOf(servers: readonly RedisServer[], check: (server: RedisServer) => CheckResult): CheckResult {
  const results = servers.map((server) => ({ server, result: check(server) }));
  for (const status of ['failed', 'warning', 'skipped', 'ok'] as const) {
    const worst = results.find(({ result }) => result.status === status);
    if (!worst) continue;
    const { server, result } = worst;
    if (servers.length === 1 || status === 'ok') return result;
    return { ...result, message: `${server.address}: ${result.message}` };
  }
  return skipped(QUEUE, 'the cluster names no server');
}

function checkUse({ location, servers, writeFault }: RedisFindings, target: RedisTarget): CheckResult {
  const [first] = servers;
  if (!first) return failed(QUEUE, `${location} names no server`, 'mend the cluster, or correct QUEUE_URL');
  const what = `${first.product} ${first.version} at ${location}`;
  const isCluster = target.kind === 'redis' && target.cluster;
  const primaries = servers.length === 1 ? 'primary' : 'primaries';
  const whole = isCluster ? `${what}, a cluster with ${servers.length} ${primaries}` : what;
  const tooOld = servers.find(({ age }) => age === 'too old');
  if (tooOld) {
    const { possible } = tooOld.oldest;
    return failed(QUEUE, `${whole} is too old`, `upgrade the server to ${possible} or newer`);
  }
  if (first.info.get('role') === 'slave') {
    return failed(
      QUEUE,
      `${whole} is a replica, which takes no writes`,
      'name the primary in QUEUE_URL, or use redis+sentinel://',
    );
  }
  if (!isCluster && first.info.get('cluster_enabled') === '1') {
    return failed(
      QUEUE,
      `${whole} is part of a cluster`,
      'add ?cluster=true to QUEUE_URL (and put braces around QUEUE_PREFIX, where that is set)',
    );
  }
  if (writeFault) {
    const { message, mend } = redisFault(writeFault, target);
    return failed(QUEUE, `${whole} does not take a key: ${message}`, mend);
  }
  const old = servers.find(({ age }) => age === 'old');
  if (old) {
    const { recommended } = old.oldest;
    return warning(QUEUE, `${whole} is old`, `upgrade the server to ${recommended} or newer`);
  }
  return ok(QUEUE, `${whole}: a key was written, read and deleted`);
}

function checkEviction({ info, setting }: RedisServer): CheckResult {
  const policy = info.get('maxmemory_policy') ?? setting('maxmemory-policy');
  if (policy === undefined) {
    return skipped(EVICTION, 'the server does not tell its maxmemory-policy, which has to be noeviction');
  }
  if (policy !== 'noeviction') {
    return failed(
      EVICTION,
      `maxmemory-policy is ${policy}: when memory runs out, sessions vanish from the queue`,
      'CONFIG SET maxmemory-policy noeviction, and the same in redis.conf (or in the parameter group of a managed server)',
    );
  }
  const most = Number(info.get('maxmemory') ?? 0);
  const used = Number(info.get('used_memory') ?? 0);
  if (most > 0 && used > most * FULL_SHARE) {
    return warning(
      EVICTION,
      `noeviction, and ${Math.round((used / most) * 100)}% of maxmemory is used: once it is full, nothing more can be queued`,
      'raise maxmemory, or remove what else lies on this server',
    );
  }
  return ok(EVICTION, 'maxmemory-policy is noeviction');
}

const AOF_MEND =
  'CONFIG SET appendonly yes, and the same in redis.conf (or in the parameter group of a managed server)';
const DISK_MEND = "look at the server's log and at the space on its disk";

/**
 * Without anything on disk a restart of the server empties the queue, which is a failure; snapshots alone lose
 * minutes of it, which may be what somebody wants to live with.
 */
function checkPersistence({ info, setting }: RedisServer): CheckResult {
  if (info.get('aof_enabled') === '1') {
    if (isBad(info.get('aof_last_write_status'))) {
      return failed(PERSISTENCE, 'the last write to the append-only file failed', DISK_MEND);
    }
    if (isBad(info.get('aof_last_bgrewrite_status'))) {
      return warning(PERSISTENCE, 'the last rewrite of the append-only file failed', DISK_MEND);
    }
    if (setting('appendfsync') === 'no') {
      return warning(
        PERSISTENCE,
        'append-only file, but synced only when the system pleases (appendfsync no)',
        'CONFIG SET appendfsync everysec, and the same in redis.conf',
      );
    }
    return ok(PERSISTENCE, 'append-only file');
  }
  const save = setting('save');
  if (info.get('aof_enabled') === undefined) {
    return skipped(
      PERSISTENCE,
      'the server does not tell what it keeps on disk; it has to survive a restart',
    );
  }
  if (save === undefined) {
    return warning(
      PERSISTENCE,
      'no append-only file, and the server does not tell whether it makes snapshots',
      AOF_MEND,
    );
  }
  if (save === '') {
    const replicas = Number(info.get('connected_slaves') ?? 0);
    if (replicas > 0) {
      return warning(
        PERSISTENCE,
        `nothing is kept on disk, only by ${replicas} replica(s): a primary that restarts empty empties them too`,
        AOF_MEND,
      );
    }
    return failed(
      PERSISTENCE,
      'nothing is kept on disk: a restart of the server empties the queue',
      AOF_MEND,
    );
  }
  if (isBad(info.get('rdb_last_bgsave_status'))) {
    return failed(PERSISTENCE, 'no append-only file, and the last snapshot failed', DISK_MEND);
  }
  return warning(
    PERSISTENCE,
    `snapshots alone (save ${save}): a crash of the server loses what was queued since the last one`,
    AOF_MEND,
  );
}

/** A status that is not told is no bad one. */
function isBad(status: string | undefined): boolean {
  return status !== undefined && status !== 'ok';
}
