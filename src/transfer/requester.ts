import { ArchiverError, isArchiverError } from '../errors.ts';
import type { Continuation, MediaClient, MediaResponse } from './media-client.ts';
import type { Patience } from './patience.ts';
import type { SignedUrl } from './signed-url.ts';

/**
 * A refusal of the URL rather than of the recording: fresh metadata brings another URL. S3 says 400 of some expired
 * tokens: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
 */
const REFUSED = [400, 401, 403, 404, 410];

/** 203 is a 200 that came through a proxy. */
const USABLE = [200, 203, 204];

/** Passing faults of the other side, besides 5xx. */
const PASSING = [408, 425, 429];

/** What requests are made with. */
export interface RequesterOptions {
  readonly media: MediaClient;
  readonly signedUrl: SignedUrl;
  readonly patience: Patience;
}

/**
 * Requests a recording, or the rest of it, until there is an answer to work with: 200, 203 or 204, and for a rest
 * also 206 and 416. An expired or refused URL is replaced, passing faults are waited out.
 *
 * @throws ArchiverError once trying has been enough.
 */
export type Requester = (
  continuation: Continuation | undefined,
  signal: AbortSignal,
) => Promise<MediaResponse>;

/** Creates the requester of one recording. */
export function createRequester({ media, signedUrl, patience }: RequesterOptions): Requester {
  async function send(
    continuation: Continuation | undefined,
    signal: AbortSignal,
  ): Promise<MediaResponse | ArchiverError> {
    await signedUrl.renewIfExpired(signal);
    try {
      return await media.open(signedUrl.url, continuation, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (isArchiverError(error, 'DOWNLOAD_FAILED')) return error;
      throw error;
    }
  }

  return async (continuation, signal) => {
    for (;;) {
      const response = await send(continuation, signal);
      if (response instanceof ArchiverError) {
        await patience.afterFailure(response, 0, signal);
        continue;
      }
      const { status } = response;
      if (USABLE.includes(status)) return response;
      if (continuation !== undefined && (status === 206 || status === 416)) return response;
      response.discard();
      if (REFUSED.includes(status)) {
        await signedUrl.renew(refusal(response, signedUrl.refreshes), signal);
      } else if (PASSING.includes(status) || status >= 500) {
        await patience.afterFailure(statusError(response), 0, signal);
      } else {
        throw statusError(response);
      }
    }
  };
}

function refusal({ host, status }: MediaResponse, refreshes: number): ArchiverError {
  const fresh = refreshes === 0 ? '' : ', and those from fresh metadata';
  return new ArchiverError(
    'RECORDING_URL_EXPIRED',
    `${host} refused the recording's URL (HTTP ${status})${fresh}`,
  );
}

function statusError({ host, status, retryAfterMs }: MediaResponse): ArchiverError {
  const redirected = status >= 300 && status < 400 ? ', a redirect that leads no further,' : '';
  return new ArchiverError(
    'DOWNLOAD_FAILED',
    `${host} answered with HTTP ${status}${redirected} in place of the recording`,
    retryAfterMs === undefined ? {} : { retryAfterMs },
  );
}
