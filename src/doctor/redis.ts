/** The queue on Redis: that it can be used, and that it keeps what it is given. */

import type { QueueConfig } from '../config/config.ts';
import { type RedisTarget, redisLocation } from '../jobs/backends/redis-client.ts';
import { type CheckFault, type CheckResult, failed, ok, skipped, warning } from './check.ts';
import { inspectRedis, type RedisFindings, type RedisServer } from './redis-probe.ts';

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
    const { message, fix } = redisFault(error as Error, config.target);
    const unknown = 'the server could not be asked';
    return [
      failed(QUEUE, `no use of ${redisLocation(config.target)}: ${message}`, fix),
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
  if (!first) return failed(QUEUE, `${location} names no server`, 'fix the cluster, or correct QUEUE_URL');
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
    const { message, fix } = redisFault(writeFault, target);
    return failed(QUEUE, `${whole} does not take a key: ${message}`, fix);
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
    return skipped(EVICTION, 'the server does not report its maxmemory-policy, which must be noeviction');
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

const AOF_FIX =
  'CONFIG SET appendonly yes, and the same in redis.conf (or in the parameter group of a managed server)';
const DISK_FIX = "check the server's log and the space on its disk";

/**
 * Without anything on disk a restart of the server empties the queue, which is a failure; snapshots alone lose
 * minutes of it, which may be acceptable.
 */
function checkPersistence({ info, setting }: RedisServer): CheckResult {
  if (info.get('aof_enabled') === '1') {
    if (isBad(info.get('aof_last_write_status'))) {
      return failed(PERSISTENCE, 'the last write to the append-only file failed', DISK_FIX);
    }
    if (isBad(info.get('aof_last_bgrewrite_status'))) {
      return warning(PERSISTENCE, 'the last rewrite of the append-only file failed', DISK_FIX);
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
      'the server does not report what it keeps on disk; the queue must survive a restart',
    );
  }
  if (save === undefined) {
    return warning(
      PERSISTENCE,
      'no append-only file, and the server does not report whether it makes snapshots',
      AOF_FIX,
    );
  }
  if (save === '') {
    const replicas = Number(info.get('connected_slaves') ?? 0);
    if (replicas > 0) {
      return warning(
        PERSISTENCE,
        `nothing is kept on disk, only by ${replicas} replica(s): a primary that restarts empty empties them too`,
        AOF_FIX,
      );
    }
    return failed(PERSISTENCE, 'nothing is kept on disk: a restart of the server empties the queue', AOF_FIX);
  }
  if (isBad(info.get('rdb_last_bgsave_status'))) {
    return failed(PERSISTENCE, 'no append-only file, and the last snapshot failed', DISK_FIX);
  }
  return warning(
    PERSISTENCE,
    `snapshots alone (save ${save}): a crash of the server loses what was queued since the last one`,
    AOF_FIX,
  );
}

/** A missing status is not bad. */
function isBad(status: string | undefined): boolean {
  return status !== undefined && status !== 'ok';
}

interface Meaning extends CheckFault {
  /** What ioredis, Node or the server say: a code, a space and the text. */
  readonly pattern: RegExp;
}

const START = 'start the server, or correct host and port in QUEUE_URL';
const NETWORK = 'check the network between here and there (firewall, security group), and QUEUE_URL';

/** In this order; the server's own words come first. */
const MEANINGS: readonly Meaning[] = [
  {
    pattern: /NOAUTH|WRONGPASS|invalid password|AUTH <?password|without any password/i,
    message: 'the server refuses the password, or wants one',
    fix: 'correct the user and the password in QUEUE_URL; special characters in them are percent-encoded',
  },
  {
    pattern: /NOPERM/,
    message: 'the user may not do what a queue needs',
    fix: "give the user all commands and all keys of the queue's prefix: ACL SETUSER name +@all -@dangerous +info ~bull:* (or ~PREFIX:*)",
  },
  {
    pattern: /DB index is out of range|invalid DB index/i,
    message: 'the server has no such database',
    fix: 'correct the number behind the host in QUEUE_URL, or raise databases in redis.conf',
  },
  {
    pattern: /running in protected mode/,
    message: 'the server is in protected mode and only talks to its own machine',
    fix: 'give the server a password (requirepass), and write it into QUEUE_URL',
  },
  {
    pattern: /cluster support disabled/,
    message: 'the server is no cluster',
    fix: 'take ?cluster=true out of QUEUE_URL',
  },
  {
    pattern: /MOVED|CROSSSLOT/,
    message: 'the server is part of a cluster',
    fix: 'add ?cluster=true to QUEUE_URL',
  },
  { pattern: /CLUSTERDOWN/, message: 'the cluster is down', fix: 'fix the cluster (CLUSTER INFO)' },
  {
    pattern: /READONLY/,
    message: 'it is a replica, which takes no writes',
    fix: 'name the primary in QUEUE_URL, or use redis+sentinel://',
  },
  {
    pattern: /OOM /,
    message: 'its memory is full',
    fix: 'raise maxmemory, or remove what else lies on this server',
  },
  {
    pattern: /MISCONF/,
    message: 'it can not write to its disk, and takes nothing more',
    fix: "check the server's log and the space on its disk",
  },
  { pattern: /LOADING/, message: 'it is just starting', fix: 'wait until it has loaded its data' },
  {
    pattern: /max number of clients/,
    message: 'it has no connection left',
    fix: 'raise maxclients, or close what else is connected',
  },
  {
    pattern: /CERT|SELF_SIGNED|ISSUER|UNABLE_TO_VERIFY/,
    message: 'its certificate is not trusted',
    fix: 'name its authority in NODE_EXTRA_CA_CERTS, and the host in QUEUE_URL as the certificate does',
  },
  {
    pattern: /ERR_SSL|EPROTO|wrong version number/,
    message: 'it does not speak TLS there',
    fix: 'write redis:// instead of rediss://, or the port of its TLS',
  },
  {
    pattern: /Unknown RESP type|Protocol error/i,
    message: 'what answers there is no Redis',
    fix: 'correct host and port in QUEUE_URL',
  },
  { pattern: /ECONNREFUSED/, message: 'nothing listens there', fix: START },
  { pattern: /ENOTFOUND|EAI_AGAIN/, message: 'there is no such host name', fix: START },
  { pattern: /EHOSTUNREACH|ENETUNREACH/, message: 'no way leads there', fix: NETWORK },
];

/**
 * What an error of the connection or of a command means. The error itself is named in brackets; neither ioredis nor
 * Redis put passwords into theirs.
 */
function redisFault(error: Error, target: RedisTarget): CheckFault {
  const code = 'code' in error && typeof error.code === 'string' ? `${error.code} ` : '';
  const said = `${code}${error.message}`;
  // A host with several addresses that all refuse makes an error without words.
  const words = firstLine(error.message || code.trim() || error.name);
  const meaning = MEANINGS.find(({ pattern }) => pattern.test(said));
  if (meaning) return { message: `${meaning.message} (${words})`, fix: meaning.fix };
  if (target.kind === 'sentinel' && /sentinel/i.test(said)) {
    const fix = `start the sentinels, or correct their hosts and the name ${target.name} in QUEUE_URL`;
    return { message: words, fix };
  }
  const isTls = target.kind === 'redis' && new URL(target.url).protocol === 'rediss:';
  const tls = isTls
    ? 'if the server speaks no TLS, write redis://'
    : 'if the server wants TLS, write rediss://';
  return { message: `no answer (${words})`, fix: `${NETWORK}; ${tls}` };
}

/** Some of the server's answers are essays. */
function firstLine(text: string): string {
  const line = text.split(/[\r\n]/, 1)[0] ?? '';
  return line.length <= 120 ? line : `${line.slice(0, 119)}…`;
}
