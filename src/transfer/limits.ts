import { VoicemailError } from '../domain/errors.ts';

/** Adds up what a source delivers over a whole download, across all its connections. */
export interface LeastRate {
  /**
   * Counts bytes and how long they were waited for.
   * @returns `DOWNLOAD_FAILED` once the source has been too slow for too long.
   */
  count(host: string, bytes: number, waitedMs: number): VoicemailError | undefined;
}

/**
 * The least average speed of a source, so that one which drips holds its slot for a bounded time. Only the time spent
 * waiting for the source counts: a slow archive is no fault of its. Stalls are not counted here, they are broken off by
 * the idle timeout.
 *
 * @param minBytesPerSecond 0 for no bound.
 * @param graceMs waiting time before the average tells anything (milliseconds).
 */
export function createLeastRate(minBytesPerSecond: number, graceMs: number): LeastRate {
  let totalBytes = 0;
  let totalMs = 0;
  return {
    count(host, bytes, waitedMs) {
      totalBytes += bytes;
      totalMs += waitedMs;
      if (totalMs < graceMs || totalBytes * 1000 >= minBytesPerSecond * totalMs) return undefined;
      return new VoicemailError(
        'DOWNLOAD_FAILED',
        `${host} is too slow: ${totalBytes} bytes in ${Math.round(totalMs / 1000)} s, less than the ` +
          `${minBytesPerSecond} bytes a second that DOWNLOAD_MIN_RATE asks for`,
        { host },
      );
    },
  };
}

/** The refusal of more bytes than `MAX_RECORDING_BYTES` allows. */
export function tooLargeError(maxBytes: number): VoicemailError {
  return new VoicemailError(
    'RECORDING_TOO_LARGE',
    `the recording is larger than the ${maxBytes} bytes that MAX_RECORDING_BYTES allows`,
  );
}
