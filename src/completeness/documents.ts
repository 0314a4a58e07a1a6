/** The documents of a day in the archive. Both have a part for each bot, as several bots may share an archive. */

import { z } from 'zod';
import { type DayReport, INCOMPLETE_REASONS } from '../domain/completeness.ts';
import { isVoicemailError, VoicemailError } from '../domain/errors.ts';
import {
  completenessListedKey,
  completenessReportKey,
  isTombstoneName,
  MANIFEST_NAME,
  PARTIAL_MANIFEST_NAME,
  readSessionKey,
  withoutVoicemailPrefix,
} from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';
import { parseJson } from '../util/json.ts';
import { VERSION } from '../util/process.ts';

const SCHEMA_VERSION = 1;
const Count = z.int().nonnegative();

/** A report as it is stored and returned. */
export const DayReportSchema = z.object({
  date: z.iso.date(),
  botId: z.string(),
  complete: z.boolean(),
  reasons: z.array(z.enum(INCOMPLETE_REASONS)).readonly(),
  listed: Count,
  archived: Count,
  transcriptPending: Count,
  partial: Count,
  waiting: Count,
  failed: Count,
  failedByCode: z.record(z.string(), Count),
  withoutVoicemail: Count,
  erased: Count,
  unknown: Count,
  missing: Count,
  archivedUnlisted: Count,
  atRisk: Count,
  hoursLeft: z.number().nonnegative().exactOptional(),
  queued: Count,
  computedAt: z.string(),
  basis: z
    .object({
      source: z.enum(['calls', 'sessions']),
      from: z.string(),
      to: z.string(),
      windows: Count,
      pages: Count,
      rows: Count,
      withFlag: Count,
      startedAt: z.string(),
    })
    .exactOptional(),
  error: z.object({ code: z.string(), message: z.string() }).exactOptional(),
}) satisfies z.ZodType<DayReport>;

const ReportDocument = z.object({ bots: z.record(z.string(), DayReportSchema) });
const ListedPart = z.object({
  /** Unix milliseconds. */
  coveredTo: z.number(),
  /** By session id: whether it has a voicemail; `null` where the listing did not say. */
  sessions: z.record(z.string(), z.boolean().nullable()),
});
const ListedDocument = z.object({ bots: z.record(z.string(), ListedPart) });

/** What Kore has listed of a bot's day in all runs so far. */
export type ListedBefore = z.infer<typeof ListedPart>;

type Archive = Pick<ArchiveStore, 'read' | 'readVersion' | 'write'>;

/** A listing of a busy day has tens of thousands of ids. */
const MAX_BYTES = 64 * 1024 * 1024;
const MAX_TRIES = 10;

/** The last report of a bot's day, or `undefined` where there is none that can be read. */
export async function readReport(
  botId: string,
  date: string,
  archive: Pick<Archive, 'read'>,
  signal: AbortSignal,
): Promise<DayReport | undefined> {
  return partOf(await archive.read(completenessReportKey(date), signal, MAX_BYTES), ReportDocument, botId);
}

/** Puts a report into its day's document, beside those of other bots. */
export async function writeReport(report: DayReport, archive: Archive, signal: AbortSignal): Promise<void> {
  const key = completenessReportKey(report.date);
  await rewritePart(key, ReportDocument, { botId: report.botId, date: report.date }, report, archive, signal);
}

/** What earlier runs found listed. */
export async function readListed(
  botId: string,
  date: string,
  archive: Pick<Archive, 'read'>,
  signal: AbortSignal,
): Promise<ListedBefore | undefined> {
  return partOf(await archive.read(completenessListedKey(date), signal, MAX_BYTES), ListedDocument, botId);
}

/** Remembers what is listed. */
export async function writeListed(
  botId: string,
  date: string,
  listed: ListedBefore,
  archive: Archive,
  signal: AbortSignal,
): Promise<void> {
  await rewritePart(completenessListedKey(date), ListedDocument, { botId, date }, listed, archive, signal);
}

interface Document<Part> {
  readonly bots: Readonly<Record<string, Part>>;
}

function partOf<Part>(
  bytes: Buffer | undefined,
  schema: z.ZodType<Document<Part>>,
  botId: string,
): Part | undefined {
  return parse(bytes, schema)?.bots[botId];
}

function parse<Part>(
  bytes: Buffer | undefined,
  schema: z.ZodType<Document<Part>>,
): Document<Part> | undefined {
  return bytes && schema.safeParse(parseJson(bytes.toString('utf8'))).data;
}

/** Replaces the part of one bot. A document that can't be read is replaced: it is computed again each day. */
async function rewritePart<Part>(
  key: string,
  schema: z.ZodType<Document<Part>>,
  { botId, date }: { readonly botId: string; readonly date: string },
  part: Part,
  archive: Archive,
  signal: AbortSignal,
): Promise<void> {
  for (let tries = 0; tries < MAX_TRIES; tries += 1) {
    const read = await archive.readVersion(key, signal, MAX_BYTES);
    const others = parse(read?.bytes, schema)?.bots;
    const bots = { ...others, [botId]: part };
    const document = { schemaVersion: SCHEMA_VERSION, date, archiver: { version: VERSION }, bots };
    const bytes = Buffer.from(`${JSON.stringify(document)}\n`);
    try {
      const mode = read ? { over: read.version } : ('absent' as const);
      await archive.write(key, bytes, { contentType: 'application/json' }, mode, signal);
      return;
    } catch (error) {
      // Another process's part was written meanwhile.
      if (!isVoicemailError(error, 'ARCHIVE_CONFLICT')) throw error;
    }
  }
  throw new VoicemailError('ARCHIVE_UNAVAILABLE', `${key} is changed by other processes all the time`);
}

/** What the archive has of a session. */
export type ArchivedState = 'archived' | 'partial' | 'erased';

/** What a tombstone says goes before what is left beside it, and a manifest before a partial one. */
const RANK: Readonly<Record<ArchivedState, number>> = { erased: 2, archived: 1, partial: 0 };

/**
 * What the archive has of a bot's sessions of a day, by their ids: found by listing the day, without reading anything.
 *
 * @param date `YYYY-MM-DD`, or `undated`.
 */
export async function readArchivedDay(
  botId: string,
  date: string,
  archive: Pick<ArchiveStore, 'list'>,
  signal: AbortSignal,
): Promise<Map<string, ArchivedState>> {
  const states = new Map<string, ArchivedState>();
  for await (const { key } of archive.list(`bot_id=${botId}/date=${date}/`, signal)) {
    const place = readSessionKey(key);
    const state = place && stateOf(place.name);
    if (!place || !state) continue;
    const before = states.get(place.session.sessionId);
    if (before === undefined || RANK[state] > RANK[before]) states.set(place.session.sessionId, state);
  }
  return states;
}

function stateOf(name: string): ArchivedState | undefined {
  if (isTombstoneName(name)) return 'erased';
  if (name === MANIFEST_NAME) return 'archived';
  return name === PARTIAL_MANIFEST_NAME ? 'partial' : undefined;
}

/** Sessions that are recorded as without a voicemail, by Kore's answer. */
export async function readWithoutVoicemail(
  botId: string,
  date: string,
  archive: Pick<ArchiveStore, 'list'>,
  signal: AbortSignal,
): Promise<Set<string>> {
  const prefix = withoutVoicemailPrefix(botId, date);
  const ids = new Set<string>();
  for await (const { key } of archive.list(prefix, signal)) ids.add(key.slice(prefix.length));
  return ids;
}
