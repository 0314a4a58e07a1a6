import { z } from 'zod';
import { VoicemailError } from '../domain/errors.ts';
import type { KoreDocument, KoreRecording, Readiness, Voicemail } from '../domain/voicemail.ts';
import { isObject, parseJson } from '../util/json.ts';
import { cleanText, refusal } from './errors.ts';
import { header, isSuccess, type KoreAnswer } from './transport.ts';

/**
 * Kore's documentation calls the list of recordings by the first name in its sample and by the second in its
 * table; the sibling API for call recordings uses the third.
 */
const RECORDING_KEYS = ['voicemail recording', 'voicemail_recording', 'recording'] as const;

/** Statuses of the sibling API that decide by themselves; all others are judged by what is listed. */
const DECISIVE_STATUSES: ReadonlyMap<string, Readiness> = new Map([
  ['call_in_progress', 'later'],
  ['media_in_progress', 'later'],
  ['media_unavailable', 'never'],
  ['failed', 'never'],
]);

const MAX_STATUS_CHARACTERS = 64;

const list = z.array(z.unknown()).nullish();
/** By reference, so that every field stays as received, in its order. */
const document = z.custom<KoreDocument>(isObject);
const bodySchema = z.object({
  status: z.unknown().optional(),
  'voicemail recording': list,
  voicemail_recording: list,
  recording: list,
  transcriptions: z.array(document).nullish(),
});
const recordingSchema = z.object({ fileName: z.string().catch(''), fileUrl: z.string().regex(/\S/) });

/**
 * What one HTTP answer of the voicemail API means. Pure: no calls, no logs.
 *
 * @param now milliseconds since 1970, against which a date in `Retry-After` is measured.
 * @throws VoicemailError `KORE_RATE_LIMITED` (with `retryAfterMs`), `KORE_UNAUTHORIZED`, `KORE_UNAVAILABLE`,
 * `SESSION_NOT_FOUND` or `KORE_BAD_RESPONSE`.
 */
export function interpretVoicemail(answer: KoreAnswer, now: number = Date.now()): Voicemail {
  const body = parseJson(answer.body);
  // What lists recordings is an answer, whatever else it says.
  if (!isSuccess(answer) || !listsRecordings(body)) {
    const refused = refusal(answer, body, now);
    if (refused !== undefined) throw refused;
  }
  if (body === undefined) throw new VoicemailError('KORE_BAD_RESPONSE', sayNotJson(answer));
  return readVoicemail(body);
}

function listsRecordings(body: unknown): boolean {
  if (!isObject(body)) return false;
  return RECORDING_KEYS.some((key) => Array.isArray(body[key]) && body[key].length > 0);
}

function readVoicemail(body: unknown): Voicemail {
  const checked = bodySchema.safeParse(body);
  if (!checked.success) throw wrongShape(checked.error, []);
  const { status, transcriptions } = checked.data;

  const decided = readinessByStatus(status);
  // Before the media is ready an entry may well lack its URL, which is then no fault.
  const recordings = decided === undefined ? readRecordings(checked.data) : [];
  return {
    readiness: decided ?? (recordings.length > 0 ? 'ready' : 'later'),
    status: typeof status === 'string' ? cleanText(status, MAX_STATUS_CHARACTERS) : '',
    recordings,
    transcriptions: transcriptions ?? [],
  };
}

/** The recordings under all three names; one that stands under several of them is one recording. */
function readRecordings(body: z.infer<typeof bodySchema>): KoreRecording[] {
  const byUrl = new Map<string, KoreRecording>();
  for (const key of RECORDING_KEYS) {
    for (const [index, entry] of (body[key] ?? []).entries()) {
      const recording = recordingSchema.safeParse(entry);
      if (!recording.success) throw wrongShape(recording.error, [key, index]);
      const { fileUrl } = recording.data;
      if (!byUrl.has(fileUrl)) byUrl.set(fileUrl, recording.data);
    }
  }
  return [...byUrl.values()];
}

function readinessByStatus(status: unknown): Readiness | undefined {
  return typeof status === 'string' ? DECISIVE_STATUSES.get(status.trim().toLowerCase()) : undefined;
}

/** Names the place only: neither zod's error nor the value, which may be a signed URL or a caller's words. */
function wrongShape(error: z.ZodError, at: readonly PropertyKey[]): VoicemailError {
  const place = [...at, ...(error.issues[0]?.path ?? [])].map(String).join(' > ');
  const where = place === '' ? 'it is no JSON object' : `at ${place}`;
  return new VoicemailError('KORE_BAD_RESPONSE', `Kore's answer has an unexpected shape: ${where}`);
}

function sayNotJson(answer: KoreAnswer): string {
  const text = answer.body.trimStart();
  const what =
    text === ''
      ? 'is empty'
      : text.startsWith('<')
        ? 'is a page for browsers, not JSON'
        : 'is cut off or no JSON';
  const type = cleanText(header(answer, 'content-type') ?? 'no content type', MAX_STATUS_CHARACTERS);
  return `Kore's answer ${what} (status ${answer.status}, ${answer.body.length} characters, ${type})`;
}
