/**
 * The records that lie beside a session's objects: `tombstone.json`, that it was erased, and `hold.json`, that it is
 * under a legal hold.
 */

import { z } from 'zod';
import type { ErasureView, HoldView } from '../domain/custody.ts';
import { VoicemailError } from '../domain/errors.ts';
import type { SessionRef } from '../domain/session.ts';
import { parseJson } from '../util/json.ts';
import { holdKey, tombstoneKey } from './layout.ts';
import type { ArchiveStore, ObjectInfo } from './store.ts';

/** The version of both records that this program writes and reads. */
const SCHEMA_VERSION = 1;
const JSON_INFO: ObjectInfo = { contentType: 'application/json' };

const TombstoneSchema = z.looseObject({
  schemaVersion: z.literal(SCHEMA_VERSION),
  sessionId: z.string(),
  botId: z.string(),
  state: z.enum(['erasing', 'erased']),
  erasedAt: z.string(),
  reason: z.string().optional(),
});

const HoldSchema = z.looseObject({
  schemaVersion: z.literal(SCHEMA_VERSION),
  sessionId: z.string(),
  botId: z.string(),
  setAt: z.string(),
  reason: z.string().optional(),
});

/** Whether a session was erased, without a read of its record. One request. */
export async function isErased(
  session: SessionRef,
  store: Pick<ArchiveStore, 'read'>,
  signal: AbortSignal,
): Promise<boolean> {
  return (await store.read(tombstoneKey(session), signal)) !== undefined;
}

/**
 * That a session was erased; `undefined` when it was not.
 * @throws VoicemailError `ARCHIVE_CONFLICT` when what lies there can't be read; what the store throws.
 */
export async function readTombstone(
  session: SessionRef,
  store: Pick<ArchiveStore, 'read' | 'fullKey'>,
  signal: AbortSignal,
): Promise<ErasureView | undefined> {
  const key = tombstoneKey(session);
  const bytes = await store.read(key, signal);
  if (!bytes) return undefined;
  const { state, erasedAt, reason } = parse(TombstoneSchema, bytes, store.fullKey(key));
  const { sessionId, botId } = session;
  return { sessionId, botId, state, erasedAt, ...(reason !== undefined && { reason }) };
}

/** Writes the record that a session was erased, over the one that is there. */
export async function writeTombstone(
  { sessionId, botId, state, erasedAt, reason }: ErasureView,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<void> {
  const record = { schemaVersion: SCHEMA_VERSION, sessionId, botId, state, erasedAt, reason };
  await store.write(tombstoneKey({ sessionId, botId }), serialize(record), JSON_INFO, 'replace', signal);
}

/**
 * The legal hold on a session; `undefined` when there is none.
 * @throws as {@link readTombstone}.
 */
export async function readHold(
  session: SessionRef,
  store: Pick<ArchiveStore, 'read' | 'fullKey'>,
  signal: AbortSignal,
): Promise<HoldView | undefined> {
  const key = holdKey(session);
  const bytes = await store.read(key, signal);
  if (!bytes) return undefined;
  const { setAt, reason } = parse(HoldSchema, bytes, store.fullKey(key));
  const { sessionId, botId } = session;
  return { sessionId, botId, setAt, ...(reason !== undefined && { reason }) };
}

/** Writes the record of a legal hold. @throws VoicemailError `ARCHIVE_CONFLICT` when there is another one. */
export async function writeHold(
  { sessionId, botId, setAt, reason }: HoldView,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<void> {
  const record = { schemaVersion: SCHEMA_VERSION, sessionId, botId, setAt, reason };
  await store.write(holdKey({ sessionId, botId }), serialize(record), JSON_INFO, 'absent', signal);
}

function serialize(record: object): Buffer {
  return Buffer.from(`${JSON.stringify(record)}\n`);
}

function parse<Document>(schema: z.ZodType<Document>, bytes: Buffer, key: string): Document {
  const record = schema.safeParse(parseJson(bytes.toString('utf8')));
  if (record.success) return record.data;
  throw new VoicemailError('ARCHIVE_CONFLICT', `the record at ${key} can't be read`, {
    hint: 'look who wrote it; until it is put right, the session is neither erased nor archived',
  });
}
