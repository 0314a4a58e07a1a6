import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { CallProgress } from './call-log.ts';
import type { ExtraHeaders, LimitAnswer, PageKind, SandboxSettings } from './spec.ts';

/** One request and its answer on the way. */
export interface HttpExchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Path and query, byte for byte as they stood in the request. */
  readonly target: string;
  /** Notes in the log of calls how the answer comes along. */
  readonly update: (progress: CallProgress) => void;
  /** Aborted once the connection or the answer has ended. */
  readonly signal: AbortSignal;
}

/** The one value of a header, or `undefined` if it is missing or came several times. */
export function headerOf(exchange: HttpExchange, name: string): string | undefined {
  const values = exchange.request.headersDistinct[name];
  return values?.length === 1 ? values[0] : undefined;
}

/** Begins an answer. */
export function sendHead(exchange: HttpExchange, status: number, headers: ExtraHeaders): void {
  for (const [name, value] of Object.entries(headers)) exchange.response.setHeader(name, value);
  exchange.response.writeHead(status);
  exchange.update({ status });
}

/** Sends a small answer, or its first bytes and then closes the connection. */
export function sendAnswer(
  exchange: HttpExchange,
  answer: Answer,
  breakAfterBytes = Number.POSITIVE_INFINITY,
): void {
  const { response, request } = exchange;
  const body = Buffer.from(answer.body);
  sendHead(exchange, answer.status, { ...answer.headers, 'content-length': String(body.length) });
  if (request.method === 'HEAD') {
    response.end();
  } else if (breakAfterBytes > body.length) {
    response.end(body);
    exchange.update({ bytesSent: body.length });
  } else {
    response.flushHeaders();
    if (breakAfterBytes > 0) response.write(body.subarray(0, breakAfterBytes));
    exchange.update({ bytesSent: breakAfterBytes });
    dropConnection(exchange);
  }
}

/** Closes the connection in order: what was written arrives, and then nothing more. */
export function dropConnection({ response }: HttpExchange): void {
  response.socket?.destroySoon();
}

/** Waits until the caller, or the sandbox itself, has ended the connection. */
export async function untilGone({ signal }: HttpExchange): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
}

/** A small answer, whole in memory. */
export interface Answer {
  readonly status: number;
  readonly headers: ExtraHeaders;
  readonly body: string;
}

type Envelope = SandboxSettings['errorEnvelope'];

const MINUTE_TEXT = "You've exceeded the per-minute rate limit. Please wait for sometime before retrying.";
const HOUR_TEXT = "You've exceeded the hourly rate limit. Please wait for sometime before retrying.";
const API_TEXT = 'Rate limit for this API has been reached. Please try again after some time.';

/** What Kore is known to say, and a plain word for the rest. */
const DEFAULT_MESSAGES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Invalid JWT token',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  412: 'Invalid arguments',
  429: MINUTE_TEXT,
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};

/** The one error code seen in Kore's documentation; the numbers of all other errors are not known. */
const KORE_ERROR_CODE = 4002;

/** A JSON answer. */
export function jsonAnswer(
  status: number,
  value: unknown,
  headers: Readonly<Record<string, string>> = {},
): Answer {
  return {
    status,
    headers: { 'content-type': 'application/json; charset=utf-8', ...headers },
    body: JSON.stringify(value),
  };
}

/** An error in the chosen envelope. */
export function errorAnswer(
  envelope: Envelope,
  status: number,
  message = DEFAULT_MESSAGES[status] ?? `status ${status}`,
  headers: Readonly<Record<string, string>> = {},
): Answer {
  const value =
    envelope === 'errors' ? { errors: [{ msg: message, code: KORE_ERROR_CODE }] } : { code: status, message };
  return jsonAnswer(status, value, headers);
}

/** What a caller over its limit gets to see; `waitMs` is how long it should leave us alone. */
export function answerOverLimit(envelope: Envelope, form: LimitAnswer, waitMs: number): Answer {
  switch (form) {
    case '429-seconds':
      return errorAnswer(envelope, 429, MINUTE_TEXT, { 'retry-after': String(Math.ceil(waitMs / 1000)) });
    case '429-date':
      return errorAnswer(envelope, 429, MINUTE_TEXT, { 'retry-after': httpDateIn(waitMs) });
    case '429':
      return errorAnswer(envelope, 429, MINUTE_TEXT);
    case '429-hourly':
      return errorAnswer(envelope, 429, HOUR_TEXT);
    case '200-text':
      return errorAnswer(envelope, 200, API_TEXT);
    case '400-text':
      return errorAnswer(envelope, 400, API_TEXT);
  }
}

/** The HTTP date so many milliseconds from now, rounded up to its whole second. */
function httpDateIn(milliseconds: number): string {
  return new Date(Math.ceil((Date.now() + milliseconds) / 1000) * 1000).toUTCString();
}

const RETRY_AFTER_DATE_MS = 2000;

/** The header `Retry-After` of a fault: seconds, `date`, or any text. */
export function retryAfterHeader(retryAfter: number | string | undefined): Readonly<Record<string, string>> {
  if (retryAfter === undefined) return {};
  return { 'retry-after': retryAfter === 'date' ? httpDateIn(RETRY_AFTER_DATE_MS) : String(retryAfter) };
}

/** The answer of something in front of the real server, in place of its own. */
export const PAGES: Readonly<Record<PageKind, string>> = {
  html: '<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please sign in.</body></html>\n',
  xml: '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>',
  json: '{"errors":[{"msg":"Media is not available","code":4002}]}',
};
