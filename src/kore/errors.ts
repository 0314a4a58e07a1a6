import { VoicemailError } from '../domain/errors.ts';
import { isObject } from '../util/json.ts';
import { redact } from '../util/redact.ts';
import { header, isSuccess, type KoreAnswer } from './transport.ts';

/** What Kore's two error envelopes hold: `{errors: [{msg, code}]}` and `{code, message}`. */
interface Envelope {
  /** Kore's words, not cleaned. */
  readonly text: string;
  /** An HTTP status or a number of Kore's own, such as 4002. */
  readonly code: number | undefined;
  /** Whether the body is an error and nothing else, and not an answer that also carries a message. */
  readonly isError: boolean;
}

/** Texts that tell a fault of the credentials, whatever the status they come with. */
const CREDENTIAL_TEXT = /invalid jwt token|permission denied|invalid sdk credentials/i;

/** What was asked for, as far as it makes a difference to what a refusal means. */
export interface Asked {
  /** What the Kore app has to be allowed. */
  readonly scope: string;
  /** What a 404 says. */
  readonly notFound: { readonly code: 'SESSION_NOT_FOUND' | 'KORE_BAD_RESPONSE'; readonly message: string };
  /** What to check when Kore does not understand the request. */
  readonly check: string;
}

/** A session's voicemail. */
const VOICEMAIL: Asked = {
  scope: 'SmartAssist Voicemail',
  notFound: { code: 'SESSION_NOT_FOUND', message: 'Kore knows no such session of this bot' },
  check: 'the session id and the bot id',
};

/** What to check for each of Kore's texts; the API itself answers 401 to all of these faults. */
function credentialHint(text: string, scope: string): string {
  if (/scope|permission denied/i.test(text)) {
    return `give the Kore app the scope "${scope}" and publish it, as scopes take effect only then`;
  }
  if (/jwt|token/i.test(text)) return "check KORE_CLIENT_ID, KORE_CLIENT_SECRET and this machine's clock";
  if (/credentials/i.test(text)) {
    return 'check that the bot id is right and that the Kore app belongs to that bot';
  }
  return `check KORE_CLIENT_ID, KORE_CLIENT_SECRET, the bot id, and that the Kore app is published with the scope "${scope}"`;
}

/**
 * What an answer of Kore's API refuses, or `undefined` when it refuses nothing. Every status other than 2xx is
 * a refusal; a 2xx is one when its body is an error envelope, or tells in words that a limit is reached or the
 * credentials are wrong.
 *
 * Not to be asked about a 2xx whose body holds what was asked for: its texts may be a caller's.
 *
 * @param body the parsed body, `undefined` where it is no JSON.
 * @param now milliseconds since 1970, against which a date in `Retry-After` is measured.
 * @param asked what was asked for; a session's voicemail if not given.
 */
export function refusal(
  answer: KoreAnswer,
  body: unknown,
  now: number,
  asked: Asked = VOICEMAIL,
): VoicemailError | undefined {
  const envelope = readEnvelope(answer, body);
  const { text, code } = envelope;
  const status = isSuccess(answer) ? httpStatus(code) : answer.status;
  const said = `${sayStatus(answer, code)}${text === '' ? '' : `: "${cleanText(text)}"`}`;

  if (status === 429 || tellsLimit(text)) {
    const waitMs = limitWaitMs(answer, text, now);
    const message = `Kore's rate limit is reached (${said}); calling again in ${Math.ceil(waitMs / 1000)} s`;
    return new VoicemailError('KORE_RATE_LIMITED', message, { retryAfterMs: waitMs });
  }
  if (status !== undefined && (status >= 500 || status === 408 || status === 425)) {
    const waitMs = retryAfterMs(answer, now);
    const options = waitMs === undefined ? {} : { retryAfterMs: waitMs };
    return new VoicemailError('KORE_UNAVAILABLE', `Kore is not available just now (${said})`, options);
  }
  if (status === 401 || status === 403 || CREDENTIAL_TEXT.test(text)) {
    const hint = credentialHint(text, asked.scope);
    return new VoicemailError('KORE_UNAUTHORIZED', `Kore refused the credentials (${said})`, { hint });
  }
  if (status === 404) {
    const { code: notFound, message } = asked.notFound;
    return new VoicemailError(notFound, `${message} (${said})`, { retryable: false });
  }
  if (status === 400 || status === 412 || status === 422) {
    return new VoicemailError('KORE_BAD_RESPONSE', `Kore refused the request (${said})`, {
      retryable: false,
      hint: `check ${asked.check}`,
    });
  }
  if (status !== undefined && status < 400) {
    return new VoicemailError('KORE_BAD_RESPONSE', `Kore redirected the call ${sayWhere(answer)}(${said})`, {
      hint: 'check KORE_HOST: redirects are not followed',
    });
  }
  if (status !== undefined || envelope.isError) {
    return new VoicemailError('KORE_BAD_RESPONSE', `Kore answered with an error (${said})`);
  }
  return undefined;
}

function readEnvelope(answer: KoreAnswer, body: unknown): Envelope {
  if (body === undefined) return { text: plainText(answer), code: undefined, isError: false };
  if (typeof body === 'string') return { text: body, code: undefined, isError: true };
  if (!isObject(body)) return { text: '', code: undefined, isError: false };

  if (Array.isArray(body.errors) && body.errors.length > 0) {
    const errors: unknown[] = body.errors;
    const text = errors
      .map(errorText)
      .filter((part) => part !== '')
      .join('; ');
    const codes = errors.map((error) => (isObject(error) ? toCode(error.code) : undefined));
    return { text, code: codes.find((code) => code !== undefined), isError: true };
  }
  const text = errorText(body) || errorText(body.error);
  const code = toCode(body.code) ?? toCode(body.status);
  const isOtherwiseAnAnswer = typeof body.status === 'string' && code === undefined;
  const saysSuccess = code !== undefined && code >= 200 && code < 300;
  return { text, code, isError: (text !== '' || code !== undefined) && !isOtherwiseAnAnswer && !saysSuccess };
}

/** The words of one error, which is an object with `msg` or `message`, or the words themselves. */
function errorText(error: unknown): string {
  if (typeof error === 'string') return error;
  if (!isObject(error)) return '';
  return [error.msg, error.message].find((text) => typeof text === 'string') ?? '';
}

/**
 * A body that is no JSON, where it looks like words. Cut-off JSON is left out, as it may hold signed URLs and
 * callers' words, and so is markup.
 */
function plainText(answer: KoreAnswer): string {
  const text = answer.body.trimStart().slice(0, 1000);
  return /^\p{L}/u.test(text) ? text : '';
}

function toCode(value: unknown): number | undefined {
  if (typeof value === 'number' && Number.isInteger(value)) return value;
  return typeof value === 'string' && /^\d{3,6}$/.test(value) ? Number(value) : undefined;
}

function httpStatus(code: number | undefined): number | undefined {
  return code !== undefined && code >= 400 && code <= 599 ? code : undefined;
}

function sayStatus(answer: KoreAnswer, code: number | undefined): string {
  return code === undefined || code === answer.status
    ? `status ${answer.status}`
    : `status ${answer.status}, code ${code}`;
}

/** Where a redirect leads, without path and query. */
function sayWhere(answer: KoreAnswer): string {
  const location = header(answer, 'location') ?? '';
  return URL.canParse(location) ? `to ${cleanText(new URL(location).host)} ` : '';
}

const SECOND_MS = 1000;
const DEFAULT_WAIT_MS = 60 * SECOND_MS;
const HOURLY_WAIT_MS = 15 * 60 * SECOND_MS;
/** A `Retry-After` of 0 would make the whole fleet spin. */
const MIN_WAIT_MS = SECOND_MS;
/** A `Retry-After` beyond this is a mistake: Kore's longest limit is by the hour. */
const MAX_WAIT_MS = 24 * 60 * 60 * SECOND_MS;

/**
 * Kore's texts, as its documentation quotes them: "You've exceeded the per-minute rate limit. ...", "You've
 * exceeded the hourly rate limit. ...", "Rate limit for this API has been reached. ...".
 */
const LIMIT_TEXT = /\brate limit\b|\btoo many requests\b/i;
const HOURLY_TEXT = /\bhourly\b/i;

/** Whether an error text tells that too many calls were made. Only for texts that Kore wrote, never callers. */
function tellsLimit(text: string): boolean {
  return LIMIT_TEXT.test(text);
}

/**
 * How long to leave Kore alone after it said that a limit is reached, in milliseconds: what `Retry-After`
 * says, else a minute, and longer where the text speaks of the hourly limit.
 */
function limitWaitMs(answer: KoreAnswer, text: string, now: number): number {
  return retryAfterMs(answer, now) ?? (HOURLY_TEXT.test(text) ? HOURLY_WAIT_MS : DEFAULT_WAIT_MS);
}

/**
 * `Retry-After` in milliseconds from now, whether it came as seconds or as a date; between a second and a
 * day. `undefined` when there is none, or nothing that can be read.
 */
function retryAfterMs(answer: KoreAnswer, now: number): number | undefined {
  const text = header(answer, 'retry-after')?.trim();
  if (text === undefined || text === '') return undefined;
  if (/^\d+(\.\d+)?$/.test(text)) return clamp(Number(text) * SECOND_MS);
  // A date has letters; Date.parse would take almost any number for one.
  const date = /^[A-Za-z]/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(date)) return undefined;
  // Measured against the server's own clock where it tells it, as ours may be off.
  const serverNow = Date.parse(header(answer, 'date') ?? '');
  return clamp(date - (Number.isNaN(serverNow) ? now : serverNow));
}

function clamp(milliseconds: number): number {
  return Math.min(Math.max(Math.ceil(milliseconds), MIN_WAIT_MS), MAX_WAIT_MS);
}

/** How much of a text is looked at: enough for any error message, too little to cost anything. */
const MAX_INPUT_CHARACTERS = 4000;
const MAX_CHARACTERS = 200;

/** Everything that isn't a letter, mark, number, punctuation or symbol: controls, bidi overrides, all spaces. */
const UNPRINTABLE = /[^\p{L}\p{M}\p{N}\p{P}\p{S}]+/gu;

/**
 * Text from Kore made fit for an error message: on one line, printable, without secrets, and short.
 *
 * @param maxCharacters longer texts are cut and end in `…`.
 */
export function cleanText(text: string, maxCharacters: number = MAX_CHARACTERS): string {
  // Redacted before it is cut: half a token would not be recognised as one.
  const clean = redact(text.slice(0, MAX_INPUT_CHARACTERS).replace(UNPRINTABLE, ' ').trim());
  const characters = Array.from(clean);
  return characters.length <= maxCharacters ? clean : `${characters.slice(0, maxCharacters - 1).join('')}…`;
}
