import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type AudioSource, bufferSource } from './audio/source.ts';
import type { SandboxContext } from './context.ts';
import {
  dropConnection,
  errorAnswer,
  type HttpExchange,
  headerOf,
  PAGES,
  retryAfterHeader,
  sendAnswer,
  sendHead,
  untilGone,
} from './http.ts';
import { recordingPathOf, STORAGE_PREFIX } from './media-urls.ts';
import type { SandboxRecording } from './session-state.ts';
import type { Framing, MediaFault } from './spec.ts';

/** Bytes from `start` (inclusive) to `end` (exclusive). */
interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * The range in a `Range` header for a file of that size: one range; `whole` where there is none that has to be
 * honoured (several ranges, other units, nonsense); `unsatisfiable` where the answer is 416.
 * https://www.rfc-editor.org/rfc/rfc9110#section-14.2
 */
function parseRange(header: string | undefined, bytes: number): ByteRange | 'whole' | 'unsatisfiable' {
  const match = /^bytes=(?:(\d+)-(\d*)|-(\d+))$/.exec(header ?? '');
  if (match === null) return 'whole';
  const [, first, last, suffix] = match;
  if (first === undefined) {
    const count = Math.min(Number(suffix), bytes);
    return count === 0 ? 'unsatisfiable' : { start: bytes - count, end: bytes };
  }
  const start = Number(first);
  const end = last ? Math.min(Number(last) + 1, bytes) : bytes;
  if (last && Number(last) < start) return 'whole';
  return start >= bytes ? 'unsatisfiable' : { start, end };
}

/**
 * Whether a range may be answered under that `If-Range`: the very ETag, if it is a strong one, or the very date.
 * https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5
 */
function ifRangeHolds(
  header: string | undefined,
  validators: { readonly etag: string | undefined; readonly lastModified: string | undefined },
): boolean {
  if (header === undefined) return true;
  if (header.startsWith('W/')) return false;
  return header === validators.etag || header === validators.lastModified;
}

const CHUNK_BYTES = 64 * 1024;
/** The portions of a slow body in a second. */
const PORTIONS_PER_SECOND = 20;

/**
 * Sends these bytes of the file as the body of an answer whose head is out already, no faster than the other
 * side takes them, and in the way the fault says.
 */
async function sendAudio(
  exchange: HttpExchange,
  source: AudioSource,
  { start, end }: ByteRange,
  fault: MediaFault,
): Promise<void> {
  const { response, signal } = exchange;
  const { breakAfterBytes: breakAt = Number.POSITIVE_INFINITY, bytesPerSecond } = fault;
  const stallAt = fault.stallAfterBytes ?? Number.POSITIVE_INFINITY;
  const length = end - start;
  const last = Math.min(length, breakAt, stallAt);
  const portion =
    bytesPerSecond === undefined
      ? CHUNK_BYTES
      : Math.min(CHUNK_BYTES, Math.max(1, Math.floor(bytesPerSecond / PORTIONS_PER_SECOND)));

  response.flushHeaders();
  for (let sent = 0; sent < last; ) {
    signal.throwIfAborted();
    const count = Math.min(portion, last - sent);
    const taken = response.write(source.slice(start + sent, start + sent + count));
    sent += count;
    exchange.update({ bytesSent: sent });
    if (!taken) await once(response, 'drain', { signal });
    if (bytesPerSecond !== undefined) await sleep((count / bytesPerSecond) * 1000, undefined, { signal });
  }

  if (stallAt <= Math.min(length, breakAt)) return untilGone(exchange);
  if (breakAt > length) response.end();
  else if (fault.breakBy === 'reset') response.socket?.resetAndDestroy();
  else dropConnection(exchange);
}

/** `GET` and `HEAD` of a signed media URL, and of those in the storage that it may redirect to. */
export async function answerMedia(exchange: HttpExchange, context: SandboxContext): Promise<void> {
  const envelope = context.settings.errorEnvelope;
  const path = exchange.target.replace(/\?.*/s, '');
  const recording = context.findRecording(recordingPathOf(path));
  if (carriesCredentials(exchange)) {
    context.violation(`credentials were sent to the media URL of ${recording?.sessionId ?? 'no session'}`);
    return sendAnswer(exchange, errorAnswer(envelope, 400, 'Only one auth mechanism allowed'));
  }
  if (recording === undefined) return sendAnswer(exchange, errorAnswer(envelope, 404, 'Media not found'));

  const verdict = context.urls.check(exchange.target);
  if (verdict === 'changed') {
    context.violation(`the media URL of ${recording.sessionId} was not sent byte for byte as it was issued`);
  }
  if (verdict !== 'good') return refuse(exchange, context);
  const redirect = redirectOf(recording, path, exchange.target, context);
  if (redirect !== undefined) {
    return sendAnswer(exchange, { status: 302, headers: { location: redirect }, body: '' });
  }
  const outage = context.settings.mediaOutage;
  const fault = outage ?? (exchange.request.method === 'GET' ? recording.faults.next() : undefined);
  await answerRecording(exchange, context, recording, fault ?? {});
}

function carriesCredentials(exchange: HttpExchange): boolean {
  const { headers } = exchange.request;
  return 'auth' in headers || 'authorization' in headers;
}

function refuse(exchange: HttpExchange, { settings }: SandboxContext): void {
  const text = 'The link has expired or is not valid';
  sendAnswer(exchange, errorAnswer(settings.errorEnvelope, settings.refusedStatus, text));
}

/** Where a request for that path is sent on to, or `undefined` where the recording itself is served. */
function redirectOf(
  { spec, path: recordingPath }: SandboxRecording,
  path: string,
  target: string,
  context: SandboxContext,
): string | undefined {
  const { redirectTo, redirectHops = 1 } = spec;
  if (redirectTo === undefined) return undefined;
  if (redirectTo === 'itself') return context.mediaOrigin() + target;
  if (redirectTo !== 'storage') return redirectTo;
  const hopsLeft = path.startsWith(STORAGE_PREFIX) ? Number(path.split('/')[2]) : redirectHops;
  if (!(hopsLeft > 0)) return undefined;
  const next = `${STORAGE_PREFIX}${hopsLeft - 1}${recordingPath}`;
  return context.storageOrigin() + context.urls.issueForStorage(next, context.settings.urlLifetimeSeconds);
}

async function answerRecording(
  exchange: HttpExchange,
  context: SandboxContext,
  recording: SandboxRecording,
  fault: MediaFault,
): Promise<void> {
  if (fault.delayMs !== undefined) await sleep(fault.delayMs, undefined, { signal: exchange.signal });
  if (fault.expireNow === true) {
    context.urls.revoke(recording.path);
    return refuse(exchange, context);
  }
  const extra = { ...retryAfterHeader(fault.retryAfter), ...fault.headers };
  if (fault.status !== undefined && fault.page === undefined) {
    const { headers, ...error } = errorAnswer(context.settings.errorEnvelope, fault.status);
    return sendAnswer(exchange, { ...error, headers: { ...headers, ...extra } });
  }
  if (fault.replaced === true) recording.replace();
  const source = fault.content === undefined ? recording.audio : bufferSource(fault.content);
  const contentType = fault.contentType ?? recording.spec.contentType ?? recording.audio.contentType;
  if (fault.page !== undefined) {
    const headers = { 'content-type': contentType, ...extra };
    return sendAnswer(exchange, { status: fault.status ?? 200, headers, body: PAGES[fault.page] });
  }
  await answerAudio(exchange, recording, source, contentType, fault);
}

async function answerAudio(
  exchange: HttpExchange,
  recording: SandboxRecording,
  source: AudioSource,
  contentType: string,
  fault: MediaFault,
): Promise<void> {
  const bytes = Math.max(0, source.bytes - (fault.shortBy ?? 0));
  const ranges = recording.spec.ranges ?? true;
  const validators = { etag: recording.etag, lastModified: recording.lastModified };
  const headers: Record<string, string> = {
    'content-type': contentType,
    ...(ranges && { 'accept-ranges': 'bytes' }),
    ...(validators.etag !== undefined && { etag: validators.etag }),
    ...(validators.lastModified !== undefined && { 'last-modified': validators.lastModified }),
  };

  const honoured =
    ranges && fault.ignoreRange !== true && ifRangeHolds(headerOf(exchange, 'if-range'), validators);
  const asked = honoured ? parseRange(headerOf(exchange, 'range'), bytes) : 'whole';
  if (asked === 'unsatisfiable') {
    return sendAnswer(exchange, {
      status: 416,
      headers: { ...headers, 'content-range': `bytes */${bytes}` },
      body: '',
    });
  }
  const range = asked === 'whole' ? { start: 0, end: bytes } : shifted(asked, fault.shiftRangeBy ?? 0);
  const isPartial = asked !== 'whole' || (fault.alwaysPartial ?? recording.spec.alwaysPartial ?? false);
  if (isPartial) headers['content-range'] = `bytes ${range.start}-${range.end - 1}/${bytes}`;
  frame(exchange, headers, fault.framing ?? recording.spec.framing ?? 'length', range);
  sendHead(exchange, isPartial ? 206 : 200, { ...headers, ...recording.spec.headers, ...fault.headers });
  if (exchange.request.method === 'HEAD') exchange.response.end();
  else await sendAudio(exchange, source, range, fault);
}

function shifted({ start, end }: ByteRange, by: number): ByteRange {
  return { start: Math.min(start + by, end - 1), end };
}

/** Sets the headers that mark the end of the body in that way. */
function frame(
  exchange: HttpExchange,
  headers: Record<string, string>,
  framing: Framing,
  range: ByteRange,
): void {
  if (framing === 'length') {
    headers['content-length'] = String(range.end - range.start);
  } else if (framing === 'chunked') {
    headers['transfer-encoding'] = 'chunked';
  } else {
    // Node sends neither length nor chunks, and closes the connection at the end, if both were removed.
    exchange.response.removeHeader('content-length');
    exchange.response.removeHeader('transfer-encoding');
    headers.connection = 'close';
  }
}
