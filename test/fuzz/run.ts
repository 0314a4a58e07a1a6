/** `npm run fuzz -- --seed N --minutes M [--target NAME]`: feeds everything that reads from outside with broken input. */

import { parseArgs } from 'node:util';
import { fuzz } from './fuzz.ts';
import { FUZZ_TARGETS } from './targets.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    minutes: { type: 'string', default: '3' },
    target: { type: 'string', multiple: true },
  },
});
const names = values.target ?? Object.keys(FUZZ_TARGETS);
const milliseconds = (Number(values.minutes) * 60_000) / names.length;
let wrong = 0;
for (const name of names) {
  const report = await fuzz(name, values.seed, { milliseconds, inputs: Number.POSITIVE_INFINITY });
  wrong += report.faults.length;
  console.log(
    `${name}: ${report.inputs} inputs, longest event loop delay ${report.longestDelayMs.toFixed(0)} ms, ` +
      `most processor time ${report.mostCpuMs.toFixed(0)} ms, ${report.faults.length} faults`,
  );
  for (const fault of report.faults.slice(0, 10)) console.log(`  ${fault}`);
}
process.exitCode = wrong === 0 ? 0 : 1;
