import { VoicemailError } from '../domain/errors.ts';
import type { MediaClient, MediaResponse } from './media-http.ts';
import { createRequester } from './media-request.ts';
import { assertSize, openResumableBody, type ReceiveOptions, type ResumableBody } from './resumable-body.ts';

/** What one transfer's download works with. */
export interface DownloadOptions extends ReceiveOptions {
  readonly media: MediaClient;
}

/** An answer that holds the recording from its first byte, not read yet. */
export interface Opened {
  /** How long the recording will be, where the answer tells. */
  readonly expectedBytes: number | undefined;
  /** What the URL in use named, without its query. */
  readonly source: MediaResponse['source'];
  /** When that URL expires (unix milliseconds), where it tells. */
  readonly expiresAt: number | undefined;
  readonly openedAt: number;
  /** Reads it. */
  receive(): ResumableBody;
  /** Lets go of it unread. */
  discard(): void;
}

/** One recording's download. */
export interface Download {
  /**
   * Opens the recording from its first byte, with fresh URLs and after pauses where needed.
   * @param signal also breaks off what is received afterwards.
   * @throws VoicemailError once trying has been enough.
   */
  open(signal: AbortSignal): Promise<Opened>;
  /** Lets go of what was opened and never read. */
  close(): void;
}

/** Creates the download of one recording; nothing is requested before `open`. */
export function createDownload(options: DownloadOptions): Download {
  const { signedUrl, maxRecordingBytes } = options;
  const request = createRequester(options);
  /** The whole recording, sent where only its rest had been asked for. */
  let unread: MediaResponse | undefined;

  return {
    async open(signal) {
      const response = unread ?? (await request(undefined, signal));
      unread = undefined;
      if (response.contentEncoding !== undefined) {
        response.discard();
        throw new VoicemailError(
          'DOWNLOAD_FAILED',
          `${response.host} sent the recording with the content coding ${response.contentEncoding.slice(0, 32)}, ` +
            'which was not asked for',
        );
      }
      try {
        assertSize(response.contentLength, maxRecordingBytes);
      } catch (error) {
        response.discard();
        throw error;
      }
      return {
        expectedBytes: response.contentLength,
        source: response.source,
        expiresAt: signedUrl.expiresAt,
        openedAt: Date.now(),
        receive: () =>
          openResumableBody(response, request, options, signal, (whole) => {
            unread = whole;
          }),
        discard: response.discard,
      };
    },
    close() {
      unread?.discard();
      unread = undefined;
    },
  };
}
