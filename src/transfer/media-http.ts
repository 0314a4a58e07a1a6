import type { IncomingHttpHeaders } from 'node:http';
import type { MediaConfig } from '../config/config.ts';
import { isVoicemailError, VoicemailError } from '../domain/errors.ts';
import { createDispatcher, proxyFaultText } from '../util/http-proxy.ts';
import { boundedNumber, parseRetryAfter } from '../util/numbers.ts';
import { VERSION } from '../util/process.ts';
import { type ByteSource, type ContentCoding, contentCodings } from './content-coding.ts';
import { type AnswerHead, MediaAnswer } from './media-answer.ts';
import { createGuardedLookup, type Destination, parseDestination, type Resolve } from './ssrf.ts';

/** Scheme and authority, path; query and fragment are of no use to what is resolved against it. */
const ABSOLUTE = /^([a-z][a-z0-9+.-]*:)(\/\/[^/?#]*)([^?#]*)/i;

/** Leading steps of a relative path: `./`, `../`, and either as the whole of it. */
const STEP = /^(\.{1,2})(?:\/|(?=[?#]|$))/;

/**
 * Where a redirect leads. Redirects are signed as often as not, so only what is missing is added: path and query stay
 * byte for byte as they came, where `new URL` would rewrite them.
 *
 * @param location the header, one character a byte.
 * @param from the absolute address that answered with it.
 */
export function resolveRedirect(location: string, from: string): string {
  const target = encodeRawBytes(location);
  const [, scheme = '', authority = '', path = ''] = ABSOLUTE.exec(from) ?? [];
  if (/^[a-z][a-z0-9+.-]*:/i.test(target)) return target;
  if (target.startsWith('//')) return scheme + target;
  const origin = scheme + authority;
  if (target.startsWith('/')) return origin + target;
  if (/^([?#]|$)/.test(target)) return origin + path + target;
  return origin + stepInto(path, target);
}

/** A relative path, from the directory that `path` is in. */
function stepInto(path: string, relative: string): string {
  const directories = path.split('/').slice(1, -1);
  let rest = relative;
  for (let step = STEP.exec(rest); step !== null; step = STEP.exec(rest)) {
    if (step[1] === '..') directories.pop();
    rest = rest.slice(step[0].length);
  }
  return ['', ...directories, rest].join('/');
}

/** Bytes that no header should hold, in whatever encoding they are meant: sent back as the same bytes. */
function encodeRawBytes(location: string): string {
  return location.replace(/[\x80-\xff]/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** Which bytes of the whole a 206 holds; `total` where it tells. */
interface ContentRange {
  readonly from: number;
  /** The last byte. */
  readonly to: number;
  readonly total: number | undefined;
}

/** The header's value, the first one where it comes several times. */
function headerOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** The length of the body that comes with an answer, where the answer tells. */
function contentLengthOf(status: number, headers: IncomingHttpHeaders): number | undefined {
  return status === 204 ? 0 : boundedNumber(headerOf(headers, 'content-length'));
}

/** Weak ETags may stay the same while bytes change, so they prove nothing to a range. */
function validatorOf(headers: IncomingHttpHeaders): string | undefined {
  const etag = headerOf(headers, 'etag');
  return etag?.startsWith('"') ? etag : headerOf(headers, 'last-modified');
}

/** What `Content-Range` says; `undefined` where it says nothing that makes sense. */
function rangeOf(headers: IncomingHttpHeaders): ContentRange | undefined {
  const text = headerOf(headers, 'content-range')?.trim() ?? '';
  const parts = /^bytes (\d+)-(\d+)\/(\d+|\*)$/i.exec(text);
  const from = boundedNumber(parts?.[1]);
  const to = boundedNumber(parts?.[2]);
  const total = boundedNumber(parts?.[3]);
  if (from === undefined || to === undefined || to < from) return undefined;
  if (total === undefined ? parts?.[3] !== '*' : to >= total) return undefined;
  return { from, to, total };
}

/** Ask for the rest of a body, provided it is still the same one. */
export interface RangeRequest {
  /** The first byte wanted. */
  readonly from: number;
  /** A strong ETag or a Last-Modified date, as the first answer gave it. */
  readonly validator: string;
}

/** An answer whose body has not been read yet. Either read it to its end or call `discard`. */
export interface MediaResponse extends ByteSource {
  readonly status: number;
  /** The host that answered, after redirects. */
  readonly host: string;
  /** Host and path of the URL that was asked for, without its query. */
  readonly source: { readonly host: string; readonly path: string };
  /** What `Content-Length` says of this answer's body; `undefined` without the header or with chunks. */
  readonly contentLength: number | undefined;
  /** How the body's end is distinguished from a broken connection: not at all when it is `close`. */
  readonly delimiter: 'length' | 'chunks' | 'close';
  readonly contentType: string | undefined;
  /** The content codings applied to the body that can be undone. */
  readonly codings: readonly ContentCoding[];
  /** A strong ETag, or else the Last-Modified date. */
  readonly validator: string | undefined;
  /** The parsed `Content-Range` of a 206. */
  readonly range: ContentRange | undefined;
  /** `Retry-After` in milliseconds from now, at most an hour. */
  readonly retryAfterMs: number | undefined;
  /**
   * The body's next bytes, read from the connection only when asked for.
   * @throws VoicemailError `RECORDING_TRUNCATED` when the connection ends before the body does,
   *   `DOWNLOAD_FAILED` when nothing arrives for the idle timeout.
   */
  read(): Promise<Buffer | undefined>;
}

/** Fetches media from allowed hosts, without ever sending credentials. */
export interface MediaClient {
  /**
   * Requests a recording and follows up to 5 redirects, each checked like the first address. After those, an
   * answer that is one more redirect is returned as it is.
   *
   * @param url sent byte for byte as given.
   * @throws VoicemailError `RECORDING_HOST_NOT_ALLOWED`; `DOWNLOAD_FAILED` when no answer can be had, or one in a
   *   transfer coding other than `chunked`; the signal's reason when aborted.
   */
  open(url: string, continuation: RangeRequest | undefined, signal: AbortSignal): Promise<MediaResponse>;
  /** Ends all connections. */
  close(): Promise<void>;
}

/** Settings of a {@link MediaClient}. */
export interface MediaClientOptions {
  readonly media: MediaConfig;
  /** How long to wait for an answer, or for more of a body, before giving up. */
  readonly idleTimeoutMs: number;
  /** How names are resolved; the system's resolver unless told otherwise. */
  readonly resolve?: Resolve;
}

const MAX_REDIRECTS = 5;
const MAX_CONNECT_MS = 10_000;

/** Proxies and gateways add their own; Node's default of 16 KiB is too little for some. */
const MAX_HEADER_BYTES = 128 * 1024;

/** Redirects come with a few words for browsers; more than this is not worth keeping the connection for. */
const MAX_REDIRECT_BODY_BYTES = 16 * 1024;

/**
 * Creates a client with its own connections, through a proxy where the configuration names one.
 *
 * Behind a proxy, the list of hosts and the refusal of literal addresses hold as ever, for redirects too. Where a name
 * leads can't be checked there: the proxy resolves it, and has to keep requests away from its own network itself.
 */
export function createMediaClient({ media, idleTimeoutMs, resolve }: MediaClientOptions): MediaClient {
  const dispatcher = createDispatcher(
    {
      // HTTP/1.1 tells exactly how a body ended, and gives each download its own flow control.
      allowH2: false,
      maxHeaderSize: MAX_HEADER_BYTES,
      connect: {
        lookup: createGuardedLookup(media, resolve),
        timeout: Math.min(MAX_CONNECT_MS, idleTimeoutMs),
      },
      // The watchdog below measures only the time spent waiting for the other side, never a slow consumer.
      headersTimeout: 0,
      bodyTimeout: 0,
    },
    media.proxy,
  );

  async function send(
    { origin, target, host }: Destination,
    continuation: RangeRequest | undefined,
    signal: AbortSignal,
  ): Promise<MediaExchange> {
    signal.throwIfAborted();
    const answer = new MediaAnswer();
    const watch = watchAnswer(answer, host, idleTimeoutMs, signal);
    const request = {
      method: 'GET' as const,
      origin,
      path: target,
      headers: {
        accept: '*/*',
        'accept-encoding': 'identity',
        'user-agent': `voicemail-archiver/${VERSION}`,
        ...(continuation && {
          range: `bytes=${continuation.from}-`,
          'if-range': continuation.validator,
        }),
      },
    };
    try {
      dispatcher.dispatch(request, answer);
      return { answer, watch, head: await watch.wait(answer.head) };
    } catch (error) {
      watch.end();
      signal.throwIfAborted();
      if (isVoicemailError(error)) throw error;
      const reason = proxyFaultText(error) ?? reasonOf(error);
      throw new VoicemailError('DOWNLOAD_FAILED', `${host} could not be reached (${reason})`, {
        cause: error,
        host,
      });
    }
  }

  return {
    async open(url, continuation, signal) {
      const source = parseDestination(url, media);
      let address = url;
      let destination = source;
      for (let redirects = 0; ; redirects++) {
        const exchange = await send(destination, continuation, signal);
        const location = redirectTarget(exchange.head, address);
        if (location === undefined || redirects === MAX_REDIRECTS) {
          return mediaResponse(exchange, destination, source, signal);
        }
        await drain(exchange);
        signal.throwIfAborted();
        address = location;
        destination = parseDestination(address, media);
      }
    },
    close: () => dispatcher.destroy(),
  };
}

/** A request whose answer has begun. */
interface MediaExchange {
  readonly head: AnswerHead;
  readonly answer: MediaAnswer;
  readonly watch: AnswerWatch;
}

/** One answer's watchdog, which also breaks it off when the caller's signal is aborted. */
interface AnswerWatch {
  /** Waits for the other side, at most for the idle timeout. */
  wait<T>(promise: Promise<T>): Promise<T>;
  /** Stops the watchdog and listens no longer. */
  end(): void;
}

/** Closes a connection; whoever waits gets the signal's own reason. */
const BROKEN_OFF = new Error('broken off');

/** In how many parts the idle timeout is counted. */
const IDLE_TICKS = 4;

/**
 * Idle time is what passes while the other side is waited for; what the archive or anything else takes in between is
 * not. It is counted in ticks of the event loop: a process that stood still (suspended, or busy) has not listened
 * either, and gets to read what has arrived meanwhile before it gives up.
 */
function watchAnswer(
  answer: MediaAnswer,
  host: string,
  idleTimeoutMs: number,
  signal: AbortSignal,
): AnswerWatch {
  let waiting = false;
  let idleTicks = 0;
  const timer = setInterval(() => {
    if (!waiting) return;
    idleTicks += 1;
    // The first tick may come right after the waiting began.
    if (idleTicks <= IDLE_TICKS) return;
    const message = `${host} delivered nothing for ${Math.round(idleTimeoutMs / 100) / 10} s`;
    answer.abort(new VoicemailError('DOWNLOAD_FAILED', message, { host }));
  }, idleTimeoutMs / IDLE_TICKS);
  const onAbort = (): void => answer.abort(BROKEN_OFF);
  signal.addEventListener('abort', onAbort, { once: true });
  return {
    async wait(promise) {
      waiting = true;
      idleTicks = 0;
      try {
        return await promise;
      } finally {
        waiting = false;
      }
    },
    end() {
      clearInterval(timer);
      signal.removeEventListener('abort', onAbort);
    },
  };
}

/** Reads the few bytes of a redirect, so that its connection can be used again. */
async function drain({ answer, watch }: MediaExchange): Promise<void> {
  try {
    let bytes = 0;
    for (let chunk = await watch.wait(answer.read()); chunk; chunk = await watch.wait(answer.read())) {
      bytes += chunk.length;
      if (bytes > MAX_REDIRECT_BODY_BYTES) break;
    }
  } catch {
    // Only the connection is lost by this: where to go next is already known.
  } finally {
    watch.end();
    answer.abort(BROKEN_OFF);
  }
}

function redirectTarget({ status, headers }: AnswerHead, from: string): string | undefined {
  const location = headerOf(headers, 'location');
  if (location === undefined || ![301, 302, 303, 307, 308].includes(status)) return undefined;
  return resolveRedirect(location, from);
}

function mediaResponse(
  exchange: MediaExchange,
  { host }: Destination,
  source: Destination,
  signal: AbortSignal,
): MediaResponse {
  const { status, headers } = exchange.head;
  const discard = (): void => {
    exchange.watch.end();
    exchange.answer.abort(BROKEN_OFF);
  };
  const coding = [headers['transfer-encoding'] ?? []].flat().join(', ').trim().toLowerCase();
  const chunked = coding === 'chunked';
  // Any other coding leaves the body compressed, or its end unknown: undici undoes no other.
  if (coding !== '' && !chunked && status >= 200 && status < 300) {
    discard();
    throw new VoicemailError(
      'DOWNLOAD_FAILED',
      `${host} sent the recording with a transfer coding that was not asked for`,
      { host },
    );
  }
  const contentLength = chunked ? undefined : contentLengthOf(status, headers);
  return {
    status,
    host,
    source: { host: source.host, path: source.path },
    contentLength,
    delimiter: chunked ? 'chunks' : contentLength === undefined ? 'close' : 'length',
    contentType: headerOf(headers, 'content-type'),
    codings: contentCodings([headers['content-encoding'] ?? []].flat().join(',')),
    validator: validatorOf(headers),
    range: status === 206 ? rangeOf(headers) : undefined,
    retryAfterMs: parseRetryAfter(headerOf(headers, 'retry-after'), Date.now()),
    read: bodyReader(exchange, host, signal, discard),
    discard,
  };
}

/** Hands on the body's pieces as they are; each is read only when it is asked for. */
function bodyReader(
  { answer, watch }: MediaExchange,
  host: string,
  signal: AbortSignal,
  discard: () => void,
): MediaResponse['read'] {
  return async () => {
    try {
      const chunk = await watch.wait(answer.read());
      if (chunk === undefined) discard();
      return chunk;
    } catch (error) {
      discard();
      signal.throwIfAborted();
      // The watchdog's.
      if (isVoicemailError(error)) throw error;
      throw new VoicemailError(
        'RECORDING_TRUNCATED',
        `the connection to ${host} ended too early (${reasonOf(error)})`,
        { cause: error, host },
      );
    }
  };
}

/** An error's code, which names the reason without addresses or URLs. */
function reasonOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return error instanceof Error ? error.name : 'unknown error';
}
