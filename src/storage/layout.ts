/**
 * Where things lie in the archive: pure functions from a session and what Kore says of it to relative keys.
 *
 * A key never depends on when or how often a session was archived, nor on the order in which Kore lists its
 * recordings, so that archiving again finds what is already there.
 */

import { VoicemailError } from '../domain/errors.ts';
import { creationTime, isValidId, type SessionRef } from '../domain/session.ts';
import type { KoreRecording } from '../domain/voicemail.ts';
import { presentableFileName } from '../util/file-name.ts';

/** Longest file name in an archive, leaving room below the 255 bytes of common file systems. */
const MAX_NAME_BYTES = 180;
/** How much of a name is read, half from its beginning and half from its end: work on a name is bounded. */
const MAX_RECEIVED_NAME = 1_024;
/** Longest ending, with its dot, that counts as an extension and survives shortening. */
const MAX_EXTENSION_BYTES = 16;

export const MANIFEST_NAME = 'manifest.json';
/** Of a session of which only some recordings are saved. */
export const PARTIAL_MANIFEST_NAME = 'manifest.partial.json';
const TRANSCRIPT_NAME = 'transcript.json';
/** What other commands keep beside a session: its legal hold, and that it was erased. */
const HOLD_NAME = 'hold.json';
const TOMBSTONE_NAME = 'tombstone.json';
/** Who did what: a directory beside those of bots. */
export const AUDIT_LOG_DIRECTORY = 'audit/';
/** Beside those of bots: what is kept of the archive as a whole, and of no single session. */
const RECORD_DIRECTORIES: ReadonlySet<string> = new Set([AUDIT_LOG_DIRECTORY, 'completeness/', 'digests/']);
const NAME_OF_LAST_RESORT = 'recording';
/** The date of sessions whose ids have none. */
export const UNDATED = 'undated';

/** Names that a recording may not take: the archive's own, and those that Windows keeps for devices. */
const RESERVED_NAME =
  /^(?:manifest\.json|manifest\.partial\.json|transcript\.json|hold\.json|tombstone\.json|(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?)$/i;

/** Characters that are not seen or that reorder what is seen. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Default_Ignorable_Code_Point}]/gu;
/** Whatever is neither a letter (with its marks) nor a digit nor one of `._-()+`. */
const NOT_ALLOWED = /[^\p{L}\p{M}\p{Nd}._\-()+]/gu;

/** `bot_id=…/date=YYYY-MM-DD/session_id=…/`, the date in UTC and `undated` where the id has none. */
export function sessionPrefix(session: SessionRef): string {
  for (const id of [session.botId, session.sessionId]) {
    if (!isValidId(id)) {
      throw new VoicemailError('INTERNAL', 'an id with characters that no id may have reached the archive', {
        retryable: false,
      });
    }
  }
  return `${datePrefix(session)}session_id=${session.sessionId}/`;
}

/** `bot_id=…/date=…/`: what all sessions of a bot that were created on one day begin with. */
export function datePrefix({ botId, sessionId }: SessionRef): string {
  const date = creationTime(sessionId)?.toISOString().slice(0, 'YYYY-MM-DD'.length) ?? UNDATED;
  return `bot_id=${botId}/date=${date}/`;
}

/** Where a key lies, if it lies in the directory of a session. */
export interface SessionPlace {
  /** With a `/` at its end. It is the session's own where it equals {@link sessionPrefix}. */
  readonly directory: string;
  readonly session: SessionRef;
  /** What follows the directory. */
  readonly name: string;
}

/** Reads a key back; `undefined` for one that lies in no session's directory. */
export function readSessionKey(key: string): SessionPlace | undefined {
  const [, directory = '', botId = '', sessionId = '', name = ''] =
    /^(bot_id=([^/]+)\/date=[^/]+\/session_id=([^/]+)\/)(.*)$/s.exec(key) ?? [];
  if (!isValidId(botId) || !isValidId(sessionId)) return undefined;
  return { directory, session: { botId, sessionId }, name };
}

/** Whether a directory of the archive holds records of the whole: the audit log, reports and digests by day. */
export function isRecordDirectory(directory: string): boolean {
  return RECORD_DIRECTORIES.has(directory);
}

/** The bot of a directory `bot_id=…/`; `undefined` for any other. */
export function readBotDirectory(directory: string): string | undefined {
  const botId = /^bot_id=([^/]+)\/$/.exec(directory)?.[1];
  return botId !== undefined && isValidId(botId) ? botId : undefined;
}

/** The date of a directory `bot_id=…/date=…/`, or `undated`; `undefined` for any other. */
export function readDateDirectory(directory: string): string | undefined {
  const date = /^bot_id=[^/]+\/date=([^/]+)\/$/.exec(directory)?.[1];
  if (date === undefined || date === UNDATED) return date;
  const time = /^\d{4}-\d{2}-\d{2}$/.test(date) ? new Date(date) : new Date(Number.NaN);
  // `2025-02-30` is understood by some parsers as another day.
  return !Number.isNaN(time.getTime()) && time.toISOString().startsWith(date) ? date : undefined;
}

/** Relative key of a session's manifest. */
export function manifestKey(session: SessionRef): string {
  return sessionPrefix(session) + MANIFEST_NAME;
}

/** Relative key of a session's partial manifest. */
export function partialManifestKey(session: SessionRef): string {
  return sessionPrefix(session) + PARTIAL_MANIFEST_NAME;
}

/** Whether a name in a session's directory is that of a document about the session which no manifest names. */
export function isCompanionName(name: string): boolean {
  return name === PARTIAL_MANIFEST_NAME || name === HOLD_NAME || name === TOMBSTONE_NAME;
}

/** Relative key of the record that a session is under a legal hold. */
export function holdKey(session: SessionRef): string {
  return sessionPrefix(session) + HOLD_NAME;
}

/** Whether a name in a session's directory means that the session is under a legal hold. */
export function isHoldName(name: string): boolean {
  return name === HOLD_NAME;
}

/** Relative key of the record that a session was erased. */
export function tombstoneKey(session: SessionRef): string {
  return sessionPrefix(session) + TOMBSTONE_NAME;
}

/** Whether a name in a session's directory means that the session was erased. */
export function isTombstoneName(name: string): boolean {
  return name === TOMBSTONE_NAME;
}

/** Relative key of a session's transcript. */
export function transcriptKey(session: SessionRef): string {
  return sessionPrefix(session) + TRANSCRIPT_NAME;
}

/**
 * Relative keys of a session's recordings, distinct (also where case makes no difference) and in the order
 * given. Of recordings with the same name, the one whose URL (without its query, which changes with each
 * answer) sorts first keeps it; the others get `-2`, `-3` and so on before the extension.
 *
 * @param taken relative keys that other recordings of the session have.
 * @example
 * recordingKeys([{ fileName: '../a b.wav', fileUrl: 'https://media.example/1.wav?e=1' }], session);
 * // ['bot_id=st-1/date=2025-02-11/session_id=67ab573f3685d1ba99540000/a_b.wav']
 */
export function recordingKeys(
  recordings: readonly KoreRecording[],
  session: SessionRef,
  taken: Iterable<string> = [],
): string[] {
  const prefix = sessionPrefix(session);
  const entries = recordings.map((recording, index) => {
    const name = recordingName(recording);
    return { index, name, folded: fold(name), place: urlWithoutQuery(recording.fileUrl) };
  });
  entries.sort((a, b) => compare(a.folded, b.folded) || compare(a.place, b.place) || a.index - b.index);
  const others = new Set(Array.from(taken, (key) => fold(key.slice(prefix.length))));
  // Every name's first claimant has it, before any number is given out: a recording that is really called
  // `a-2.wav` keeps that name whatever else is listed.
  const numbers = new NameNumbers([...others, ...entries.map(({ folded }) => folded)]);
  const names: string[] = [];
  let previous: string | undefined;
  for (const { index, name, folded } of entries) {
    names[index] = folded === previous || others.has(folded) ? numbers.next(name) : name;
    previous = folded;
  }
  return names.map((name) => prefix + name);
}

function recordingName(recording: KoreRecording): string {
  const clean =
    cleanName(presentableFileName(recording)) ||
    cleanName(decodedLastSegment(recording.fileUrl)) ||
    NAME_OF_LAST_RESORT;
  return RESERVED_NAME.test(clean) ? shortened(`recording-${clean}`, MAX_NAME_BYTES) : clean;
}

/** A file name safe on any file system and in any listing, or the empty string when nothing is left. */
function cleanName(name: string): string {
  const allowed = bounded(lastSegment(name))
    .replace(INVISIBLE, '')
    .normalize('NFC')
    .trim()
    .replace(NOT_ALLOWED, '_')
    .replace(/^[.\p{M}]+/u, '');
  return withoutTrailingDots(shortened(withoutTrailingDots(allowed), MAX_NAME_BYTES));
}

/** Windows drops trailing dots, which would make two names one. */
function withoutTrailingDots(name: string): string {
  let end = name.length;
  while (end > 0 && name[end - 1] === '.') end -= 1;
  return name.slice(0, end);
}

/** A text of which no more than that is worked on; longer ones lose their middle, and keep their extension. */
function bounded(text: string): string {
  if (text.length <= MAX_RECEIVED_NAME) return text;
  return text.slice(0, MAX_RECEIVED_NAME / 2) + text.slice(-MAX_RECEIVED_NAME / 2);
}

function lastSegment(path: string): string {
  return path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1);
}

function decodedLastSegment(url: string): string {
  // A recording that is given as its URL has no name in it.
  if (/^data:/i.test(url)) return '';
  return decoded(bounded(lastSegment(urlWithoutQuery(url))));
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a stray `%` is just another character
  }
}

/** Host and path, which stay the same when the URL is signed again. */
function urlWithoutQuery(url: string): string {
  return url.replace(/[?#].*$/s, '').replace(/^[a-z][a-z0-9+.-]*:\/\//i, '');
}

/** Names that differ only in case are one name on many file systems. */
function fold(name: string): string {
  return name.toUpperCase().toLowerCase();
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** Longest number that is appended to a name, with its `-`. */
const MAX_SUFFIX_BYTES = 8;

/** Gives out numbered names that are free. Work is linear in the number of names, however alike they are. */
class NameNumbers {
  readonly #taken: Set<string>;
  /** The last number given out, by the part of a name that is left whatever the number is. */
  readonly #last = new Map<string, number>();

  /** @param taken folded names. */
  constructor(taken: readonly string[]) {
    this.#taken = new Set(taken);
  }

  /** The first free name with a number before its extension; takes it. */
  next(name: string): string {
    const { stem, extension } = split(name);
    const room = MAX_NAME_BYTES - MAX_SUFFIX_BYTES - Buffer.byteLength(extension);
    const series = fold(truncated(stem, room) + extension);
    for (let number = (this.#last.get(series) ?? 1) + 1; ; number += 1) {
      const candidate = withSuffix(name, `-${number}`);
      const folded = fold(candidate);
      if (this.#taken.has(folded)) continue;
      this.#taken.add(folded);
      this.#last.set(series, number);
      return candidate;
    }
  }
}

function withSuffix(name: string, suffix: string): string {
  const { stem, extension } = split(name);
  return truncated(stem, MAX_NAME_BYTES - suffix.length - Buffer.byteLength(extension)) + suffix + extension;
}

function shortened(name: string, maxBytes: number): string {
  if (Buffer.byteLength(name) <= maxBytes) return name;
  const { stem, extension } = split(name);
  return truncated(stem, maxBytes - Buffer.byteLength(extension)) + extension;
}

function split(name: string): { stem: string; extension: string } {
  const dot = name.lastIndexOf('.');
  if (dot <= 0 || Buffer.byteLength(name.slice(dot)) > MAX_EXTENSION_BYTES)
    return { stem: name, extension: '' };
  return { stem: name.slice(0, dot), extension: name.slice(dot) };
}

/** The longest beginning of whole characters that fits. */
function truncated(text: string, maxBytes: number): string {
  let bytes = 0;
  let end = 0;
  for (const character of text) {
    bytes += Buffer.byteLength(character);
    if (bytes > maxBytes) break;
    end += character.length;
  }
  return text.slice(0, end);
}

/** Completeness reports lie here, with the notes that they are computed from. They are no sessions' directories. */
const COMPLETENESS_DIRECTORY = 'completeness/';

/** Relative key of the report of a day: `completeness/date=YYYY-MM-DD/report.json`. */
export function completenessReportKey(date: string): string {
  return `${COMPLETENESS_DIRECTORY}date=${date}/report.json`;
}

/** Relative key of what Kore has listed of a day so far: `completeness/date=YYYY-MM-DD/listed.json`. */
export function completenessListedKey(date: string): string {
  return `${COMPLETENESS_DIRECTORY}date=${date}/listed.json`;
}

/** What the notes of sessions without a voicemail begin with, for a bot and a day. */
export function withoutVoicemailPrefix(botId: string, date: string): string {
  return `${COMPLETENESS_DIRECTORY}date=${date}/without-voicemail/bot_id=${botId}/`;
}

/** Relative key of the record that a session has no voicemail, by Kore's answer. */
export function withoutVoicemailKey({ botId, sessionId }: SessionRef): string {
  const date = creationTime(sessionId)?.toISOString().slice(0, 'YYYY-MM-DD'.length) ?? UNDATED;
  return withoutVoicemailPrefix(botId, date) + sessionId;
}
