/**
 * A program that archives one recording a given number of times at once, and prints how much memory
 * its process took at the most. Configured by the product's own variables; made of the product's own parts.
 */

import { readFileSync } from 'node:fs';
import { loadConfig } from '../../src/config/load.ts';
import { openStore } from '../../src/storage/open.ts';
import { createMediaClient } from '../../src/transfer/media-http.ts';
import { createMemoryBudget } from '../../src/transfer/memory.ts';
import { createTransfer } from '../../src/transfer/transfer.ts';
import { createLogger } from '../../src/util/log.ts';

/** What it writes to stdout, as JSON. */
export interface TransferReport {
  /** Peak of the process's resident memory. */
  readonly peakBytes: number;
  /** Bytes carried by all transfers together. */
  readonly carriedBytes: number;
}

const [fileUrl = '', times = ''] = process.argv.slice(2);
const config = loadConfig(process.env, { needs: [] });
const log = createLogger('warn');
const store = await openStore(config.archive, { maxObjectBytes: config.work.maxRecordingBytes, logger: log });
const media = createMediaClient({ media: config.media, idleTimeoutMs: config.work.downloadIdleTimeoutMs });
const transfer = createTransfer({
  store,
  media,
  memory: createMemoryBudget(config.work.transferMemoryBytes),
  limits: { maxRecordingBytes: config.work.maxRecordingBytes },
  log,
});

const recording = { fileName: 'voicemail.wav', fileUrl };
const signal = new AbortController().signal;
const carried = await Promise.all(
  Array.from({ length: Number(times) }, (_, index) => {
    const key = `session_${index}/voicemail.wav`;
    return transfer({ key, recording, refresh: async () => recording, mode: 'absent' }, signal);
  }),
);
await media.close();
await store.close();

const report: TransferReport = {
  peakBytes: peakBytes(),
  carriedBytes: carried.reduce((total, { bytes }) => total + bytes, 0),
};
process.stdout.write(JSON.stringify(report));

/** The system's own figure, where it has one, is this program's alone: `maxRSS` also counts what forked it. */
function peakBytes(): number {
  const status = process.platform === 'linux' ? readFileSync('/proc/self/status', 'utf8') : '';
  const [, kibibytes] = /^VmHWM:\s+(\d+) kB$/m.exec(status) ?? [];
  return Number(kibibytes ?? process.resourceUsage().maxRSS) * 1024;
}
