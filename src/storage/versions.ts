/** The versions of objects: what a bucket keeps under a key beside its newest object, and what protects it. */

/** One version of an object, or the mark that it was deleted. A directory and a bucket without versions have one each. */
export interface KeptVersion {
  /** Relative, like those that objects are written under. */
  readonly key: string;
  /** Left out where the store keeps no versions. */
  readonly versionId?: string;
  readonly bytes: number;
  /** A delete marker: it has no bytes, and nothing protects it. */
  readonly isDeleteMarker: boolean;
}

/** Why a version can't be deleted: a legal hold, which ends when somebody takes it off, or retention until a time. */
export type Protection =
  | { readonly kind: 'hold' }
  | { readonly kind: 'retention'; readonly until: Date; readonly mode: string };

/**
 * Looking at and deleting versions. This is the one part of a store that takes something out of the archive, and only
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
  /** Breaks off uploads under way below `prefix`, with the parts that they have stored. @returns how many. */
  abortUploads(prefix: string, signal: AbortSignal): Promise<number>;
}
