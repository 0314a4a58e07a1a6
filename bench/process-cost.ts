/** Loaded into a process by `--import`, it writes at the end what the process cost to its file descriptor 3. */

import { writeSync } from 'node:fs';

/** What a process cost. */
export interface ProcessCost {
  readonly cpuUs: number;
  readonly peakMemoryBytes: number;
}

const FILE_DESCRIPTOR = 3;

process.once('exit', () => {
  const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
  const cost: ProcessCost = { cpuUs: userCPUTime + systemCPUTime, peakMemoryBytes: maxRSS * 1024 };
  writeSync(FILE_DESCRIPTOR, JSON.stringify(cost));
});
