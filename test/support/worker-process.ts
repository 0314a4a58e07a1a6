/**
 * A worker in a process of its own, which stops at one point for as long as the test wants: it says `reached POINT`, and
 * goes on when it is told anything. Arguments: the configuration and Kore's as JSON, and the point, or `none`.
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
    // Only once: what the worker does when it goes on is what the test looks at.
    if (at !== point || isHeld) return;
    isHeld = true;
    process.stdout.write(`reached ${at}\n`);
    await once(process.stdin, 'data');
  },
});
process.stdout.write('ready\n');
