/** Facts of the audio in the first bytes of a recording, as far as its container has them. */
export interface AudioFacts {
  /**
   * `wav` (RIFF, RIFX, RF64, BW64), `w64`, `flac`, `ogg`, `mp3` (layers II and III), `adts`, `amr`, `mp4`, `3gp`,
   * `mov`, `aiff`, `aifc`, `caf`, `au`, `webm`, `matroska` or `asf`.
   */
  readonly container: string;
  /** For example `pcm_s16le`, `pcm_mulaw`, `pcm_alaw`, `gsm_ms`, `flac`, `opus`, `vorbis`, `mp3`, `aac`, `amr_nb`. */
  readonly codec?: string;
  /** Hertz. */
  readonly sampleRate?: number;
  readonly channels?: number;
  readonly durationSeconds?: number;
}

/**
 * How sure one can be of an archived recording. `verified`: its length was known and every byte came, or the container
 * itself confirms its end; `unverified`: nothing said where it ends, and two downloads gave the same bytes; `suspect`:
 * every byte came, and the audio disagrees with itself or is in no container known here. `notes` say why, in words.
 */
export interface Integrity {
  readonly state: 'verified' | 'unverified' | 'suspect';
  readonly notes: readonly string[];
  /**
   * Where another download may bring more: `missing`: the container claims more bytes than came; `unconfirmed`: nothing
   * said where the recording ends.
   */
  readonly end?: 'missing' | 'unconfirmed';
}

/** One recording as it lies in the archive. */
export interface TransferredRecording {
  /** How sure one can be that this is the whole recording, and sound. */
  readonly integrity: Integrity;
  readonly bytes: number;
  /** Lowercase hex. */
  readonly sha256: string;
  /** From the container; `application/octet-stream` when it is not recognised. */
  readonly contentType: string;
  readonly audio?: AudioFacts;
  /** Where it came from, without the query. `expiresAt` as ISO 8601. */
  readonly source: { readonly host: string; readonly path: string; readonly expiresAt?: string };
  readonly downloadedAt: string;
  /** Seconds left until the URL's expiry when the download began, where the URL has its expiry. */
  readonly secondsToExpiry?: number;
  /** How often fresh metadata had to be fetched. */
  readonly urlRefreshes: number;
  /** How often a broken download went on with a range. */
  readonly resumes: number;
}
