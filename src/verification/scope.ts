import { DAY_MS } from '../domain/completeness.ts';
import { creationTime, type SessionRef } from '../domain/session.ts';
import { compareKeys, isProbeKey } from '../storage/keys.ts';
import {
  isRecordDirectory,
  readBotDirectory,
  readDateDirectory,
  sessionPrefix,
  UNDATED,
} from '../storage/layout.ts';
import type { ArchiveStore } from '../storage/store.ts';
import { isUnreadable, readWithRetries } from './check-object.ts';

/** What to verify. */
export type Scope =
  /** Single sessions. */
  | { readonly kind: 'sessions'; readonly sessions: readonly SessionRef[] }
  /**
   * All sessions, or those of a bot, or those whose ids say that they were created from `from` on and before `to`.
   * Without dates, also those that are undated and whatever else lies there.
   */
  | { readonly kind: 'archive'; readonly botId?: string; readonly from?: Date; readonly to?: Date };

/** A part of the archive that is listed in one go. */
export interface Unit {
  /**
   * `session`: the directory of a requested session; `partition`: of a date; `level`: only the objects right in a
   * directory; `foreign`: a directory that is none of the archive's; `closed`: one that may not be looked into.
   */
  readonly kind: 'session' | 'partition' | 'level' | 'foreign' | 'closed';
  /** The directory, with a `/` at its end; empty for the archive's own. No two units have the same. */
  readonly prefix: string;
  /** Why it is closed. */
  readonly fault?: string;
}

/**
 * The parts of the archive that a scope needs, in the order of their prefixes. Of an archive, only the names of bots
 * and dates are listed for it.
 *
 * @throws VoicemailError when the archive can't be listed; the signal's reason when aborted.
 */
export async function planUnits(scope: Scope, store: ArchiveStore, signal: AbortSignal): Promise<Unit[]> {
  const units =
    scope.kind === 'sessions'
      ? [...new Set(scope.sessions.map(sessionPrefix))].map((prefix): Unit => ({ kind: 'session', prefix }))
      : await planArchive(scope, store, signal);
  return units.sort((a, b) => compareKeys(a.prefix, b.prefix));
}

type ArchiveScope = Extract<Scope, { kind: 'archive' }>;

async function planArchive(scope: ArchiveScope, store: ArchiveStore, signal: AbortSignal): Promise<Unit[]> {
  if (scope.botId !== undefined) return planBot(`bot_id=${scope.botId}/`, scope, store, signal);
  const units: Unit[] = isDated(scope) ? [] : [{ kind: 'level', prefix: '' }];
  for (const directory of await directoriesIn('', store, signal)) {
    if (readBotDirectory(directory) !== undefined) {
      units.push(...(await planBot(directory, scope, store, signal)));
    } else if (!isDated(scope) && !isProbeKey(directory) && !isRecordDirectory(directory)) {
      units.push({ kind: 'foreign', prefix: directory });
    }
  }
  return units;
}

async function planBot(
  bot: string,
  scope: ArchiveScope,
  store: ArchiveStore,
  signal: AbortSignal,
): Promise<Unit[]> {
  const directories = await readWithRetries(store, () => directoriesIn(bot, store, signal), signal);
  if (isUnreadable(directories)) {
    return [{ kind: 'closed', prefix: bot, fault: directories.error.message }];
  }
  const units: Unit[] = isDated(scope) ? [] : [{ kind: 'level', prefix: bot }];
  for (const prefix of directories) {
    const date = readDateDirectory(prefix);
    if (date === undefined && !isDated(scope)) units.push({ kind: 'foreign', prefix });
    if (date !== undefined && mayContain(date, scope)) units.push({ kind: 'partition', prefix });
  }
  return units;
}

async function directoriesIn(prefix: string, store: ArchiveStore, signal: AbortSignal): Promise<string[]> {
  const directories: string[] = [];
  for await (const entry of store.listDirectory(prefix, signal)) {
    if ('directory' in entry) directories.push(entry.directory);
  }
  return directories;
}

function isDated({ from, to }: ArchiveScope): boolean {
  return from !== undefined || to !== undefined;
}

/** Whether sessions of a day may lie in the range. */
export function mayContain(date: string, scope: ArchiveScope): boolean {
  if (date === UNDATED) return !isDated(scope);
  const begin = Date.parse(date);
  const { from, to } = scope;
  return (
    (from === undefined || begin + DAY_MS > from.getTime()) && (to === undefined || begin < to.getTime())
  );
}

/** Whether a session of a partition that is listed belongs to the scope, by the time in its id. */
export function isInScope({ sessionId }: SessionRef, scope: Scope): boolean {
  if (scope.kind === 'sessions') return true;
  const created = creationTime(sessionId);
  // A session without a time is in the directory of a date by mistake, which must be reported.
  if (created === undefined) return true;
  const { from, to } = scope;
  return (from === undefined || created >= from) && (to === undefined || created < to);
}
