/** Sessions put into an archive directly, as the worker would have left them. */

import type { SessionRef } from '../../src/domain/session.ts';
import {
  buildManifest,
  buildTranscript,
  type Manifest,
  type ManifestRecording,
  type ManifestTranscript,
  serialize,
} from '../../src/storage/documents.ts';
import { manifestKey, sessionPrefix, transcriptKey } from '../../src/storage/layout.ts';
import type { ArchiveStore } from '../../src/storage/store.ts';
import { flac, wavOf } from './audio.ts';
import { sha256 } from './storage-bodies.ts';

const never = new AbortController().signal;
const OCTETS = { contentType: 'application/octet-stream' };

/** An archived session, and where its objects lie (relative keys). */
export interface StoredSession {
  readonly session: SessionRef;
  readonly manifest: Manifest;
  readonly manifestKey: string;
  readonly transcriptKey: string;
  /** A WAV and a FLAC. */
  readonly recordingKeys: readonly [string, string];
}

/** Writes an object past everything that would keep it from being written. */
export async function put(store: ArchiveStore, key: string, body: Buffer | string): Promise<void> {
  await store.write(key, Buffer.from(body), OCTETS, 'replace', never);
}

/** Archives a session of two recordings and, by default, a transcript. */
export async function archiveDirectly(
  store: ArchiveStore,
  session: SessionRef,
  { withTranscript = true } = {},
): Promise<StoredSession> {
  const prefix = sessionPrefix(session);
  const recordings = [
    await archiveRecording(store, `${prefix}one.wav`, wavOf(3_000), 'wav'),
    await archiveRecording(store, `${prefix}two.flac`, flac(2), 'flac'),
  ] as const;
  const transcript: ManifestTranscript = withTranscript
    ? await archiveTranscript(store, session)
    : { state: 'pending' };
  const archivedAt = new Date(Date.UTC(2026, 4, 3));
  const manifest = buildManifest({ session, archivedAt, recordings, transcript });
  await put(store, manifestKey(session), serialize(manifest));
  return {
    session,
    manifest,
    manifestKey: manifestKey(session),
    transcriptKey: transcriptKey(session),
    recordingKeys: [`${prefix}one.wav`, `${prefix}two.flac`],
  };
}

async function archiveRecording(
  store: ArchiveStore,
  key: string,
  body: Buffer,
  container: string,
): Promise<ManifestRecording> {
  await put(store, key, body);
  return {
    key: store.fullKey(key),
    fileName: key.slice(key.lastIndexOf('/') + 1),
    bytes: body.length,
    sha256: sha256(body),
    contentType: `audio/${container}`,
    audio: { container },
    source: { host: 'media.example', path: '/one' },
    downloadedAt: '2026-05-03T00:00:00.000Z',
  };
}

async function archiveTranscript(store: ArchiveStore, session: SessionRef): Promise<ManifestTranscript> {
  const body = serialize(buildTranscript(session, [{ _id: 'm-1', lang: 'en', components: [] }]));
  const key = transcriptKey(session);
  await put(store, key, body);
  return {
    state: 'archived',
    key: store.fullKey(key),
    bytes: body.length,
    sha256: sha256(body),
    messages: 1,
  };
}
