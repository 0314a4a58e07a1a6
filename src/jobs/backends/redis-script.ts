import { createHash } from 'node:crypto';
import type { Cluster, Redis } from 'ioredis';

/** A Lua script for Redis, and the hash by which a server that has run it once knows it. */
export interface RedisScript {
  readonly text: string;
  /** Lowercase hex of its SHA-1. */
  readonly sha1: string;
}

/** A script of which the text is sent to each server once only. */
export function redisScript(text: string): RedisScript {
  return { text, sha1: createHash('sha1').update(text).digest('hex') };
}

/**
 * Runs a script by its hash, and by its text where the server does not know it: after a restart, or on another node.
 * @throws what ioredis throws.
 */
export async function runScript(
  client: Redis | Cluster,
  { text, sha1 }: RedisScript,
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
