/**
 * A process of its own that enqueues sessions, takes some of them, and works on those for ever. It says `taken`
 * when it runs as many as allowed.
 *
 * Arguments: the queue's configuration as JSON, how many sessions to enqueue, how many to take, and the times of locks as
 * JSON.
 */

import type { QueueConfig } from '../../src/config/config.ts';
import { openBackend } from '../../src/jobs/backends/open.ts';
import { Consumer } from '../../src/jobs/consumer.ts';
import { SessionQueue } from '../../src/jobs/session-queue.ts';
import { createLogger } from '../../src/util/log.ts';

const [, , configText = '', sessions = '', concurrency = '', locksText = ''] = process.argv;
const config = JSON.parse(configText) as QueueConfig;
const log = createLogger('warn');
const backend = await openBackend(config, log);
const queue = new SessionQueue(backend, config.name, log);
await queue.enqueue(
  Array.from({ length: Number(sessions) }, (_, index) => ({ botId: 'st-1', sessionId: `s-${index}` })),
);
let taken = 0;
new Consumer(backend, config.name, {
  concurrency: Number(concurrency),
  log,
  locks: JSON.parse(locksText),
  handle: () => {
    taken += 1;
    if (taken === Number(concurrency)) process.stdout.write('taken\n');
    return new Promise(() => {});
  },
});
