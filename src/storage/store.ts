/** The narrow interface between the archiver and wherever archives are kept. */

/** Extra facts about an object that the store keeps with it where it can. */
export interface ObjectInfo {
  readonly contentType: string;
}

/** What is known of a stored object. */
export interface StoredObject {
  readonly bytes: number;
  /** Lowercase hex, where the store keeps or can tell it without reading the object. */
  readonly sha256?: string;
}

/** An object as a listing of the store shows it. */
export interface ListedObject {
  /** Relative, like those that objects are written under. */
  readonly key: string;
  readonly bytes: number;
}

/** `absent`: never overwrite; `replace`: the new object takes the place of the old one, atomically. */
export type WriteMode = 'absent' | 'replace';

/**
 * The outcome of a write. `exists`: an object with the very same bytes was already there (one's own earlier
 * success counts as success).
 */
export type WriteOutcome = 'stored' | 'exists';

/**
 * A body on its way into the store. `chunks` yields non-empty buffers and throws if the body turns out
 * incomplete, in which case nothing is stored. `sha256()` is called once `chunks` has ended, never before:
 * the bytes are hashed on their way, once.
 */
export interface StreamedBody {
  readonly chunks: AsyncIterable<Buffer>;
  /** Lowercase hex of all bytes yielded. */
  sha256(): string;
  /** How many bytes there will be, where known; a hint, never a promise. */
  readonly expectedBytes?: number;
}

/**
 * Where archives are kept. Keys are relative, `/`-separated, without a leading slash; the store adds its own
 * prefix and {@link ArchiveStore.fullKey} tells the result.
 *
 * Nothing half-written is ever visible under a key: a write happens whole or not at all, whatever happens to
 * the process. All methods throw `ArchiverError` with `ARCHIVE_DENIED` (rights, credentials, missing bucket),
 * `ARCHIVE_UNAVAILABLE` (passing faults) or `ARCHIVE_CONFLICT` (another object is already at that key), and
 * the signal's own reason when aborted.
 */
export interface ArchiveStore {
  /** Where this is, for people and logs: `s3://bucket/prefix` or `file:/absolute/dir`. No secrets. */
  readonly location: string;
  /** The key in the bucket, or the path below the archive's directory, as manifests name it. */
  fullKey(key: string): string;
  /** The whole object, or `undefined` when there is none. For small objects: at most `maxBytes` (default 64 MiB). */
  read(key: string, signal: AbortSignal, maxBytes?: number): Promise<Buffer | undefined>;
  /** Size, and hash where known, or `undefined` when there is no such object. */
  head(key: string, signal: AbortSignal): Promise<StoredObject | undefined>;
  /**
   * All objects whose keys begin with `prefix`, in no particular order. What is written or removed meanwhile may be
   * among them or not.
   *
   * @param prefix whole segments: it ends in `/`, or is empty for everything.
   */
  list(prefix: string, signal: AbortSignal): AsyncIterable<ListedObject>;
  /** Writes a small object in one go. */
  write(
    key: string,
    body: Buffer,
    info: ObjectInfo,
    mode: WriteMode,
    signal: AbortSignal,
  ): Promise<WriteOutcome>;
  /**
   * Writes a body as it arrives, holding at most {@link ArchiveStore.transferMemory} of it. If `chunks`
   * throws, that error is thrown on and the store is as before, without parts or temporary files left.
   */
  writeStream(
    key: string,
    body: StreamedBody,
    info: ObjectInfo,
    mode: WriteMode,
    signal: AbortSignal,
  ): Promise<WriteOutcome>;
  /** The most bytes of a body of that size (unknown: `undefined`) that `writeStream` holds in memory at once. */
  transferMemory(expectedBytes: number | undefined): number;
  /** Proves that the archive can be reached with the rights needed to look up an object. */
  check(signal: AbortSignal): Promise<void>;
  /** Lets go of connections and temporary files. */
  close(): Promise<void>;
}
