/** Counts what sessions cost Redis. */

import { Redis } from 'ioredis';

/** Commands since the counting began. */
export interface RedisCommands {
  /** Scripts that clients ran. */
  readonly scripts: number;
  /** All other commands, those that scripts ran among them. */
  readonly commands: number;
}

/** A counter of all commands of a server. */
export interface RedisCounter {
  /** Begins at zero. */
  reset(): Promise<void>;
  read(): Promise<RedisCommands>;
  close(): void;
}

/** Greetings, and the counting itself. */
const NOT_COUNTED = /^(info|config|hello|client|auth|ping|select|command)\b/;
const SCRIPTS = /^(eval|evalsha|fcall)$/;

/** Connects to a server. */
export function openRedisCounter(url: string): RedisCounter {
  const client = new Redis(url);
  return {
    async reset() {
      await client.config('RESETSTAT');
    },
    async read() {
      let scripts = 0;
      let commands = 0;
      const stats = await client.info('commandstats');
      for (const [, name = '', calls] of stats.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)) {
        if (SCRIPTS.test(name)) scripts += Number(calls);
        else if (!NOT_COUNTED.test(name)) commands += Number(calls);
      }
      return { scripts, commands };
    },
    close: () => client.disconnect(),
  };
}
