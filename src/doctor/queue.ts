import type { QueueConfig } from '../config/config.ts';
import type { CheckResult } from './check.ts';
import type { Holder } from './embedded.ts';

/** Whether the queue can be used, and keeps what it is given. What a kind of queue needs is loaded for that kind alone. */
export async function checkQueue(
  { target, ...rest }: QueueConfig,
  findHolder: (directory: string) => Promise<Holder | undefined>,
  signal: AbortSignal,
): Promise<readonly CheckResult[]> {
  switch (target.kind) {
    case 'embedded': {
      const { checkEmbedded } = await import('./embedded.ts');
      return checkEmbedded(target, findHolder);
    }
    case 'postgres': {
      const { checkPostgres } = await import('./postgres.ts');
      return checkPostgres(target.url, signal);
    }
    case 'redis':
    case 'sentinel': {
      const { checkRedis } = await import('./redis.ts');
      return checkRedis({ target, ...rest }, signal);
    }
  }
}
