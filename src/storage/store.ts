import type { Readable } from 'node:stream';
import type { ByteRange } from '../domain/requests.ts';
import type { BodyReader } from './body.ts';

/** The narrow interface between the archiver and wherever archives are kept. */

/** Extra facts about an object that the store keeps with it where it can. */
export interface ObjectInfo {
  readonly contentType: string;
}

/** What is known of a stored object. */
export interface StoredObject {
  readonly bytes: number;
  /** Lowercase hex, where the store has it without reading the object. */
  readonly sha256?: string;
}

/** An object as a listing of the store shows it. */
export interface ListedObject {
  /** Relative, like those that objects are written under. */
  readonly key: string;
  readonly bytes: number;
  /** When it was written, by the store's clock. */
  readonly modifiedAt: Date;
  /** It is neither file nor directory (a symbolic link, a pipe), or its name is no UTF-8. Has no bytes and no time. */
  readonly isOther?: true;
}

/** A directory as a listing of the one above it shows it: what several keys begin with. */
export interface ListedDirectory {
  /** With a `/` at its end. */
  readonly directory: string;
}

/** Options of a listing. */
export interface ListingOptions {
  /** Only keys behind this one. A directory that `onUnreadable` was called with is not listed again. */
  readonly after?: string;
  /**
   * Called with an unreadable directory (with a `/` at its end) or file; without it the listing fails. Buckets have no
   * such things.
   */
  readonly onUnreadable?: (key: string, error: unknown) => void;
  /** Whether to list also what is neither file nor directory. Buckets have no such things. */
  readonly withOthers?: boolean;
}

/** `absent`: never overwrite; `replace`: the new object takes the place of the old one, atomically. */
export type WriteMode = 'absent' | 'replace';

/**
 * Replace an object only while it still is the version that was read (see {@link ArchiveStore.readVersion}). For
 * documents: streams have no such mode.
 */
export interface OverVersion {
  readonly over: ObjectVersion;
}

/** Identifies one content of an object: an ETag, or a hash of its bytes. Opaque outside the store. */
export type ObjectVersion = string;

/** An object as it was read. */
export interface ReadObject {
  readonly bytes: Buffer;
  readonly version: ObjectVersion;
}

/** An object that is being read. */
export interface OpenedObject {
  /** The size of the whole object, whichever part of it is read. */
  readonly bytes: number;
  readonly body: Readable;
}

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
  /**
   * Sends requests whose bytes are in memory; without it each is sent as often as the store's library does by itself.
   */
  readonly persist?: RetryWrites;
}

/**
 * Runs one request of a write, and again when that is worth it: what it sends is kept in memory meanwhile.
 *
 * @param request is aborted by its own signal, which is aborted with `signal`, or to be sent again.
 * @param errorOf a failure of the request in our codes.
 * @throws what the request throws.
 */
export type RetryWrites = <Result>(
  request: (signal: AbortSignal) => Promise<Result>,
  errorOf: Translate,
  signal: AbortSignal,
) => Promise<Result>;

/**
 * Where archives are kept. Keys are relative, `/`-separated, without a leading slash; the store adds its own
 * prefix and {@link ArchiveStore.fullKey} returns the result.
 *
 * Nothing half-written is ever visible under a key: a write happens whole or not at all, whatever happens to
 * the process. All methods throw `VoicemailError` with `ARCHIVE_DENIED` (rights, credentials, missing bucket),
 * `ARCHIVE_UNAVAILABLE` (passing faults) or `ARCHIVE_CONFLICT` (another object is already at that key), and
 * the signal's own reason when aborted.
 */
export interface ArchiveStore {
  /** The versions of objects: for erasing sessions, and for legal holds. */
  readonly versions: StoredVersions;
  /** Where this is, for people and logs: `s3://bucket/prefix` or `file:/absolute/dir`. No secrets. */
  readonly location: string;
  /** The key in the bucket, or the path below the archive's directory, as manifests name it. */
  fullKey(key: string): string;
  /** The whole object, or `undefined` when there is none. For small objects: at most `maxBytes` (default 64 MiB). */
  read(key: string, signal: AbortSignal, maxBytes?: number): Promise<Buffer | undefined>;
  /**
   * Like {@link ArchiveStore.read}, with the version that was read. A write `over` that version fails with
   * `ARCHIVE_CONFLICT` when the object was changed or removed since; of many such writes at once one wins. It holds
   * against writes in mode `replace` as well.
   *
   * A directory keeps that by itself, and so does a bucket whose store knows `If-Match`. In other buckets the store
   * reads, compares and writes: between these steps only the caller's own lock keeps others out. Nor should a
   * caller rest on `If-Match` alone: Ceph let several conditional writes at once win in buckets with versions.
   */
  readVersion(key: string, signal: AbortSignal, maxBytes?: number): Promise<ReadObject | undefined>;
  /** Size, and hash where known, or `undefined` when there is no such object. */
  head(key: string, signal: AbortSignal): Promise<StoredObject | undefined>;
  /**
   * Opens an object, or a part of it, for reading; `undefined` when there is none. The body has to be read to its end
   * or destroyed; an abort of the signal destroys it.
   *
   * @param range within the object.
   */
  open(key: string, range: ByteRange | undefined, signal: AbortSignal): Promise<OpenedObject | undefined>;
  /**
   * Reads an object of any size to its end, piece by piece.
   *
   * @param onChunk may keep what it is given.
   * @returns whether there is one.
   */
  scan(key: string, onChunk: (chunk: Buffer) => void, signal: AbortSignal): Promise<boolean>;
  /**
   * All objects whose keys begin with `prefix`, in the order of their keys' bytes. What is written or removed
   * meanwhile may be among them or not.
   *
   * @param prefix whole segments: it ends in `/`, or is empty for everything.
   */
  list(prefix: string, signal: AbortSignal, options?: ListingOptions): AsyncIterable<ListedObject>;
  /**
   * The names of all objects below a directory, one request where there are few: what follows `directory` in their
   * keys.
   *
   * @param directory ends in `/`.
   */
  names(directory: string, signal: AbortSignal): Promise<ReadonlySet<string>>;
  /** The objects and directories right below `prefix`, and what is neither, in the same order. */
  listDirectory(prefix: string, signal: AbortSignal): AsyncIterable<ListedObject | ListedDirectory>;
  /** Writes a small object in one go. */
  write(
    key: string,
    body: Buffer,
    info: ObjectInfo,
    mode: WriteMode | OverVersion,
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
  /** Whether a body of that size is known to be written in parts, and so to hold a part for as long as it comes. */
  isInParts(expectedBytes: number | undefined): boolean;
  /** Proves that the archive can be reached with the rights needed to look up an object. */
  check(signal: AbortSignal): Promise<void>;
  /** Releases connections and temporary files. */
  close(): Promise<void>;
}

/** How a store turns the errors of its library into those an `ArchiveStore` throws. */
export type Translate = (error: unknown) => unknown;

/**
 * Runs `work` and lets out only what the interface promises: the signal's own reason after an abort, what the
 * body threw as it is, everything else translated.
 */
export async function guarded<Result>(
  translate: Translate,
  signal: AbortSignal,
  work: () => Promise<Result>,
  source?: BodyReader,
): Promise<Result> {
  try {
    signal.throwIfAborted();
    return await work();
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw source?.failed ? error : translate(error);
  }
}
/** The versions of objects: what a bucket keeps under a key beside its newest object, and what protects it. */

/**
 * One version of an object, or the mark that it was deleted. A directory and a bucket without versions have one each.
 */
export interface KeptVersion {
  /** Relative, like those that objects are written under. */
  readonly key: string;
  /** Left out where the store keeps no versions. */
  readonly versionId?: string;
  readonly bytes: number;
  /** A delete marker: it has no bytes, and nothing protects it. */
  readonly isDeleteMarker: boolean;
}

/** Why a version can't be deleted: a legal hold, which ends when it is released, or retention until a time. */
export type Protection =
  | { readonly kind: 'hold' }
  | { readonly kind: 'retention'; readonly until: Date; readonly mode: string };

/**
 * Lists and deletes versions. This is the one part of a store that removes something from the archive, and only
 * the erasure of a session (and taking off a hold) uses it.
 *
 * All methods throw `VoicemailError` as `ArchiveStore` does.
 */
export interface StoredVersions {
  /**
   * All versions and delete markers of objects whose keys begin with `prefix`.
   * @param prefix whole segments: it ends in `/`.
   */
  list(prefix: string, signal: AbortSignal): AsyncIterable<KeptVersion>;
  /**
   * What protects a version. `unsupported`: the archive has no Object Lock, so that nothing in it is protected.
   */
  protection(version: KeptVersion, signal: AbortSignal): Promise<Protection | 'none' | 'unsupported'>;
  /**
   * Deletes one version for good; what is not there counts as deleted.
   * @throws VoicemailError `ARCHIVE_DENIED` where a right is missing, or where it is protected.
   */
  delete(version: KeptVersion, signal: AbortSignal): Promise<void>;
  /**
   * Hides an object: as if there were none under its key. In a bucket with versions the object itself stays, under a
   * delete marker; elsewhere it is deleted.
   */
  hide(key: string, signal: AbortSignal): Promise<void>;
  /**
   * Puts a legal hold on a version, or takes it off.
   * @returns whether there is such a thing: not in a directory, nor in a bucket without Object Lock.
   */
  setLegalHold(version: KeptVersion, on: boolean, signal: AbortSignal): Promise<boolean>;
  /** Aborts uploads in progress below `prefix`, with the parts that they have stored. @returns how many. */
  abortUploads(prefix: string, signal: AbortSignal): Promise<number>;
}
