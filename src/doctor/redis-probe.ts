/** What a Redis server says of itself, and whether it takes what a queue writes: for `doctor`. */

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { isRedisVersionLowerThan, RedisConnection } from 'bullmq';
import { Cluster, type Redis } from 'ioredis';
import type { QueueConfig } from '../config/config.ts';
import {
  createRedisClient,
  type RedisTarget,
  redisKeyPrefix,
  redisLocation,
} from '../jobs/backends/redis-client.ts';
import { unlessAborted } from '../util/async.ts';

/** How long a probe key stays that could not be removed. */
const PROBE_LIFETIME_MS = 60_000;

/** One server, or one primary of a cluster. */
export interface RedisServer {
  /** Host and port. */
  readonly address: string;
  /** `redis`, `valkey` or `dragonfly`. */
  readonly product: 'redis' | 'valkey' | 'dragonfly';
  readonly version: string;
  /** What BullMQ makes of that version. */
  readonly age: 'too old' | 'old' | 'new enough';
  /** The oldest version that it works with, and the oldest that it is meant for. */
  readonly oldest: { readonly possible: string; readonly recommended: string };
  /** The fields of `INFO`. */
  readonly info: ReadonlyMap<string, string>;
  /** Settings by name; `undefined` where the server does not report them (`CONFIG` is often refused). */
  setting(name: 'maxmemory-policy' | 'save' | 'appendfsync'): string | undefined;
}

/** What was found. */
export interface RedisFindings {
  /** For people; without passwords. */
  readonly location: string;
  readonly servers: readonly RedisServer[];
  /** Why a key could not be written, read by a script and deleted; `undefined` where that went well. */
  readonly writeFault: Error | undefined;
}

/** The two things that all of BullMQ is made of: keys below the prefix, and scripts. */
const READ_AND_DELETE = `
local value = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return value
`;

/**
 * Connects, asks, writes, reads and deletes one key below the queue's prefix, and disconnects.
 *
 * @throws the first error of the connection, as ioredis and the server word it; the signal's reason when aborted.
 */
export async function inspectRedis(
  config: QueueConfig & { readonly target: RedisTarget },
  signal: AbortSignal,
): Promise<RedisFindings> {
  const { target } = config;
  const client = createRedisClient(target, 'producer');
  // A command that waits for a connection never says why there is none.
  const broken = new Promise<never>((_, reject) => client.on('error', (error) => reject(causeOf(error))));
  try {
    return await unlessAborted(Promise.race([inspect(client, config), broken]), signal);
  } finally {
    client.disconnect();
  }
}

async function inspect(
  client: Redis | Cluster,
  { target, prefix, name }: QueueConfig & { readonly target: RedisTarget },
): Promise<RedisFindings> {
  // A cluster takes no command before.
  if (client.status !== 'ready') await once(client, 'ready');
  const nodes = client instanceof Cluster ? client.nodes('master') : [client];
  const servers = await Promise.all(nodes.map(readServer));
  const key = `${redisKeyPrefix(target, prefix)}:${name}:doctor-${randomUUID()}`;
  return { location: redisLocation(target), servers, writeFault: await tryKey(client, key) };
}

/** A cluster's own error only says that no node would do. */
function causeOf(error: Error): Error {
  const { lastNodeError } = error as Error & { lastNodeError?: Error };
  return lastNodeError ?? error;
}

async function tryKey(client: Redis | Cluster, key: string): Promise<Error | undefined> {
  try {
    const value = randomUUID();
    await client.set(key, value, 'PX', PROBE_LIFETIME_MS);
    const read = await client.eval(READ_AND_DELETE, 1, key);
    return read === value ? undefined : new Error('what was read is not what was written');
  } catch (error) {
    return error as Error;
  }
}

async function readServer(node: Redis): Promise<RedisServer> {
  const info = parseInfo(await node.info());
  const settings = await readSettings(node);
  const product = productOf(info);
  const version = info.get(`${product}_version`) ?? info.get('redis_version') ?? 'unknown';
  const { minimumVersion: possible, recommendedMinimumVersion: recommended } = RedisConnection;
  const isOlderThan = (oldest: string) => isRedisVersionLowerThan(version, oldest, product);
  const { host, port } = node.options;
  return {
    address: `${host}:${port}`,
    product,
    version,
    age:
      version === 'unknown'
        ? 'new enough'
        : isOlderThan(possible)
          ? 'too old'
          : isOlderThan(recommended)
            ? 'old'
            : 'new enough',
    oldest: { possible, recommended },
    info,
    setting: (name) => settings.get(name),
  };
}

function productOf(info: ReadonlyMap<string, string>): RedisServer['product'] {
  if (info.has('dragonfly_version')) return 'dragonfly';
  return info.has('valkey_version') || info.get('server_name') === 'valkey' ? 'valkey' : 'redis';
}

/** `INFO` is lines of `name:value` under headings. */
function parseInfo(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const colon = line.indexOf(':');
    if (colon > 0 && !line.startsWith('#')) fields.set(line.slice(0, colon), line.slice(colon + 1));
  }
  return fields;
}

/** Most managed servers refuse `CONFIG`, which is no fault. */
async function readSettings(node: Redis): Promise<Map<string, string>> {
  const settings = new Map<string, string>();
  for (const name of ['maxmemory-policy', 'save', 'appendfsync']) {
    try {
      for (const [key, value] of pairs(await node.config('GET', name))) settings.set(key, value);
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
  }
  return settings;
}

/** The server answered, and did not like what it was asked. */
function isRefusal(error: unknown): boolean {
  return error instanceof Error && error.name === 'ReplyError';
}

/** Names and values in turn, or, by the newer protocol, as a map. */
function pairs(reply: unknown): [string, string][] {
  if (!Array.isArray(reply)) {
    return Object.entries(reply ?? {}).map(([name, value]) => [name, String(value)]);
  }
  return reply.flatMap((name, index) =>
    index % 2 === 0 ? [[String(name), String(reply[index + 1])]] : [],
  ) as [string, string][];
}
