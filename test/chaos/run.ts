/** `npm run chaos -- --seed N`: one chaos run; the same seed makes the same sessions and the same faults. */

import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { runChaos } from './chaos.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    queue: { type: 'string', default: 'redis' },
    sessions: { type: 'string', default: '150' },
    seconds: { type: 'string', default: '30' },
    /** Gets what the workers logged. */
    logs: { type: 'string' },
  },
});
if (values.queue !== 'redis' && values.queue !== 'postgres')
  throw new Error('--queue takes redis or postgres');

const result = await runChaos({
  seed: values.seed,
  queue: values.queue,
  sessions: Number(values.sessions),
  faultsMs: 1_000 * Number(values.seconds),
  settleMs: 360_000,
  mayBeSilent: true,
});
if (values.logs !== undefined) await writeFile(values.logs, result.logs);
console.log(
  `seed ${values.seed} on ${values.queue}: ${values.sessions} sessions, settled ${result.settledMs} ms after the last fault`,
);
for (const [name, count] of Object.entries(result.caused)) console.log(`  ${count} x ${name}`);
for (const fault of result.faults) console.log(`  WRONG: ${fault}`);
console.log(
  result.faults.length === 0 ? 'nothing lost, nothing twice' : `${result.faults.length} things are wrong`,
);
process.exitCode = result.faults.length === 0 ? 0 : 1;
