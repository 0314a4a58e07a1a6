import { ArchiverError } from '../errors.ts';
import { header, isSuccess, type KoreAnswer } from './answer.ts';
import { cleanText } from './clean-text.ts';
import { isObject } from './json.ts';
import { limitWaitMs, retryAfterMs, tellsLimit } from './rate-limit.ts';

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
): ArchiverError | undefined {
  const envelope = readEnvelope(answer, body);
  const { text, code } = envelope;
  const status = isSuccess(answer) ? httpStatus(code) : answer.status;
  const said = `${sayStatus(answer, code)}${text === '' ? '' : `: "${cleanText(text)}"`}`;

  if (status === 429 || tellsLimit(text)) {
    const waitMs = limitWaitMs(answer, text, now);
    const message = `Kore's rate limit is reached (${said}); calling again in ${Math.ceil(waitMs / 1000)} s`;
    return new ArchiverError('KORE_RATE_LIMITED', message, { retryAfterMs: waitMs });
  }
  if (status !== undefined && (status >= 500 || status === 408 || status === 425)) {
    const waitMs = retryAfterMs(answer, now);
    const options = waitMs === undefined ? {} : { retryAfterMs: waitMs };
    return new ArchiverError('KORE_UNAVAILABLE', `Kore is not available just now (${said})`, options);
  }
  if (status === 401 || status === 403 || CREDENTIAL_TEXT.test(text)) {
    const hint = credentialHint(text, asked.scope);
    return new ArchiverError('KORE_UNAUTHORIZED', `Kore refused the credentials (${said}): ${hint}`);
  }
  if (status === 404) {
    const { code: notFound, message } = asked.notFound;
    return new ArchiverError(notFound, `${message} (${said})`, { retryable: false });
  }
  if (status === 400 || status === 412 || status === 422) {
    const message = `Kore refused the request (${said}): check ${asked.check}`;
    return new ArchiverError('KORE_BAD_RESPONSE', message, { retryable: false });
  }
  if (status !== undefined && status < 400) {
    const message = `Kore redirected the call ${sayWhere(answer)}(${said}): check KORE_HOST, redirects are not followed`;
    return new ArchiverError('KORE_BAD_RESPONSE', message);
  }
  if (status !== undefined || envelope.isError) {
    return new ArchiverError('KORE_BAD_RESPONSE', `Kore answered with an error (${said})`);
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
