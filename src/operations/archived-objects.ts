import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { VoicemailError } from '../domain/errors.ts';
import type { ByteRange } from '../domain/requests.ts';
import type { SessionRef } from '../domain/session.ts';
import { currentRecordings, parseManifest } from '../storage/documents.ts';
import { manifestKey, sessionPrefix } from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';

export type { ByteRange } from '../domain/requests.ts';

/** An object of a session that can be read: a recording by its place in the session's view, counted from 0. */
export type ObjectName =
  | { readonly kind: 'recording'; readonly index: number }
  | { readonly kind: 'transcript' }
  | { readonly kind: 'manifest' };

/** An archived object, as its manifest describes it. */
export interface ArchivedObject {
  /** The last part of its key. */
  readonly fileName: string;
  readonly bytes: number;
  /** Lowercase hex. */
  readonly sha256: string;
  readonly contentType: string;
  /** Opens it, whole or in part. @throws VoicemailError when it is not there, or not what its manifest says. */
  open(range: ByteRange | undefined, signal: AbortSignal): Promise<Readable>;
}

/** What is archived, for reading. */
export interface ArchivedObjects {
  /**
   * An object of an archived session; `'unknown'` where the session is not archived, `'none'` where its manifest names
   * no such object.
   */
  find(
    session: SessionRef,
    name: ObjectName,
    signal: AbortSignal,
  ): Promise<ArchivedObject | 'unknown' | 'none'>;
}

/** Reads objects of an archive; only what a manifest names, and only in the session's own directory. */
export function createArchivedObjects(store: ArchiveStore): ArchivedObjects {
  return {
    async find(session, name, signal) {
      const key = manifestKey(session);
      const read = await store.readVersion(key, signal);
      if (!read) return 'unknown';
      const manifest = parseManifest(read.bytes, store.fullKey(key));
      if (name.kind === 'manifest') return manifestObject(read.bytes);
      const named =
        name.kind === 'recording'
          ? currentRecordings(manifest)[name.index]
          : transcriptOf(manifest.transcript);
      if (!named) return 'none';
      return storedObject(store, { ...named, key: ownKey(store, session, named.key) });
    },
  };
}

/** What a manifest says of an object. */
interface Named {
  readonly key: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly contentType: string;
}

function transcriptOf(transcript: {
  readonly key?: string | undefined;
  readonly bytes?: number | undefined;
  readonly sha256?: string | undefined;
}): Named | undefined {
  const { key, bytes, sha256 } = transcript;
  if (key === undefined || bytes === undefined || sha256 === undefined) return undefined;
  return { key, bytes, sha256, contentType: 'application/json' };
}

function manifestObject(bytes: Buffer): ArchivedObject {
  return {
    fileName: 'manifest.json',
    bytes: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    contentType: 'application/json',
    open: async (range) => Readable.from([range ? bytes.subarray(range.start, range.end + 1) : bytes]),
  };
}

function storedObject(store: ArchiveStore, { key, bytes, sha256, contentType }: Named): ArchivedObject {
  return {
    fileName: key.slice(key.lastIndexOf('/') + 1),
    bytes,
    sha256,
    contentType,
    async open(range, signal) {
      const opened = await store.open(key, range, signal);
      if (opened?.bytes === bytes) return opened.body;
      opened?.body.destroy();
      const what = opened ? `has ${opened.bytes} bytes where its manifest says ${bytes}` : 'is not there';
      throw new VoicemailError('ARCHIVE_CONFLICT', `the object at ${store.fullKey(key)} ${what}`, {
        hint: 'run verify on the session, with --repair while Kore still has it',
      });
    },
  };
}

/** The store's own key of an object that a manifest names. @throws VoicemailError for one of elsewhere. */
function ownKey(store: ArchiveStore, session: SessionRef, fullKey: string): string {
  const own = store.fullKey(manifestKey(session)).slice(0, -'manifest.json'.length);
  const fileName = fullKey.slice(own.length);
  if (fullKey.startsWith(own) && fileName !== '' && !fileName.includes('/')) {
    return sessionPrefix(session) + fileName;
  }
  throw new VoicemailError('ARCHIVE_CONFLICT', 'the manifest names an object outside of its own directory', {
    hint: 'run verify on the session',
  });
}
