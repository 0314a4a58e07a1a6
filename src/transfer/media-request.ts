import { setTimeout as delay } from 'node:timers/promises';
import { isVoicemailError, VoicemailError } from '../domain/errors.ts';
import type { Continuation, MediaClient, MediaResponse } from './media-http.ts';
import type { SignedUrl } from './signed-url.ts';

/** How often one transfer tries again by itself, and how long it pauses before that. */
export interface RetryPauses {
  /**
   * Pauses after a passing failure; returns when to try again.
   * @param gainedBytes what was received since the failure before.
   * @throws `error` once trying again has brought too little too often, or the other side asks for more time
   *   than a transfer waits.
   */
  afterFailure(error: VoicemailError, gainedBytes: number, signal: AbortSignal): Promise<void>;
  /**
   * Pauses after an answer that is no recording, or a refusal: perhaps a gateway's glitch.
   * @throws `error` at the third time.
   */
  afterUnusable(error: VoicemailError, signal: AbortSignal): Promise<void>;
  /**
   * Counts a download that has to begin anew.
   * @throws `error` once that has happened too often.
   */
  beforeStartingAnew(error: VoicemailError): void;
}

/** Failures in a row that bring (almost) nothing. A download that gains ground goes on as long as it takes. */
const MAX_FRUITLESS_FAILURES = 6;

/** What counts as ground gained. */
const PROGRESS_BYTES = 64 * 1024;

/** Each costs a whole download, where the server offers no ranges. */
const MAX_FRESH_STARTS = 8;

/** An empty or non-audio body is given so many second chances before it counts as permanent. */
const MAX_UNUSABLE = 2;

const MAX_PAUSE_MS = 5000;

/** @param firstPauseMs the first pause; later ones double up to 5 s. */
export function createRetryPauses(firstPauseMs: number): RetryPauses {
  let fruitless = 0;
  let unusable = 0;
  let freshStarts = 0;

  /** Jittered, so that many transfers broken off together do not come back together. */
  function pause(doublings: number, signal: AbortSignal, atLeastMs = 0): Promise<void> {
    const ceiling = Math.min(MAX_PAUSE_MS, firstPauseMs * 2 ** doublings);
    return sleep(Math.max(atLeastMs, ceiling * (0.5 + Math.random() / 2)), signal);
  }

  return {
    async afterFailure(error, gainedBytes, signal) {
      fruitless = gainedBytes >= PROGRESS_BYTES ? 1 : fruitless + 1;
      const tooLong = (error.retryAfterMs ?? 0) > MAX_PAUSE_MS;
      if (fruitless > MAX_FRUITLESS_FAILURES || tooLong) throw error;
      await pause(fruitless - 1, signal, error.retryAfterMs);
    },
    async afterUnusable(error, signal) {
      unusable += 1;
      if (unusable > MAX_UNUSABLE) throw error;
      await pause(unusable, signal);
    },
    beforeStartingAnew(error) {
      freshStarts += 1;
      if (freshStarts > MAX_FRESH_STARTS) throw error;
    },
  };
}

async function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(milliseconds, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

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
  readonly patience: RetryPauses;
}

/**
 * Requests a recording, or the rest of it, until there is an answer to work with: 200, 203 or 204, and for a rest
 * also 206 and 416. An expired or refused URL is replaced, passing faults are waited out.
 *
 * @throws VoicemailError once trying has been enough.
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
  ): Promise<MediaResponse | VoicemailError> {
    await signedUrl.renewIfExpired(signal);
    try {
      return await media.open(signedUrl.url, continuation, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (isVoicemailError(error, 'DOWNLOAD_FAILED')) return error;
      throw error;
    }
  }

  return async (continuation, signal) => {
    for (;;) {
      const response = await send(continuation, signal);
      if (response instanceof VoicemailError) {
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

function refusal({ host, status }: MediaResponse, refreshes: number): VoicemailError {
  const fresh = refreshes === 0 ? '' : ', and those from fresh metadata';
  return new VoicemailError(
    'RECORDING_URL_EXPIRED',
    `${host} refused the recording's URL (HTTP ${status})${fresh}`,
  );
}

function statusError({ host, status, retryAfterMs }: MediaResponse): VoicemailError {
  const redirected = status >= 300 && status < 400 ? ', a redirect that leads no further,' : '';
  return new VoicemailError(
    'DOWNLOAD_FAILED',
    `${host} answered with HTTP ${status}${redirected} in place of the recording`,
    retryAfterMs === undefined ? {} : { retryAfterMs },
  );
}
