/** Deleting a session's objects with all their versions, and holding them. */

import type { SessionRef } from '../domain/session.ts';
import { isTombstoneName, sessionPrefix } from './layout.ts';
import type { ArchiveStore, KeptVersion, Protection } from './store.ts';

/** Something that may not be deleted. */
export interface ProtectedVersion {
  /** Full key. */
  readonly key: string;
  readonly protection: Protection;
}

/** What was deleted, or would be. */
export interface ErasedObjects {
  readonly objects: number;
  /** Delete markers among them. */
  readonly versions: number;
}

/** All versions of a session's objects, but for the record that it was erased. */
async function* sessionVersions(
  session: SessionRef,
  store: ArchiveStore,
  signal: AbortSignal,
): AsyncGenerator<KeptVersion> {
  const prefix = sessionPrefix(session);
  for await (const version of store.versions.list(prefix, signal)) {
    if (!isTombstoneName(version.key.slice(prefix.length))) yield version;
  }
}

/**
 * What deleting a session would come to, and what forbids it: of legal holds the first one, otherwise the retention
 * that lasts longest.
 */
export async function planErasure(
  session: SessionRef,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<ErasedObjects & { readonly forbidden: ProtectedVersion | undefined }> {
  const keys = new Set<string>();
  let versions = 0;
  let asks = true;
  let forbidden: ProtectedVersion | undefined;
  for await (const version of sessionVersions(session, store, signal)) {
    keys.add(version.key);
    versions += 1;
    // Once one version says that there is no Object Lock, none of the others has one.
    if (!asks || version.isDeleteMarker) continue;
    const protection = await store.versions.protection(version, signal);
    if (protection === 'unsupported') asks = false;
    else if (protection !== 'none' && isStronger(protection, forbidden?.protection)) {
      forbidden = { key: store.fullKey(version.key), protection };
    }
  }
  return { objects: keys.size, versions, forbidden };
}

function isStronger(one: Protection, other: Protection | undefined): boolean {
  if (other === undefined) return true;
  if (other.kind === 'hold') return false;
  return one.kind === 'hold' || one.until > other.until;
}

/**
 * Deletes everything of a session but the record that it was erased: uploads under way first, then every version.
 * May be repeated, and goes on where it was interrupted.
 */
export async function deleteSession(
  session: SessionRef,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<ErasedObjects> {
  await store.versions.abortUploads(sessionPrefix(session), signal);
  const keys = new Set<string>();
  let versions = 0;
  for await (const version of sessionVersions(session, store, signal)) {
    await store.versions.delete(version, signal);
    keys.add(version.key);
    versions += 1;
  }
  return { objects: keys.size, versions };
}

/**
 * Puts S3's own legal hold on all versions of a session's objects, or takes it off.
 * @returns how many; none where the archive has no such thing.
 */
export async function setLegalHolds(
  session: SessionRef,
  on: boolean,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<number> {
  let held = 0;
  for await (const version of sessionVersions(session, store, signal)) {
    if (version.isDeleteMarker) continue;
    if (!(await store.versions.setLegalHold(version, on, signal))) return held;
    held += 1;
  }
  return held;
}
