import { VoicemailError } from '../domain/errors.ts';
import type { KoreRecording } from '../domain/voicemail.ts';
import { urlExpiry } from '../kore/url-expiry.ts';
import { unlessAborted } from '../util/async.ts';

/** The signed URL in use, and how to get the next one. */
export interface SignedUrl {
  /** A secret: goes nowhere but into requests. */
  readonly url: string;
  /** Unix milliseconds, where the URL tells. */
  readonly expiresAt: number | undefined;
  /** How often it was replaced. */
  readonly refreshes: number;
  /** Replaces the URL if it has expired or is about to. Called before each request. */
  renewIfExpired(signal: AbortSignal): Promise<void>;
  /**
   * Replaces the URL by fresh metadata.
   * @param because thrown instead when that has been done too often.
   */
  renew(because: VoicemailError, signal: AbortSignal): Promise<void>;
}

/** How often one transfer fetches fresh metadata; after that the session waits for its next attempt. */
const MAX_REFRESHES = 5;

/** A URL with less time left than this may have expired when the request arrives. */
const EXPIRY_MARGIN_MS = 1000;

/** Follows one recording's URL through its replacements. */
export function createSignedUrl(
  recording: KoreRecording,
  refresh: () => Promise<KoreRecording>,
  onRefresh: (renewed: { alreadyExpired: boolean }) => void,
): SignedUrl {
  let url = recording.fileUrl;
  let expiresAt = urlExpiry(url)?.getTime();
  let refreshes = 0;
  /** Just fetched: tried whatever its expiry says, since this machine's clock may be what is wrong. */
  let untried = false;
  /** Under way; who was broken off while waiting for it finds it here again. */
  let pending: Promise<void> | undefined;

  const hasExpired = (): boolean => expiresAt !== undefined && expiresAt - Date.now() < EXPIRY_MARGIN_MS;

  async function renew(because: VoicemailError, signal: AbortSignal): Promise<void> {
    if (refreshes === MAX_REFRESHES) throw because;
    pending ??= replace().finally(() => {
      pending = undefined;
    });
    await unlessAborted(pending, signal);
  }

  async function replace(): Promise<void> {
    url = (await refresh()).fileUrl;
    refreshes += 1;
    expiresAt = urlExpiry(url)?.getTime();
    untried = true;
    onRefresh({ alreadyExpired: hasExpired() });
  }

  return {
    get url() {
      return url;
    },
    get expiresAt() {
      return expiresAt;
    },
    get refreshes() {
      return refreshes;
    },
    async renewIfExpired(signal) {
      if (hasExpired() && !untried) {
        const message = "the recording's URL expired before its download could start, as did the fresh ones";
        await renew(new VoicemailError('RECORDING_URL_EXPIRED', message), signal);
      }
      untried = false;
    },
    renew,
  };
}
