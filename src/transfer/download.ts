import { isVoicemailError, VoicemailError } from '../domain/errors.ts';
import type { Integrity } from '../domain/recording.ts';
import type { Conclusion } from './audio/container.ts';
import { type ContentCoding, decodingMemory } from './content-coding.ts';
import { isDataUrl, openDataUrl } from './data-url.ts';
import { type LeastRate, tooLargeError } from './limits.ts';
import type { MediaClient, MediaResponse, RangeRequest } from './media-http.ts';
import {
  type BodyDecision,
  type BodyFault,
  type ReceivedBody,
  type RestRequest,
  ResumableBody,
} from './resumable-body.ts';
import type { RetryPauses } from './retry-pauses.ts';
import type { SignedUrl } from './signed-url.ts';
import type { SlowSource, Stopwatch } from './slow-source-guard.ts';

/** How a download ended, as far as its integrity is concerned. */
export interface DownloadEnd {
  /** A length, the end of its chunks or a complete range says where the body ends, and every byte came. */
  readonly isLengthKnown: boolean;
  /** What the container says; `undefined` where none was recognised. */
  readonly conclusion: Conclusion | undefined;
  /** An earlier download brought the very same bytes, and none brought more. */
  readonly isRepeated: boolean;
  /** Remarks on how the bytes came, in plain English. */
  readonly notes?: readonly string[];
}

/** What is to be said of a download, and whether more of the recording may still be had. */
export interface IntegrityJudgement {
  /** What the manifest says if the bytes are archived as they are. */
  readonly integrity: Integrity;
  /**
   * `cut`: the container claims more bytes than came, so another download may bring them. `unconfirmed`: nothing says
   * where the body ends, and no second download has brought the same bytes yet. `undefined`: nothing speaks against
   * archiving it at once.
   */
  readonly doubt: 'cut' | 'unconfirmed' | undefined;
}

const UNKNOWN_CONTAINER = 'it is in no audio container known here';
const UNKNOWN_END = 'nothing said where it ends, and repeated downloads did not bring the same bytes';

/** Judges a download that ended without an error. The one place that decides the manifest's `integrity`. */
export function judgeIntegrity(download: DownloadEnd): IntegrityJudgement {
  const { isLengthKnown, conclusion, isRepeated } = download;
  const isCut = conclusion?.end === 'missing';
  const isConfirmed = isLengthKnown || conclusion?.end === 'confirmed';
  const notes = [
    ...(download.notes ?? []),
    ...(conclusion === undefined ? [UNKNOWN_CONTAINER] : conclusion.notes),
    ...(isCut || isConfirmed || isRepeated ? [] : [UNKNOWN_END]),
  ];
  const sound = isConfirmed ? 'verified' : 'unverified';
  const unsure = isConfirmed ? undefined : 'unconfirmed';
  const end = isCut ? 'missing' : unsure;
  return {
    integrity: { state: isCut || notes.length > 0 ? 'suspect' : sound, notes, ...(end && { end }) },
    doubt: isCut ? 'cut' : isConfirmed || isRepeated ? undefined : 'unconfirmed',
  };
}

/** What happens during a download, for logs and metrics. */
export interface DownloadEvents {
  /** Bytes arrived; `received` counts them from the recording's first byte. */
  onBytes(count: number, received: number): void;
  /** A broken download goes on where it stopped. */
  onResume(from: number, because: VoicemailError): void;
  /** A download begins at the first byte again. */
  onRestart(because: VoicemailError): void;
}

/** What one transfer's download works with. */
export interface DownloadOptions {
  readonly media: MediaClient;
  readonly signedUrl: SignedUrl;
  readonly pauses: RetryPauses;
  readonly leastRate: LeastRate;
  /** Runs while the source is waited for. */
  readonly waiting: Stopwatch;
  readonly maxRecordingBytes: number;
  /** Doubt is old enough: what is still doubtful after repeated downloads is accepted as `suspect`. */
  readonly settleDoubt: boolean;
  /** Whether the archive has those very bytes: then there is nothing to be surer of. */
  isStored(sha256: string, bytes: number): boolean;
  readonly events: DownloadEvents;
}

/** An answer that holds the recording from its first byte, not read yet. */
export interface OpenedRecording {
  /** How long the recording will be, where the answer tells. */
  readonly expectedBytes: number | undefined;
  /** What decoding it takes of memory (bytes). */
  readonly decodingBytes: number;
  /** What the URL in use named, without its query. */
  readonly source: MediaResponse['source'];
  /** When that URL expires (unix milliseconds), where it tells. */
  readonly expiresAt: number | undefined;
  readonly openedAt: number;
  /** Receives it. */
  body(): ResumableBody;
  /** Releases it unread. */
  discard(): void;
}

/** Why an attempt did not bring the whole recording, where another one may. */
export type Setback = BodyFault | SlowSource;

/** `restart`: open the recording again. `yield`: the same, once others have had the memory that this one held. */
export type NextAttempt = 'restart' | 'yield';

/**
 * One recording's download: the only place that decides whether a request is sent again, a broken body is resumed, or
 * a recording is downloaded again from its first byte.
 */
export interface Download {
  /**
   * Opens the recording from its first byte, with fresh URLs and after pauses where needed.
   * @param signal also breaks off what is received afterwards.
   * @throws VoicemailError once trying has been enough.
   */
  open(signal: AbortSignal): Promise<OpenedRecording>;
  /**
   * What to do about an attempt that did not bring the whole recording: pauses, and fetches fresh metadata where that
   * may help.
   * @returns what to do next.
   * @throws VoicemailError once trying has been enough.
   */
  recover(setback: Setback, signal: AbortSignal): Promise<NextAttempt>;
  /** Releases what was opened and never read. */
  close(): void;
}

/**
 * A refusal of the URL rather than of the recording: fresh metadata brings another URL. S3 says 400 of some expired
 * tokens: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
 */
const REFUSED = [400, 401, 403, 404, 410];

/** 203 is a 200 that came through a proxy; some answer 206 although nobody asked for a part. */
const USABLE = [200, 203, 204, 206];

/** Passing faults of the other side, besides 5xx. */
const PASSING = [408, 425, 429];

/**
 * How often a recording whose container claims more bytes is downloaded again, and how often one whose end nothing
 * tells until two downloads bring the same: breaks of its connection look like its end, and count here.
 */
const MAX_REPEATS = 3;
const MAX_REPEATS_WITHOUT_LENGTH = 5;

/** Creates the download of one recording; nothing is requested before `open`. */
export function createDownload(options: DownloadOptions): Download {
  const { media, signedUrl, pauses, maxRecordingBytes, settleDoubt, events } = options;
  /** The whole recording, sent where only its rest had been asked for. */
  let unread: MediaResponse | undefined;
  let repeats = 0;
  /** The longest body so far of those that nothing confirmed. */
  let longest: Pick<ReceivedBody, 'bytes' | 'sha256'> | undefined;
  /** A coding that could not be undone any time: the bytes are taken as they are. */
  let ignoresCoding = false;

  async function send(
    continuation: RangeRequest | undefined,
    signal: AbortSignal,
  ): Promise<MediaResponse | VoicemailError> {
    await signedUrl.renewIfExpired(signal);
    if (isDataUrl(signedUrl.url)) return openDataUrl(signedUrl.url, maxRecordingBytes);
    try {
      return await media.open(signedUrl.url, continuation, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (isVoicemailError(error, 'DOWNLOAD_FAILED')) return error;
      throw error;
    }
  }

  /**
   * Requests the recording, or the rest of it, until there is an answer to work with: 200, 203, 204 or 206, and for a
   * rest also 416. An expired or refused URL is replaced, passing faults are waited out.
   */
  async function request(
    continuation: RangeRequest | undefined,
    signal: AbortSignal,
  ): Promise<MediaResponse> {
    for (;;) {
      const response = await send(continuation, signal);
      if (response instanceof VoicemailError) {
        await pauses.afterFailure(response, 0, signal);
        continue;
      }
      const { status } = response;
      if (USABLE.includes(status) && (continuation !== undefined || beginsAtFirstByte(response)))
        return response;
      if (continuation !== undefined && status === 416) return response;
      response.discard();
      if (REFUSED.includes(status)) {
        await signedUrl.renew(refusal(response, signedUrl.refreshes), signal);
      } else if (PASSING.includes(status) || status >= 500 || status === 206) {
        await pauses.afterFailure(statusError(response), 0, signal);
      } else {
        throw statusError(response);
      }
    }
  }

  async function resume(
    { from, validator, codings, totalBytes }: RestRequest,
    broken: VoicemailError,
    gainedBytes: number,
    signal: AbortSignal,
  ): Promise<MediaResponse | undefined> {
    await pauses.afterFailure(broken, gainedBytes, signal);
    const rest = await request({ from, validator }, signal);
    const total = rest.range?.total ?? totalBytes;
    const belongs =
      rest.status === 206 &&
      rest.range?.from === from &&
      // Without a validator it may come from a server that does not know `If-Range`, and be the rest of another body.
      rest.validator === validator &&
      rest.codings.join() === codings.join() &&
      total !== undefined &&
      (totalBytes === undefined || total === totalBytes);
    if (belongs) {
      events.onResume(from, broken);
      return rest;
    }
    if (rest.status === 200 || rest.status === 203) unread = rest;
    else rest.discard();
    return undefined;
  }

  /** Decides about a body that has come to its end. */
  function accept(body: ReceivedBody, host: string, notes: readonly string[]): BodyDecision {
    const { bytes, sha256, isLengthKnown, conclusion } = body;
    const isRepeated = longest?.bytes === bytes && longest.sha256 === sha256;
    const { integrity, doubt } = judgeIntegrity({ isLengthKnown, conclusion, isRepeated, notes });
    if (doubt === undefined || options.isStored(sha256, bytes)) return { next: 'accept', integrity };
    if (bytes >= (longest?.bytes ?? 0)) longest = { bytes, sha256 };
    const isLast = repeats >= (isLengthKnown ? MAX_REPEATS : MAX_REPEATS_WITHOUT_LENGTH);
    if (isLast && settleDoubt) return { next: 'accept', integrity };
    const why =
      doubt === 'cut'
        ? `the recording came with ${bytes} bytes, and its own header says that there are more`
        : `the recording ended after ${bytes} bytes without a length, and no second download brought the same bytes`;
    const error = new VoicemailError('RECORDING_TRUNCATED', why, { host });
    return { next: isLast ? 'fail' : 'restart', error };
  }

  function discardUnread(): void {
    unread?.discard();
    unread = undefined;
  }

  async function beforeRepeat(signal: AbortSignal): Promise<void> {
    repeats += 1;
    await pauses.beforeRepeat(repeats, signal);
  }

  return {
    async open(signal) {
      const response = unread ?? (await request(undefined, signal));
      unread = undefined;
      const totalBytes = wholeLength(response);
      if ((totalBytes ?? 0) > maxRecordingBytes) {
        response.discard();
        throw tooLargeError(maxRecordingBytes);
      }
      const codings: readonly ContentCoding[] = ignoresCoding ? [] : response.codings;
      const notes =
        ignoresCoding && response.codings.length > 0
          ? [`its content coding (${response.codings.join(', ')}) could not be undone`]
          : [];
      return {
        expectedBytes: codings.length > 0 ? undefined : totalBytes,
        decodingBytes: decodingMemory(codings),
        source: response.source,
        expiresAt: signedUrl.expiresAt,
        openedAt: Date.now(),
        body: () =>
          new ResumableBody({
            response,
            totalBytes,
            isEndKnown:
              totalBytes !== undefined || (response.status !== 206 && response.delimiter === 'chunks'),
            codings,
            maxBytes: maxRecordingBytes,
            leastRate: options.leastRate,
            waiting: options.waiting,
            signal,
            onBytes: events.onBytes,
            resume: (rest, broken, gained) => resume(rest, broken, gained, signal),
            accept: (body) => accept(body, response.host, notes),
          }),
        discard: () => response.discard(),
      };
    },
    async recover(setback, signal) {
      if (setback.kind === 'slow') {
        discardUnread();
        return 'yield';
      }
      const { kind, error, gainedBytes } = setback;
      switch (kind) {
        case 'broken':
          await pauses.afterFailure(error, gainedBytes, signal);
          pauses.countRestart(error);
          break;
        case 'replaced':
          pauses.countRestart(error);
          break;
        case 'unusable':
          // Perhaps a glitch, or a URL that leads to an old state of things.
          await pauses.afterUnusable(error, signal);
          await signedUrl.renew(error, signal);
          break;
        case 'doubtful':
          await beforeRepeat(signal);
          break;
        case 'undecodable':
          if (repeats < MAX_REPEATS) await beforeRepeat(signal);
          else if (settleDoubt && !ignoresCoding) ignoresCoding = true;
          else throw error;
          break;
      }
      events.onRestart(error);
      return 'restart';
    },
    close: discardUnread,
  };
}

function beginsAtFirstByte({ status, range }: MediaResponse): boolean {
  return status !== 206 || range === undefined || range.from === 0;
}

/** The length of the whole recording, where an answer to a request for all of it tells. */
function wholeLength({ status, range, contentLength }: MediaResponse): number | undefined {
  return status === 206 ? range?.total : contentLength;
}

function refusal({ host, status }: MediaResponse, refreshes: number): VoicemailError {
  const fresh = refreshes === 0 ? '' : ', and those from fresh metadata';
  return new VoicemailError(
    'RECORDING_URL_EXPIRED',
    `${host} refused the recording's URL (HTTP ${status})${fresh}`,
    { host },
  );
}

function statusError({ host, status, retryAfterMs }: MediaResponse): VoicemailError {
  const redirected = status >= 300 && status < 400 ? ', a redirect that leads no further,' : '';
  return new VoicemailError(
    'DOWNLOAD_FAILED',
    `${host} answered with HTTP ${status}${redirected} in place of the recording`,
    { host, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) },
  );
}
