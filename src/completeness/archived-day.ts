import { withoutVoicemailPrefix } from '../storage/completeness-keys.ts';
import { isTombstoneName, MANIFEST_NAME, PARTIAL_MANIFEST_NAME, readSessionKey } from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';

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

/** Sessions of which it is noted that Kore was asked for them, and that they have no voicemail. */
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
