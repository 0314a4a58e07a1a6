/**
 * Predicts how workers get on with the sessions of one Kore account: how long these wait, how many are at risk or lost,
 * and how many calls it takes. Minutes of computing at most, no transfers; the policies are the product's own.
 *
 * `npm run simulate -- --help` lists the options.
 */

import { parseSimulation, USAGE, UsageError } from './options.ts';
import { reportOf, summarise } from './report.ts';
import { simulate } from './simulate.ts';

// Failures are most of what is simulated, and nobody reads where they came from.
Error.stackTraceLimit = 0;
try {
  const settings = parseSimulation(process.argv.slice(2));
  if (settings === 'help') {
    console.log(USAGE);
  } else {
    const { result, callsPerMs } = simulate(settings);
    const summary = summarise(result, callsPerMs);
    console.log(settings.json ? JSON.stringify(summary, null, 2) : reportOf(summary));
  }
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  console.error(`${error.message}\n\nnpm run simulate -- --help lists the options`);
  process.exitCode = 2;
}
