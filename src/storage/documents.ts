/**
 * The documents of a session: `transcript.json`, `manifest.json` and `manifest.partial.json`. Their shapes, how they
 * are made and how they are read.
 */

import { z } from 'zod';
import type { CallMetadata } from '../domain/call.ts';
import { VoicemailError } from '../domain/errors.ts';
import type { Integrity, TransferredRecording } from '../domain/recording.ts';
import type { SessionRef } from '../domain/session.ts';
import type { MissingRecordingView, RecordingView, SessionResult } from '../domain/views.ts';
import type { KoreRecording } from '../domain/voicemail.ts';
import { presentableFileName } from '../util/file-name.ts';
import { MAX_JSON_VALUES, parseJson } from '../util/json.ts';
import { VERSION } from '../util/process.ts';
import { manifestKey, partialManifestKey } from './layout.ts';
import type { ArchiveStore } from './store.ts';

/** The version of both documents that this program writes and reads. */
const SCHEMA_VERSION = 1;

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const Count = z.int().nonnegative();
const TranscriptSchema = z.looseObject({
  schemaVersion: z.literal(SCHEMA_VERSION),
  sessionId: z.string(),
  botId: z.string(),
  language: z.string().nullable(),
  text: z.string(),
  messages: z.array(
    z.looseObject({
      id: z.string().nullable(),
      text: z.string().nullable(),
      language: z.string().nullable(),
      createdAt: z.string().nullable(),
      authorId: z.string().nullable(),
      authorType: z.string().nullable(),
    }),
  ),
  /** As received: mostly documents, but Kore has sent texts and nulls as well. */
  source: z.array(z.unknown()),
});

/** Manifests of versions before 1.1 say nothing of it. */
const IntegritySchema = z.looseObject({
  state: z.enum(['verified', 'unverified', 'suspect']),
  notes: z.array(z.string()),
  end: z.enum(['missing', 'unconfirmed']).optional(),
});

const ManifestRecordingSchema = z.looseObject({
  key: z.string(),
  fileName: z.string(),
  bytes: Count,
  sha256: Sha256,
  contentType: z.string(),
  audio: z
    .looseObject({
      container: z.string(),
      codec: z.string().optional(),
      sampleRate: z.number().optional(),
      channels: z.number().optional(),
      durationSeconds: z.number().optional(),
    })
    .optional(),
  integrity: IntegritySchema.optional(),
  source: z.looseObject({
    host: z.string(),
    path: z.string(),
    expiresAt: z.string().optional(),
    /** Other paths at which the very same bytes were listed. */
    alsoAt: z.array(z.string()).optional(),
  }),
  downloadedAt: z.string(),
  /** The key of the recording that has taken the place of this one, which stays. */
  supersededBy: z.string().optional(),
  /** The time of the forced request that downloaded it (ISO 8601). */
  forcedAt: z.string().optional(),
});

const ManifestTranscriptSchema = z.looseObject({
  state: z.enum(['archived', 'pending', 'absent']),
  key: z.string().optional(),
  bytes: Count.optional(),
  sha256: Sha256.optional(),
  messages: Count.optional(),
});

const ManifestSchema = z.looseObject({
  schemaVersion: z.literal(SCHEMA_VERSION),
  sessionId: z.string(),
  botId: z.string(),
  archivedAt: z.string(),
  recordings: z.array(ManifestRecordingSchema),
  transcript: ManifestTranscriptSchema,
  /** The known facts of the call, stored unchanged. */
  call: z.unknown().optional(),
  /** How often it was written; older manifests, which do not say, count as 1. */
  revision: z.int().positive().optional(),
  archiver: z.looseObject({ version: z.string() }),
  /** Put in when it is written, where there is a key: see `signing/`. */
  signature: z.unknown().optional(),
});

const MissingSchema = z.looseObject({
  fileName: z.string(),
  code: z.string(),
  message: z.string(),
  at: z.string(),
});

const PartialManifestSchema = ManifestSchema.extend({ missing: z.array(MissingSchema) });

/** `transcript.json`. */
export type Transcript = z.infer<typeof TranscriptSchema>;
/** One message of a transcript; `null` where Kore's document does not say. */
export type TranscriptMessage = Transcript['messages'][number];
/** `manifest.json`: the archive's record of one session, written last. Keys in it are full keys. */
export type Manifest = z.infer<typeof ManifestSchema>;
/**
 * `manifest.partial.json`: as a manifest, of a session of which some recordings are saved and some are not. The session
 * is not archived: what is missing is tried again, and a later `manifest.json` takes its place.
 */
export type PartialManifest = z.infer<typeof PartialManifestSchema>;
/** A recording that is not saved, and why. `at` is when that was first seen (ISO 8601). */
export type MissingRecording = PartialManifest['missing'][number];
/** One recording in a manifest. */
export type ManifestRecording = Manifest['recordings'][number];
/** What a manifest says of the transcript; all but `state` only when it is `archived`. */
export type ManifestTranscript = Manifest['transcript'];

/**
 * Makes `transcript.json` of what Kore lists as messages, which is kept whole in `source`: mostly documents, but any
 * JSON value may be among it.
 */
export function buildTranscript(session: SessionRef, documents: readonly unknown[]): Transcript {
  const messages = documents.map(readMessage);
  return {
    schemaVersion: SCHEMA_VERSION,
    sessionId: session.sessionId,
    botId: session.botId,
    language: messages[0]?.language ?? null,
    text: messages.flatMap((message) => message.text ?? []).join('\n'),
    messages,
    source: [...documents],
  };
}

/**
 * What a manifest says of one recording: never the query of its URL.
 * @param key the full key, as the store names it.
 */
export function buildManifestRecording(
  key: string,
  recording: KoreRecording,
  transferred: TransferredRecording,
): ManifestRecording {
  const { audio, source, integrity } = transferred;
  return {
    key,
    fileName: presentableFileName(recording),
    bytes: transferred.bytes,
    sha256: transferred.sha256,
    contentType: transferred.contentType,
    ...(audio && {
      audio: {
        container: audio.container,
        ...(audio.codec !== undefined && { codec: audio.codec }),
        ...(audio.sampleRate !== undefined && { sampleRate: audio.sampleRate }),
        ...(audio.channels !== undefined && { channels: audio.channels }),
        ...(audio.durationSeconds !== undefined && { durationSeconds: audio.durationSeconds }),
      },
    }),
    integrity: {
      state: integrity.state,
      notes: [...integrity.notes],
      ...(integrity.end !== undefined && { end: integrity.end }),
    },
    source: {
      host: source.host,
      path: source.path.replace(/[?#].*$/s, ''),
      ...(source.expiresAt !== undefined && { expiresAt: source.expiresAt }),
    },
    downloadedAt: transferred.downloadedAt,
  };
}

/** Everything a manifest is made of. */
export interface ManifestFacts {
  readonly session: SessionRef;
  readonly archivedAt: Date;
  readonly recordings: readonly ManifestRecording[];
  readonly transcript: ManifestTranscript;
  /** What is known of the call. */
  readonly call?: CallMetadata | undefined;
}

/** Makes `manifest.json` of a session that has none. */
export function buildManifest({
  session,
  archivedAt,
  recordings,
  transcript,
  call,
}: ManifestFacts): Manifest {
  return {
    schemaVersion: SCHEMA_VERSION,
    sessionId: session.sessionId,
    botId: session.botId,
    archivedAt: archivedAt.toISOString(),
    recordings: [...recordings],
    transcript,
    ...(call && { call }),
    revision: 1,
    archiver: { version: VERSION },
  };
}

/**
 * A manifest with something else in it, as the revision after `before`. Unknown members are kept; the
 * signature of `before` would not fit.
 */
export function nextRevision<Document extends Manifest>(before: Manifest, changed: Document): Document {
  return {
    ...changed,
    signature: undefined,
    revision: revisionOf(before) + 1,
    archiver: { ...changed.archiver, version: VERSION },
  };
}

/** How often a manifest was written. */
export function revisionOf({ revision }: Manifest): number {
  return revision ?? 1;
}

/**
 * The bytes of a document as they are stored: one line of JSON, since Spark and Athena read a record a line; the
 * same for the same document every time.
 */
export function serialize(document: Manifest | PartialManifest | Transcript): Buffer {
  return Buffer.from(`${JSON.stringify(document)}\n`);
}

/**
 * Reads a manifest back. Fields it does not know are kept, numbers keep their digits.
 * @param key where it lies, for the message.
 * @throws VoicemailError `ARCHIVE_CONFLICT` when it is not a manifest that this version understands.
 */
export function parseManifest(bytes: Buffer, key: string): Manifest {
  return parse(ManifestSchema, bytes, 'manifest', key);
}

/** The same for a partial manifest. */
export function parsePartialManifest(bytes: Buffer, key: string): PartialManifest {
  return parse(PartialManifestSchema, bytes, 'partial manifest', key);
}

/**
 * Reads a transcript back. Fields it does not know are kept, numbers keep their digits.
 * @param key where it lies, for the message.
 * @throws VoicemailError `ARCHIVE_CONFLICT` when it is not a transcript that this version understands.
 */
export function parseTranscript(bytes: Buffer, key: string): Transcript {
  return parse(TranscriptSchema, bytes, 'transcript', key);
}

/** A transcript holds Kore's documents, and their messages in a simple form. */
const MAX_VALUES = 4 * MAX_JSON_VALUES;

function parse<Document>(schema: z.ZodType<Document>, bytes: Buffer, what: string, key: string): Document {
  const value = parseJson(bytes.toString('utf8'), MAX_VALUES);
  if (value === undefined) throw unreadable(what, key, 'it is not JSON');
  const version = z.looseObject({ schemaVersion: z.unknown() }).safeParse(value).data?.schemaVersion;
  if (typeof version === 'number' && version !== SCHEMA_VERSION) {
    throw unreadable(what, key, `its schemaVersion is ${version}, this program knows ${SCHEMA_VERSION}`);
  }
  const result = schema.safeParse(value);
  if (!result.success) {
    const fields = result.error.issues.map((issue) => issue.path.join('.') || 'the whole').slice(0, 5);
    throw unreadable(what, key, `not as expected: ${fields.join(', ')}`);
  }
  return result.data;
}

function unreadable(what: string, key: string, why: string): VoicemailError {
  return new VoicemailError('ARCHIVE_CONFLICT', `the ${what} at ${key} can't be read (${why})`, {
    hint: 'move it out of the archive, or archive the session again with --force',
  });
}

/** What a message says, of whatever Kore lists as one. */
export function readMessage(received: unknown): TranscriptMessage {
  const [first, ...others] = Array.isArray(received) ? received.map(readMessage) : [];
  if (first) {
    // A list where a message is expected, of what could each be one.
    const texts = [first, ...others].flatMap(({ text }) => text ?? []);
    return { ...first, text: texts.length > 0 ? texts.join('\n') : null };
  }
  const document = asRecord(received);
  const author = asRecord(document.author);
  return {
    id: asString(document._id),
    text: asString(received) ?? messageText(document.components) ?? asString(document.text),
    language: asString(document.lang),
    createdAt: asString(document.createdOn),
    authorId: asString(author.id),
    authorType: asString(author.type),
  };
}

/** The text components of a message, or `null` when it has none. */
function messageText(components: unknown): string | null {
  if (!Array.isArray(components)) return null;
  const texts = components
    .map(asRecord)
    .filter((component) => component.cT === 'text')
    .flatMap((component) => asString(asRecord(component.data).text) ?? []);
  return texts.length > 0 ? texts.join('\n') : null;
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

function asString(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

/** A session's manifest, or `undefined` when it is not archived. */
export async function readManifest(
  session: SessionRef,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<Manifest | undefined> {
  const key = manifestKey(session);
  const bytes = await store.read(key, signal);
  return bytes && parseManifest(bytes, store.fullKey(key));
}

/**
 * A session's partial manifest, or `undefined` when it has none. It means something only where there is no manifest.
 */
export async function readPartialManifest(
  session: SessionRef,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<PartialManifest | undefined> {
  const key = partialManifestKey(session);
  const bytes = await store.read(key, signal);
  return bytes && parsePartialManifest(bytes, store.fullKey(key));
}

/** The recordings of a session, without those that better ones have taken the place of. */
export function currentRecordings({ recordings }: Pick<Manifest, 'recordings'>): ManifestRecording[] {
  return recordings.filter(({ supersededBy }) => supersededBy === undefined);
}

/** The result of an archived session, by its manifest. */
export function resultOf(manifest: Manifest, session: SessionRef, store: ArchiveStore): SessionResult {
  return {
    transcript: manifest.transcript.state,
    recordings: currentRecordings(manifest).map(viewOfRecording),
    manifestKey: store.fullKey(manifestKey(session)),
  };
}

/** A recording that is not saved, as views show it. */
export function viewOfMissing({ fileName, code, message, at }: MissingRecording): MissingRecordingView {
  return { fileName, code, message, at };
}

/** A recording of a manifest, as views show it. */
export function viewOfRecording(recording: ManifestRecording): RecordingView {
  const { key, bytes, sha256, contentType, audio, integrity } = recording;
  return {
    key,
    bytes,
    sha256,
    contentType,
    ...(audio?.durationSeconds !== undefined && { durationSeconds: audio.durationSeconds }),
    ...(integrity && { integrity: integrity.state satisfies Integrity['state'] }),
  };
}
