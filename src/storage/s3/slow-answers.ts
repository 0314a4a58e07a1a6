/** Aborts answers of a store that come so slowly that a caller would wait for ever. */

import type { Readable } from 'node:stream';
import { VoicemailError } from '../../domain/errors.ts';

/** What an object comes with at least, on average (bytes a second of waiting for it). */
const MIN_RATE = 1_024;
/** Waiting time before the average means anything (milliseconds). */
const GRACE_MS = 60_000;
/**
 * The longest that any other answer may take from its head to its end (milliseconds). S3 sends blanks for minutes while
 * it completes an upload.
 *
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
 */
export const ANSWER_TIMEOUT_MS = 10 * 60_000;

/**
 * The same chunks, as long as they come at a least rate. Only the time spent waiting for the store counts. Leaving the
 * loop early destroys the body and its connection.
 *
 * @throws VoicemailError `ARCHIVE_UNAVAILABLE` once the store has been too slow for too long.
 */
export async function* steadily(body: AsyncIterable<Buffer>, graceMs = GRACE_MS): AsyncGenerator<Buffer> {
  let bytes = 0;
  let waitedMs = 0;
  let since = performance.now();
  for await (const chunk of body) {
    bytes += chunk.length;
    waitedMs += performance.now() - since;
    if (waitedMs > graceMs && bytes * 1_000 < MIN_RATE * waitedMs) {
      throw new VoicemailError(
        'ARCHIVE_UNAVAILABLE',
        `the bucket is too slow: ${bytes} bytes of an object in ${Math.round(waitedMs / 1_000)} s`,
        { hint: 'check the network, and the store' },
      );
    }
    yield chunk;
    since = performance.now();
  }
}

/** Aborts an answer that is read as a whole if it does not end in time. */
export function boundTime(body: Readable, timeoutMs = ANSWER_TIMEOUT_MS): void {
  const timer = setTimeout(() => {
    const error = new Error(`the answer did not end within ${timeoutMs / 1_000} s`);
    body.destroy(Object.assign(error, { name: 'TimeoutError' }));
  }, timeoutMs);
  timer.unref();
  body.once('close', () => clearTimeout(timer));
}
