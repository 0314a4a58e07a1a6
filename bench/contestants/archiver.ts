/** The product's own worker, as the command `worker` starts it. */

import { openRuntime } from '../../src/runtime.ts';
import { collectSooner } from '../../src/util/garbage.ts';
import { createLogger } from '../../src/util/log.ts';
import { obey } from '../messages.ts';
import { readSettings } from './settings.ts';

collectSooner();
const { config, kore } = readSettings();
const runtime = await openRuntime(config, createLogger(config.logLevel));
const worker = await runtime.startWorker(kore);
await worker.ready();

obey({
  async stop() {
    await worker.stop();
    await runtime.close();
  },
});
