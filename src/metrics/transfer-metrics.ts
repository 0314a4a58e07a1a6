import { Counter, Histogram, type Registry } from 'prom-client';
import type { TransferObserver } from '../transfer/transfer.ts';

/** What transfers report to. */
export type TransferMetrics = Required<TransferObserver>;

/** The first bucket holds downloads whose URL had expired already. */
const EXPIRY_BUCKETS_S = [0, 5, 15, 60, 300, 900, 3_600, 21_600, 86_400, 172_800];
const TRANSFER_BUCKETS_S = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600];

/** Metrics of downloads and uploads, fed by the transfers. */
export function createTransferMetrics(registry: Registry): TransferMetrics {
  const registers = [registry];
  const started = new Counter({
    name: 'voicemail_downloads_started_total',
    help: 'Downloads begun, by whether the expiry of the URL is known or unknown. One that begins anew counts again.',
    labelNames: ['expiry'],
    registers,
  });
  const timeToExpiry = new Histogram({
    name: 'voicemail_download_time_to_expiry_seconds',
    help: "Time left until the URL's expiry when a download began, where it is known; negative when it had passed, so the sum is no counter.",
    buckets: EXPIRY_BUCKETS_S,
    registers,
  });
  const bytes = new Counter({
    name: 'voicemail_download_bytes_total',
    help: 'Bytes received from media servers, those of broken and repeated downloads included.',
    registers,
  });
  const resumes = new Counter({
    name: 'voicemail_download_resumes_total',
    help: 'Broken downloads that went on where they had stopped.',
    registers,
  });
  const refreshes = new Counter({
    name: 'voicemail_download_url_refreshes_total',
    help: 'Times that fresh metadata was fetched because a URL had expired, was refused, or led to something unusable.',
    registers,
  });
  const downloadTime = new Histogram({
    name: 'voicemail_recording_download_seconds',
    help: 'Time that the transfer of a stored recording waited for its source.',
    buckets: TRANSFER_BUCKETS_S,
    registers,
  });
  const uploadTime = new Histogram({
    name: 'voicemail_recording_upload_seconds',
    help: 'Time that the transfer of a stored recording waited for the archive.',
    buckets: TRANSFER_BUCKETS_S,
    registers,
  });
  for (const expiry of ['known', 'unknown']) started.inc({ expiry }, 0);

  return {
    onStart(secondsToExpiry) {
      started.inc({ expiry: secondsToExpiry === undefined ? 'unknown' : 'known' });
      if (secondsToExpiry !== undefined) timeToExpiry.observe(secondsToExpiry);
    },
    onBytes: (count) => bytes.inc(count),
    onResume: () => resumes.inc(),
    onUrlRefresh: () => refreshes.inc(),
    onDone({ downloadSeconds, uploadSeconds }) {
      downloadTime.observe(downloadSeconds);
      uploadTime.observe(uploadSeconds);
    },
  };
}
