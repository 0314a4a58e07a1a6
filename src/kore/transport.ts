import { promisify } from 'node:util';
import { type BrotliOptions, brotliDecompress, gunzip, inflate, type ZlibOptions } from 'node:zlib';
import { VoicemailError } from '../domain/errors.ts';
import {
  AnswerTooLarge,
  AnswerTooLate,
  exchange,
  type HttpAnswer,
  isNotHttp,
} from '../util/http-exchange.ts';
import { createDispatcher, type ProxySettings, proxyFaultText } from '../util/http-proxy.ts';
import { VERSION } from '../util/process.ts';

/** One request to Kore's API: a GET, or a POST where it has a body. */
export interface KoreRequest {
  /** Path and query, percent-encoded. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent as it is; what it is, the headers say. */
  readonly body?: string;
}

/** Bounds on time and size; each has a default that suits Kore. */
export interface TransportLimits {
  /** Milliseconds to connect, TLS included; 10 s by default. */
  readonly connectTimeoutMs?: number;
  /** Milliseconds until the answer's headers have come; 30 s by default. */
  readonly headersTimeoutMs?: number;
  /** Milliseconds without a byte of the body; 15 s by default. */
  readonly bodyTimeoutMs?: number;
  /** Milliseconds for everything together, so that no drip of bytes holds a call for ever; 60 s by default. */
  readonly totalTimeoutMs?: number;
  /** The largest body that is read; 64 MiB by default. */
  readonly maxBodyBytes?: number;
}

/** Carries requests to one host over connections that are kept. */
export interface KoreTransport {
  /**
   * Sends a request and reads the whole answer, whatever its status. Follows no redirects.
   *
   * @throws VoicemailError `KORE_UNAVAILABLE` when no whole answer came in time, `KORE_BAD_RESPONSE` when it
   * is too large; the signal's own reason when aborted.
   */
  send(request: KoreRequest, signal: AbortSignal): Promise<KoreAnswer>;
  /** Lets running calls end, then closes the connections. */
  close(): Promise<void>;
}

const KEEP_ALIVE_MS = 30_000;

/** A {@link KoreTransport} with the host of `baseUrl` (scheme, host and port). */
export function createKoreTransport(
  baseUrl: string,
  limits: TransportLimits,
  proxy?: ProxySettings,
): KoreTransport {
  const maxBodyBytes = limits.maxBodyBytes ?? 64 * 1024 * 1024;
  const totalTimeoutMs = limits.totalTimeoutMs ?? 60_000;
  const { host, origin } = new URL(baseUrl);
  const decoder = new TextDecoder();
  const dispatcher = createDispatcher(
    {
      connect: { timeout: limits.connectTimeoutMs ?? 10_000 },
      headersTimeout: limits.headersTimeoutMs ?? 30_000,
      bodyTimeout: limits.bodyTimeoutMs ?? 15_000,
      keepAliveTimeout: KEEP_ALIVE_MS,
      // A few calls a second gain nothing from HTTP/2, whose timeouts are other ones.
      allowH2: false,
    },
    proxy,
  );

  async function send(request: KoreRequest, signal: AbortSignal): Promise<KoreAnswer> {
    try {
      const answer = await exchange(
        dispatcher,
        {
          origin,
          method: request.body === undefined ? 'GET' : 'POST',
          path: request.path,
          headers: { 'user-agent': `voicemail-archiver/${VERSION}`, ...request.headers },
          ...(request.body !== undefined && { body: request.body }),
        },
        { maxBytes: maxBodyBytes, totalTimeoutMs },
        signal,
      );
      return {
        status: answer.status,
        headers: answer.headers,
        body: decoder.decode(await plainBody(answer, maxBodyBytes)),
      };
    } catch (error) {
      signal.throwIfAborted();
      throw asArchiverError(error);
    }
  }

  function asArchiverError(error: unknown): VoicemailError {
    if (error instanceof AnswerTooLarge) {
      return new VoicemailError('KORE_BAD_RESPONSE', `Kore's answer is larger than ${maxBodyBytes} bytes`);
    }
    if (error instanceof AnswerTooLate) {
      const message = `Kore's answer was not complete after ${totalTimeoutMs} ms (${host})`;
      return new VoicemailError('KORE_UNAVAILABLE', message);
    }
    if (isNotHttp(error)) {
      return new VoicemailError('KORE_UNAVAILABLE', `What came from ${host} is no HTTP/1.1`);
    }
    const message = `Kore could not be reached at ${host} (${proxyFaultText(error) ?? errorCodeOf(error)})`;
    return new VoicemailError('KORE_UNAVAILABLE', message, { cause: error });
  }

  let closing: Promise<void> | undefined;
  function close(): Promise<void> {
    closing ??= dispatcher.close();
    return closing;
  }

  return { send, close };
}

/** Decoders for bodies that a server in front of Kore has compressed unasked. */
const DECODERS: Readonly<
  Record<string, (body: Buffer, limits: { maxOutputLength: number }) => Promise<Buffer>>
> = {
  gzip: promisify<Buffer, ZlibOptions, Buffer>(gunzip),
  'x-gzip': promisify<Buffer, ZlibOptions, Buffer>(gunzip),
  deflate: promisify<Buffer, ZlibOptions, Buffer>(inflate),
  br: promisify<Buffer, BrotliOptions, Buffer>(brotliDecompress),
};

/** The body without its content coding; as it came where that names none, or is not what the bytes are. */
async function plainBody({ headers, body }: HttpAnswer, maxBytes: number): Promise<Buffer> {
  const decode = DECODERS[headers['content-encoding']?.trim().toLowerCase() ?? ''];
  if (!decode) return body;
  try {
    return await decode(body, { maxOutputLength: maxBytes });
  } catch (error) {
    if (errorCodeOf(error) === 'ERR_BUFFER_TOO_LARGE') throw new AnswerTooLarge(maxBytes);
    return body;
  }
}

/** Node's or undici's code of an error (`ECONNREFUSED`, `UND_ERR_HEADERS_TIMEOUT`), or its class. */
function errorCodeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error';
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name;
  const isAboutCertificate = /CERT|SELF_SIGNED|ISSUER/.test(code);
  return isAboutCertificate
    ? `${code}: for a certificate authority of your own set NODE_EXTRA_CA_CERTS`
    : code;
}
/** One HTTP answer of Kore's API, read to its end, before anything is known about its meaning. */
export interface KoreAnswer {
  readonly status: number;
  /** Names in lowercase. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

/** The value of a header, the first one where it came several times. */
export function header(answer: KoreAnswer, name: string): string | undefined {
  const value = answer.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** Whether the status says success. The body may still say otherwise. */
export function isSuccess(answer: KoreAnswer): boolean {
  return answer.status >= 200 && answer.status < 300;
}
