import { setTimeout as sleep } from 'node:timers/promises';
import type { QueueConfig, QueueTarget } from '../../config/config.ts';
import type { Logger } from '../../util/log.ts';
import { type Backend, QueueUnavailableError } from './backend.ts';

/** How to open a queue. */
export interface OpenOptions {
  /** How long a server that is not there yet, or is loading its data, is waited for (milliseconds); not at all by default. */
  readonly waitMs?: number;
  /** Ends the waiting. */
  readonly signal?: AbortSignal | undefined;
}

/** Between two attempts at a server that is waited for. */
const ATTEMPT_PAUSE_MS = 1_000;
/** Servers' words for credentials and databases that are wrong: waiting makes nothing better. */
const FINAL =
  /\b(NOAUTH|WRONGPASS|NOPERM|authentication failed|does not exist|permission denied|SELF_SIGNED|CERT_)/i;

/**
 * Opens the queue's backend and proves that it answers.
 * @throws QueueUnavailableError when it does not.
 * @throws QueueHeldError when it is an embedded queue that another process holds.
 */
export async function openBackend(
  config: QueueConfig,
  log: Logger,
  { waitMs = 0, signal }: OpenOptions = {},
): Promise<Backend> {
  const giveUpAt = performance.now() + (config.target.kind === 'embedded' ? 0 : waitMs);
  for (let isFirst = true; ; isFirst = false) {
    try {
      return await openOnce(config, log);
    } catch (error) {
      const isPassing = error instanceof QueueUnavailableError && !FINAL.test(error.message);
      if (!isPassing || performance.now() >= giveUpAt) throw error;
      if (isFirst)
        log.warn({ seconds: Math.round(waitMs / 1000) }, `waiting for the queue: ${error.message}`);
      await sleep(ATTEMPT_PAUSE_MS, undefined, { signal });
    }
  }
}

async function openOnce(config: QueueConfig, log: Logger): Promise<Backend> {
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

/** Only the kind of queue that is named is loaded. */
async function openByKind(target: QueueTarget, config: QueueConfig, log: Logger): Promise<Backend> {
  switch (target.kind) {
    case 'embedded':
      return (await import('./embedded.ts')).openEmbeddedBackend(target, config.prefix, log);
    case 'postgres':
      return (await import('./postgres.ts')).openPostgresBackend(target.url, config.prefix, log);
    case 'redis':
    case 'sentinel':
      return (await import('./redis.ts')).openRedisBackend(target, config.prefix, log);
  }
}
