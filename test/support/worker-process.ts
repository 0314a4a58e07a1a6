/**
 * A worker in its own process, which stops at one point until the test writes to its input: it prints `reached POINT`, and
 * continues after a line of input. Arguments: the configuration and Kore's as JSON, and the point, or `none`.
 */

import { once } from 'node:events';
import { createLogger } from '../../src/util/log.ts';
import { SHORT_LOCKS, startHandMadeWorker } from './worker-parts.ts';

const [, , configText = '', koreText = '', point = 'none'] = process.argv;
let isHeld = false;
await startHandMadeWorker({
  config: JSON.parse(configText),
  kore: JSON.parse(koreText),
  log: createLogger('info'),
  tuning: SHORT_LOCKS,
  async reached(at) {
    // Only once: the test checks what the worker does afterwards.
    if (at !== point || isHeld) return;
    isHeld = true;
    process.stdout.write(`reached ${at}\n`);
    await once(process.stdin, 'data');
  },
});
process.stdout.write('ready\n');
