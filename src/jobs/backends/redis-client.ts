import { createHash } from 'node:crypto';
import { Cluster, Redis } from 'ioredis';
import type { QueueTarget, ServerAddress } from '../../config/config.ts';

/** A queue on Redis: a single server, Sentinel or a cluster. */
export type RedisTarget = Extract<QueueTarget, { kind: 'redis' | 'sentinel' }>;
/** What a connection is for: see `Backend.options`. */
export type RedisRole = 'producer' | 'consumer';

const CONNECT_TIMEOUT_MS = 5_000;
/** A producer's command that has no answer by then fails, so that its caller can say so. */
const PRODUCER_COMMAND_TIMEOUT_MS = 10_000;
/**
 * Pauses between attempts to connect grow up to this. A producer's are short: its commands wait for two attempts at
 * most, so a caller gets an error within about two seconds while the server is unavailable, but notices no short blip.
 */
const MAX_RECONNECT_DELAY_MS: Readonly<Record<RedisRole, number>> = { producer: 1_000, consumer: 5_000 };
/** How often a client of a cluster asks who has which slots. Each time is a connection of its own. */
const SLOTS_REFRESH_INTERVAL_MS = 5_000;
/** Nodes that send a command to each other, as they may while a replica takes over, are not asked without a pause. */
const MOVED_DELAY_MS = 100;
/** On a cluster all keys of a queue must hash to one slot, which the braces see to. */
const CLUSTER_PREFIX = '{bull}';
const DEFAULT_PREFIX = 'bull';
/** Nodes of a cluster that are remembered for connecting again; the largest clusters have about as many. */
const MAX_KNOWN_NODES = 1_000;

/** What the clients of all kinds have in common. */
interface CommonOptions {
  readonly connectTimeout: number;
  readonly maxRetriesPerRequest: number | null;
  readonly retryStrategy: (attempt: number) => number;
  readonly commandTimeout?: number;
}

/** The prefix of all keys of a queue: the configured one, else BullMQ's own. */
export function redisKeyPrefix(target: RedisTarget, prefix: string | undefined): string {
  return prefix ?? (target.kind === 'redis' && target.cluster ? CLUSTER_PREFIX : DEFAULT_PREFIX);
}

/**
 * A client that connects at once. A listener for its `error` is the caller's to add.
 * @param mayWait see {@link gatherCommands}.
 */
export function createRedisClient(
  target: RedisTarget,
  role: RedisRole,
  mayWait: () => boolean = () => false,
): Redis | Cluster {
  const options: CommonOptions = {
    connectTimeout: CONNECT_TIMEOUT_MS,
    // Workers must wait out an outage, producers must report it (BullMQ, "Going to production").
    maxRetriesPerRequest: role === 'consumer' ? null : 1,
    retryStrategy: (attempt: number) => reconnectDelayMs(attempt, role),
    ...(role === 'producer' ? { commandTimeout: PRODUCER_COMMAND_TIMEOUT_MS } : {}),
  };
  if (target.kind === 'redis' && target.cluster) return createClusterClient(target, options, role, mayWait);
  const client =
    target.kind === 'sentinel' ? createSentinelClient(target, options) : new Redis(target.url, options);
  gatherCommands(client, mayWait);
  return client;
}

function createSentinelClient(
  target: Extract<RedisTarget, { kind: 'sentinel' }>,
  options: CommonOptions,
): Redis {
  const { hosts, name, db, username, password, sentinelUsername, sentinelPassword, tls, sentinelTls } =
    target;
  return new Redis({
    ...options,
    sentinels: hosts.map(({ host, port }) => ({ host, port })),
    name,
    db,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(sentinelUsername !== undefined && { sentinelUsername }),
    ...(sentinelPassword !== undefined && { sentinelPassword }),
    ...(tls && { tls: {}, enableTLSForSentinelMode: true }),
    ...(sentinelTls && { sentinelTLS: {} }),
  });
}

/**
 * A client of a cluster. It connects by any of the seeds, and later also by any of the nodes that it has found, so
 * that it needs no seed to be there for ever.
 */
function createClusterClient(
  target: Extract<RedisTarget, { kind: 'redis' }>,
  options: CommonOptions,
  role: RedisRole,
  mayWait: () => boolean,
): Cluster {
  const url = new URL(target.url);
  const isTls = url.protocol === 'rediss:';
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const known = new Map<string, ServerAddress>();
  const remember = (node: ServerAddress) => {
    if (known.size < MAX_KNOWN_NODES) known.set(`${node.host}:${node.port}`, node);
  };
  for (const seed of target.seeds ?? [{ host, port: Number(url.port || 6379) }]) remember(seed);
  const client = new Cluster([...known.values()], {
    /** Called as a method of the client that lost its connections, which may be one that BullMQ made of this. */
    clusterRetryStrategy(this: unknown, attempt: number) {
      Object.assign(this as object, { startupNodes: [...known.values()] });
      return reconnectDelayMs(attempt, role);
    },
    // While a replica takes over, a command is sent again every 100 ms. Those of a consumer wait for that; by ioredis'
    // own limit of 16 times they would fail within two seconds, as a producer's do.
    ...(role === 'consumer' && { maxRedirections: Number.POSITIVE_INFINITY }),
    retryDelayOnMoved: MOVED_DELAY_MS,
    // A node that hangs keeps its connections open. Only the other nodes say that it has lost its slots.
    slotsRefreshInterval: SLOTS_REFRESH_INTERVAL_MS,
    slotsRefreshTimeout: CONNECT_TIMEOUT_MS,
    // While all its nodes are unavailable, a cluster would keep commands for ever: neither of the limits above applies.
    enableOfflineQueue: role === 'consumer',
    // By the names that the nodes announce, which are those in their certificates.
    ...(isTls && { dnsLookup: (address, done) => done(null, address) }),
    redisOptions: {
      ...options,
      ...(url.username ? { username: decodeURIComponent(url.username) } : {}),
      ...(url.password ? { password: decodeURIComponent(url.password) } : {}),
      ...(isTls ? { tls: {} } : {}),
    },
  });
  client.on('+node', (node: Redis) => {
    gatherCommands(node, mayWait);
    const { host, port } = node.options;
    if (host !== undefined && port !== undefined) remember({ host, port });
  });
  return client;
}

function reconnectDelayMs(attempt: number, role: RedisRole): number {
  return Math.min(100 * 2 ** Math.min(attempt, 10), MAX_RECONNECT_DELAY_MS[role]);
}

/** Where the server is, for people and logs; without passwords. */
export function redisLocation(target: RedisTarget): string {
  if (target.kind === 'sentinel') return `redis+sentinel://${list(target.hosts)}/${target.name}`;
  const { protocol, host, pathname } = new URL(target.url);
  return `${protocol}//${target.seeds === undefined ? host : list(target.seeds)}${pathname}`;
}

function list(servers: readonly ServerAddress[]): string {
  return servers.map(({ host, port }) => `${host.includes(':') ? `[${host}]` : host}:${port}`).join(',');
}

/** How long commands wait for others to be sent together (milliseconds), where others are likely. */
const WAIT_MS = 2;

/**
 * Sends commands together by one system call. Sessions that are worked on at the same time ask Redis for many small
 * things, and a call costs more than what it sends. The commands of one turn of the event loop go out together, and
 * while others are likely to come, those of some milliseconds. Their order stays.
 *
 * @param mayWait asked at the end of a turn: whether others are likely to come.
 */
export function gatherCommands(client: Redis, mayWait: () => boolean): void {
  client.on('ready', () => {
    const { stream } = client;
    const write = stream.write.bind(stream);
    let isGathering = false;
    const send = () => {
      isGathering = false;
      stream.uncork();
    };
    const endTurn = () => {
      if (mayWait()) setTimeout(send, WAIT_MS);
      else send();
    };
    const gather = (...args: Parameters<typeof write>) => {
      if (!isGathering) {
        isGathering = true;
        stream.cork();
        setImmediate(endTurn);
      }
      return write(...args);
    };
    stream.write = gather as typeof stream.write;
  });
}

/** A Lua script for Redis, and the hash by which a server that has run it once knows it. */
export interface LuaScript {
  readonly text: string;
  /** Lowercase hex of its SHA-1. */
  readonly sha1: string;
}

/** A script of which the text is sent to each server once only. */
export function luaScript(text: string): LuaScript {
  return { text, sha1: createHash('sha1').update(text).digest('hex') };
}

/**
 * Runs a script by its hash, and by its text where the server does not know it: after a restart, or on another node.
 * @throws what ioredis throws.
 */
export async function runScript(
  client: Redis | Cluster,
  { text, sha1 }: LuaScript,
  keys: readonly string[],
  values: readonly (string | number)[],
): Promise<unknown> {
  try {
    return await client.evalsha(sha1, keys.length, ...keys, ...values);
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error;
    return client.eval(text, keys.length, ...keys, ...values);
  }
}
