import type { QueueConfig, QueueTarget } from '../../config/config.ts';
import type { Logger } from '../../util/log.ts';
import { type Backend, QueueUnavailableError } from './backend.ts';
import { openEmbeddedBackend } from './embedded.ts';
import { openPostgresBackend } from './postgres.ts';
import { openRedisBackend } from './redis.ts';

/**
 * Opens the queue's backend and proves that it answers.
 * @throws QueueUnavailableError when it does not.
 * @throws QueueHeldError when it is an embedded queue that another process holds.
 */
export async function openBackend(config: QueueConfig, log: Logger): Promise<Backend> {
  const backend = await openByKind(config.target, config, log);
  try {
    await backend.check();
    return backend;
  } catch (error) {
    await backend.close();
    throw new QueueUnavailableError(
      `cannot reach the queue at ${backend.location}: ${(error as Error).message || String(error)}; check QUEUE_URL and that the server runs`,
      { cause: error },
    );
  }
}

async function openByKind(target: QueueTarget, config: QueueConfig, log: Logger): Promise<Backend> {
  switch (target.kind) {
    case 'embedded':
      return openEmbeddedBackend(target, config.prefix);
    case 'postgres':
      return openPostgresBackend(target.url, config.prefix, log);
    case 'redis':
    case 'sentinel':
      return openRedisBackend(target, config.prefix, log);
  }
}
