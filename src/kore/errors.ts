import { VoicemailError } from '../domain/errors.ts';
import { isObject, MAX_JSON_VALUES, scanJson } from '../util/json.ts';
import { parseRetryAfter } from '../util/numbers.ts';
import { printable } from '../util/text.ts';
import { header, isSuccess, type KoreAnswer } from './transport.ts';

/** The error in an answer. */
interface Envelope {
  /**
   * Who may have said it. `kore`: one of Kore's two error envelopes, `{errors: [{msg, code}]}` and `{code, message}`;
   * `json`: other JSON with words, as gateways write it too; `none`: anything else, as proxies write it.
   */
  readonly shape: 'kore' | 'json' | 'none';
  /** Kore's words, not cleaned. */
  readonly text: string;
  /** An HTTP status or a number of Kore's own, such as 4002. */
  readonly code: number | undefined;
  /** Whether the body is an error and nothing else, and not an answer that also carries a message. */
  readonly isError: boolean;
}

/** Texts that say that there is no such session, with any status. */
const NO_SESSION_TEXT =
  /\b(?:session|voicemail|conversation)s?\b[^.;]{0,60}?\b(?:not found|(?:does not|doesn't|not) exist|unknown)|\bno such (?:session|voicemail)|\bunknown session/i;
/** Texts of a gateway that does not know the path: they say nothing of a session. */
const NO_ROUTE_TEXT = /\b(?:route|url|path|endpoint|resource|cannot get|cannot post)\b/i;
/** Texts that say that the request can never succeed. */
const BAD_ID_TEXT =
  /\b(?:bad|invalid|malformed|incorrect|wrong)\b.{0,40}\bid\b|\bid\b.{0,40}\b(?:invalid|malformed|incorrect|not valid|wrong)\b/i;
/** Texts that say that the credentials are wrong, with any status. */
const CREDENTIAL_TEXT = /invalid jwt token|permission denied|invalid sdk credentials/i;

/** The kind of request, where it changes the meaning of a refusal. */
export interface RequestContext {
  /** What the Kore app has to be allowed. */
  readonly scope: string;
  /** What a 404 says. */
  readonly notFound: { readonly code: 'SESSION_NOT_FOUND' | 'KORE_BAD_RESPONSE'; readonly message: string };
  /** What to check when Kore does not understand the request. */
  readonly check: string;
}

/** A session's voicemail. */
const VOICEMAIL: RequestContext = {
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
 * a refusal; a 2xx is one when its body is an error envelope, or says in words that a limit is reached or the
 * credentials are wrong.
 *
 * Only Kore's own words count as a word on the session or the credentials. Anything between here and Kore (a load
 * balancer, a proxy, a firewall) answers with HTML, with nothing, or with JSON of its own; that is
 * `KORE_UNAVAILABLE`, whatever its status. A 401 is believed unless it is a page for browsers, as it costs nothing
 * but a wait; a 403 needs JSON.
 *
 * Not for a good 2xx answer: its texts may be a caller's.
 *
 * @param body the parsed body, `undefined` where it is no JSON.
 * @param now milliseconds since 1970, against which a date in `Retry-After` is measured.
 * @param asked the kind of request; by default a session's voicemail.
 */
export function refusal(
  answer: KoreAnswer,
  body: unknown,
  now: number,
  asked: RequestContext = VOICEMAIL,
): VoicemailError | undefined {
  const envelope = readEnvelope(answer, body);
  const { text, code } = envelope;
  const status = isSuccess(answer) ? httpStatus(code) : answer.status;
  const said = `${sayStatus(answer, code)}${text === '' ? '' : `: "${printable(text)}"`}`;

  if (status === 429 || saysLimit(text)) {
    const waitMs = limitWaitMs(answer, text, now);
    const message = `Kore's rate limit is reached (${said}); calling again in ${Math.ceil(waitMs / 1000)} s`;
    return new VoicemailError('KORE_RATE_LIMITED', message, { retryAfterMs: waitMs });
  }
  if (status !== undefined && (status >= 500 || PASSING_STATUSES.has(status))) {
    return unavailable(`Kore is not available just now (${said})`, answer, now);
  }
  if (
    asked.notFound.code === 'SESSION_NOT_FOUND' &&
    envelope.shape !== 'none' &&
    NO_SESSION_TEXT.test(text)
  ) {
    return notFound(asked, said);
  }
  if (status === 401 ? !isMarkup(answer) : status === 403 && envelope.shape !== 'none') {
    return unauthorized(asked, text, said);
  }
  if (CREDENTIAL_TEXT.test(text)) return unauthorized(asked, text, said);
  if (status !== undefined && status < 400) {
    return new VoicemailError('KORE_BAD_RESPONSE', `Kore redirected the call ${sayWhere(answer)}(${said})`, {
      hint: 'check KORE_HOST: redirects are not followed',
    });
  }
  if (status === 404 && envelope.shape === 'kore' && !NO_ROUTE_TEXT.test(text)) return notFound(asked, said);
  if (status !== undefined && (envelope.shape === 'none' || status === 404)) {
    return unavailable(`Not Kore but something before it seems to have answered (${said})`, answer, now);
  }
  if (status === 400 || status === 412 || status === 422) {
    return new VoicemailError('KORE_BAD_RESPONSE', `Kore refused the request (${said})`, {
      retryable: !(envelope.shape === 'kore' && BAD_ID_TEXT.test(text)),
      hint: `check ${asked.check}`,
    });
  }
  if (status !== undefined || envelope.isError) {
    return new VoicemailError('KORE_BAD_RESPONSE', `Kore answered with an error (${said})`);
  }
  return undefined;
}

/** Timeouts, "too early", and proxies that ask for credentials or a log-in of their own. */
const PASSING_STATUSES: ReadonlySet<number> = new Set([407, 408, 425]);

function unavailable(message: string, answer: KoreAnswer, now: number): VoicemailError {
  const waitMs = retryAfterMs(answer, now);
  return new VoicemailError(
    'KORE_UNAVAILABLE',
    message,
    waitMs === undefined ? {} : { retryAfterMs: waitMs },
  );
}

function unauthorized({ scope }: RequestContext, text: string, said: string): VoicemailError {
  const hint = credentialHint(text, scope);
  return new VoicemailError('KORE_UNAUTHORIZED', `Kore refused the credentials (${said})`, { hint });
}

function notFound({ notFound: { code, message } }: RequestContext, said: string): VoicemailError {
  // The notification may come before the session is known everywhere at Kore.
  return new VoicemailError(code, `${message} (${said})`, { retryable: code === 'SESSION_NOT_FOUND' });
}

/**
 * The error for a 2xx without JSON. Broken JSON is a fault of this one answer; anything else was not said by Kore.
 */
export function notJson(answer: KoreAnswer): VoicemailError {
  const text = answer.body.slice(0, MAX_LOOKED_AT).trimStart();
  const type = printable(header(answer, 'content-type') ?? 'no content type', MAX_TYPE_CHARACTERS);
  const about = `(status ${answer.status}, ${answer.body.length} characters, ${type})`;
  if (/^[{[]/.test(text)) {
    const fault = scanJson(answer.body).isTooMuch
      ? `has more than ${MAX_JSON_VALUES} values`
      : 'is cut off or no JSON';
    return new VoicemailError('KORE_BAD_RESPONSE', `Kore's answer ${fault} ${about}`);
  }
  const what =
    text === '' ? 'is empty' : isMarkup(answer) ? 'is a page for browsers, not JSON' : 'is no JSON';
  return new VoicemailError('KORE_UNAVAILABLE', `Kore's answer ${what} ${about}`);
}

/** How much of a body is read to find out what it is. */
const MAX_LOOKED_AT = 4_000;
const MAX_TYPE_CHARACTERS = 64;

function isMarkup(answer: KoreAnswer): boolean {
  return answer.body.slice(0, MAX_LOOKED_AT).trimStart().startsWith('<');
}

function readEnvelope(answer: KoreAnswer, body: unknown): Envelope {
  if (body === undefined) return { ...NOTHING_SAID, text: plainText(answer) };
  if (typeof body === 'string') {
    return { shape: 'json', text: body.slice(0, MAX_LOOKED_AT), code: undefined, isError: true };
  }
  if (!isObject(body)) return NOTHING_SAID;

  if (Array.isArray(body.errors) && body.errors.length > 0) {
    const errors: unknown[] = body.errors.slice(0, MAX_ERRORS_READ);
    const text = errors
      .map(errorText)
      .filter((part) => part !== '')
      .join('; ');
    const codes = errors.map((error) => (isObject(error) ? toCode(error.code) : undefined));
    return { shape: 'kore', text, code: codes.find((code) => code !== undefined), isError: true };
  }
  const text = errorText(body) || errorText(body.error);
  const ownCode = toCode(body.code);
  const code = ownCode ?? toCode(body.status);
  const isOtherwiseAnAnswer = typeof body.status === 'string' && code === undefined;
  const saysSuccess = code !== undefined && code >= 200 && code < 300;
  const isError = (text !== '' || code !== undefined) && !isOtherwiseAnAnswer && !saysSuccess;
  const isKores = ownCode !== undefined && text !== '';
  return {
    shape: isKores ? 'kore' : text === '' && code === undefined ? 'none' : 'json',
    text,
    code,
    isError,
  };
}

const NOTHING_SAID: Envelope = { shape: 'none', text: '', code: undefined, isError: false };
/** Of many errors in an answer, the first few are enough. */
const MAX_ERRORS_READ = 10;

/** The words of one error, which is an object with `msg` or `message`, or the words themselves. */
function errorText(error: unknown): string {
  if (typeof error === 'string') return error.slice(0, MAX_LOOKED_AT);
  if (!isObject(error)) return '';
  const text = [error.msg, error.message].find((words) => typeof words === 'string') ?? '';
  return text.slice(0, MAX_LOOKED_AT);
}

/**
 * A body that is no JSON, where it looks like words. Cut-off JSON is left out, as it may hold signed URLs and
 * callers' words, and so is markup.
 */
function plainText(answer: KoreAnswer): string {
  const text = answer.body.slice(0, MAX_LOOKED_AT).trimStart();
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
  return URL.canParse(location) ? `to ${printable(new URL(location).host)} ` : '';
}

const SECOND_MS = 1000;
const DEFAULT_WAIT_MS = 60 * SECOND_MS;
const HOURLY_WAIT_MS = 15 * 60 * SECOND_MS;
/** A `Retry-After` of 0 would make the whole fleet spin. */
const MIN_WAIT_MS = SECOND_MS;

/**
 * Kore's texts, as its documentation quotes them: "You've exceeded the per-minute rate limit. ...", "You've
 * exceeded the hourly rate limit. ...", "Rate limit for this API has been reached. ...".
 */
const LIMIT_TEXT = /\brate limit\b|\btoo many requests\b/i;
const HOURLY_TEXT = /\bhourly\b/i;

/** Whether an error text says that there were too many calls. Only for texts that Kore wrote, never callers. */
function saysLimit(text: string): boolean {
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
 * `Retry-After` in milliseconds from now, whether it came as seconds or as a date; between a second and an hour.
 * `undefined` when there is none, or nothing that can be read.
 */
function retryAfterMs(answer: KoreAnswer, now: number): number | undefined {
  const text = header(answer, 'retry-after')?.trim() ?? '';
  // A date has letters; Date.parse would take almost any number for one.
  if (!/^(?:\d|[A-Za-z])/.test(text)) return undefined;
  // Measured by the server's clock where the answer has it, because this machine's clock may be wrong.
  const serverNow = Date.parse(header(answer, 'date') ?? '');
  const waitMs = parseRetryAfter(text, Number.isNaN(serverNow) ? now : serverNow);
  return waitMs === undefined ? undefined : Math.max(Math.ceil(waitMs), MIN_WAIT_MS);
}
