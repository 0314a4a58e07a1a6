import { VoicemailError } from '../domain/errors.ts';
import type {
  KoreDocument,
  KoreRecording,
  Readiness,
  RecordingWithoutUrl,
  Voicemail,
} from '../domain/voicemail.ts';
import { presentableFileName } from '../util/file-name.ts';
import { isObject, type JsonObject, parseJson } from '../util/json.ts';
import { printable } from '../util/text.ts';
import { notJson, refusal } from './errors.ts';
import { isSuccess, type KoreAnswer } from './transport.ts';

/**
 * Kore's documentation calls the list of recordings by the first name in its sample and by the second in its table;
 * the sibling API for call recordings uses `recording`. Names are compared without case, blanks, `_` and `-`.
 */
const RECORDING_MEMBERS = ['voicemailrecording', 'voicemailrecordings', 'recording', 'recordings'] as const;
const URL_MEMBERS = ['fileurl', 'url', 'recordingurl', 'mediaurl', 'downloadurl'] as const;
const NAME_MEMBERS = ['filename', 'name'] as const;
const TRANSCRIPT_MEMBERS = ['transcriptions', 'transcription'] as const;

/** Statuses of the sibling API that decide by themselves; all others are judged by what is listed. */
const DECISIVE_STATUSES: ReadonlyMap<string, Readiness> = new Map([
  ['call_in_progress', 'later'],
  ['media_in_progress', 'later'],
  ['media_unavailable', 'never'],
  ['failed', 'never'],
]);

const MAX_STATUS_CHARACTERS = 64;
/** The most recordings in an answer: a session has a few, and an answer with more is refused. */
const MAX_RECORDINGS = 1_000;
/** Longer ones no server takes. What a `data:` URI holds is bounded by the size of the answer. */
const MAX_URL_CHARACTERS = 16 * 1024;
/** The longest name in the DNS is 253 characters; a port and credentials may stand beside it. */
const MAX_AUTHORITY_CHARACTERS = 512;
/** Members with longer names are none that anybody looks for. */
const MAX_MEMBER_CHARACTERS = 64;

/**
 * What one HTTP answer of the voicemail API means. Pure: no calls, no logs.
 *
 * What is not as documented is read as far as it can be: nothing that is wrong with one recording, or with the
 * transcript, keeps another recording from being had.
 *
 * @param now milliseconds since 1970, against which a date in `Retry-After` is measured.
 * @throws VoicemailError `KORE_RATE_LIMITED` (with `retryAfterMs`), `KORE_UNAUTHORIZED`, `KORE_UNAVAILABLE`,
 * `SESSION_NOT_FOUND` or `KORE_BAD_RESPONSE`.
 */
export function interpretVoicemail(answer: KoreAnswer, now: number = Date.now()): Voicemail {
  const body = unwrapped(parseJson(answer.body));
  const listed = isObject(body) ? readRecordings(body) : NOTHING_LISTED;
  // What lists recordings is an answer, whatever else it says.
  if (!isSuccess(answer) || isEmpty(listed)) {
    const refused = refusal(answer, body, now);
    if (refused !== undefined) throw refused;
  }
  if (body === undefined) throw notJson(answer);
  if (!isObject(body)) {
    throw new VoicemailError(
      'KORE_BAD_RESPONSE',
      "Kore's answer has an unexpected shape: it is no JSON object",
    );
  }
  if (listed.recordings.length + listed.withoutUrl.length > MAX_RECORDINGS) {
    throw new VoicemailError(
      'KORE_BAD_RESPONSE',
      `Kore's answer has an unexpected shape: it lists more than ${MAX_RECORDINGS} recordings of one session`,
    );
  }
  return readVoicemail(body, listed);
}

/** The recordings of an answer, each once. */
type Listed = Pick<Voicemail, 'recordings' | 'withoutUrl' | 'ignoredEntries'>;

const NOTHING_LISTED: Listed = { recordings: [], withoutUrl: [] };

function isEmpty({ recordings, withoutUrl }: Listed): boolean {
  return recordings.length + withoutUrl.length === 0;
}

function readVoicemail(body: JsonObject, listed: Listed): Voicemail {
  const status = typeof body.status === 'string' ? body.status : '';
  const readiness = readinessOf(status, listed);
  return {
    readiness,
    status: printable(status, MAX_STATUS_CHARACTERS),
    // While the media is in progress a URL may lead to a part of it.
    ...(readiness === 'ready' ? listed : NOTHING_LISTED),
    transcriptions: documentsOf(member(body, TRANSCRIPT_MEMBERS)),
  };
}

function readinessOf(status: string, listed: Listed): Readiness {
  const decided = DECISIVE_STATUSES.get(status.trim().toLowerCase());
  // A recording with a usable URL is tried, although its media is called unavailable.
  if (decided !== undefined && (decided === 'later' || listed.recordings.length === 0)) return decided;
  return isEmpty(listed) ? 'later' : 'ready';
}

/** Any value is kept: it should be a list of objects. */
function documentsOf(transcriptions: unknown): readonly KoreDocument[] {
  if (Array.isArray(transcriptions)) return transcriptions;
  const isNothing = transcriptions === undefined || transcriptions === null || transcriptions === '';
  return isNothing || transcriptions === false ? [] : [transcriptions];
}

/** The recordings under all names of their list; one that is under several names is one recording. */
function readRecordings(body: JsonObject): Listed {
  const byUrl = new Map<string, KoreRecording>();
  // By place and name, which are the same for one recording in two lists.
  const usable = new Map<string, number>();
  const withoutUrl = new Map<string, RecordingWithoutUrl & { readonly list: number }>();
  const lists = recordingLists(body).map(entriesOf);
  // Where nothing else is listed, they may stand for recordings that are yet to come.
  const ignores = lists.some((entries) => !entries.every(saysNothing)) ? saysNothing : () => false;
  for (const [list, entries] of lists.entries()) {
    for (const [position, entry] of entries.entries()) {
      if (ignores(entry)) continue;
      // More than that are refused: no work is done for the rest.
      if (byUrl.size + withoutUrl.size > MAX_RECORDINGS) break;
      const { fileName: received, fileUrl } = readRecording(entry);
      if (byUrl.get(fileUrl)?.fileName === received) continue;
      const fileName = presentableFileName({ fileName: received, fileUrl });
      const key = `${position} ${fileName}`;
      const message = faultOf(fileUrl);
      if (message === undefined) {
        if (!byUrl.has(fileUrl)) byUrl.set(fileUrl, { fileName, fileUrl });
        usable.set(key, list);
        if ((withoutUrl.get(key)?.list ?? list) !== list) withoutUrl.delete(key);
      } else if ((usable.get(key) ?? list) === list && !withoutUrl.has(key)) {
        withoutUrl.set(key, { list, fileName, message });
      }
    }
  }
  const ignoredEntries = lists.flat().filter(ignores).length;
  return {
    recordings: [...byUrl.values()],
    withoutUrl: [...withoutUrl.values()].map(({ fileName, message }) => ({ fileName, message })),
    ...(ignoredEntries > 0 && { ignoredEntries }),
  };
}

/** Whether an entry of a list can't stand for a recording, such as `null`. */
function saysNothing(entry: unknown): boolean {
  return typeof entry === 'string' ? entry.trim() === '' : !isObject(entry);
}

/** Members in which gateways and newer versions of an API put the whole answer. */
const ENVELOPES = ['data', 'result', 'response', 'payload', 'body'] as const;

/** The answer itself, where it came inside something else: a list of one, or an envelope that lists no recordings. */
function unwrapped(received: unknown): unknown {
  const body = Array.isArray(received) && received.length === 1 ? received[0] : received;
  if (!isObject(body) || recordingLists(body).length > 0) return body;
  const inside = ENVELOPES.map((name) => (Object.hasOwn(body, name) ? body[name] : undefined));
  return inside.find((inner) => isObject(inner) && recordingLists(inner).length > 0) ?? body;
}

/** The value under each name of the list of recordings, the likeliest name first. */
function recordingLists(body: JsonObject): unknown[] {
  const lists = Object.keys(body)
    .map((name) => ({
      name,
      rank: (RECORDING_MEMBERS as readonly string[]).indexOf(folded(name)),
    }))
    .filter(({ rank }) => rank !== -1);
  return lists.sort((a, b) => a.rank - b.rank).map(({ name }) => body[name]);
}

/** The entries of a list of recordings, which may be a single one, or an object of them or of such lists. */
function entriesOf(list: unknown): readonly unknown[] {
  if (list === undefined || list === null || list === '' || list === false) return [];
  if (Array.isArray(list)) return list.flat();
  if (!isObject(list)) return [list];
  if (Object.keys(list).length === 0) return [];
  const isOne = member(list, URL_MEMBERS) !== undefined || member(list, NAME_MEMBERS) !== undefined;
  const inside = Object.values(list).flat().filter(isObject);
  return isOne || inside.length === 0 ? [list] : inside;
}

/** Name and URL of one entry, each empty where there is none. */
function readRecording(entry: unknown): KoreRecording {
  if (typeof entry === 'string') {
    const isUrl = /^\s*(?:[a-z][a-z0-9+.-]{0,20}:|\/\/)/i.test(entry);
    return isUrl ? { fileName: '', fileUrl: entry.trim() } : { fileName: entry, fileUrl: '' };
  }
  if (!isObject(entry)) return { fileName: '', fileUrl: '' };
  return {
    fileName: textOf(member(entry, NAME_MEMBERS)),
    fileUrl: textOf(member(entry, URL_MEMBERS)).trim(),
  };
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/** Why a recording can't be downloaded, or `undefined` where it can be tried. */
function faultOf(fileUrl: string): string | undefined {
  if (fileUrl === '') return 'Kore lists the recording without a URL';
  if (/^data:/i.test(fileUrl)) return undefined;
  if (fileUrl.length > MAX_URL_CHARACTERS) {
    return `Kore lists the recording with a URL of more than ${MAX_URL_CHARACTERS} characters`;
  }
  const authority = /^[a-z][a-z0-9+.-]{0,20}:\/\/([^/?#]*)/i.exec(fileUrl)?.[1] ?? '';
  return authority.length > MAX_AUTHORITY_CHARACTERS
    ? `Kore lists the recording with a host name of more than ${MAX_AUTHORITY_CHARACTERS} characters`
    : undefined;
}

/** The first member of any of the names that is there and not null; the likeliest name first. */
function member(object: JsonObject, names: readonly string[]): unknown {
  const found = new Map<string, unknown>();
  for (const name of Object.keys(object)) {
    const value = object[name];
    if (value === undefined || value === null || value === '') continue;
    const key = folded(name);
    if (names.includes(key) && !found.has(key)) found.set(key, value);
  }
  const name = names.find((candidate) => found.has(candidate));
  return name === undefined ? undefined : found.get(name);
}

/** A name without case, blanks, `_` and `-`. */
function folded(name: string): string {
  return name.length > MAX_MEMBER_CHARACTERS ? '' : name.toLowerCase().replace(/[\s_-]+/g, '');
}
